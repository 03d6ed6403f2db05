"""Code for ARM gives the bits of eval32: models compiled here, linked with a cross-built runtime, run under qemu-user.

    python3 tests/targets/test_aarch64.py --make-cases build/release/tests/targets/make_cases [--count N] [--all] [--fast | --also-fast N]

Random specs, and moss-tiny for the last of the targets, with --all for each.

Exits with 77 where the cross compiler or qemu-user is missing.
"""
import argparse
import pathlib
import shutil
import sys
import tempfile

import cases

TARGETS = ["aarch64", "aarch64+dotprod", "aarch64:cortex-x4"]
FAST_TARGETS = ["aarch64+bf16", "aarch64:cortex-x4"]
FAST_SEED = 3000
NEEDED = {"aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross", "qemu-aarch64": "qemu-user"}


def run(o, directory, name, count, seed):
    """Makes cases and runs them, of the kind that o.fast says."""
    targets = o.targets or (FAST_TARGETS if o.fast else TARGETS)
    made = directory / name
    cases.make(o, made, targets, count, seed, 0 if o.fast else len(targets) if o.all else 1)
    build = cases.build(directory, made, f"-DCMAKE_TOOLCHAIN_FILE={cases.HERE / 'aarch64.cmake'}")
    print(cases.run("qemu-aarch64", "-cpu", "max", "-L", "/usr/aarch64-linux-gnu", build / "run_cases", made, timeout=850), end="", flush=True)


def main():
    parser = argparse.ArgumentParser()
    cases.add_arguments(parser, count=9)
    parser.add_argument("--targets", nargs="+")
    parser.add_argument("--also-fast", type=int, default=0, metavar="N", help="N specs with --fast behind the others, in the same build of the runtime")
    o = parser.parse_args()
    missing = [f"{program} ({package})" for program, package in NEEDED.items() if not shutil.which(program)]
    if missing:
        print(f"SKIPPED: code for ARM is not run: no {', no '.join(missing)}")
        return 77
    with tempfile.TemporaryDirectory() as temporary:
        directory = pathlib.Path(o.keep or temporary)
        run(o, directory, "cases", o.count, o.seed)
        if o.also_fast:
            o.fast = True
            run(o, directory, "cases-fast", o.also_fast, FAST_SEED)
    return 0


sys.exit(main())
