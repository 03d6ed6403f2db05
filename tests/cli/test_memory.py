"""Loading and packing hold the packed weights and little more: pages of a checkpoint are let go as soon as they are packed.

    python3 tests/cli/test_memory.py --mossc build/release/mossc [NAME…]
"""
import os
import pathlib
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from harness import run_tests  # noqa: E402

# 63 MB of float32 weights in few, large tensors; and the same kernels with next to no weights.
SPEC = """\
mossc: 1
name: large
vocab_size: 256
d_model: 512
stack:
  - repeat: 4
    blocks:
      - mlp: {d_ff: 2560}
"""
SMALL = ["--set", "d_model=32", "--set", "stack[0].blocks[0].mlp.d_ff=64"]
MORE = 16 << 20  # of memory than weights and program: what is being read and packed


def peak(m, *arguments):
    """The largest resident memory of a command, in bytes."""
    command = [m.program, *map(str, arguments)]
    with open(os.devnull, "w") as nowhere:
        actions = [(os.POSIX_SPAWN_DUP2, nowhere.fileno(), 1), (os.POSIX_SPAWN_DUP2, nowhere.fileno(), 2)]
        process = os.posix_spawn(command[0], command, m.environment(), file_actions=actions)
    _, status, usage = os.wait4(process, 0)
    assert status == 0, (command, status)
    return usage.ru_maxrss * 1024


def check(m, dtype):
    directory = m.directory
    spec = directory / m.file("large.yaml", SPEC)
    options = ["--set", f"weights.dtype={dtype}"]
    m.run("init", spec, "-o", "small", *SMALL)
    m.run("init", spec, "-o", "large")
    m.run("pack", spec, "-w", "large", "-o", "packed", *options)
    weights = (directory / "packed").stat().st_size
    for command, write in ((["run", spec, "-n", 1, "--prompt", "a"], []), (["pack", spec], ["-o", directory / "out"])):
        program = peak(m, *command, "-w", directory / "small", *write, *options, *SMALL)
        loaded = peak(m, *command, "-w", directory / "large", *write, *options)
        print(f"        {command[0]}, {dtype}: weights {weights >> 20} MiB, program {program >> 20} MiB, peak {loaded >> 20} MiB")
        assert loaded <= weights + program + MORE, (command, weights, program, loaded)


def test_float32_weights_are_held_once(m):
    check(m, "f32")


def test_bfloat16_weights_are_held_once(m):
    check(m, "bf16")


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
