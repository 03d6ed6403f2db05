"""What the tests of --device cuda share: mossc beside the emulated GPU. CTest names the libraries in MOSSC_CUDA_DRIVER and MOSSC_NVRTC;
MOSSC_CXX is the compiler that the latter uses. Where there is a GPU the tests run on that as well: settings of the emulation are nothing
to it."""
import atexit
import hashlib
import os
import pathlib
import shutil
import sys
import tempfile

sys.dont_write_bytecode = True
SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "tests" / "cli"))
from harness import SKIPPED, TINY  # noqa: E402

LEAKED = 96  # the exit status of a process that gave something of the GPU's not back (settings.h)
MODEL = SOURCE / "specs" / "moss-tiny.yaml", "-w", SOURCE / "models" / "moss-tiny.safetensors"


def kernel_directory():
    """Kernels are compiled once for all scripts that ctest runs, and anew for another emulator; otherwise once for a script."""
    kept = os.environ.get("MOSSC_CACHE_DIR")
    if kept is None or not os.environ.get("MOSSC_CXX"):
        directory = tempfile.mkdtemp()
        atexit.register(shutil.rmtree, directory, ignore_errors=True)
        return directory
    digest = hashlib.sha256()
    for path in sorted(path for folder in ("simt", "cuda") for path in (SOURCE / "tests" / folder).glob("*") if path.is_file()):
        digest.update(path.read_bytes())
    return f"{kept}-emulated/{digest.hexdigest()[:16]}"


kernels = kernel_directory()


def skip_without_compiler():
    if os.environ.get("MOSSC_CXX") == "":  # unset: a real GPU, or whoever runs this knows
        print("skipped: there is no C++ compiler")
        sys.exit(SKIPPED)


def emulate(m, **settings):
    """The GPU that m's commands find. A command that leaks fails."""
    m.kernels = kernels
    m.variables["MOSSC_EMULATED_GPU"] = ",".join(f"{key}={value}" for key, value in {"leaks": 1, **settings}.items())


def tiny(m, **settings):
    """A small spec of every kind of block, and weights for it."""
    emulate(m, **settings)
    spec = m.file("tiny.yaml", TINY)
    m.run("init", spec, "--seed", 7, "-o", "w.safetensors")
    return spec, "-w", "w.safetensors"


def distance(some, others):
    """Between rows of logits: the largest difference, of the root mean square."""
    values = [value for row in others for value in row]
    rms = (sum(value * value for value in values) / len(values)) ** 0.5
    assert [len(row) for row in some] == [len(row) for row in others]
    return max(abs(a - b) for row, other in zip(some, others) for a, b in zip(row, other)) / rms
