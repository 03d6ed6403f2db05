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
TABLES = re.compile(r"row_table|block_table|few_table|arranged|rope_\d+|mossc_image|__cudart|vm_")
REGISTER = re.compile(r"%\w+")


UNKNOWN = "something unknown"
# Of these the specs' kernels have loads, which are found where they are planted.
PLANTED = {"arena", "scratch", "segments", "tokens", "row_segment", "out_rows", UNKNOWN}
# The weights in its first two turns, then the arena.
LOOP = f""".func loop()
ld.shared.u64 %rd1, [{HELD}+0];
mov.u64 %rd2, %rd1;
$again:
ld.global.nc.f32 %f1, [%rd1];
mov.u64 %rd1, %rd2;
mov.u64 %rd2, %rd3;
ld.shared.u64 %rd3, [{HELD}+8];
bra $again;
"""


def root_of(text, known):
    """What a load's or move's source is made of."""
    roots = set().union(*(known.get(register, set()) for register in REGISTER.findall(text)))
    if TABLES.search(text):
        roots.add("table")
    if HELD in text:
        roots.add(HELD)
    return roots


def loaded(name, address, at, known):
    """What a pointer is that was read from memory, `at` bytes behind an address."""
    if name.startswith("ld.param"):
        return {"weights" if "5Slots" in address else UNKNOWN}
    offset = at + int((re.search(r"\+(-?\d+)", address) or [0, "0"])[1])
    if not name.startswith("ld.shared") or HELD not in root_of(address, known) or re.search(r"%r\d", address):
        return {UNKNOWN}
    return {"weights" if offset == WEIGHTS else WRITTEN.get(offset, UNKNOWN)}


def made(name, registers, source, known):
    """(register, what it is made of) of each that an instruction writes. A number of 32 bits that was read is no pointer."""
    if name.startswith("ld"):
        for i, register in enumerate(registers):
            yield register, loaded(name, source, 8 * i, known) if register.startswith("%rd") else set()
        return
    roots = root_of(source, known)
    if name.startswith(("add", "sub", "mad")) and roots != {UNKNOWN}:
        roots.discard(UNKNOWN)  # an offset that was read, to something known
    for register in registers:
        yield register, roots


def functions(ptx):
    """(name, [(line, operation, registers that it writes, its sources)]) of each."""
    name, body = "", []
    for line in ptx.splitlines():
        code = line.strip().rstrip(";")
        if code.startswith((".func", ".visible .entry", ".entry")):
            yield name, body
            found = re.search(r"(\w+)\(?\s*$", code)
            name, body = found[1] if found else code, []
            continue
        parts = re.match(r"(?:@!?%p\d+\s+)?([\w.:]+)\s+(\{[^}]*\}|%\w+)\s*,\s*(.*)", code)
        if parts:
            operation, to, source = parts.groups()
            body.append((line.strip(), operation, REGISTER.findall(to), source))
    yield name, body


def roots_of_registers(body):
    """{register: what it may be made of}. A loop's registers are made of one another, so it is gone through until nothing is new."""
    known, before = {}, None
    while known != before:
        before = {register: set(roots) for register, roots in known.items()}
        for _, name, to, source in body:
            for register, roots in made(name, to, source, known):
                known.setdefault(register, set()).update(roots)
    return known


def bad_loads(ptx):
    """(function, line) of each ld.global.nc that reads neither weights nor a table, or may read something else."""
    for function, body in functions(ptx):
        if not any(name.startswith("ld.global.nc") for _, name, _, _ in body):
            continue
        known = roots_of_registers(body)
        for line, name, _, source in body:
            roots = root_of(source, known)
            if name.startswith("ld.global.nc") and (not roots & {"weights", "table"} or roots & {UNKNOWN, *WRITTEN.values()}):
                yield function, f"{line} of {', '.join(sorted(roots)) or UNKNOWN}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mossc")
    parser.add_argument("specs", nargs="*", default=DEFAULT)
    options = parser.parse_args()
    bad = 0
    for spec in options.specs:
        command = [options.mossc, "asm", str(SPECS / f"{spec}.yaml"), "--set", "weights.dtype=bf16", "--target", "cuda:sm_90", "--emit", "ptx"]
        done = subprocess.run(command, capture_output=True, text=True)
        if "NVRTC" in done.stderr and done.returncode != 0:
            print("skipped: there is no NVRTC here")
            return SKIPPED
        assert done.returncode == 0, done.stderr
        loads, wrong = done.stdout.count("ld.global.nc"), list(bad_loads(done.stdout))
        print(f"{spec}: {loads} loads of weights and tables", *(f"\n  FAILED: {f}: {line}" for f, line in wrong))
        bad += len(wrong) + (loads == 0)
        planted = {kind for _, line in bad_loads(re.sub(r"ld\.global\.(?!nc)", "ld.global.nc.", done.stdout))
                   for kind in line.rpartition(" of ")[2].split(", ")}  # fmt: skip
        for kind in sorted(PLANTED - planted):
            print(f"  FAILED: loads of {kind}, made such ones, are not found")
            bad += 1
    if [line.rpartition(" of ")[2] for _, line in bad_loads(LOOP)] != ["arena, weights"]:
        print("FAILED: what a loop's third turn reads is not found")
        bad += 1
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
