"""Code for AVX-512 and for VNNI gives the bits of eval32: on this machine where it has them, else in an emulated PC (pc.py).

    python3 tests/targets/test_avx512.py --make-cases build/release/tests/targets/make_cases [--count 300] [--all] [--fast]

Exits with 77 where nothing can be run; says what cannot.
"""
import argparse
import pathlib
import platform
import sys
import tempfile

import cases
import pc

AVX512 = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
FAST_NEEDS = {"x86-64-v4+vnni+bf16": AVX512 | {"avx512_vnni", "avx512_bf16"}}
NEEDS = {"x86-64-v4": AVX512, "x86-64-v4+vnni": AVX512 | {"avx512_vnni"}, "x86-64-v3+vnni": {"avx2", "avx_vnni"}}
BATCH = 75  # models that an emulated PC runs before it is switched off


def flags():
    """What this machine's processor has, in Linux's words."""
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return set(line.split(":")[1].split())
    return set()


def run_batch(o, directory, targets, count, seed, given, native):
    made = directory / "cases"
    cases.make(o, made, targets, count, seed, len(targets) if given and not o.fast else 0)
    build = cases.build(directory, made, "-DCMAKE_EXE_LINKER_FLAGS=-static")
    if native:
        print(cases.run(build / "run_cases", made), end="", flush=True)
        return
    ok, printed = pc.run(directory, made, build, timeout=7000)
    print(printed, end="", flush=True)
    if not ok:
        sys.exit(f"the emulated PC did not say that all was well: seeds from {seed}, {count} of them")


def main():
    parser = argparse.ArgumentParser()
    cases.add_arguments(parser, count=300)
    parser.add_argument("--emulated", action="store_true", help="in the emulated PC even where this machine would do")
    o = parser.parse_args()
    if platform.machine() != "x86_64":
        print("SKIPPED: code for PCs is linked and run on PCs alone")
        return 77
    have = set() if o.emulated else flags()
    wanted = FAST_NEEDS if o.fast else NEEDS
    native = [target for target, needs in wanted.items() if needs <= have]
    others = [target for target in wanted if target not in native]
    missing = pc.missing() if others else None
    groups = [(native, True), ([] if missing else others, False)]
    if missing:
        print(f"SKIPPED: code for {', '.join(others)} is not run, since this machine cannot: {missing}")
    for targets, here in groups:
        if not targets:
            continue
        step = BATCH // len(targets) if o.all else BATCH
        for first in range(0, o.count, step):
            with tempfile.TemporaryDirectory() as temporary:
                directory = pathlib.Path(o.keep or temporary) / f"{targets[0]}-{first}"
                run_batch(o, directory, targets, min(step, o.count - first), o.seed + first, first == 0, here)
    return 77 if missing and not native else 0


sys.exit(main())
