#!/usr/bin/env python3
"""What `./dev bundle` made, used as on a machine that has neither LLVM nor the libraries that mossc is built with: their files are
hidden in a mount namespace of this test's own. The GPU is the emulated one.

    test_bundle.py --bundle DIR --emulated build/release/tests/cuda
"""
import argparse
import glob
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

SKIPPED = 77
HIDDEN = ["libLLVM*", "libcjson*", "libyaml*", "libutf8proc*"]  # not PCRE2: ls and mount need it
LARGEST = 45 << 20  # bytes, compressed


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(SKIPPED)


def hidden_files():
    patterns = [f"/usr/lib/*/{name}.so*" for name in HIDDEN] + ["/usr/lib/llvm-*/lib/libLLVM*"]
    return sorted({os.path.realpath(path) for pattern in patterns for path in glob.glob(pattern)})


class Machine:
    """Commands within the namespace."""

    def __init__(self, bundle, emulated, cache):
        self.bundle = bundle
        hide = "".join(f"mount --bind /dev/null '{path}' && " for path in hidden_files())
        self.prefix = ["unshare", "--mount", "--propagation", "private", "sh", "-c", hide + 'exec "$@"', "sh"]
        self.environment = {
            "PATH": "/usr/bin:/bin", "HOME": cache, "TMPDIR": cache, "MOSSC_CACHE_DIR": os.path.join(cache, "kernels"),
            "MOSSC_CXX": shutil.which("c++") or "", "MOSSC_GPU_TESTS": "same_steps",
            "MOSSC_CUDA_DRIVER": str(emulated / "libmossc_emulated_cuda.so"), "MOSSC_NVRTC": str(emulated / "libmossc_emulated_nvrtc.so"),
        }
        os.makedirs(self.environment["MOSSC_CACHE_DIR"])

    def run(self, *command, status=0, **environment):
        done = subprocess.run([*self.prefix, *map(str, command)], env={**self.environment, **environment}, capture_output=True, text=True, timeout=1300)
        assert done.returncode == status, f"{command} ended with {done.returncode}, expected {status}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr


def the_libraries_are_hidden(machine, release):
    said = machine.run(release, "--version", status=127)
    assert "libLLVM" in said or "error while loading shared libraries" in said, said


def it_is_small(machine):
    archive = subprocess.run(f"tar -C '{machine.bundle}' -c . | xz -T0 -3 | wc -c", shell=True, capture_output=True, text=True, check=True)
    assert int(archive.stdout) <= LARGEST, f"{archive.stdout.strip()} bytes compressed, at most {LARGEST} are allowed"


def code_for_cpus_is_refused_by_name(machine):
    said = machine.run(machine.bundle / "run.sh", "mossc", "run", machine.bundle / "specs/moss-tiny.yaml", "-w",
                       machine.bundle / "models/moss-tiny.safetensors", "--prompt", "It", status=1)
    assert "built without LLVM" in said and "--device cuda" in said, said


def gpus_alone_are_targets(machine):
    said = machine.run(machine.bundle / "run.sh", "mossc", "targets")
    assert said.startswith("CPU targets need a mossc that is built with LLVM") and "cuda:sm_90" in said, said
    said = json.loads(machine.run(machine.bundle / "run.sh", "mossc", "targets", "--json"))
    assert said["targets"] == said["devices"] == [] and "cuda:sm_90" in [gpu["name"] for gpu in said["gpus"]], said


def it_runs_with_the_c_library_that_came_along(machine):
    loader = glob.glob(str(machine.bundle / "lib/c/ld-linux-*.so.*"))[0]
    libraries = f"{machine.bundle}/lib/c:{machine.bundle}/lib"
    assert "moss-tiny" in machine.run(loader, "--library-path", libraries, machine.bundle / "libexec/mossc", "check",
                                      machine.bundle / "specs/moss-tiny.yaml")


def the_gpu_is_tested(machine):
    said = machine.run(machine.bundle / "run.sh", "test-gpu", "--seconds", 1200, "--count", 1, "--cycles", 5)
    assert re.search(r"^1 specs .* 0 failed", said, re.M), said
    assert "4 compared, 0 failed" in said, said  # moss-tiny's logits in every mode
    assert re.search(r"^[1-9]\d* passed, 0 failed, \d+ skipped$", said, re.M), said
    assert "not tested here:" in said, said  # compute-sanitizer means nothing to the emulated GPU


def the_gpu_is_measured(machine):
    said = machine.run(machine.bundle / "run.sh", "bench", "gpu", "--smoke", "--seconds", 600, "decode")
    assert "decode" in said, said


def without_a_gpu_it_says_so(machine):
    said = machine.run(machine.bundle / "run.sh", "mossc", "limits", "--device", "cuda", status=1, MOSSC_CUDA_DRIVER="/nonexistent.so")
    assert "cannot load the library" in said, said


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", required=True, type=pathlib.Path)
    parser.add_argument("--emulated", required=True, type=pathlib.Path)
    options = parser.parse_args()
    if not shutil.which("c++"):
        skip("there is no C++ compiler for the emulated GPU")
    probe = subprocess.run(["unshare", "--mount", "true"], capture_output=True)
    if probe.returncode != 0:
        skip("this process may not make a mount namespace (not root?)")
    emulated = options.emulated.resolve()
    with tempfile.TemporaryDirectory() as cache:
        machine = Machine(options.bundle.resolve(), emulated, cache)
        the_libraries_are_hidden(machine, emulated.parents[1] / "mossc")
        for test in (it_is_small, code_for_cpus_is_refused_by_name, gpus_alone_are_targets, it_runs_with_the_c_library_that_came_along, without_a_gpu_it_says_so,
                     the_gpu_is_tested, the_gpu_is_measured):
            test(machine)
            print(f"ok      {test.__name__}", flush=True)
    return 0


sys.exit(main())
