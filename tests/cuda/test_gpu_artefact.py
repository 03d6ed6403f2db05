"""Directories of mossc compile --target cuda:sm_XX, built with the lines it prints and run on the emulated GPU: the text of mossc run.

    MOSSC_CXX=c++ MOSSC_CUDA_DRIVER=… MOSSC_NVRTC=… python3 tests/cuda/test_gpu_artefact.py --mossc build/release/mossc [NAME…]
"""
import shutil
import subprocess
import sys

sys.path.insert(0, __file__.rsplit("/", 1)[0])
from emulated import emulate, skip_without_compiler, tiny  # noqa: E402
from harness import run_tests  # noqa: E402

TEXT = ["--prompt", "Hello", "-n", "24", "--seed", "3"]


def build(m, model, quickly=False):
    """The program in a directory with the files that it says it needs, and no others. quickly: with -O0 in place of -O2."""
    lines = m.out("compile", *model, "--target", "cuda:sm_80", "-o", "made").splitlines()
    assert lines[0] == "cd made" and len(lines) == 3 and lines[2].startswith("./tiny "), lines
    assert " -O2 " in lines[1]
    if quickly:
        lines[1] = lines[1].replace(" -O2 ", " -O0 ")
    subprocess.run(["sh", "-ec", "\n".join(lines[:2])], cwd=m.directory, check=True)
    (m.directory / "there").mkdir()
    for name in "tiny", "tiny.cubin", "tiny.ptx", "tiny.weights":
        shutil.copy(m.directory / "made" / name, m.directory / "there")


def run(m, *arguments, status=0):
    done = subprocess.run(["./tiny", *arguments], cwd=m.directory / "there", env=m.environment(), capture_output=True, timeout=300)
    assert done.returncode == status, done
    return done.stdout if status == 0 else done.stderr.decode()


def test_a_directory_says_what_run_says(m):
    model = tiny(m, architecture=80)
    build(m, model)
    text = m.run("run", *model, *TEXT, "--device", "cuda").stdout
    assert run(m, *TEXT) == text
    m.variables["MOSSC_NVRTC"] = "/nonexistent"
    emulate(m, architecture=130)  # its driver compiles the PTX
    assert run(m, *TEXT) == text
    emulate(m, architecture=80, devices=2)
    assert run(m, *TEXT, "--gpu", "1") == text
    for settings, message in [
        ({"architecture": 75}, "was built for newer GPUs than this one (sm_75)"),
        ({"devices": 0}, "NVIDIA driver found no GPU"),
        ({"memory": 100000}, "'tiny': weights"),
        ({"fail": "cuModuleLoadDataEx:1:200"}, "cuModuleLoadDataEx"),
        ({"fail": "cuLaunchCooperativeKernel:1:999"}, "cuLaunchCooperativeKernel: CUDA_ERROR_UNKNOWN"),
    ]:
        emulate(m, **{"leaks": 0, "architecture": 80, **settings})  # its main gives nothing back after an error
        shown = run(m, *TEXT, status=1)
        assert message in shown, (settings, shown)


def test_a_directory_of_quantised_weights_says_what_run_says(m):
    model = tiny(m, architecture=80)
    quantised = [*model, "--set", "weights.dtype=q4"]
    build(m, quantised, quickly=True)
    assert run(m, *TEXT) == m.run("run", *quantised, *TEXT, "--device", "cuda").stdout


if __name__ == "__main__":
    skip_without_compiler()
    sys.exit(run_tests(globals()))
