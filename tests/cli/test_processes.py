"""What a process meets: interruptions, and limits on its threads. Standard library only.

    python3 tests/cli/test_processes.py --mossc build/release/mossc [NAME…]

runs all tests, or those whose names contain a NAME.
"""
import fcntl
import json
import os
import pathlib
import re
import resource
import signal
import shutil
import struct
import subprocess
import sys
import termios

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from harness import TINY, Skipped, run_tests  # noqa: E402

ENDLESS = ["--prompt", "It was", "--temp", 1, "--seed", 5, "-n", 2147483647, "--no-echo"]


def tiny(m):
    # no attention: nothing ends the sequence
    spec = m.file("tiny.yaml", "\n".join(line for line in TINY.splitlines() if "attention" not in line) + "\n")
    m.run("init", spec, "--seed", 7, "-o", "w")
    return spec


def start(m, *arguments):
    return subprocess.Popen([m.program, *map(str, arguments)], cwd=m.directory, env=m.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_the_first_interruption_ends_the_text(m):
    spec = tiny(m)
    common = ["run", spec, "-w", "w"]
    for number in (signal.SIGINT, signal.SIGTERM):
        with start(m, *common, *ENDLESS, "--state-out", "s.state") as process:
            text = read_exactly(process, 100)  # it writes
            process.send_signal(number)
            rest, messages = process.communicate(timeout=60)
            assert process.returncode == 0, (number, process.returncode, messages)
        text += rest
        assert b"tokens/s; interrupted" in messages, messages
        more = m.run(*common, "--temp", 1, "-n", 50, "--state-in", "s.state").stdout
        wanted = m.run(*common, *ENDLESS[:-3], "-n", len(text) + 50, "--no-echo").stdout
        assert text + more == wanted, "the state is the one after the text"
        assert m.left() == ["s.state", "tiny.yaml", "w"]


def read_exactly(process, size):
    """From the pipe itself: nothing is left in a buffer that communicate() passes by."""
    text = b""
    while len(text) < size:
        piece = os.read(process.stdout.fileno(), size - len(text))
        assert piece, "standard output ended early"
        text += piece
    return text


def test_an_interruption_ends_the_reading_of_a_prompt(m):
    spec = tiny(m)
    prompt = "It was a dark evening. " * 1_000_000  # minutes
    m.file("prompt", prompt)
    common = ["run", spec, "-w", "w", "--temp", 1]
    for options in ([], ["--prompt-cache", "cache", "--cache-every", 1 << 30]):
        with start(m, *common, *options, "--prompt-file", "prompt", "--state-out", "s.state") as process:
            read_exactly(process, len(prompt))  # it is printed before it is read
            process.send_signal(signal.SIGINT)
            rest, messages = process.communicate(timeout=60)
            assert process.returncode == 0 and rest == b"", (process.returncode, messages)
        read, all_tokens = map(int, re.search(rb"prefill (\d+) of (\d+) tokens, .*; decode 0 tokens, .*; interrupted$", messages, re.M).groups())
        assert 0 < read < all_tokens and all_tokens - len(prompt) in (0, 1), messages
        m.file("beginning", prompt[: read - (all_tokens - len(prompt))])
        more = m.run(*common, "-n", 30, "--state-in", "s.state").stdout
        wanted = m.run(*common, "-n", 30, "--prompt-file", "beginning", "--no-echo").stdout
        assert more == wanted, "the state is the one after what was read"


def test_an_interrupted_json_report_is_whole(m):
    spec = tiny(m)
    for seconds in (0.5, 2, 10, 60):  # nothing is printed before the end: it may still be getting ready
        with start(m, "run", spec, "-w", "w", *ENDLESS, "--json", "--state-out", "s.state") as process:
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGINT)
            out = process.communicate(timeout=120)[0]
        if process.returncode != -signal.SIGINT:
            break
    report = json.loads(out)
    assert report["stopped_by"] == "interrupt" and report["generated_tokens"] > 0, report["stopped_by"]
    assert "s.state" in m.left()


def test_the_second_interruption_ends_at_once(m):
    """Standard output is full and nobody reads it, so that the text cannot end."""
    spec = tiny(m)
    with start(m, "run", spec, "-w", "w", *ENDLESS, "--state-out", "s.state") as process:
        room, there = fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096), 0
        while there < room:
            there = struct.unpack("i", fcntl.ioctl(process.stdout, termios.FIONREAD, b"\0" * 4))[0]
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(0.3)
            except subprocess.TimeoutExpired:
                continue
        assert process.returncode == -signal.SIGINT
    assert m.left() == ["tiny.yaml", "w"]


def test_an_interruption_that_is_ignored_stays_so(m):
    spec = tiny(m)
    command = [m.program, "run", spec, "-w", "w", *map(str, ENDLESS)]
    with subprocess.Popen(command, cwd=m.directory, env=m.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, pipesize=4096,
                          preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN), restore_signals=False) as process:
        process.stdout.read(100)
        process.send_signal(signal.SIGINT)
        assert len(process.stdout.read(1 << 14)) == 1 << 14  # more than pipe and buffers held before
        process.kill()


def test_little_address_space_is_an_error(m):
    """LLVM alone would end the process with SIGABRT."""
    prlimit = shutil.which("prlimit")
    if prlimit is None:
        raise Skipped("there is no prlimit")
    spec = m.file("tiny.yaml", TINY)
    m.run("init", spec, "--seed", 1, "-o", "w.safetensors")
    before = m.left()
    reached, done = False, None
    for mib in range(120, 600, 15):
        limited = [prlimit, f"--as={mib << 20}", m.program]
        options = {"cwd": m.directory, "env": m.environment(), "capture_output": True, "text": True, "errors": "replace", "timeout": 120}
        if subprocess.run([*limited, "--version"], **options).returncode != 0:
            continue  # not even loaded: LLVM's constructors need memory too
        done = subprocess.run([*limited, "run", spec, "-w", "w.safetensors", "--prompt", "a", "-n", "2", "--no-cache"], **options)
        if "Sanitizer" in done.stderr:
            raise Skipped("a sanitizer reserves address space of its own")
        assert done.returncode in (0, 1), f"{mib} MiB: {done.returncode}: {done.stderr}"
        assert m.left() == before, m.left()
        reached = reached or "address space" in done.stderr
        if done.returncode == 0:
            break
    if done is None:
        raise Skipped("this build needs more address space than the test gives")
    assert done.returncode == 0 and reached, done.stderr


def test_without_threads_there_are_fewer_workers(m):
    spec = tiny(m)
    text = ["--prompt", "It", "-n", 20, "--temp", 0]
    wanted = m.run("run", spec, "-w", "w", *text)
    assert "expected" not in wanted.stderr
    options = {}
    if os.geteuid() == 0:
        os.chmod(m.directory.parent, 0o755)
        m.variables["MOSSC_CACHE_DIR"] = "/nonexistent"
        options = {"user": 65534, "group": 65534, "extra_groups": []}

    def limit():
        resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))

    command = [m.program, "run", spec, "-w", "w", "--threads", 4, *text]
    try:
        done = subprocess.run([str(a) for a in command], cwd=m.directory, env=m.environment(), capture_output=True, preexec_fn=limit, timeout=120, **options)
    except (OSError, subprocess.SubprocessError) as error:
        raise Skipped("the program cannot be run by another user") from error
    messages = done.stderr.decode()
    if "LeakSanitizer has encountered a fatal error" in messages:
        raise Skipped("a sanitizer starts a thread of its own at the end")
    if done.returncode == 0 and "expected 4 threads" not in messages:
        raise Skipped("the limit on processes does not hold here")
    assert done.returncode == 0 and done.stdout == wanted.stdout, messages
    assert "warning: expected 4 threads, got 1: cannot start another: Resource temporarily unavailable" in messages, messages


if __name__ == "__main__":
    sys.exit(run_tests(globals(), share_kernels=True))
