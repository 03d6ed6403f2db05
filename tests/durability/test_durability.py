"""Killed commands, full disks and limits on file sizes: whatever happens to mossc while it writes, a name holds the old file or a
whole new one, and nothing else stays behind. Standard library only.

    python3 tests/durability/test_durability.py --mossc build/release/mossc [--kills N] [NAME…]

runs all tests, or those whose names contain a NAME. --kills: how often each command is killed (default 2).
"""
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "cli"))
from harness import Skipped, run_tests  # noqa: E402

# Files of a few megabytes, so that writing them takes a good part of a command's time, and little to compile.
SPEC = """\
mossc: 1
name: fat
vocab_size: 256
d_model: 128
defaults: {ssm: {d_state: 64, expand: 4}, router: {top_k: 2}}
stack:
  - repeat: 4
    blocks:
      - ssm: {}
  - mlp: {d_ff: 256, experts: {count: 4}}
"""
PROMPT = "It was a dark evening in November, and the rain fell. "
TEXT = ["--prompt", PROMPT, "-n", 8, "--temp", 0, "--no-echo"]
MOSSC_TEMPORARY = ".mossc-tmp-"

OPTIONS = {"kills": 2}


class Writer:
    """A command that writes one file, the same bytes each time; `use` shows that such a file serves."""

    def __init__(self, name, arguments, option, use):
        self.name, self.arguments, self.option, self.use = name, arguments, option, use

    def command(self, target):
        return [*self.arguments, self.option, target]


def fat(m):
    """The spec; weights for it are in the file w."""
    spec = m.file("fat.yaml", SPEC)
    m.run("init", spec, "--seed", 7, "-o", "w")
    return spec


def writers(m):
    """Every command that writes one file."""
    spec = fat(m)
    m.file("t.txt", " ".join(str(i * 37 % 256) for i in range(900)))
    m.file("few.txt", "1 2 3 4")
    text = m.run("run", spec, "-w", "w", *TEXT).stdout
    first = m.run("run", spec, "-w", "w", *TEXT[:3], 3, *TEXT[4:]).stdout

    def gives_the_text(name):
        assert m.run("run", spec, "-w", name, *TEXT, "--verify").stdout == text

    q4 = m.run("run", spec, "--set", "weights.dtype=q4", "-w", "w", *TEXT).stdout

    def gives_the_text_of_q4(name):
        assert m.run("run", spec, "--set", "weights.dtype=q4", "-w", name, *TEXT).stdout == q4

    def goes_on(name):
        assert first + m.run("run", spec, "-w", "w", "-n", 5, *TEXT[4:], "--state-in", name).stdout == text

    return [
        Writer("init", ["init", spec, "--seed", 7], "-o", gives_the_text),
        Writer("pack", ["pack", spec, "-w", "w"], "-o", gives_the_text),
        Writer("quantize", ["quantize", spec, "-w", "w", "--dtype", "q4"], "-o", gives_the_text_of_q4),
        Writer("run --state-out", ["run", spec, "-w", "w", *TEXT[:3], 3, *TEXT[4:]], "--state-out", goes_on),
        Writer("logits", ["logits", spec, "-w", "w", "--tokens", "t.txt"], "-o", m.npy),
        Writer("logits --reference", ["logits", spec, "-w", "w", "--tokens", "few.txt", "--reference", "32"], "-o", m.npy),
    ]


# ------------------------------------------------------------------------------------------------ kills


class Killer:
    """Kills a command at moments drawn from the time that it takes: the shortest seen, since what else runs on the machine only
    ever adds to it."""

    def __init__(self, m, arguments, before=lambda: None):
        self.m, self.command, self.seconds = m, [m.program, *map(str, arguments)], float("inf")
        for _ in range(3):
            before()
            self.run(None)

    def run(self, moment):
        """Whether it was still running then, and so was killed; None: it may end."""
        start = time.monotonic()
        options = {"cwd": self.m.directory, "env": self.m.environment(), "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(self.command, **options)
        try:
            status = process.wait(moment)
            self.seconds = min(self.seconds, time.monotonic() - start)
            assert status == 0, (self.command, status)
            return False
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait() == -signal.SIGKILL

    def kill(self):
        while not self.run(random.uniform(0, self.seconds)):
            pass


def temporaries(directory):
    return [path.name for path in directory.iterdir() if MOSSC_TEMPORARY in path.name]


def kill_often(m, writer):
    """Kills it again and again, every other time with an old file in place. Returns how often a temporary was left."""
    target = m.directory / "target"
    killer = Killer(m, writer.command("target"))
    whole, inputs = target.read_bytes(), m.left()
    writer.use("target")
    left = 0
    for i in range(OPTIONS["kills"]):
        old = b"the old file" if i % 2 else None
        target.unlink(missing_ok=True)
        if old is not None:
            target.write_bytes(old)
        killer.kill()
        found = target.read_bytes() if target.exists() else None
        assert found in (old, whole), f"{writer.name}, kill {i}: the file is neither the old one nor whole"
        left += bool(temporaries(m.directory))
        assert len(temporaries(m.directory)) <= 1, f"{writer.name}, kill {i}: temporaries pile up: {m.left()}"
    m.run(*writer.command("target"))
    assert target.read_bytes() == whole and m.left() == inputs, f"{writer.name} left {m.left()}"
    target.unlink()
    return left


def test_a_killed_command_leaves_the_old_file_or_a_whole_one(m):
    for writer in writers(m):
        left = kill_often(m, writer)
        print(f"        {writer.name}: {OPTIONS['kills']} kills, {left} of them while it wrote", flush=True)


def test_a_killed_run_leaves_whole_entries_in_its_prompt_cache(m):
    spec = fat(m)
    command = ["run", spec, "-w", "w", *TEXT, "--cache-every", 8, "--prompt-cache", "cache"]
    killer = Killer(m, command, lambda: shutil.rmtree(m.directory / "cache", ignore_errors=True))
    wanted = m.run(*command).stdout
    for i in range(OPTIONS["kills"]):
        if i % 2 == 0:
            for path in (m.directory / "cache").iterdir():
                path.unlink()
        killer.kill()
        done = m.run(*command)
        assert done.stdout == wanted and " 0 damaged" in done.stderr, done.stderr
        assert not temporaries(m.directory / "cache")


def test_a_killed_warm_leaves_whole_kernels(m):
    spec = fat(m)
    command = ["warm", spec, "--json"]
    killer = Killer(m, command, lambda: m.run("cache", "--clear"))
    for i in range(OPTIONS["kills"]):
        if i % 2 == 0:
            m.run("cache", "--clear")
        killer.kill()
        there = m.json("cache", "--json")["entries"]
        report = m.json(*command)
        assert report["found"] == there and report["found"] + report["made"] == report["kernels"], (there, report)
        assert not temporaries(m.kernels)


# ------------------------------------------------------------------------------------------------ no room


def with_small_disk(m, test):
    """Calls test(directory) with a directory on a file system of 16 MiB; needs to be root."""
    directory = m.directory / "small"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(directory)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        raise Skipped("a small tmpfs cannot be mounted here")
    try:
        test(directory)
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def fill_up(directory, leave):
    """Fills the file system of `directory` but for about `leave` bytes."""
    (directory / "filler").unlink(missing_ok=True)
    free = os.statvfs(directory)
    (directory / "filler").write_bytes(b"x" * max(0, free.f_bavail * free.f_bsize - leave))


def finds_no_room(m, writer, target, reason, **options):
    """The writer fails: it names the file and the reason, and the old file is still there, alone."""
    old, before = target.read_bytes(), sorted(target.parent.iterdir())
    error = m.run(*writer.command(target), status=1, **options).stderr
    assert f"{target}: " in error and "cannot write" in error and reason in error, f"{writer.name}: {error}"
    assert target.read_bytes() == old and sorted(target.parent.iterdir()) == before, writer.name


def test_a_full_disk_is_told_and_harms_nothing(m):
    everything = writers(m)
    sizes = []
    for writer in everything:
        m.run(*writer.command("target"))
        sizes.append((m.directory / "target").stat().st_size)

    def test(directory):
        (directory / "target").write_bytes(b"the old file")
        for writer, size in zip(everything, sizes):
            for leave in (0, size // 2, max(0, size - 4096)):
                fill_up(directory, leave)
                finds_no_room(m, writer, directory / "target", "disk is full")

    with_small_disk(m, test)


def test_caches_on_a_full_disk_are_done_without(m):
    spec = fat(m)
    common = ["run", spec, "-w", "w", *TEXT]
    wanted = m.run(*common).stdout

    def test(directory):
        fill_up(directory, 64 << 10)
        done = m.run(*common, "--prompt-cache", directory / "cache")
        assert done.stdout == wanted
        assert "cannot write the prompt cache" in done.stderr and "disk is full" in done.stderr, done.stderr
        assert not any((directory / "cache").iterdir())
        fill_up(directory, 0)
        m.kernels = directory / "kernels"
        done = m.run(*common)
        assert done.stdout == wanted
        assert "warning: kernels cannot be kept: cannot write: disk is full" in done.stderr, done.stderr
        assert "error: kernels cannot be kept: cannot write: disk is full" in m.error("warm", spec)
        assert not any(m.kernels.iterdir())

    with_small_disk(m, test)


def test_a_limit_on_file_sizes_is_told_and_harms_nothing(m):
    for writer in writers(m):
        m.run(*writer.command("target"))
        size = (m.directory / "target").stat().st_size
        finds_no_room(m, writer, m.directory / "target", "file size limit exceeded", largest_file=size // 2)


def test_logits_that_reach_a_limit_leave_no_state(m):
    spec = fat(m)
    m.file("t.txt", " ".join("7" for _ in range(2000)))
    common = ["logits", spec, "-w", "w", "--tokens", "t.txt", "-o", "x.npy", "--state-out", "s.state"]
    m.run(*common)
    state, rows = ((m.directory / name).stat().st_size for name in ("s.state", "x.npy"))
    (m.directory / "s.state").unlink()
    assert state < rows / 2
    assert "file size limit exceeded" in m.run(*common, status=1, largest_file=(state + rows) // 2).stderr
    assert "s.state" not in m.left()


if __name__ == "__main__":
    sys.exit(run_tests(globals(), OPTIONS))
