"""Models compiled on this machine for another one: made, linked with the runtime, run there."""
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def run(*command, **options):
    """Runs a command; ends the test with what it printed if it fails."""
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\nended with {done.returncode}; it printed\n{done.stdout}")
    return done.stdout


def add_arguments(parser, count):
    parser.add_argument("--make-cases", required=True)
    parser.add_argument("--count", type=int, default=count)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--all", action="store_true", help="each spec for every target, not for the targets in turn")
    parser.add_argument("--blocks", action="store_true", help="specs with q8 and q4 weights alone")
    parser.add_argument("--fast", action="store_true", help="specs of bf16 weights whose prompts round inputs to bf16")
    parser.add_argument("--keep", help="a directory for what is made, instead of a temporary one")


def make(o, cases, targets, count, seed, given=0):
    """Fills the directory `cases` by make_cases; `given`: moss-tiny too, for that many of the targets, the last ones."""
    cases.mkdir(parents=True, exist_ok=True)
    spec = ["--spec", ROOT / "specs/moss-tiny.yaml", "-w", ROOT / "models/moss-tiny.safetensors", "--spec-targets", given] if given else []
    options = [*["--all"] * o.all, *["--blocks"] * o.blocks, *["--fast"] * o.fast]
    print(run(o.make_cases, "--out", cases, "--count", count, "--seed", seed, *options, *spec, *targets), end="", flush=True)


def build(directory, cases, *options):
    """Builds run_cases of what make() made, and init, in the directory's build/, where the runtime may be there from other cases."""
    build = directory / "build"
    run("cmake", "-G", "Ninja", "-S", HERE / "device", "-B", build, f"-DCASES={cases}", *options)
    run("cmake", "--build", build)
    return build
