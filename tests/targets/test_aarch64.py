"""Code for ARM gives the bits of eval32: models compiled here, linked with a cross-built runtime, run under qemu-user.

    python3 tests/targets/test_aarch64.py --make-cases build/release/tests/targets/make_cases [--count 12] [--all] [--fast]

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
NEEDED = {"aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross", "qemu-aarch64": "qemu-user"}


def main():
    parser = argparse.ArgumentParser()
    cases.add_arguments(parser, count=12)
    parser.add_argument("--targets", nargs="+")
    o = parser.parse_args()
    targets = o.targets or (FAST_TARGETS if o.fast else TARGETS)
    missing = [f"{program} ({package})" for program, package in NEEDED.items() if not shutil.which(program)]
    if missing:
        print(f"SKIPPED: code for ARM is not run: no {', no '.join(missing)}")
        return 77
    with tempfile.TemporaryDirectory() as temporary:
        directory = pathlib.Path(o.keep or temporary)
        made = cases.make(o, directory, targets, o.count, o.seed)
        build = cases.build(directory, f"-DCMAKE_TOOLCHAIN_FILE={cases.HERE / 'aarch64.cmake'}")
        print(cases.run("qemu-aarch64", "-cpu", "max", "-L", "/usr/aarch64-linux-gnu", build / "run_cases", made, timeout=850), end="")
    return 0


sys.exit(main())
