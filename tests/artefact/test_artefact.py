#!/usr/bin/env python3
"""mossc compile: artefacts are built with the lines that it prints, and say and compute what mossc does, to the last bit.

    python3 tests/artefact/test_artefact.py --mossc build/release/mossc [NAME…]
"""
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from rig import (HERE, MOSS_TINY, ROOT, archive, arm, command, compile_and_build, drive, driver, host, npy_values,  # noqa: E402
                 quick_build, shared_object)
from harness import TINY, run_tests  # noqa: E402

GOLDEN = ROOT / "tests/tokenizer/golden"
WORDS = ["--prompt", "It's a café 123\n  x", "-n", "60"]
TEXT = ["--prompt", "It was a dark evening", "-n", "24", "--seed", "3"]


def tiny(m, name="tiny", more=""):
    """A small spec with every kind of block, and weights for it in the file w."""
    spec = m.file(f"{name}.yaml", TINY.replace("name: tiny", f"name: {name}") + more)
    m.run("init", spec, "--seed", 5, "-o", "w")
    return [spec, "-w", "w"]


SMALL = """\
mossc: 1
name: tiny
vocab_size: 256
d_model: 16
stack: [{ssm: {d_state: 4}}]
"""


def small(m, name="tiny"):
    """Like tiny, of one block: for what is no matter of blocks."""
    spec = m.file(f"{name}.yaml", SMALL.replace("name: tiny", f"name: {name}"))
    m.run("init", spec, "--seed", 5, "-o", "w")
    return [spec, "-w", "w"]


def bpe(m):
    shutil.copy(GOLDEN / "gpt2.json", m.directory / "t.json")
    text = TINY.replace("vocab_size: 256", "vocab_size: 300\ntokenizer: {kind: bpe, file: t.json, bos: 3}")
    m.file("tiny.yaml", text)
    m.run("init", "tiny.yaml", "--seed", 5, "-o", "w")
    return ["tiny.yaml", "-w", "w"]


def check_text(m, directory, arguments, machine, name, options=TEXT):
    """The artefact's text is that of mossc run."""
    assert command(directory, *machine.runner, f"./{name}", *options) == m.run("run", *arguments, *options).stdout


def check_sizes(directory, tools):
    command(directory, f"{tools}strip", "-o", "small", "moss-tiny")
    assert (directory / "small").stat().st_size <= 300_000
    sections = [int(n) for n in command(directory, f"{tools}size", "moss-tiny", "moss-tiny.o").split()[6:] if n.isdigit()]
    assert sections[0] - sections[4] <= 150_000, sections  # text of the program less that of the model
    assert sum(p.stat().st_size for p in directory.glob("moss-tiny.*") if p.suffix not in (".weights", ".so")) <= 300_000


# ---- texts

def test_host_says_what_run_says_and_is_small(m):
    directory = compile_and_build(m, MOSS_TINY, host())
    check_text(m, directory, MOSS_TINY, host(), "moss-tiny")
    check_sizes(directory, "")
    more = ["--prompt", "The", "-n", "20", "--temp", "0"]
    text = m.run("run", *MOSS_TINY, *more).stdout
    assert command(directory, "./moss-tiny", *more) == text
    assert command(m.directory, directory / "moss-tiny", *more, "--dir", directory) == text
    command(directory, "./moss-tiny", "--prompt", "x", "--dir", "..", status=1)
    command(directory, "./moss-tiny", "--promt", "x", status=2)
    for wrong in (["-n", "many"], ["-n", ""], ["-n", "-1"], ["--temp", "hot"], ["--seed", "x"], ["--seed", "1.5"]):
        command(directory, "./moss-tiny", "--prompt", "x", *wrong, status=2)
    command(directory, "sh", "-c", "./moss-tiny --prompt x -n 5 >/dev/full", status=1)
    command(directory, "sh", "-c", "./moss-tiny --prompt x -n 5 >&-", status=1)
    command(directory, "sh", "-c", "./moss-tiny --prompt x -n 5 2>&- <&-")


def test_arm_says_what_run_says_and_is_small(m):
    machine = arm()
    directory = compile_and_build(m, MOSS_TINY, machine)
    check_text(m, directory, MOSS_TINY, machine, "moss-tiny")
    check_sizes(directory, "aarch64-linux-gnu-")


quantised = tempfile.TemporaryDirectory()  # made once for both machines


def four_bits(m):
    """moss-tiny with weights of 4 bits, as docs/on-a-phone.md has it."""
    made = pathlib.Path(quantised.name) / "q4.safetensors"
    if not made.exists():
        m.run("quantize", *MOSS_TINY, "--dtype", "q4", "-o", made)
    return [MOSS_TINY[0], "--set", "weights.dtype=q4", "-w", made]


def check_four_bits(m, machine):
    arguments = four_bits(m)
    directory = quick_build(m, arguments, machine, "moss-tiny")
    check_text(m, directory, arguments, machine, "moss-tiny")
    assert 4_500_000 < (directory / "moss-tiny.weights").stat().st_size < 4_700_000


def test_host_runs_weights_of_four_bits(m):
    check_four_bits(m, host())


def test_arm_runs_weights_of_four_bits(m):
    check_four_bits(m, arm())


def test_host_tokenizes_as_mossc_does(m):
    arguments = bpe(m)
    check_text(m, quick_build(m, arguments, host(), "tiny"), arguments, host(), "tiny", WORDS)


def test_arm_tokenizes_as_mossc_does(m):
    arguments, machine = bpe(m), arm()
    check_text(m, quick_build(m, arguments, machine, "tiny"), arguments, machine, "tiny", WORDS)


def test_generation_stops_at_max_positions(m):
    arguments = [*tiny(m, more="  - attention: {n_heads: 2}\n"), "--set", "max_positions=20"]
    directory = quick_build(m, arguments, host(), "tiny")
    check_text(m, directory, arguments, host(), "tiny", ["--prompt", "0123456789", "-n", "40"])
    command(directory, "./tiny", "--prompt", "x" * 21, status=1)


def test_cmake_builds_it_too(m):
    arguments = small(m)
    m.run("compile", *arguments, "-o", "out")
    command(m.directory / "out", "cmake", "-B", "build", "-DCMAKE_BUILD_TYPE=Debug")
    command(m.directory / "out", "cmake", "--build", "build")
    check_text(m, m.directory / "out", arguments, host(), "build/tiny")


# ---- bits

def test_states_travel_between_machines(m):
    """Two thirds here, one third there and the other way round give the logits of one machine, and mossc's."""
    arguments = tiny(m)
    here, there = host(), arm()
    m.run("pack", *arguments, "-o", "tiny.weights")
    weights = "tiny.weights"
    tools = [(machine, driver(m, machine), shared_object(m, "tiny.yaml", machine, f"tiny-{machine.target}"))
             for machine in (here, there)]
    tokens = [i * 37 % 256 for i in range(60)]
    m.file("all.txt", " ".join(map(str, tokens)))
    m.file("first.txt", " ".join(map(str, tokens[:40])))
    m.file("rest.txt", " ".join(map(str, tokens[40:])))
    m.run("logits", *arguments, "--tokens", "all.txt", "-o", "all.npy")
    whole = npy_values(m, "all.npy")
    for machine, program, library in tools:
        for options in ([], ["--chunk", "1"], ["--chunk", "7", "--threads", "3"]):
            assert drive(m, machine, program, library, "tiny", weights, "all.txt", "x", *options) == whole, (machine.target, options)
    for (a, a_program, a_library), (b, b_program, b_library) in (tools, tools[::-1]):
        first = drive(m, a, a_program, a_library, "tiny", weights, "first.txt", "x", "--state-out", "state")
        rest = drive(m, b, b_program, b_library, "tiny", weights, "rest.txt", "x", "--state-in", "state")
        assert first + rest == whole, (a.target, b.target)


def test_artefacts_are_the_same_every_time(m):
    arguments = bpe(m)
    for name in ("a", "b"):
        m.run("compile", *arguments, "-o", name)
    files = sorted(p.relative_to(m.directory / "a") for p in (m.directory / "a").rglob("*") if p.is_file())
    assert len(files) > 40
    for name in files:
        assert (m.directory / "a" / name).read_bytes() == (m.directory / "b" / name).read_bytes(), name


# ---- what an embedder finds

def test_two_models_live_in_memory_of_the_callers(m):
    sums = []
    for name, more in (("one", ""), ("two", "  - mlp: {d_ff: 16}\n")):
        arguments = tiny(m, name, more)
        m.run("compile", *arguments, "-o", f"{name}-out")
        for file in (m.directory / f"{name}-out").glob(f"{name}.*"):
            shutil.copy(file, m.directory)
        m.file("t.txt", "7 3 200 41 5")
        m.run("logits", *arguments, "--tokens", "t.txt", "-o", "t.npy")
        bits = npy_values(m, "t.npy")[-4 * 256:]
        total = 0
        for i in range(256):
            total = (total * 31 + int.from_bytes(bits[4 * i:4 * i + 4], "little")) % 2**32
        sums.append(f"{name} {total}")
    library, headers = archive(m, host())
    command(m.directory, "cc", "-std=c17", "-Wall", "-Wextra", "-Werror", "-I.", f"-I{headers}", "-o", "both", HERE / "embedder.c", "one.o", "two.o",
            library, "-lm", "-pthread")
    assert command(m.directory, "./both").decode().split("\n")[:2] == sums


def test_the_yaml_is_the_same_spec(m):
    m.run("compile", *tiny(m), "-o", "out")
    directory = m.directory / "out"
    text = m.run("run", "out/tiny.yaml", "-w", "out/tiny.weights", *TEXT).stdout
    assert text == m.run("run", "tiny.yaml", "-w", "w", *TEXT).stdout
    hash_in_header = re.search(r'TINY_SPEC_HASH "(\w+)"', (directory / "tiny.h").read_text())[1]
    m.run("compile", "out/tiny.yaml", "-w", "out/tiny.weights", "-o", "again")  # packed weights are taken too
    assert hash_in_header in (m.directory / "again/tiny.h").read_text()
    assert (m.directory / "again/tiny.yaml").read_text() == (directory / "tiny.yaml").read_text()
    assert (m.directory / "again/tiny.weights").read_bytes() == (directory / "tiny.weights").read_bytes()


def test_objects_need_only_the_c_library(m):
    m.run("compile", *tiny(m), "-o", "out")
    undefined = set(command(m.directory, "nm", "-u", "out/tiny.o").decode().split()) - {"U"}
    assert undefined <= {"memset", "memcpy", "memmove"}, undefined
    visible = re.findall(r"\b[A-TV-Z] (\w+)", command(m.directory, "nm", "-g", "out/tiny.o").decode())
    assert sorted(visible) == ["tiny_codes", "tiny_program"], visible


def test_main_is_a_page(m):
    m.run("compile", *small(m), "-o", "out")
    assert len((m.directory / "out/main.c").read_text().splitlines()) <= 72


def test_names_become_symbols(m):
    directory = quick_build(m, small(m, "4b.x-1"), host(), "4b.x-1")
    assert (directory / "4b.x-1").exists()
    assert "extern const MossProgram model_4b_x_1_program;" in (directory / "4b.x-1.h").read_text()


def test_the_lines_for_a_shell_quote_names(m):
    arguments = small(m)
    for name in ("a b", "it's", "-out", "$HOME;x", "plain-1.2"):
        lines = m.out("compile", *arguments, "-o", f"./{name}" if name == "-out" else name).splitlines()
        found = command(m.directory, "sh", "-ec", lines[0] + "\npwd").decode().strip()
        assert found == str((m.directory / name).resolve()), (lines[0], found)


def test_default_cpus_stand_in_the_header(m):
    arguments = small(m)
    directory = quick_build(m, [*arguments, "--cpus", "0,4000"], host(), "tiny")  # what the process may not use is passed over
    assert "#define TINY_CPUS {0,4000}" in (directory / "tiny.h").read_text()
    assert command(directory, "./tiny", *TEXT) == m.run("run", *arguments, *TEXT).stdout
    m.run("compile", *arguments, "--target", "galaxy-s24-ultra", "-o", "phone")
    assert "#define TINY_CPUS {7,6,5,4,3,2}" in (m.directory / "phone/tiny.h").read_text()
    check_refused(m, "expected numbers separated by commas", *arguments, "--cpus", "0,", "-o", "x", status=2)


# ---- the code alone

def test_emit_shows_the_code(m):
    spec = small(m)[0]
    assert "tiny_program" in m.out("compile", spec, "--emit", "asm")
    assert m.out("compile", spec, "--emit", "llvm").startswith("; ModuleID = 'tiny'")
    m.run("compile", spec, "--emit", "obj", "-o", "x.o")
    assert (m.directory / "x.o").read_bytes()[:4] == b"\x7fELF"
    assert "fmla" in m.out("compile", spec, "--emit", "asm", "--target", "aarch64")


# ---- errors: one line that helps, and nothing left behind

def check_refused(m, words, *arguments, **options):
    before = m.left()
    error = m.error("compile", *arguments, **options)
    assert words in error, error
    assert m.left() == before, (before, m.left())


def test_mistakes_are_told_and_leave_nothing(m):
    spec, w, weights = tiny(m)
    m.file("bad", b"nothing")
    (m.directory / "full").mkdir()
    m.file("full/x", b"")
    m.file("other.yaml", TINY.replace("d_ff: 48", "d_ff: 32"))
    m.run("init", "other.yaml", "-o", "other")
    check_refused(m, "unknown core", spec, w, weights, "--target", "aarch64:cortex-z9", "-o", "out")
    check_refused(m, "bad", spec, w, "bad", "-o", "out")
    check_refused(m, "expected", spec, w, "other", "-o", "out")
    m.run("pack", spec, w, weights, "-o", "damaged")
    packed = bytearray((m.directory / "damaged").read_bytes())
    packed[-2000] ^= 1
    m.file("damaged", bytes(packed))
    check_refused(m, "file is corrupt: the digest of tensor", spec, w, "damaged", "-o", "out")
    check_refused(m, "cannot be used in file names", spec, w, weights, "--set", "name=-x", "-o", "out")
    check_refused(m, "directory is not empty", spec, w, weights, "-o", "full")
    check_refused(m, "exists and is not a directory", spec, w, weights, "-o", "bad")
    check_refused(m, "No such file", spec, w, weights, "-o", "no/such/place")
    check_refused(m, "-o DIR", spec, w, weights, status=2)
    check_refused(m, "-w FILE", spec, "-o", "out", status=2)
    check_refused(m, "out/tiny.o: error: cannot write", spec, w, weights, "-o", "out", largest_file=20000)
    check_refused(m, "out/tiny.weights: cannot write", spec, w, weights, "-o", "out", "--target", "aarch64", largest_file=160000)
    assert sorted(p.name for p in (m.directory / "full").iterdir()) == ["x"]


def test_a_pattern_without_code_is_refused(m):
    arguments = bpe(m)
    shutil.copy(GOLDEN / "splits.json", m.directory / "t.json")
    check_refused(m, "pattern is not supported on devices", *arguments, "-o", "out")


def test_an_empty_directory_is_filled(m):
    (m.directory / "out").mkdir()
    m.run("compile", *small(m), "-o", "out/")
    assert (m.directory / "out/tiny.o").exists()


def test_a_signal_leaves_nothing(m):
    arguments = tiny(m)
    before = m.left()
    for delay in (0.02, 0.05, 0.1, 0.2, 0.3, 0.5):
        run = subprocess.Popen([m.program, "compile", *arguments, "-o", "out"], cwd=m.directory, stdout=subprocess.DEVNULL)
        time.sleep(delay)
        run.send_signal(signal.SIGTERM)
        if run.wait() == 0:
            shutil.rmtree(m.directory / "out")
        assert m.left() == before, (delay, m.left())


if __name__ == "__main__":
    sys.exit(run_tests(globals(), share_kernels=True))
