"""The examples in README.md and docs/ are run; the lines of these pages are short, and the files that they name exist.

A fenced block with the info string `yaml example` is a spec that `mossc check` accepts. `yaml error TEXT` is one that it refuses
with a message that holds TEXT. In `console example` every line that begins with `$ ` is run by a shell at the root of the
repository with mossc on PATH and must end with 0; the lines below it are its whole output, where a line `...` stands for any
number of lines. A command whose line ends with a backslash goes on in the next. Standard output and standard error are shown as one.
`--update` writes the present output into the documents. The `c example` of docs/library.md is run by tests/library,
and each `python example` by tests/python.
"""
import argparse
import os
import pathlib
import re
import subprocess
import sys

root = pathlib.Path(__file__).resolve().parents[2]
LONGEST = 120  # characters of a line
PAGES = [root / "README.md", *sorted((root / "docs").glob("*.md"))]
ROOMS = "support|ir|frontend|passes|schedule|codegen|runtime|tokenizer|driver|measure|explore|cli|include|tests|bench|specs|examples"
NAMED = re.compile(rf"`((?:{ROOMS})/[\w./*-]+)`")
FENCE = re.compile(r"^```(\w+) (example|error)(?: (.*?))?\n(.*?)^```$", re.S | re.M)


def pattern(expected):
    """A regular expression for output with `...` lines."""
    return "".join("(?:.*\n)*?" if line == "..." else re.escape(line.rstrip()) + "[ ]*\n" for line in expected)


def shell(mossc, command, text=None):
    environment = dict(os.environ, PATH=f"{pathlib.Path(mossc).resolve().parent}:{os.environ['PATH']}")
    return subprocess.run(command, shell=True, cwd=root, env=environment, input=text, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def commands_of(text):
    """(command, lines of its output) for each command of a block."""
    before, *parts = re.split(r"^\$ ", text, flags=re.M)
    assert before == "", "output before the first command"
    for part in parts:
        command, *output = part.rstrip("\n").split("\n")
        while command.endswith("\\"):
            command += "\n" + output.pop(0)
        yield command, output


def check_console(mossc, text):
    for command, expected in commands_of(text):
        done = shell(mossc, command)
        assert done.returncode == 0, f"$ {command}\nended with {done.returncode}:\n{done.stdout}"
        while expected and expected[-1] == "":
            expected.pop()
        output = done.stdout if done.stdout.endswith("\n") or not done.stdout else done.stdout + "\n"
        assert re.fullmatch(pattern(expected), output.rstrip("\n") + "\n" if output else ""), f"$ {command}\nprints\n{done.stdout}"


def updated(mossc, text):
    """The block with what its commands print now; output with `...` lines is left as it is."""
    out = ""
    for command, old in commands_of(text):
        lines = old if "..." in old else [line.rstrip() for line in shell(mossc, command).stdout.rstrip("\n").split("\n")]
        out += "\n".join(["$ " + command, *lines]) + "\n"
    return out


def check(mossc, language, verdict, argument, text):
    if language == "console":
        check_console(mossc, text)
        return
    assert language == "yaml", f"no way to run a block of {language}"
    done = shell(mossc, "mossc check -", text)
    if verdict == "example":
        assert done.returncode == 0, f"refused:\n{done.stdout}"
    else:
        assert done.returncode == 1 and argument in done.stdout, f"expected an error with {argument!r}, status {done.returncode}:\n{done.stdout}"


def long_lines(path):
    """Places of lines with more than LONGEST characters."""
    lines = path.read_text().split("\n")
    return [f"{path.relative_to(root)}:{i}: {len(line)} characters" for i, line in enumerate(lines, 1) if len(line) > LONGEST]


def missing_files(path):
    """Files of the repository that a page names and that are not there."""
    names = set(NAMED.findall(path.read_text()))
    return [f"{path.relative_to(root)} names {name}" for name in sorted(names) if not list(root.glob(name.replace("NAME", "*")))]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mossc", required=True)
    parser.add_argument("--update", action="store_true", help="write what the console examples print into the documents")
    options = parser.parse_args()
    mossc = options.mossc
    count = failed = 0
    for path in PAGES:
        text = path.read_text()
        if options.update:
            text = FENCE.sub(lambda m: m[0].replace(m[4], updated(mossc, m[4])) if m[1] == "console" else m[0], text)
            path.write_text(text)
        for match in FENCE.finditer(text):
            if match[1] == "python" or (match[1] == "c" and path.name == "library.md"):
                continue
            count += 1
            try:
                check(mossc, *match.groups())
            except AssertionError as error:
                failed += 1
                print(f"FAILED  {path.relative_to(root)}:{text.count(chr(10), 0, match.start()) + 1}: {error}")
    too_long = [place for path in [*PAGES, root / "bench/NOTES.md", *sorted((root / "examples").rglob("*.md"))] for place in long_lines(path)]
    for place in too_long:
        print(f"FAILED  {place}, expected at most {LONGEST}")
    missing = [line for path in PAGES for line in missing_files(path)]
    for line in missing:
        print(f"FAILED  {line}, which is not there")
    print(f"{count} examples, {failed} failed; {len(too_long)} lines too long; {len(missing)} files missing")
    return 1 if failed or too_long or missing or count < 10 else 0


if __name__ == "__main__":
    sys.exit(main())
