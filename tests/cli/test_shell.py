"""Completion scripts and manual pages: they have every command and every option of the help texts, and shells and man take them.

    python3 tests/cli/test_shell.py --mossc build/release/mossc [NAME…]
"""
import re
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
from harness import Skipped, run_tests  # noqa: E402


def commands(m):
    """Every command, and its options: {"bench": {"--prefill": None, "--output": "-o"…}}"""
    overview = m.out("--help").split("commands:\n")[1].split("\n\n")[0]
    names = [line.split()[0] for line in overview.splitlines() if re.match(r"  [a-z]", line)]
    names = [name for name in names if name != "help"] + [f"explore {name}" for name in ("merge", "calibrate", "spec", "point", "collect")]
    found = {}
    for name in names:
        rows = re.findall(r"^  (?:-(\w+), |    )(--[a-z0-9-]+)", m.out(*name.split(), "--help"), re.M)
        found[name] = {long: "-" + short if short else None for short, long in rows}
        assert found[name]["--help"] == "-h", name
    assert len(found) > 20 and "--no-scan-fusion" in found["bench"] and found["bench"]["--output"] == "-o", found
    assert found["bench"]["--pg"] == "-pg", found["bench"]
    return found


def shell(program, *arguments, **options):
    if not shutil.which(program):
        raise Skipped(f"no {program}")
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, **options)
    assert done.returncode == 0 and not done.stderr, (program, arguments, done.stderr)
    return done.stdout


def plain(device, page):
    """A page as it is read, without its overstriking; any warning is an error."""
    return re.sub(".\x08", "", shell("groff", "-ww", "-man", device, "-P-c", page))


def complete(script, *words):
    """What bash proposes for the last word."""
    line = " ".join(f"'{word}'" for word in words)
    text = f"source {script}\ncompopt() {{ echo \"<$*>\"; }}\nCOMP_WORDS=({line})\nCOMP_CWORD={len(words) - 1}\n_mossc\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n"
    return shell("bash", "--norc", "-c", text).split()


def test_bash_completes_every_command_and_option(m):
    script = m.directory / m.file("mossc.bash", m.out("completion", "bash"))
    shell("bash", "-n", script)
    found = commands(m)
    top = complete(script, "mossc", "")
    assert set(top) == {name for name in found if " " not in name} | {"help", "--help", "--version"}, top
    for name, options in found.items():
        proposed = complete(script, "mossc", *name.split(), "-")
        assert set(proposed) == set(options) | {short for short in options.values() if short}, (name, proposed)


def test_bash_completes_values_and_files(m):
    script = m.directory / m.file("mossc.bash", m.out("completion", "bash"))
    for words in (("-o", ""), ("--output", ""), ("--output", "="), ("--output", "=", "")):
        assert complete(script, "mossc", "bench", "x.yaml", *words) == ["md", "csv", "json", "jsonl"], words
    assert complete(script, "mossc", "bench", "x.yaml", "-o", "js") == ["json", "jsonl"]
    assert complete(script, "mossc", "bench", "x.yaml", "-p", "") == []
    assert complete(script, "mossc", "bench", "") == ["<-o", "default>"]
    assert complete(script, "mossc", "run", "x.yaml", "-w", "") == ["<-o", "default>"]
    assert complete(script, "mossc", "completion", "") == ["bash", "zsh", "fish"]
    assert {"keys", "space", "bench"} <= set(complete(script, "mossc", "help", ""))
    assert "bench" in complete(script, "mossc", "man", "be")
    assert {"merge", "calibrate", "spec"} <= set(complete(script, "mossc", "explore", ""))
    assert complete(script, "mossc", "explore", "spec", "--p") == ["--point"]


def test_other_shells_have_every_command_and_option(m):
    zsh, fish = m.out("completion", "zsh"), m.out("completion", "fish")
    for name, options in commands(m).items():
        part = re.search(rf"^    '{name}'\)\n(.*?) ;;$", zsh, re.M | re.S)[1]
        seen = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in name.split())
        lines = [line for line in fish.splitlines() if f"-n '{seen}'" in line]
        for long, short in options.items():
            assert f"'{long}[" in part or f",{long}}}'" in part, (name, long)
            assert any(f" -l {long[2:]} " in line + " " for line in lines), (name, long)
            if short:
                assert f"{{{short},{long}}}" in part, (name, short)
                assert any(f" -{'s' if len(short) == 2 else 'o'} {short[1:]} -l {long[2:]}" in line for line in lines), (name, short)
    for line in zsh.splitlines():
        assert line.replace("'\\''", "").count("'") % 2 == 0, line


def test_zsh_takes_its_script(m):
    shell("zsh", "-n", m.directory / m.file("_mossc", m.out("completion", "zsh")))


def test_fish_takes_its_script(m):
    shell("fish", "--no-execute", m.directory / m.file("mossc.fish", m.out("completion", "fish")))


def test_manual_pages_have_every_command_and_option(m):
    m.run("man", "-o", "man1")
    found = commands(m)
    pages = {path.name: path.read_text() for path in (m.directory / "man1").iterdir()}
    assert set(pages) == {"mossc.1"} | {f"mossc-{name.replace(' ', '-')}.1" for name in found}, sorted(pages)
    for name, options in found.items():
        page = pages[f"mossc-{name.replace(' ', '-')}.1"]
        assert m.out("man", *name.split()) == page and f"mossc-{name.replace(' ', '-')}\\fR(1)" in pages["mossc.1"], name
        for option in [*options, *(short for short in options.values() if short)]:
            assert "\\fB" + option.replace("-", "\\-") + "\\fR" in page, (name, option)
    assert m.out("man") == pages["mossc.1"]


def test_man_takes_the_pages(m):
    m.run("man", "-o", "man1")
    for path in sorted((m.directory / "man1").iterdir()):
        text = plain("-Tutf8", path)
        assert "EXIT STATUS" in text and len(text) > 500, (path.name, text)
    text = plain("-Tascii", m.directory / "man1" / "mossc-bench.1")
    assert "mossc bench specs/mamba-370m.yaml -p 128,512 -n 32 -t 1,2 -d 0,4096 -o md" in text, text
    assert "--no-scan-fusion" in text


def test_mistakes(m):
    assert "expected bash, zsh or fish, got 'csh'" in m.error("completion", "csh", status=2)
    assert "no command is called 'bensh'" in m.error("man", "bensh", status=2)
    assert "-o DIR is for the pages of all" in m.error("man", "bench", "-o", "x", status=2)


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
