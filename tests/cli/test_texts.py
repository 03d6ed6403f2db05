"""mossc logits, eval and run on a tiny spec. Standard library only.

    python3 tests/cli/test_texts.py --mossc build/release/mossc [NAME…]

runs all tests, or those whose names contain a NAME.
"""
import json
import math
import pathlib
import struct
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from harness import PASSES, TINY, TOKENS, run_tests, tiny  # noqa: E402


# ------------------------------------------------------------------------------------------------ logits


def test_logits_are_the_same_bits_however_they_are_made(m):
    spec, weights = tiny(m)
    tokens = m.file("t.txt", TOKENS)
    common = ["logits", spec, "-w", weights, "--tokens", tokens, "-o", "x.npy"]
    m.run(*common, "--reference", 32)
    rows, wanted = m.npy("x.npy")
    assert len(rows) == 12 and len(rows[0]) == 256 and all(map(math.isfinite, sum(rows, ())))
    for options in ([], ["--mode", "decode"], ["--chunk", 5], ["--threads", 1], ["--threads", 2, "--chunk", 1], ["--chunk", 100000],
                    ["--isa", "avx2"]):
        m.run(*common, *options)
        assert m.npy("x.npy")[1] == wanted, f"{options} gives other bits than the reference"
    m.run(*common, "--reference", 64)
    exact, _ = m.npy("x.npy")
    m.run(*common, *(f"--no-{name}" for name in PASSES))
    plain, _ = m.npy("x.npy")
    size = math.sqrt(sum(v * v for row in exact for v in row) / (12 * 256))
    for found in (rows, plain):
        assert max(abs(a - b) for x, y in zip(found, exact) for a, b in zip(x, y)) < 2e-4 * size


def test_logits_reads_tokens_from_standard_input_and_reports_json(m):
    spec, weights = tiny(m)
    report = m.json("logits", spec, "-w", weights, "--tokens", "-", "-o", "x.npy", "--json", stdin=b"1 2 3")
    assert report["tokens"] == 3 and report["vocab_size"] == 256 and len(m.npy("x.npy")[0]) == 3
    report = m.json("logits", spec, "-w", weights, "--tokens", "-", "-o", "x.npy", "--json", "--reference", "64", stdin=b"1 2 3")
    assert report["min_gap"] > 0 and report["reference"] == 64
    done = m.run("logits", spec, "-w", weights, "--tokens", "-", "-o", "x.npy", "--reference", "32", stdin=b"1 2 3")
    assert "smallest gap" in done.stderr and not done.stdout


def test_a_sequence_ends_at_max_positions_in_every_mode(m):
    spec, weights = tiny(m)
    common = ["logits", spec, "-w", weights, "--tokens", "-", "-o", "x.npy", "--set", "max_positions=5"]
    bounded = ["--set", "stack[2].attention.window=none"]
    for options in ([], ["--mode", "decode"], ["--chunk", 3], ["--reference", 32], ["--reference", 64]):
        m.run(*common, *options, *bounded, stdin=b"1 2 3 4 5")
        assert "max_positions" in m.error(*common, *options, *bounded, stdin=b"1 2 3 4 5 6"), options
        m.run(*common, *options, stdin=b"1 2 3 4 5 6")  # a window forgets, and has no bound


def test_bad_tokens_are_reported_with_their_place(m):
    spec, weights = tiny(m)
    common = ["logits", spec, "-w", weights, "--tokens"]
    before = m.left()
    for content, text in ((b"1 2\n3 x4", "-:2:3: error: expected a token id"), (b"1,\n256", "-:2:1: error: token id is out of range"),
                          (b"-1", "-:1:1: error: expected a token id"), (b"99999999999999999999999", "out of range"),
                          (b" \n,", "file has no token ids"), (b"1.5", "expected a token id")):
        assert text in m.error(*common, "-", "-o", "x.npy", stdin=content), content
    assert "missing.txt: error: cannot open" in m.error(*common, "missing.txt", "-o", "x.npy")
    assert m.left() == before


def test_bad_weights_are_an_error_of_every_command_that_loads_them(m):
    spec, weights = tiny(m)
    good = (m.directory / weights).read_bytes()
    m.file("t.txt", TOKENS)
    other = m.file("other.yaml", TINY.replace("vocab_size: 256", "vocab_size: 128"))
    bad = [m.file("empty", b""), m.file("garbage", b"\xff" * 500), m.file("short", good[:-100]), m.file("head", good[:100]), "missing"]
    for name in bad:
        for command in (["run", "--prompt", "a"], ["eval", "--text", "t.txt"], ["bench"], ["logits", "--tokens", "t.txt", "-o", "x"],
                        ["logits", "--tokens", "t.txt", "-o", "x", "--reference", "32"]):
            assert f"{name}" in m.error(*command, spec, "-w", name), (command, name)
    text = m.error("run", other, "-w", weights, "--prompt", "a")
    assert "embed.weight" in text and "[128, 32]" in text, text
    twice = m.error("run", spec, "-w", weights, "-w", weights, "--prompt", "a")
    assert "'blocks.0.A_log'" in twice and twice.count("w.safetensors") > 20, twice
    assert "x" not in m.left()


def test_a_router_that_overflows_is_an_error_of_the_run(m):
    spec, weights = tiny(m)
    data = bytearray((m.directory / weights).read_bytes())
    (size,) = struct.unpack_from("<Q", data)
    begin, end = json.loads(data[8 : 8 + size])["blocks.1.router.weight"]["data_offsets"]
    data[8 + size + begin : 8 + size + end] = struct.pack("<f", 3e38) * ((end - begin) // 4)
    weights = m.file("huge", bytes(data))
    m.file("t.txt", TOKENS)
    for options in ([], ["--mode", "decode"], ["--reference", "32"]):
        text = m.error("logits", spec, "-w", weights, "--tokens", "t.txt", "-o", "x.npy", *options)
        assert "block 1" in text and "position 0" in text, text
    assert "block 1" in m.error("run", spec, "-w", weights, "--prompt", "a", "--no-echo")
    assert "x.npy" not in m.left()


# ------------------------------------------------------------------------------------------------ eval


def nats(row, token):
    top = max(row)
    return top + math.log(sum(math.exp(v - top) for v in row)) - row[token]


def test_eval_agrees_with_logits(m):
    spec, weights = tiny(m)
    text = "Hello, world. " * 50
    tokens = list(text.encode())
    m.file("text.txt", text)
    m.file("t.txt", " ".join(map(str, tokens)))
    m.run("logits", spec, "-w", weights, "--tokens", "t.txt", "-o", "x.npy")
    rows, _ = m.npy("x.npy")
    wanted = sum(nats(rows[i], tokens[i + 1]) for i in range(len(tokens) - 1))
    report = m.json("eval", spec, "-w", weights, "--text", "text.txt", "--json")
    assert report["tokens"] == report["bytes"] == len(tokens) and report["scored_tokens"] == report["scored_bytes"] == len(tokens) - 1
    assert math.isclose(report["nats_per_token"], wanted / (len(tokens) - 1), rel_tol=1e-9)
    assert math.isclose(report["bits_per_byte"], wanted / math.log(2) / (len(tokens) - 1), rel_tol=1e-9)
    assert math.isclose(report["perplexity"], math.exp(report["nats_per_token"]), rel_tol=1e-9)
    assert m.json("eval", spec, "-w", weights, "--text", "text.txt", "--json", "--chunk", 7, "--threads", 2) == report
    assert m.json("eval", spec, "-w", weights, "--text", "-", "--json", stdin=text.encode()) == report
    assert "bits per byte" in m.out("eval", spec, "-w", weights, "--text", "text.txt")


def test_eval_scores_the_first_token_after_bos(m):
    spec, weights = tiny(m)
    m.file("t.txt", "0 72 105")
    m.run("logits", spec, "-w", weights, "--tokens", "t.txt", "-o", "x.npy")
    rows, _ = m.npy("x.npy")
    report = m.json("eval", spec, "-w", weights, "--text", "-", "--json", "--set", "tokenizer={bos: 0}", stdin=b"Hi")
    assert report["scored_tokens"] == report["tokens"] == 2
    assert math.isclose(report["nats_per_token"], (nats(rows[0], 72) + nats(rows[1], 105)) / 2, rel_tol=1e-9)


def test_eval_needs_something_to_score(m):
    spec, weights = tiny(m)
    for text in (b"", b"a"):
        assert "error: " in m.error("eval", spec, "-w", weights, "--text", "-", stdin=text)
    m.run("eval", spec, "-w", weights, "--text", "-", "--set", "tokenizer={bos: 0}", stdin=b"a")
    assert "error: cannot open" in m.error("eval", spec, "-w", weights, "--text", "missing.txt")


def test_text_outside_the_vocabulary_is_an_error(m):
    spec = m.file("small.yaml", TINY.replace("vocab_size: 256", "vocab_size: 100"))
    m.run("init", spec, "--seed", 1, "-o", "w")
    assert "error: " in m.error("eval", spec, "-w", "w", "--text", "-", stdin=b"Hello")
    assert "error: " in m.error("run", spec, "-w", "w", "--prompt", "Hello")


# ------------------------------------------------------------------------------------------------ run


def test_run_is_the_same_for_the_same_seed(m):
    spec, weights = tiny(m)
    common = ["run", spec, "-w", weights, "--prompt", "Hello", "-n", "20"]
    first = m.run(*common, "--seed", 3)
    assert first.stdout.startswith(b"Hello") and len(first.stdout) == 25
    assert "time to first token" in first.stderr and "tokens/s" in first.stderr, first.stderr
    assert m.run(*common, "--seed", 3, "--threads", 2, "--chunk", 2).stdout == first.stdout
    assert m.run(*common, "--seed", 4).stdout != first.stdout
    assert m.run(*common, "--seed", 3, "--no-echo").stdout == first.stdout[5:]
    assert m.run(*common, "-n", "0").stdout == b"Hello"
    assert m.json(*common, "-n", "0", "--json")["tokens"] == []
    m.file("prompt.txt", "Hello")
    assert m.run("run", spec, "-w", weights, "--prompt-file", "prompt.txt", "-n", "20", "--seed", 3).stdout == first.stdout
    assert m.run("run", spec, "-w", weights, "--prompt-file", "-", "-n", "20", "--seed", 3, stdin=b"Hello").stdout == first.stdout


def test_greedy_run_takes_the_largest_logit(m):
    spec, weights = tiny(m)
    report = m.json("run", spec, "-w", weights, "--prompt", "Hello", "-n", "6", "--temp", "0", "--json")
    tokens = list(b"Hello") + report["tokens"]
    assert report["generated_tokens"] == len(report["tokens"]) == 6 and report["prompt_tokens"] == 5 and report["stopped_by"] == "length"
    m.file("t.txt", " ".join(map(str, tokens)))
    m.run("logits", spec, "-w", weights, "--tokens", "t.txt", "-o", "x.npy")
    rows, _ = m.npy("x.npy")
    assert [max(range(256), key=rows[i].__getitem__) for i in range(4, 10)] == report["tokens"]


def test_run_json_is_valid_whatever_bytes_come(m):
    spec, weights = tiny(m)
    report = m.json("run", spec, "-w", weights, "--prompt", "é", "-n", "200", "--temp", "2", "--top-k", "0", "--top-p", "1", "--json")
    assert bytes(report["tokens"]).decode(errors="replace") == report["text"] or len(report["tokens"]) == 200
    for key in ("time_to_first_token_ms", "prefill_tok_s", "decode_tok_s", "compile_ms", "load_ms"):
        assert report[key] >= 0, key


def test_run_stops_at_eos(m):
    spec, weights = tiny(m)
    common = ["run", spec, "-w", weights, "--prompt", "Hello", "-n", "6", "--temp", "0", "--json"]
    tokens = m.json(*common)["tokens"]
    report = m.json(*common, "--set", f"tokenizer={{eos: {tokens[3]}}}")
    assert report["stopped_by"] == "eos" and report["tokens"] == tokens[: tokens.index(tokens[3])], (report, tokens)
    ends = sorted({(tokens[3] + 1) % 256, tokens[4], tokens[3]})
    several = m.json(*common, "--set", f"tokenizer={{eos: {ends}}}")
    first = min(i for i, t in enumerate(tokens) if t in ends)
    assert several["stopped_by"] == "eos" and several["tokens"] == tokens[:first], (several, tokens)


def test_run_stops_at_ids_and_texts(m):
    spec, weights = tiny(m)
    common = ["run", spec, "-w", weights, "--prompt", "Hello", "--temp", "0", "--json"]
    plain = m.json(*common, "-n", "12")
    tokens = plain["tokens"]
    report = m.json(*common, "-n", "12", "--stop-id", tokens[3])
    assert report["stopped_by"] == "eos" and report["tokens"] == tokens[: tokens.index(tokens[3])], (report, tokens)
    stop = bytes(tokens[2:4]).decode("latin-1")
    if all(token < 128 for token in tokens[2:4]) and "\0" not in stop:
        report = m.json(*common, "-n", "12", "--stop", stop, "--stop", "never this")
        assert report["stopped_by"] == "stop" and report["text"] == plain["text"].split(stop)[0], (report, plain)
    m.error(*common, "--stop", "")
    assert "'x'" in m.error(*common, "--stop-id", "x") and "outside the vocabulary" in m.error(*common, "--stop-id", "256")


def test_run_goes_on_to_the_end_of_positions(m):
    spec, weights = tiny(m)
    bounded = ["--set", "stack[2].attention.window=none", "--set", "max_positions=40"]
    common = ["run", spec, "-w", weights, "--prompt", "Hello", "-n", "-1", "--temp", "0", "--json", *bounded]
    report = m.json(*common)
    assert report["stopped_by"] == "positions" and report["generated_tokens"] == 36, report
    eos = report["tokens"][0]
    assert m.json(*common, "--set", f"tokenizer={{eos: {eos}}}")["generated_tokens"] == 0
    ignoring = m.json(*common, "--set", f"tokenizer={{eos: {eos}}}", "--ignore-eos")
    assert ignoring["generated_tokens"] == 36 and eos not in ignoring["tokens"], ignoring


def test_run_picks_by_biases_penalties_and_min_p(m):
    spec, weights = tiny(m)
    common = ["run", spec, "-w", weights, "--prompt", "Hello", "-n", "8", "--json"]
    greedy = m.json(*common, "--temp", "0")
    assert m.json(*common, "--temp", "5", "--top-k", "0", "--min-p", "1")["tokens"] == greedy["tokens"]
    assert m.json(*common, "--temp", "0", "--logit-bias", "65=1000")["tokens"] == [65] * 8
    assert m.json(*common, "--temp", "0", "--logit-bias", "65+1000", "--logit-bias", f"65-inf")["tokens"] == greedy["tokens"] or 65 in greedy["tokens"]
    penalised = m.json(*common, "--temp", "0", "--presence-penalty", "1000", "--repeat-last-n", "-1")["tokens"]
    assert len(set(penalised)) == 8 and not set(penalised) & set(b"Hello"), penalised
    assert m.json(*common, "--temp", "0", "--presence-penalty", "1000", "--repeat-last-n", "0")["tokens"] == greedy["tokens"]
    assert "'65'" in m.error(*common, "--logit-bias", "65")
    told = m.json(*common, "--temp", "0", "--logprobs", "2")
    assert [item["token"] for item in told["logprobs"]] == greedy["tokens"] == [item["top"][0]["token"] for item in told["logprobs"]]
    assert all(len(item["top"]) == 2 and item["logprob"] <= 0 and item["top"][0]["logprob"] >= item["top"][1]["logprob"] for item in told["logprobs"])
    m.error("run", spec, "-w", weights, "--prompt", "a", "--logprobs", "2", status=2)


def test_run_heeds_the_model_s_generation_yaml(m):
    spec, weights = tiny(m)
    common = ["run", spec, "-w", weights, "--prompt", "Hello", "-n", "8", "--json"]
    greedy = m.json(*common, "--temp", "0")["tokens"]
    m.file("generation.yaml", f"temperature: 0\nstop: [{greedy[4]}]\nother: 1\n")
    done = m.run(*common)
    report = json.loads(done.stdout)
    assert report["tokens"] == greedy[: greedy.index(greedy[4])] and report["stopped_by"] == "eos", report
    assert "unknown key 'other'" in done.stderr, done.stderr
    m.file("generation.yaml", "top_p: many\n")
    assert "'top_p': expected a number from 0 to 1" in m.error(*common)


def test_run_stops_where_positions_end(m):
    spec, weights = tiny(m)
    bounded = ["--set", "stack[2].attention.window=none", "--set", "max_positions=8"]
    report = m.json("run", spec, "-w", weights, "--prompt", "Hello", "-n", "50", "--json", *bounded)
    assert report["stopped_by"] == "positions" and report["generated_tokens"] == 4, report
    assert "error: " in m.error("run", spec, "-w", weights, "--prompt", "Hello, world", *bounded)


def test_run_needs_a_prompt_or_bos(m):
    spec, weights = tiny(m)
    assert "bos" in m.error("run", spec, "-w", weights, "--prompt", "")
    assert len(m.run("run", spec, "-w", weights, "--prompt", "", "-n", "3", "--set", "tokenizer={bos: 0}").stdout) == 3


if __name__ == "__main__":
    sys.exit(run_tests(globals(), share_kernels=True))
