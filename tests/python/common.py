"""What tests of the Python package share. They run with the package of a build directory on PYTHONPATH."""
import importlib.util
import pathlib
import sys

sys.dont_write_bytecode = True
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/cli"))
from harness import SKIPPED, TINY, WRONG, Skipped, run_tests  # noqa: E402, F401

SPEC, WEIGHTS = ROOT / "specs/moss-tiny.yaml", ROOT / "models/moss-tiny.safetensors"
PROMPT = "It was a dark evening"


def need(*modules):
    """Ends a script of extra/ as skipped where a package is missing. It comes before the first import of one, NumPy too."""
    missing = [name for name in modules if not importlib.util.find_spec(name)]
    if missing:
        print(f"skipped: {', '.join(missing)} cannot be had here")
        sys.exit(SKIPPED)


def raises(kind, call, *arguments, **options):
    """The exception of this kind that a call must end with."""
    try:
        call(*arguments, **options)
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")
