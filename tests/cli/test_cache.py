"""The kernel cache as commands use it: the same results with and without it, what `warm`, `cache` and `bench` say of it, and
what happens where it is damaged, full, out of reach or shared; and kernels as gdb shows them. Standard library only.

    python3 tests/cli/test_cache.py --mossc build/release/mossc [NAME…]

runs all tests, or those whose names contain a NAME.
"""
import os
import pathlib
import platform
import re
import shutil
import struct
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from harness import TINY, Skipped, run_tests  # noqa: E402

SMALL = """\
mossc: 1
name: small
vocab_size: 256
d_model: 32
stack:
  - mlp: {d_ff: 48}
"""  # compiled soon; what it has is the same for every kernel
TOKENS = " ".join(str(40 + i * 37 % 200) for i in range(40))


def make(m, text=SMALL):
    """A spec, and weights for it."""
    spec = m.file("spec.yaml", text)
    m.run("init", spec, "--seed", 7, "-o", "w.safetensors")
    return spec


def logits(m, spec, *options):
    """The bytes of the logits, and what standard error says."""
    done = m.run("logits", spec, "-w", "w.safetensors", "--tokens", "-", "-o", "out.npy", *options, stdin=TOKENS.encode())
    return m.npy("out.npy")[1], done.stderr


def warm(m, spec, *options):
    """How many kernels were made, and how many were found."""
    said = m.json("warm", spec, "--json", *options)
    assert said["spec"] == spec and said["made"] + said["found"] == said["kernels"] and said["ms"] > 0, said
    return said["made"], said["found"]


def entries(m):
    return sorted(m.kernels.glob("*.kernel"))


def with_environment(m, **changes):
    """m's commands see these variables from now on; None: not at all."""
    variables = {**m.environment(), **changes}
    m.environment = lambda: {name: value for name, value in variables.items() if value is not None}


# ---------------------------------------------------------------------------------------------- what is in it


def test_the_cache_changes_no_bit(m):
    spec = make(m, TINY)
    without, cold, cached = logits(m, spec, "--no-cache")[0], logits(m, spec)[0], logits(m, spec)[0]
    assert without == cold == cached == logits(m, spec, "--mode", "decode")[0]
    assert without == logits(m, spec, "--isa", "avx2")[0] == logits(m, spec, "--isa", "avx2")[0]


def test_no_cache_keeps_nothing(m):
    spec = make(m)
    logits(m, spec, "--no-cache")
    assert not m.kernels.exists()


def test_the_second_run_compiles_nothing(m):
    spec = make(m)
    first = m.json("run", spec, "-w", "w.safetensors", "--prompt", "a", "-n", 3, "--json")
    second = m.json("run", spec, "-w", "w.safetensors", "--prompt", "a", "-n", 3, "--json")
    assert first["cached_kernels"] == 0 and second["cached_kernels"] == second["kernels"] == len(entries(m)), (first, second)
    said = m.run("run", spec, "-w", "w.safetensors", "--prompt", "a", "-n", 3).stderr
    assert f"({first['kernels']} of {first['kernels']} kernels from the cache)" in said, said


def test_warm_says_what_it_made(m):
    spec = make(m)
    made, found = warm(m, spec)
    assert made == len(entries(m)) > 0 and found == 0
    assert warm(m, spec) == (0, made)
    twin = m.file("twin.yaml", SMALL.replace("name: small", "name: twin").replace("vocab_size: 256", "vocab_size: 320"))
    twin_made, twin_found = warm(m, twin)
    assert 0 < twin_made < twin_found, (twin_made, twin_found)  # all but embedding and head are the other's
    assert warm(m, spec, "--set", "weights.dtype=bf16")[0] > 0
    text = m.out("warm", spec, twin)
    assert re.fullmatch(rf"spec.yaml: {made} kernels, 0 made, {made} found, \d+ ms\ntwin.yaml: .*\n", text), text


def test_warm_makes_what_fast_runs(m):
    if platform.machine() != "x86_64":
        raise Skipped("--isa bf16-in-ir is for x86-64")
    spec = make(m)
    options = ("--isa", "bf16-in-ir", "--set", "weights.dtype=bf16")
    made = warm(m, spec, *options)[0]
    fast_made, fast_found = warm(m, spec, *options, "--fast")
    assert made > 0 and 0 < fast_made and 0 < fast_found, (made, fast_made, fast_found)  # a step of one row is the same
    count = len(entries(m))
    logits(m, spec, "--fast", *options)
    assert len(entries(m)) == count
    assert "--fast needs sums of bfloat16 products" in m.error("warm", spec, "--isa", "avx2", "--fast")


def test_warm_goes_on_after_a_wrong_spec(m):
    spec = make(m)
    wrong = m.file("wrong.yaml", SMALL.replace("d_ff", "dff"))
    done = m.run("warm", wrong, spec, status=1)
    assert b"spec.yaml: " in done.stdout and "unknown key 'dff'" in done.stderr
    assert warm(m, spec)[0] == 0


def test_cache_shows_and_clears(m):
    spec = make(m)
    empty = m.json("cache", "--json")
    assert empty == {"directory": str(m.kernels), "entries": 0, "schedules": 0, "bytes": 0, "most_bytes": 64 << 20, "models": [],
                     "models_directory": str(m.kernels / "models"), "models_bytes": 0, "most_models_bytes": 64 << 30}, empty  # fmt: skip
    made, _ = warm(m, spec)
    (m.kernels / "notes.txt").write_text("mine")
    entries(m)[0].write_bytes(b"")  # as a crash of the machine leaves what was not synced
    full = m.json("cache", "--json")
    assert full["entries"] == made and full["bytes"] == sum(path.stat().st_size for path in entries(m)), full
    assert re.fullmatch(rf"{re.escape(str(m.kernels))}: {made} kernels, [\d.]+ KiB of at most 64.0 MiB\n", m.out("cache"))
    cleared = m.json("cache", "--clear", "--json")
    assert cleared["removed"] == made and cleared["entries"] == 0, cleared
    assert [path.name for path in m.kernels.iterdir()] == ["notes.txt"]
    assert warm(m, spec) == (made, 0)


def test_the_environment_names_the_directory(m):
    home = m.directory / "home"
    with_environment(m, MOSSC_CACHE_DIR=None, XDG_CACHE_HOME="/var/xdg", HOME=str(home))
    assert m.json("cache", "--json")["directory"] == "/var/xdg/mossc/kernels"
    with_environment(m, XDG_CACHE_HOME="relative")
    assert m.json("cache", "--json")["directory"] == f"{home}/.cache/mossc/kernels"
    with_environment(m, XDG_CACHE_HOME=None)
    spec = make(m)
    made, _ = warm(m, spec)
    assert len(list((home / ".cache/mossc/kernels").iterdir())) == made
    with_environment(m, HOME=None)
    assert "kernel cache has no directory: HOME is not set" in m.error("cache")
    assert "kernels cannot be kept: HOME is not set" in logits(m, spec)[1]
    assert "kernels cannot be kept" not in logits(m, spec, "--no-cache")[1]


def test_the_bound_is_kept(m):
    spec = make(m)
    with_environment(m, MOSSC_CACHE_SIZE="0")
    logits(m, spec)
    assert not entries(m)
    assert "exceed the size limit of the cache" in m.error("warm", spec)
    assert not entries(m)
    assert m.json("cache", "--json")["most_bytes"] == 0
    with_environment(m, MOSSC_CACHE_SIZE="12x")
    done = m.run("cache")
    assert "MOSSC_CACHE_SIZE: expected a number of MiB" in done.stderr and b"of at most 64.0 MiB" in done.stdout


def test_bench_measures_both(m):
    spec = make(m)
    options = ["--prefill", 4, "--decode", 2, "--repeat", 2, "--json"]
    both = m.json("bench", spec, *options)
    assert 0 < both["cached_ms"]["min"] < both["compile_ms"]["min"], both
    assert len(entries(m)) > 0
    assert "cached_ms" not in m.json("bench", spec, "--no-cache", *options)
    again = m.json("bench", spec, *options)
    assert again["compile_ms"]["min"] > again["cached_ms"]["min"], again  # compile_ms is cold, whatever the cache holds


def test_another_build_has_kernels_of_its_own(m):
    spec = make(m)
    made, _ = warm(m, spec)
    program = pathlib.Path(m.program).read_bytes()
    at = program.index(struct.pack("<III4s", 4, 20, 3, b"GNU\0")) + 16  # the build id, among the notes of an ELF file
    other = m.directory / "mossc"
    other.write_bytes(program[:at] + bytes([program[at] ^ 1]) + program[at + 1 :])
    other.chmod(0o755)
    m.program, ours = str(other), m.program
    assert warm(m, spec) == (made, 0)
    m.program = ours
    assert warm(m, spec) == (0, made)


# ---------------------------------------------------------------------------------------------- what may go wrong


def test_damaged_kernels_are_made_again(m):
    spec = make(m)
    good, _ = logits(m, spec)
    paths = entries(m)

    def cut(path, data):
        path.write_bytes(data[: len(data) // 2])

    def change(path, data):
        path.write_bytes(data[:-100] + bytes([data[-100] ^ 8]) + data[-99:])

    def swap(path, data):
        path.write_bytes(next(other for other in paths if other != path).read_bytes())

    def replace_by_directory(path, data):
        path.unlink()
        path.mkdir()

    for damage, lasting in ((cut, 0), (change, 0), (swap, 0), (replace_by_directory, 1)):
        victim = paths[-1]
        damage(victim, victim.read_bytes())
        made, found = warm(m, spec) if not lasting else (1, len(paths) - 1)
        assert (made, found) == (1, len(paths) - 1), damage
        after, said = logits(m, spec)
        assert after == good and ("path is a directory, not a regular file" in said) == bool(lasting), said


def test_a_cache_out_of_reach_is_done_without(m):
    spec = make(m)
    good, _ = logits(m, spec, "--no-cache")
    m.kernels.write_text("a file where the directory should be")
    for _ in range(2):
        after, said = logits(m, spec)
        assert after == good and said.count("warning: kernels cannot be kept") == 1, said
    said = m.error("warm", spec)
    assert "error: kernels cannot be kept: cannot create: Not a directory" in said and "set MOSSC_CACHE_DIR" in said, said
    done = m.run("bench", spec, "--prefill", 4, "--decode", 2, "--json")
    assert b"cached_ms" not in done.stdout and "no cached_ms" in done.stderr, done.stderr


def test_a_directory_that_may_only_be_read_is_used(m):
    if os.geteuid() == 0:
        raise Skipped("root may write everywhere")
    spec = make(m)
    made, _ = warm(m, spec)
    m.kernels.chmod(0o500)
    try:
        assert warm(m, spec) == (0, made)
        assert "kernels cannot be kept" in logits(m, spec, "--set", "weights.dtype=bf16")[1]
    finally:
        m.kernels.chmod(0o700)


def test_processes_share_the_directory(m):
    spec = make(m)
    command = [m.program, "warm", spec, "--json"]
    started = [subprocess.Popen(command, cwd=m.directory, env=m.environment(), stdout=subprocess.PIPE) for _ in range(3)]
    kernels = {process.communicate()[0].split(b'"made"')[0] for process in started}
    assert all(process.returncode == 0 for process in started) and len(kernels) == 1, kernels
    made, found = warm(m, spec)
    assert made == 0 and found == len(entries(m)) == len(list(m.kernels.iterdir()))


# ---------------------------------------------------------------------------------------------- debuggers


def test_gdb_shows_names_and_lines(m):
    gdb = shutil.which("gdb")
    if not gdb:
        raise Skipped("gdb is not installed")
    spec = make(m, TINY)
    line = 1 + TINY.splitlines().index("  - mlp: {d_ff: 48, experts: {count: 4}}")
    commands = ["set debuginfod enabled off", "set breakpoint pending on", f"break {spec}:{line}", "run", "backtrace"]
    for _ in range(2):  # made, then found
        done = subprocess.run(
            [gdb, "-q", "-nx", "-batch", *(part for command in commands for part in ("-ex", command)), "--args", m.program, "run", spec,
             "-w", "w.safetensors", "--prompt", "ab", "-n", "1", "--threads", "1", "--debug-info", "gdb"],
            cwd=m.directory, env={**m.environment(), "LC_ALL": "C"}, capture_output=True, text=True, timeout=120)
        if "ptrace" in done.stderr or "not permitted" in done.stderr:
            raise Skipped("programs may not be traced here")
        assert re.search(rf"#0 +\w+_[0-9a-f]{{8}} \(\) at (\S*/)?{spec}:{line}\n", done.stdout), done.stdout + done.stderr
        assert re.search(r"^#\d+ .*\bmain \(", done.stdout, re.MULTILINE), done.stdout  # the stack below is whole
        assert TINY.splitlines()[line - 1] in done.stdout, done.stdout


def test_debug_information_changes_no_bit(m):
    spec = make(m)
    with_environment(m, JITDUMPDIR=str(m.directory))
    plain, _ = logits(m, spec)
    assert plain == logits(m, spec, "--debug-info", "gdb")[0] == logits(m, spec, "--debug-info", "perf")[0]
    assert list((m.directory / ".debug/jit").glob("*/jit-*.dump")), m.left()


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
