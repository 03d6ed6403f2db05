"""Files that mossc leaves for later runs: packed weights. What they hold, and that a killed command, a full disk or damage
neither harms an old file nor leaves half a new one. Standard library only.

    python3 tests/cli/test_files.py --mossc build/release/mossc [--kills N] [NAME…]

runs all tests, or those whose names contain a NAME. --kills: how often each command is killed (default 30).
"""
import argparse
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from harness import TINY, Mossc  # noqa: E402

KILLS = 30


class Skipped(Exception):
    pass


def tiny(m):
    """A spec and weights for it."""
    spec = m.file("tiny.yaml", TINY)
    m.run("init", spec, "--seed", 7, "-o", "w.safetensors")
    return spec, "w.safetensors"


def flip(m, name, at):
    data = bytearray((m.folder / name).read_bytes())
    data[at] ^= 1 << random.randrange(8)
    (m.folder / name).write_bytes(data)


def kill_often(m, arguments, name, is_whole):
    """Kills the command at random moments; `name` must then be the old file, or a whole new one. Returns how many were killed."""
    start = time.monotonic()
    m.run(*arguments)
    usual = time.monotonic() - start
    target = m.folder / name
    others = [n for n in m.left() if n != name]
    killed = 0
    for i in range(KILLS):
        old = None if i % 2 else b"the old file"
        target.unlink(missing_ok=True)
        if old is not None:
            target.write_bytes(old)
        process = subprocess.Popen([m.program, *map(str, arguments)], cwd=m.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(random.uniform(0, 1.1 * usual))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        found = target.read_bytes() if target.exists() else None
        if found != old:
            assert found is not None, f"kill {i}: the old {name} is lost"
            is_whole(name)
        for left in set(m.left()) - set(others) - {name}:
            assert left.startswith(name + ".tmp-"), f"kill {i} left {left}"
            (m.folder / left).unlink()
    assert killed, "no command was killed in time"
    return killed


def with_full_disk(m, test):
    """Calls test(folder) with a folder on a file system of 1 MiB; needs to be root."""
    if os.geteuid() != 0:
        raise Skipped("only root can mount a small tmpfs")
    folder = m.folder / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True).returncode != 0:
        raise Skipped("a small tmpfs cannot be mounted here")
    try:
        test(folder)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill_up(folder, leave):
    """Fills the file system of `folder` but for about `leave` bytes."""
    free = os.statvfs(folder)
    (folder / "filler").write_bytes(b"x" * max(0, free.f_bavail * free.f_bsize - leave))


# ------------------------------------------------------------------------------------------------ packed weights


def test_packed_weights_give_the_same_bits(m):
    spec, weights = tiny(m)
    m.file("t.txt", " ".join(str(i * 37 % 256) for i in range(40)))
    for dtype in ("f32", "bf16", "f16"):
        options = ["--set", f"weights.dtype={dtype}"]
        m.run("pack", spec, "-w", weights, "-o", "w.weights", "--verify", *options)
        for name in (weights, "w.weights"):
            m.run("logits", spec, "-w", name, "--tokens", "t.txt", "-o", f"{name}.npy", *options)
        assert m.npy(f"{weights}.npy")[1] == m.npy("w.weights.npy")[1], dtype
    text = m.run("run", spec, "-w", weights, "--prompt", "Hello", "-n", 5, *options).stdout
    assert m.run("run", spec, "-w", "w.weights", "--verify", "--prompt", "Hello", "-n", 5, *options).stdout == text
    first = (m.folder / "w.weights").read_bytes()
    m.run("pack", spec, "-w", weights, "-o", "w.weights", "--threads", 1, *options)
    assert (m.folder / "w.weights").read_bytes() == first, "the file does not depend on the number of threads"


def test_wrong_packed_weights_are_refused_with_the_reason(m):
    spec, weights = tiny(m)
    m.run("pack", spec, "-w", weights, "-o", "w.weights")
    common = ["--prompt", "a", "-n", 1]
    assert "packed for another spec, 'tiny'" in m.error("run", spec, "-w", "w.weights", "--set", "d_model=64", *common)
    assert "packed for another spec" in m.error("run", spec, "-w", "w.weights", "--set", "weights.dtype=f16", *common)
    assert "goes with no other file" in m.error("run", spec, "-w", "w.weights", "-w", weights, *common)
    m.file("t.txt", "1 2 3")
    text = m.error("logits", spec, "-w", "w.weights", "--tokens", "t.txt", "-o", "x.npy", "--reference", "32")
    assert "serves compiled code only" in text, text
    assert "is not packed again" in m.error("pack", spec, "-w", "w.weights", "-o", "v.weights")
    good = (m.folder / "w.weights").read_bytes()
    for at in (9, 50, 100, 150, 1000, 4000):
        flip(m, "w.weights", at)
        assert "w.weights: error: " in m.error("run", spec, "-w", "w.weights", *common), at
        m.file("w.weights", good)
    flip(m, "w.weights", 4096 + 100)
    text = m.error("run", spec, "-w", "w.weights", "--verify", *common)
    assert "is damaged: the digest of tensor 'embed.weight' does not match" in text and "mossc pack" in text, text
    assert "is damaged" in m.error("pack", spec, "-w", "w.weights", "--verify")
    for size in (0, 7, 100, 3000, 5000, len(good) - 1):
        m.file("w.weights", good[:size])
        assert "w.weights: error: " in m.error("run", spec, "-w", "w.weights", *common), size
    assert m.left() == ["t.txt", "tiny.yaml", "w.safetensors", "w.weights"]


def test_pack_needs_somewhere_to_write(m):
    spec, weights = tiny(m)
    assert "--verify is needed" in m.error("pack", spec, "-w", weights, status=2)
    assert "cannot create" in m.error("pack", spec, "-w", weights, "-o", "nowhere/w.weights")
    assert "not a regular file" in m.error("pack", spec, "-w", weights, "-o", ".")
    m.file("old.weights", "old")
    assert "cannot write" in m.error("pack", spec, "-w", weights, "-o", "old.weights", largest_file=20000)
    assert (m.folder / "old.weights").read_bytes() == b"old"
    assert m.left() == ["old.weights", "tiny.yaml", "w.safetensors"]


def test_packing_on_a_full_disk(m):
    spec, weights = tiny(m)

    def test(folder):
        fill_up(folder, 64 << 10)
        assert "cannot write" in m.error("pack", spec, "-w", weights, "-o", folder / "w.weights")
        assert [p.name for p in folder.iterdir()] == ["filler"]

    with_full_disk(m, test)


def test_a_killed_pack_leaves_the_old_file_or_a_whole_one(m):
    spec, weights = tiny(m)
    kill_often(m, ["pack", spec, "-w", weights, "-o", "w.weights"], "w.weights", lambda name: m.run("pack", spec, "-w", name, "--verify"))


def main():
    global KILLS
    parser = argparse.ArgumentParser()
    parser.add_argument("--mossc", required=True)
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    KILLS = options.kills
    tests = [(name[5:], test) for name, test in globals().items() if name.startswith("test_")]
    tests = [(name, test) for name, test in tests if not options.names or any(part in name for part in options.names)]
    failed = skipped = 0
    for name, test in tests:
        with tempfile.TemporaryDirectory() as folder:
            try:
                test(Mossc(options.mossc, folder))
                print(f"ok      {name}", flush=True)
            except Skipped as reason:
                skipped += 1
                print(f"skipped {name}: {reason}", flush=True)
            except Exception:  # a test that crashes has failed; the others still run
                failed += 1
                print(f"FAILED  {name}\n{traceback.format_exc()}", flush=True)
    print(f"{len(tests)} tests, {failed} failed, {skipped} skipped")
    return 1 if failed or not tests else 0


if __name__ == "__main__":
    sys.exit(main())
