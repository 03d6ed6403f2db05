"""Loads through the cache that no store is seen by (ld.global.nc) may read what nothing writes: the weights and the tables of the text. In
persistent kernels any other of them could read what was there before. Needs NVRTC, no GPU.

    python3 tests/cuda/test_ptx.py build/release/mossc [SPEC …]

An address is followed back, instruction by instruction, to what it was made of.
"""
import argparse
import pathlib
import re
import subprocess
import sys

SKIPPED = 77
SPECS = pathlib.Path(__file__).resolve().parents[2] / "specs"
DEFAULT = ("mossnet-8x200m-outputs",)
# Step in front of shared memory (prelude.cuh): which pointers of it lead to what is written.
WEIGHTS, WRITTEN = 0, {8: "arena", 16: "scratch", 24: "segments", 32: "tokens", 40: "row_segment", 48: "row_position", 56: "out_rows",
                       64: "logits", 72: "nonfinite"}
HELD, SLOTS = "held_and_shared", "Slots"  # sum_few and its like are given Slots, pointers to weights, as the first parameter
TABLES = re.compile(r"row_table|block_table|arranged|rope_\d+|mossc_image|__cudart|vm_")
REGISTER = re.compile(r"%\w+")


def root_of(text, known):
    """What a load's or move's source is made of."""
    roots = set()
    for register in REGISTER.findall(text):
        roots |= known.get(register, set())
    if TABLES.search(text):
        roots.add("table")
    if HELD in text:
        roots.add(HELD)
    return roots


def loaded(address, known):
    """What a value is that lies at an address in shared memory."""
    offset = int((re.search(r"\+(-?\d+)", address) or [0, "0"])[1])
    if HELD not in root_of(address, known) or re.search(r"%r\d", address):
        return set()
    return {"weights"} if offset == WEIGHTS else {WRITTEN[offset]} if offset in WRITTEN else set()


def bad_loads(ptx):
    """(function, line) of each ld.global.nc that reads neither weights nor a table, or may read something else."""
    function, known = "", {}
    for line in ptx.splitlines():
        code = line.strip().rstrip(";")
        if code.startswith((".func", ".visible .entry", ".entry")):
            function, known = re.search(r"(\w+)\(?\s*$", code)[1] if re.search(r"(\w+)\(?\s*$", code) else code, {}
            continue
        code = re.sub(r"^@!?%p\d+\s+", "", code)
        parts = re.match(r"([\w.:]+)\s+(\{[^}]*\}|%\w+)\s*,\s*(.*)", code)
        if not parts:
            continue
        name, to, source = parts.groups()
        if name.startswith("ld.global.nc"):
            roots = root_of(source, known)
            if not roots & {"weights", "table"} or roots & set(WRITTEN.values()):
                yield function, f"{line.strip()} of {', '.join(sorted(roots)) or 'something unknown'}"
            found = set()
        elif name.startswith("ld.shared"):
            found = loaded(source, known)
        elif name.startswith("ld.param"):
            found = {"weights"} if re.search(r"5Slots.*_param_0", source) else set()
        elif name.startswith("ld"):
            found = set()
        else:
            found = root_of(source, known)
        for register in REGISTER.findall(to):
            known[register] = found | (known.get(register, set()) if not name.startswith("ld") else set())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mossc")
    parser.add_argument("specs", nargs="*", default=DEFAULT)
    options = parser.parse_args()
    bad = 0
    for spec in options.specs:
        command = [options.mossc, "asm", str(SPECS / f"{spec}.yaml"), "--set", "weights.dtype=bf16", "--target", "cuda:sm_90", "--emit", "ptx"]
        made = subprocess.run(command, capture_output=True, text=True)
        if "NVRTC" in made.stderr and made.returncode != 0:
            print("skipped: there is no NVRTC here")
            return SKIPPED
        assert made.returncode == 0, made.stderr
        loads, wrong = made.stdout.count("ld.global.nc"), list(bad_loads(made.stdout))
        print(f"{spec}: {loads} loads of weights and tables", *(f"\n  FAILED: {f}: {line}" for f, line in wrong))
        bad += len(wrong) + (loads == 0)
        planted = [line for _, line in bad_loads(re.sub(r"ld\.global\.(?!nc)", "ld.global.nc.", made.stdout))]
        if not any("of arena" in line for line in planted):
            print("  FAILED: loads of the arena, made such ones, are not found")
            bad += 1
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
