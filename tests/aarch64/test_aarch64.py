"""Code for ARM gives the bits of eval32: models compiled here, linked with a cross-built runtime, run under qemu-user.

    python3 tests/aarch64/test_aarch64.py --make-cases build/release/tests/aarch64/make_cases [--count 24] [--all]

Random specs go to the targets in turn; with --all each goes to every target. Exits with 77 where the cross compiler or
qemu-user is missing.
"""
import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGETS = ["aarch64", "aarch64+dotprod", "aarch64:cortex-x4"]
NEEDED = {"aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross", "qemu-aarch64": "qemu-user"}


def run(*command, **options):
    """Runs a command; ends the test with what it printed if it fails."""
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\nended with {done.returncode}; it printed\n{done.stdout}")
    return done.stdout


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--make-cases", required=True)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--targets", nargs="+", default=TARGETS)
    parser.add_argument("--keep", help="a directory for what is made, instead of a temporary one")
    o = parser.parse_args()
    missing = [f"{program} ({package})" for program, package in NEEDED.items() if not shutil.which(program)]
    if missing:
        print(f"SKIPPED: code for ARM is not run: no {', no '.join(missing)}")
        return 77
    with tempfile.TemporaryDirectory() as temporary:
        directory = pathlib.Path(o.keep or temporary)
        cases, build = directory / "cases", directory / "build"
        cases.mkdir(parents=True, exist_ok=True)
        print(run(o.make_cases, "--out", cases, "--count", o.count, "--seed", o.seed, *["--all"] * o.all,
                  "--spec", ROOT / "specs/moss-tiny.yaml", "-w", ROOT / "models/moss-tiny.safetensors", *o.targets), end="")
        run("cmake", "-G", "Ninja", "-S", HERE / "device", "-B", build, f"-DCASES={cases}",
            f"-DCMAKE_TOOLCHAIN_FILE={HERE / 'toolchain.cmake'}")
        run("cmake", "--build", build)
        print(run("qemu-aarch64", "-cpu", "max", "-L", "/usr/aarch64-linux-gnu", build / "run_cases", cases, timeout=850), end="")
    return 0


sys.exit(main())
