"""mossc compile --target cuda:sm_XX: a folder that a C compiler builds with the line that is printed, and that says on the emulated GPU
what mossc run says; and mossc warm for a GPU. NVRTC is emulated too.

    MOSSC_CXX=c++ MOSSC_CUDA_DRIVER=… MOSSC_NVRTC=… python3 tests/cuda/test_gpu_artefact.py --mossc build/release/mossc [NAME…]
"""
import os
import shutil
import subprocess
import sys

sys.path.insert(0, __file__.rsplit("/", 1)[0])
from emulated import MODEL, SOURCE, emulate, skip_without_compiler, tiny  # noqa: E402
from harness import TINY, run_tests  # noqa: E402

TEXT = ["--prompt", "It was", "-n", "24", "--temp", "0"]


def command(m, folder, *arguments, status=0, **settings):
    """Runs a program on the emulated GPU; what it prints, on standard error if it fails (then it may leave the rest to the driver)."""
    emulate(m, leaks=int(status == 0), **settings)
    done = subprocess.run([str(a) for a in arguments], cwd=folder, env=m.environment(), capture_output=True, timeout=300)
    assert done.returncode == status, (arguments, done.returncode, done.stdout[:500], done.stderr.decode(errors="replace"))
    return done.stderr if status else done.stdout


def compile_and_build(m, arguments, target, name="out"):
    """The folder, built with the printed line."""
    lines = m.out("compile", *arguments, "--target", target, "-o", name).splitlines()
    assert lines[0] == f"cd {name}" and lines[1].startswith("cc ") and "-ldl" in lines[1] and len(lines) == 3, lines
    command(m, m.folder, "sh", "-ec", "\n".join(lines[:2]))
    return m.folder / name


def test_text_is_that_of_the_cpu(m):
    emulate(m)
    folder = compile_and_build(m, MODEL, "cuda:sm_90")
    text = m.run("run", *MODEL, *TEXT).stdout
    assert command(m, folder, "./moss-tiny", *TEXT) == text
    assert command(m, m.folder, folder / "moss-tiny", *TEXT, "--dir", folder, multiprocessors=3) == text
    drawn = ["--prompt", "It was", "-n", "20", "--temp", "0.8", "--seed", "3"]
    assert command(m, folder, "./moss-tiny", *drawn) == m.run("run", *MODEL, *drawn, "--device", "cuda").stdout
    assert b"usage: moss-tiny" in command(m, folder, "./moss-tiny", "--promt", "x", status=2)
    assert b"moss-tiny: there is no GPU 1: the driver sees 1" in command(m, folder, "./moss-tiny", *TEXT, "--gpu", "1", status=1)


def test_another_gpu_takes_the_ptx_if_it_is_newer(m):
    model = tiny(m)
    folder = compile_and_build(m, model, "cuda:sm_80")
    text = m.run("run", *model, *TEXT).stdout
    assert command(m, folder, "./tiny", *TEXT, architecture=80) == text
    assert command(m, folder, "./tiny", *TEXT, architecture=90) == text
    assert b"is for later GPUs than this one, which is sm_75" in command(m, folder, "./tiny", *TEXT, architecture=75, status=1)
    (folder / "tiny.ptx").unlink()
    assert b"tiny.ptx" in command(m, folder, "./tiny", *TEXT, architecture=90, status=1)
    assert command(m, folder, "./tiny", *TEXT, architecture=80) == text


def test_what_is_missing_is_told(m):
    folder = compile_and_build(m, tiny(m), "cuda:sm_90")
    m.variables["MOSSC_CUDA_DRIVER"] = "/no/such/file"
    assert b"/no/such/file" in command(m, folder, "./tiny", *TEXT, status=1)
    del m.variables["MOSSC_CUDA_DRIVER"]
    shutil.copy(folder / "tiny.cubin", m.folder / "kept")
    (folder / "tiny.cubin").write_bytes(b"\x7fELF nothing")
    assert command(m, folder, "./tiny", *TEXT, status=1).startswith(b"tiny: ./tiny.cubin: cuModuleLoad")
    (folder / "tiny.cubin").unlink()
    assert b"tiny.cubin" in command(m, folder, "./tiny", *TEXT, status=1)
    shutil.copy(m.folder / "kept", folder / "tiny.cubin")
    (folder / "tiny.weights").unlink()
    assert b"tiny.weights" in command(m, folder, "./tiny", *TEXT, status=1)


def test_a_tokenizer_and_a_bound_go_with_it(m):
    emulate(m)
    shutil.copy(SOURCE / "tests/tokenizer/golden/gpt2.json", m.folder / "t.json")
    spec = m.file("tiny.yaml", TINY.replace("vocab_size: 256", "vocab_size: 300\nmax_positions: 40\ntokenizer: {kind: bpe, file: t.json, bos: 3}"))
    m.run("init", spec, "--seed", 5, "-o", "w")
    folder = compile_and_build(m, [spec, "-w", "w"], "cuda:sm_90")
    words = ["--prompt", "It's a café 123\n  x", "-n", "8", "--temp", "0"]
    assert command(m, folder, "./tiny", *words) == m.run("run", spec, "-w", "w", *words).stdout
    command(m, folder, "./tiny", *words[:2], "-n", "100", "--temp", "0")  # ends at the bound, without an error


def test_cmake_builds_it_too(m):
    model = tiny(m)
    m.run("compile", *model, "--target", "cuda:sm_90", "-o", "out")
    command(m, m.folder / "out", "cmake", "-B", "build")
    command(m, m.folder / "out", "cmake", "--build", "build")
    assert command(m, m.folder / "out", "build/tiny", *TEXT) == m.run("run", *model, *TEXT).stdout


def test_sources_have_no_warning(m):
    m.run("compile", *tiny(m), "--target", "cuda:sm_90", "-o", "out")
    command(m, m.folder / "out", "cc", "-std=gnu17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-D_GNU_SOURCE", "-I.", "-Imossrt", "main.c",
            "tiny.c", *sorted((m.folder / "out").glob("mossrt/runtime/cuda/*.c")))


def test_warm_keeps_code_for_a_gpu_that_is_not_here(m):
    emulate(m)
    spec = m.file("warm.yaml", TINY.replace("name: tiny", "name: warm"))
    made = m.json("warm", spec, "--target", "cuda:sm_86", "--json")
    assert made["found"] == 0 and made["made"] == made["kernels"] > 0
    assert m.json("warm", spec, "--target", "cuda:sm_86", "--json")["made"] == 0
    assert m.json("warm", spec, "--target", "cuda:sm_87", "--json")["found"] == 0
    m.variables["MOSSC_NVRTC"] = "/no/such/file"
    assert m.json("warm", spec, "--target", "cuda:sm_86", "--json")["made"] == 0
    assert "MOSSC_NVRTC" in m.error("warm", spec, "--target", "cuda:sm_89")
    assert "not 'aarch64'" in m.error("warm", spec, "--target", "aarch64", status=2)


def test_mistakes_are_told_and_leave_nothing(m):
    model = tiny(m)
    before = m.left()
    for words, status, *options in [
            ("mossc asm --target cuda:sm_90 --emit cubin", 2, "--target", "cuda:sm_90", "--emit", "obj"),
            ("--cpus does not go", 2, "--target", "cuda:sm_90", "--cpus", "1"),
            ("--fast is for GPUs", 2, "--fast"),
            ("GPUs before sm_75", 1, "--target", "cuda:sm_70")]:
        assert words in m.error("compile", *model, *options, "-o", "out", status=status)
    m.variables["MOSSC_NVRTC"] = "/no/such/file"
    assert "MOSSC_NVRTC" in m.error("compile", *model, "--target", "cuda:sm_90", "-o", "out")
    del m.variables["MOSSC_NVRTC"]
    emulate(m, newest=80)
    assert "makes no machine code for sm_90" in m.error("compile", *model, "--target", "cuda:sm_90", "-o", "out")
    assert m.left() == before, (before, m.left())


if __name__ == "__main__":
    skip_without_compiler()
    sys.exit(run_tests(globals()))
