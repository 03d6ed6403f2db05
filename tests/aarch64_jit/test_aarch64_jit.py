"""A mossc for ARM, which makes its kernels in an emulator, gives what the mossc of this machine gives: texts, logits, scores, states.

    MOSSC_HOST_PROGRAM=build/release/mossc python3 tests/aarch64_jit/test_aarch64_jit.py --mossc build/arm/tests/mossc [NAME…]
"""
import copy
import os
import pathlib
import shutil
import sys

sys.dont_write_bytecode = True
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/cli"))
from harness import TINY, Skipped, run_tests  # noqa: E402

MOSS_TINY = [ROOT / "specs/moss-tiny.yaml", "-w", ROOT / "models/moss-tiny.safetensors"]
GREEDY = ["--temp", 0, "--no-echo"]


def on_host(m):
    """The mossc of this machine, in the scratch directory of `m`."""
    program = os.environ.get("MOSSC_HOST_PROGRAM", "")
    if not shutil.which(program):
        raise Skipped(f"no mossc for this machine: MOSSC_HOST_PROGRAM is '{program}'")
    host = copy.copy(m)
    host.program, host.kernels = str(pathlib.Path(program).resolve()), m.directory.parent / "kernels of the host"
    return host


def tiny(m):
    """A spec with every kind of block and weights for it."""
    spec = m.file("tiny.yaml", TINY)
    on_host(m).run("init", spec, "--seed", 7, "-o", "w")
    return [spec, "-w", "w"]


def test_text_is_the_hosts_a_state_goes_on_there_and_kernels_are_found_again(arm):
    host = on_host(arm)
    text = host.out("run", *MOSS_TINY, *GREEDY, "--prompt", "It was", "-n", 16)
    first = arm.run("run", *MOSS_TINY, *GREEDY, "--prompt", "It was", "-n", 8, "--state-out", "begun")
    begun = first.stdout.decode()
    assert begun + host.out("run", *MOSS_TINY, *GREEDY, "-n", 8, "--state-in", "begun") == text
    host.run("run", *MOSS_TINY, *GREEDY, "--prompt", "It was", "-n", 8, "--state-out", "hosts")
    assert (arm.directory / "begun").read_bytes() == (arm.directory / "hosts").read_bytes()
    again = arm.run("run", *MOSS_TINY, *GREEDY, "-n", 8, "--state-in", "hosts")
    assert again.stdout.decode() == text[len(begun) :]
    assert "(0 of " in first.stderr and "(0 of " not in again.stderr, first.stderr + again.stderr


def test_logits_and_scores_have_the_hosts_bits(arm):
    host, model = on_host(arm), tiny(arm)
    tokens = arm.file("tokens", " ".join(str(i * 37 % 256) for i in range(40)))
    book = arm.file("text", "It was a dark evening in November.")
    scores = []
    for name, mossc in (("arm", arm), ("host", host)):
        for mode in ("prefill", "decode"):
            mossc.run("logits", *model, "--tokens", tokens, "--mode", mode, "-o", f"{name}-{mode}.npy")
        scores.append(mossc.json("eval", *model, "--text", book, "--json"))
    for mode in ("prefill", "decode"):
        assert arm.npy(f"arm-{mode}.npy")[1] == host.npy(f"host-{mode}.npy")[1], mode
    for timed in ("seconds", "tokens_per_second"):
        for score in scores:
            score.pop(timed, None)
    assert scores[0] == scores[1], scores


def test_code_for_the_other_processor_is_not_for_the_emulated_one(arm):
    assert "has no avx2" in arm.error("run", *tiny(arm), "--isa", "avx2", "--prompt", "It", "-n", 1)


sys.exit(run_tests(globals()))
