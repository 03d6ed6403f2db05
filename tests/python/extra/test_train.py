"""python -m mossc.train: the loss is that of mossc eval; a killed run goes on; two processes are one."""
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import time

import forked
from torch_common import ROOT, TINY, MosscConfig, MosscForCausalLM, mossc, np, raises, run_tests, torch
from safetensors.torch import load_file

from mossc import files
from mossc.train import data
from mossc.train.evaluate import nats_of

TRAIN = forked.Server("mossc.train.command")
TOKENIZER = ROOT / "tests/tokenizer/models/qwen2-a/tokenizer.json"
UMASK = os.umask(0o022)
os.umask(UMASK)

PLAIN = TINY.replace("  - attention: {n_heads: 2, window: 8}\n", "  - shortconv\n")
TEXT = ("The quick brown fox jumps over the lazy dog. " * 3 + "She sells sea shells by the sea shore. ") * 60


def environment(**more):
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


def start(m, *arguments, **variables):
    """A process that trains; what it says is in the file `said`, with its rank behind."""
    with open(m.directory / f"said{variables.get('RANK', '')}", "wb") as said:
        return TRAIN.start(arguments, m.directory, environment(**variables), stderr=said)


def until(what, process):
    """Waits for something that a process does."""
    end = time.monotonic() + 300
    while not what() and process.poll() is None:
        assert time.monotonic() < end, "in vain for 300 s"
        time.sleep(0.01)


def train(m, *arguments, status=0):
    """What it said."""
    ended, _, said = TRAIN.run(arguments, m.directory, environment(), 600)
    assert ended == status, f"{arguments} ended with {ended}:\n{said[-3000:]}"
    return said


def torchrun(m, processes, *arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", processes, "--master-port", 0, "--rdzv-backend", "c10d",
               "--rdzv-endpoint", "localhost:0", "-m", "mossc.train", *arguments]
    done = subprocess.run([str(a) for a in command], cwd=m.directory, env=environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]


def side_by_side(m, processes, *arguments):
    """As torchrun starts them, which has the store where they meet, on a port that was free."""
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    size = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True"}
    running = []
    try:
        running += [start(m, *arguments, RANK=str(i), LOCAL_RANK=str(i), **size) for i in range(processes)]
        end = time.monotonic() + 600
        while None in (statuses := [process.poll() for process in running]) and not any(statuses) and time.monotonic() < end:
            time.sleep(0.01)
        assert statuses == [0] * processes, (statuses, *((m.directory / f"said{i}").read_text()[-3000:] for i in range(processes)))
    finally:
        for process in running:
            process.kill()
            process.wait()


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


def test_a_run_in_bf16_learns_and_is_stored_as_its_spec_says(m):
    prepare(m, TINY.replace("vocab_size: 256", "vocab_size: 256\nweights: {dtype: bf16}"))
    train(m, *SMALL, "-o", "run", "--steps", 30, "--precision", "bf16")
    lines = [json.loads(line) for line in (m.directory / "run/metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < 0.8 * lines[0]["loss"], lines[-1]
    trained, stored = m.directory / "run/model.safetensors", m.directory / "stored.safetensors"
    subprocess.run([sys.executable, ROOT / "examples/train/store.py", m.directory / "spec.yaml", trained, stored], check=True, env=environment())
    assert {value.dtype for value in load_file(stored).values()} == {torch.bfloat16, torch.float32}
    m.file("part.txt", TEXT[:100])
    scores = [m.json("eval", "spec.yaml", "-w", path, "--text", "part.txt", "--json")["nats_per_token"] for path in (trained, stored)]
    assert scores[0] == scores[1], scores


def test_a_killed_run_goes_on_as_if_nothing_had_been(m):
    prepare(m, PLAIN)
    train(m, *SMALL, "-o", "whole", "--steps", 12)
    arguments = (*SMALL, "-o", "killed", "--steps", 12, "--save-steps", 2)
    process = start(m, *arguments)
    until((m.directory / "killed/run.pt").exists, process)
    process.kill()
    assert process.wait() in (-signal.SIGKILL, 0)
    train(m, *arguments)
    steps = [json.loads(line)["step"] for line in (m.directory / "killed/metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 13)), steps
    a, b = (load_file(m.directory / name / "model.safetensors") for name in ("whole", "killed"))
    assert all(torch.allclose(a[name], b[name], rtol=1e-4, atol=1e-6) for name in a)


def test_what_is_not_finite_is_not_saved(m):
    """The good run stays: where a step's numbers would have told (the last save), and where the weights alone do (a save after each step)."""
    prepare(m, PLAIN)
    train(m, *SMALL, "-o", "run", "--steps", 2)
    good = {path.name: path.read_bytes() for path in (m.directory / "run").glob("*") if path.is_file() and path.name != "metrics.jsonl"}
    for steps, saves in ((3, 1), (6, 2), (6, 1000)):
        said = train(m, *SMALL[:-1], 1000, "-o", "run", "--steps", steps, "--save-steps", saves, "--balance", 1e300, status=1)
        assert "not saved" in said and "run.pt is from before" in said and "Traceback" not in said, said
        assert all((m.directory / "run" / name).read_bytes() == content for name, content in good.items())


def test_a_run_goes_on_with_the_rates_it_is_given(m):
    prepare(m, PLAIN)
    train(m, *SMALL, "-o", "run", "--steps", 2)
    before = load_file(m.directory / "run/model.safetensors")
    train(m, *SMALL, "-o", "run", "--steps", 4, "--lr", 0, "--muon-lr", 0)
    after = load_file(m.directory / "run/model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert len((m.directory / "run/metrics.jsonl").read_text().splitlines()) == 4


def test_text_in_pieces_has_the_ids_of_the_whole(m):
    """Of tokenizers with bos, with a blank in front, with words that white space splits."""
    parts = ["word", "Word's", "12345", "\n", "\n\n", " ", "  ", "\r\n", "\t", "...", "\u00e9t\u00e9", "\u4e2d\u6587", "\u00a0", "\u2028", "\u3000x"]
    random = np.random.default_rng(1)
    text = "".join(parts[i] for i in random.integers(0, len(parts), 3000))
    m.file("text.txt", text.encode())
    for path in sorted((ROOT / "tests/tokenizer/models").glob("*/tokenizer.json")):
        spec = mossc.Spec(PLAIN.replace("vocab_size: 256", f"vocab_size: 512\ntokenizer: {{kind: bpe, file: {path}}}"))
        whole = mossc.Tokenizer(spec).encode(text)
        for piece in (16, 100, 1000):
            data.PIECE = piece
            assert len(list(data._pieces(m.directory / "text.txt"))) > 3000 // piece // 4
            tokens = data.open_tokens([str(m.directory / "text.txt")], spec, m.directory / f"{path.parent.name}-{piece}")
            assert np.array_equal(tokens.at(0, len(tokens)), whole), (path, piece)


def test_a_short_text_is_enough_to_check_with(m):
    prepare(m, PLAIN)
    model = MosscForCausalLM(MosscConfig.from_spec(m.directory / "spec.yaml"))
    for count in (2, 3, 17, 31, 33, 500):
        tokens = data.Tokens([np.frombuffer(TEXT.encode()[:count], np.uint8)], count)
        assert 4 < nats_of(model, tokens, 1000, torch.device("cpu"))["nats"] < 8
    m.file("one.txt", "x")
    assert "two tokens" in train(m, *SMALL, "-o", "run", "--steps", 1, "--valid", "one.txt", status=1)


def test_what_a_killed_run_left_is_removed(m):
    prepare(m, PLAIN)
    left = [m.directory / "run" / name for name in (".run.pt.0123.part", "tokens/a/.00000.bin.4567.part")]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    writing, held = files.claim(m.directory / "run/other", pathlib.Path.touch)
    train(m, *SMALL, "-o", "run", "--steps", 1)
    assert not any(path.exists() for path in left) and writing.exists()
    os.close(held)
    files.replace(m.directory / "run/other", b"whole")
    assert not writing.exists() and (m.directory / "run/other").stat().st_mode & 0o777 == 0o666 & ~UMASK
    assert sorted(path.name for path in (m.directory / "run").iterdir() if path.is_file()) == [
        ".lock", "config.json", "metrics.jsonl", "model.safetensors", "other", "run.pt", "spec.yaml", "tokenizer.json"]


def test_a_signal_saves_and_stops(m):
    prepare(m, PLAIN)
    process = start(m, *SMALL, "-o", "run", "--minutes", 10)
    said = m.directory / "said"
    until(lambda: "\nstep" in said.read_text(), process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(300) == 143 and "saved" in said.read_text(), (process.returncode, said.read_text())
    assert (m.directory / "run/run.pt").exists()


def test_a_signal_ends_the_tokenizing(m):
    prepare(m, PLAIN.replace("vocab_size: 256", f"vocab_size: 512\ntokenizer: {{kind: bpe, file: {TOKENIZER}}}"))
    m.file("text.txt", TEXT * 8000)
    process = start(m, *SMALL, "-o", "run", "--minutes", 10)
    until(lambda: list((m.directory / "run").glob("tokens/*")), process)
    process.send_signal(signal.SIGINT)
    status, said = process.wait(300), (m.directory / "said").read_text()
    assert status == 130 and "step" not in said and "Traceback" not in said, (status, said)


def test_two_processes_are_one(m):
    """Their batch, gradients, router losses and optimizer steps; by ddp and by fsdp."""
    prepare(m, PLAIN.replace("router: {top_k: 2}", "router: {top_k: 2, select_bias: true}"))
    common = (*SMALL, "--steps", 4, "--optimizer", "adamw", "--lr", 1e-3, "--balance", 0.1, "--select-bias-rate", 0.001, "--valid",
              "text.txt", "--valid-tokens", 500)
    train(m, *common, "-o", "one")
    for kind, by in (("ddp", torchrun), ("fsdp", side_by_side)):
        by(m, 2, *common, "-o", kind, "--parallel", kind)
        a, b = (load_file(m.directory / name / "model.safetensors") for name in ("one", kind))
        worst = max((a[name] - b[name]).abs().max().item() for name in a)
        assert worst <= 2e-4, (kind, worst)
        lines = [[json.loads(line) for line in (m.directory / name / "metrics.jsonl").read_text().splitlines()] for name in ("one", kind)]
        losses = [[line.get("loss", line.get("valid_nats")) for line in each] for each in lines]
        assert len(losses[0]) == 5
        assert np.allclose(*losses, rtol=1e-4), (kind, losses)


def expect(said, *words):
    assert all(word in said for word in words) and "Traceback" not in said, said


def test_mistakes_have_messages_and_exit_codes(m):
    prepare(m, PLAIN)
    train(m, *SMALL, "-o", "run", status=2)
    expect(train(m, "spec.yaml", "--data", "no_such.txt", "-o", "run", "--steps", 1, status=1), "mossc.train: no_such.txt: No such file")
    m.file("wrong.yaml", PLAIN.replace("d_ff", "dff"))
    expect(train(m, "wrong.yaml", "--data", "text.txt", "-o", "run", "--steps", 1, status=1), "wrong.yaml:8")
    train(m, *SMALL, "-o", "narrow", "--steps", 1, "--set", "d_model=16")
    m.file("text.safetensors", TEXT)
    for name, words in (("narrow", "narrow/model.safetensors: not weights of this spec: blocks.0.A_log has shape [4, 32, 4], not [4, 64, 4]"),
                        ("text.safetensors", "text.safetensors: no safetensors")):
        expect(train(m, *SMALL, "-o", "begun", "--steps", 1, "--init", name, status=1), f"mossc.train: {words}")


def test_options_are_within_their_bounds(m):
    prepare(m, PLAIN)
    for name, values in {"--steps": ("0", "-1", "1.5", "x", "nan"), "--tokens": ("0", "inf"), "--minutes": ("0", "-1"), "--batch": ("0", "-2"),
                         "--window": ("0",), "--accumulate": ("0", "-1"), "--threads": ("0", "-1"), "--save-steps": ("0", "nan"),
                         "--report-steps": ("0",), "--seed": ("-1",), "--lr": ("-1", "nan"), "--muon-lr": ("-1",), "--clip": ("0",),
                         "--warmup": ("2", "0.8"), "--set": ("d_model", "=1")}.items():
        for value in values:
            expect(train(m, *SMALL, "-o", "run", "--steps", 1, f"{name}={value}", status=2), name)
    for option, words in ((("--device", "gpu"), "--device gpu: expected cpu"), (("--device", "cuda"), "finds no GPU"), (("--select-bias-rate", 0.1), "select_bias: true"),
                          (("--batch", 4, "--accumulate", 3), "4 cannot be cut into 1 × 3")):
        expect(train(m, *SMALL, "-o", "run", "--steps", 1, *option, status=1), words)
    m.file("bound.yaml", TINY.replace(", window: 8", "") + "max_positions: 40\n")
    bound = ("bound.yaml", *SMALL[1:], "-o", "bound", "--steps", 2, "--valid", "text.txt", "--valid-tokens", 900)
    for option, words in ((("--window", 41), "--window 41"), (("--carry", "yes"), "max_positions, 40")):
        expect(train(m, *bound, *option, status=1), words)
    train(m, *bound)


def test_files_of_tokens_are_checked(m):
    prepare(m, PLAIN)
    ids = np.frombuffer(TEXT.encode(), np.uint8)
    for name, content in (("ids.npy", ids.astype(np.int64)), ("floats.npy", ids / 300), ("square.npy", ids[:100].reshape(10, 10)),
                          ("below.npy", ids.astype(np.int64) - 40), ("above.npy", ids.astype(np.int64) + 200), ("words.npy", np.array(["a", "b"]))):
        np.save(m.directory / name, content)
    (m.directory / "ids.u16").write_bytes(ids.astype("<u2").tobytes())
    (m.directory / "ids.u32").write_bytes(ids.astype("<u4").tobytes())
    (m.directory / "odd.u16").write_bytes(b"abc")
    (m.directory / "empty.u16").write_bytes(b"")
    wanted = train_tokens(m, "text.txt")
    assert all(np.array_equal(train_tokens(m, name), wanted) for name in ("ids.npy", "ids.u16", "ids.u32"))
    for name, words in (("floats.npy", "got float64"), ("square.npy", "(10, 10)"), ("below.npy", "token -8"), ("above.npy", "outside the vocabulary"),
                        ("words.npy", "expected token ids"), ("odd.u16", "2 bytes each"), ("empty.u16", "no tokens")):
        expect(str(raises(ValueError, train_tokens, m, name)), name, words)


def train_tokens(m, name):
    spec = mossc.Spec(m.directory / "spec.yaml")
    tokens = data.open_tokens([str(m.directory / name)], spec, m.directory / "cache")
    return tokens.at(0, len(tokens))


def test_a_run_goes_on_as_it_was_or_says_why_not(m):
    prepare(m, PLAIN)
    train(m, *SMALL, "-o", "run", "--steps", 2)
    good = (m.directory / "run/run.pt").read_bytes()
    m.file("more.txt", TEXT * 2)
    for option, words in ((("--batch", 64), "--batch 4, not 64"), (("--window", 16), "--window 32, not 16"),
                          (("--optimizer", "adamw"), "--optimizer muon, not adamw"), (("--data", "more.txt"), "tokens of --data"),
                          (("--set", "d_model=16"), "another spec")):
        expect(train(m, *SMALL, "-o", "run", "--steps", 4, *option, status=1), words)
    expect(train(m, *SMALL, "-o", "run", "--steps", 2), "the run is over")
    assert (m.directory / "run/run.pt").read_bytes() == good
    for left in (good[:1000], b"", b"text"):
        (m.directory / "run/run.pt").write_bytes(left)
        expect(train(m, *SMALL, "-o", "run", "--steps", 4, status=1), "run/run.pt is not whole")
    (m.directory / "run/run.pt").write_bytes(good)
    train(m, *SMALL, "-o", "run", "--steps", 4, "--accumulate", 2)  # whose parts begin with states of their own


def test_one_process_trains_in_a_directory(m):
    prepare(m, PLAIN)
    process = start(m, *SMALL, "-o", "run", "--minutes", 10)
    until((m.directory / "run/.lock").exists, process)
    expect(train(m, *SMALL, "-o", "run", "--minutes", 10, status=1), "run: another process")
    process.kill()
    process.wait()


def test_every_dtype_learns(m):
    for dtype in ("f16", "q4"):
        prepare(m, TINY.replace("vocab_size: 256", f"vocab_size: 256\nweights: {{dtype: {dtype}}}"))
        train(m, *SMALL, "-o", dtype, "--steps", 8, "--checkpointing", "--schedule", "cosine", "--z-loss", 0.001)
        lines = [json.loads(line) for line in (m.directory / dtype / "metrics.jsonl").read_text().splitlines()]
        assert lines[-1]["loss"] < 0.95 * lines[0]["loss"], lines


def test_compiled_blocks_learn_the_same(m):
    prepare(m, PLAIN)
    for name, option in (("plain", ()), ("compiled", ("--compile",))):
        train(m, *SMALL, "-o", name, "--steps", 2, *option)
    a, b = (load_file(m.directory / name / "model.safetensors") for name in ("plain", "compiled"))
    assert all(torch.allclose(a[name], b[name], rtol=1e-3, atol=1e-4) for name in a)


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
