#!/usr/bin/env python3
"""Shows that two builds of mossc make the same models: for every shipped spec the same program, generated code and logits.

    tests/same/compare_builds.py --before OLD/mossc --after build/release/mossc [--quick] [SPEC...]

Names may differ: identifiers are replaced by the order in which they first occur, and of a program's phases only what a
device sees is compared (tiles, stages, where operands lie), not the words that describe a kernel. Logits are compared as
bytes. --quick leaves out logits and compares code for fewer targets. Exits with 1 where something differs.
"""
import argparse
import glob
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TARGETS = ["host", "aarch64:cortex-x4", "aarch64:cortex-a53", "cuda:sm_75", "cuda:sm_80", "cuda:sm_90"]
QUICK_TARGETS = ["host", "cuda:sm_80"]
QUICK_ARM = ["moss-tiny", "jamba-like", "mixtral-small"]


def output(*command):
    done = subprocess.run(command, capture_output=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: status {done.returncode}\n{done.stderr.decode(errors='replace')}")
    return done.stdout.decode()


WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def unnamed(text):
    """Code with every identifier replaced by one word, without comments: what stays is structure and numbers. (Not by numbers of
    first use: where one name becomes two, as of a field and of a variable, those would differ.)"""
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
    text = re.sub(r"//[^\n]*", " ", text)
    # Functions of kernels; what all programs share stands in front of them and is tested by itself.
    text = "\n}\n".join(part for part in text.split("\n}\n") if re.search(r"\bk\d+", part.strip().split("\n")[0]))
    return " ".join(WORD.sub("name", text).split())


def assembly(text):
    """Assembly with symbols replaced by their number; mnemonics and registers stay."""
    numbers = {name: f"K{i}" for i, name in enumerate(re.findall(r"^\s*\.globl\s+(\S+)", text, flags=re.M))}
    if numbers:
        pattern = re.compile(r"(?<![A-Za-z0-9_])(%s)(?![A-Za-z0-9_])" % "|".join(sorted(map(re.escape, numbers), key=len, reverse=True)))
        text = pattern.sub(lambda m: numbers[m.group(1)], text)
    return "\n".join(re.sub(r"\s+#.*|\s+//.*", "", line).rstrip() for line in text.splitlines())


def program(text):
    """Stages, tiles and operands of the phases, and sizes; words that describe kernels are left out."""
    lines = []
    for line in text.splitlines():
        if re.match(r"kernel k\d+ ", line):
            lines.append(re.sub(r"^kernel (k\d+) \S+ \S+ \S+(.*)$", lambda m: m.group(1) + "".join(re.findall(r" [A-Za-z]+=\S+", m.group(2))), line))
        elif "|" in line:
            parts = [part.strip() for part in line.split("|")]
            lines.append(" ".join([parts[0].split()[1], re.match(r"\d+", parts[1]).group(0)] + parts[2:]))
        else:
            lines.append(line)
    return "\n".join(lines)


def first_difference(before, after):
    a, b = before.splitlines() or [before], after.splitlines() or [after]
    for i, (x, y) in enumerate(zip(a, b)):
        if x != y:
            at = next((j for j, (p, q) in enumerate(zip(x, y)) if p != q), min(len(x), len(y)))
            return f"line {i + 1}:\n    before: {x[max(0, at - 60):at + 100]}\n    after:  {y[max(0, at - 60):at + 100]}"
    return f"{len(a)} lines before, {len(b)} after"


class Comparison:
    def __init__(self, before, after):
        self.before, self.after = before, after
        self.same = self.different = 0

    def check(self, what, before, after):
        if before == after:
            self.same += 1
            return
        self.different += 1
        difference = first_difference(before, after) if isinstance(before, str) else f"{len(before)} and {len(after)} bytes"
        print(f"DIFFERENT {what}: {difference}", flush=True)

    def text(self, what, normalise, *arguments):
        self.check(what, normalise(output(self.before, *arguments)), normalise(output(self.after, *arguments)))

    def logits(self, spec, name, directory):
        """Of 64 tokens with fresh weights made by each build; the weights must be the same bytes too."""
        blobs = []
        for build in (self.before, self.after):
            weights, logits, tokens = (os.path.join(directory, n) for n in ("w.safetensors", "l.npy", "tokens.txt"))
            with open(tokens, "w") as file:
                file.write(" ".join(str((7 * i * i + 3 * i) % 250) for i in range(64)))
            output(build, "init", spec, "--seed", "5", "-o", weights)
            output(build, "logits", spec, "-w", weights, "--tokens", tokens, "-o", logits)
            with open(logits, "rb") as file:
                blob = file.read()
            with open(weights, "rb") as file:
                file.seek(-min(4096, os.path.getsize(weights)), os.SEEK_END)
                blob += file.read()
            blobs.append(blob)
            os.remove(weights)
        self.check(f"{name}: logits of 64 tokens", blobs[0], blobs[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", required=True)
    parser.add_argument("--after", required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("specs", nargs="*")
    options = parser.parse_args()
    comparison = Comparison(options.before, options.after)
    for spec in options.specs or sorted(glob.glob(os.path.join(ROOT, "specs", "*.yaml"))):
        name = os.path.basename(spec)[:-5]
        comparison.text(f"{name}: program", program, "ir", spec, "--stage", "program")
        targets = TARGETS if not options.quick else QUICK_TARGETS + (["aarch64:cortex-x4"] if name in QUICK_ARM else [])
        for target in targets:
            normalise = unnamed if target.startswith("cuda") else assembly
            comparison.text(f"{name}: code for {target}", normalise, "asm", spec, "--target", target)
        if not options.quick:
            with tempfile.TemporaryDirectory() as directory:
                comparison.logits(spec, name, directory)
        print(f"{name}: compared", file=sys.stderr, flush=True)
    print(f"{comparison.same} the same, {comparison.different} different")
    return 1 if comparison.different or not comparison.same else 0


sys.exit(main())
