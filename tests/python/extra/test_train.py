"""python -m mossc.train: the loss is that of mossc eval; a killed run goes on; two processes are one."""
import json
import math
import os
import signal
import subprocess
import sys
import time

from torch_common import TINY, MosscForCausalLM, mossc, np, run_tests, torch
from safetensors.torch import load_file

PLAIN = TINY.replace("  - attention: {n_heads: 2, window: 8}\n", "  - shortconv\n")
TEXT = ("The quick brown fox jumps over the lazy dog. " * 3 + "She sells sea shells by the sea shore. ") * 60


def command(*arguments, processes=1):
    start = [sys.executable, "-m", "mossc.train"]
    if processes > 1:
        start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", "0",
                 "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "-m", "mossc.train"]
    return start + [str(a) for a in arguments]


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def train(m, *arguments, processes=1, status=0):
    done = subprocess.run(command(*arguments, processes=processes), cwd=m.directory, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == status, f"{arguments} ended with {done.returncode}:\n{done.stderr[-3000:]}"
    return done.stderr


def prepare(m, spec):
    m.file("spec.yaml", spec)
    m.file("text.txt", TEXT)


SMALL = ("spec.yaml", "--data", "text.txt", "--batch", 4, "--window", 32, "--report-steps", 1)


def test_after_training_the_loss_is_that_of_mossc_eval(m):
    prepare(m, TINY.replace("vocab_size: 256", "vocab_size: 256\nweights: {dtype: q8}"))
    train(m, *SMALL, "-o", "run", "--steps", 50)
    lines = [json.loads(line) for line in (m.directory / "run/metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 50 and lines[-1]["loss"] < 0.7 * lines[0]["loss"], lines[-1]
    m.file("part.txt", TEXT[:400])
    said = m.json("eval", "run/spec.yaml", "-w", "run/model.safetensors", "--text", "part.txt", "--json")
    model = MosscForCausalLM.from_pretrained(m.directory / "run").eval()
    tokens = torch.frombuffer(bytearray(TEXT[:400].encode()), dtype=torch.uint8).long()[None]
    with torch.no_grad():
        nats = model(tokens, labels=tokens).loss.item()
    theirs = said["bits_per_byte"] * math.log(2)
    assert abs(nats - theirs) <= 2e-4 * theirs, (nats, said)


def test_a_killed_run_goes_on_as_if_nothing_had_been(m):
    prepare(m, PLAIN)
    train(m, *SMALL, "-o", "whole", "--steps", 12)
    arguments = (*SMALL, "-o", "killed", "--steps", 12, "--save-steps", 2)
    process = subprocess.Popen(command(*arguments), cwd=m.directory, env=environment(), stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while not (m.directory / "killed/run.pt").exists() and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() in (-signal.SIGKILL, 0)
    train(m, *arguments)
    steps = [json.loads(line)["step"] for line in (m.directory / "killed/metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 13)), steps
    a, b = (load_file(m.directory / name / "model.safetensors") for name in ("whole", "killed"))
    assert all(torch.allclose(a[name], b[name], rtol=1e-4, atol=1e-6) for name in a)


def test_a_signal_saves_and_stops(m):
    prepare(m, PLAIN)
    process = subprocess.Popen(command(*SMALL, "-o", "run", "--minutes", 10), cwd=m.directory, env=environment(), stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if line.startswith("step"):
            break
    process.send_signal(signal.SIGTERM)
    rest = process.communicate(timeout=120)[1]
    assert process.returncode == 143 and "saved" in rest, (process.returncode, rest)
    assert (m.directory / "run/run.pt").exists()


def test_two_processes_are_one(m):
    """Their batch, gradients, router losses and optimizer steps; by ddp and by fsdp."""
    prepare(m, PLAIN.replace("router: {top_k: 2}", "router: {top_k: 2, select_bias: true}"))
    common = (*SMALL, "--steps", 4, "--optimizer", "adamw", "--lr", 1e-3, "--balance", 0.1, "--select-bias-rate", 0.001)
    train(m, *common, "-o", "one")
    for kind in ("ddp", "fsdp"):
        train(m, *common, "-o", kind, "--parallel", kind, processes=2)
        a, b = (load_file(m.directory / name / "model.safetensors") for name in ("one", kind))
        worst = max((a[name] - b[name]).abs().max().item() for name in a)
        assert worst <= 2e-4, (kind, worst)
        losses = [[json.loads(line)["loss"] for line in (m.directory / name / "metrics.jsonl").read_text().splitlines()] for name in ("one", kind)]
        assert np.allclose(*losses, rtol=1e-4), (kind, losses)


def test_mistakes_have_messages_and_exit_codes(m):
    prepare(m, PLAIN)
    train(m, *SMALL, "-o", "run", status=2)
    assert "no_such" in train(m, "spec.yaml", "--data", "no_such.txt", "-o", "run", "--steps", 1, status=1)
    m.file("wrong.yaml", PLAIN.replace("d_ff", "dff"))
    assert "wrong.yaml:8" in train(m, "wrong.yaml", "--data", "text.txt", "-o", "run", "--steps", 1, status=1)


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
