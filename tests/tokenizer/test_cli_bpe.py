#!/usr/bin/env python3
"""mossc run and mossc eval with a tokenizer.json: prompts, streams, specials, gaps, and what is wrong."""
import json
import pathlib
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "cli"))
from harness import TINY, run_tests  # noqa: E402

GOLDEN = pathlib.Path(__file__).resolve().parent / "golden"


def spec(m, vocab_size=300, more=""):
    """A spec and its weights beside golden/gpt2.json, in a directory of their own: the tokenizer's path is the spec's."""
    (m.directory / "model").mkdir()
    shutil.copy(GOLDEN / "gpt2.json", m.directory / "model" / "t.json")
    text = TINY.replace("vocab_size: 256", f"vocab_size: {vocab_size}\ntokenizer: {{kind: bpe, file: t.json{more}}}")
    m.file("model/s.yaml", text)
    m.run("init", "model/s.yaml", "--seed", 1, "-o", "w")
    return "model/s.yaml"


def test_run_takes_a_prompt_and_says_text(m):
    s = spec(m)
    report = m.json("run", s, "-w", "w", "--prompt", "the cat", "-n", 20, "--json")
    assert report["prompt_tokens"] == 2 and report["generated_tokens"] == 20, report
    said = m.run("run", s, "-w", "w", "--prompt", "the cat", "-n", 20, "--no-echo").stdout
    assert said.decode() == report["text"]  # strict: whole characters only


def test_what_is_no_character_becomes_one(m):
    s = spec(m)
    for seed in range(2):
        common = ["run", s, "-w", "w", "--prompt", "x", "-n", 200, "--temp", 5, "--top-k", 0, "--seed", seed]
        text = m.run(*common, "--no-echo").stdout.decode()
        assert "\ufffd" in text
        assert m.json(*common, "--json")["text"].replace("\x00", "\ufffd") == text.replace("\x00", "\ufffd")


def test_bos_by_text_comes_first(m):
    s = spec(m, more=", bos: <s>, eos: </s>")
    assert m.json("run", s, "-w", "w", "--prompt", "the", "-n", 1, "--json")["prompt_tokens"] == 2
    report = m.json("eval", s, "-w", "w", "--text", "-", "--json", stdin=b"the cat")
    assert report["tokens"] == report["scored_tokens"] == 2 and report["bytes"] == report["scored_bytes"] == 7, report


def test_eval_leaves_out_the_first_token_without_bos(m):
    report = m.json("eval", spec(m), "-w", "w", "--text", "-", "--json", stdin="the cat é".encode())
    assert report["tokens"] == 4 and report["scored_tokens"] == 3 and report["scored_bytes"] == 10 - 3, report


def test_padding_and_gaps_are_never_sampled(m):
    s = spec(m, vocab_size=400)
    tokenizer = json.loads((GOLDEN / "gpt2.json").read_text(encoding="utf-8"))
    ids = set(range(256))
    tokenizer["model"]["vocab"] = {t: i for t, i in tokenizer["model"]["vocab"].items() if i in ids and i % 3}
    tokenizer["model"]["merges"] = []
    tokenizer["added_tokens"] = []
    m.file("model/t.json", json.dumps(tokenizer))
    report = m.json("run", s, "-w", "w", "--prompt", "e", "-n", 500, "--temp", 100, "--top-k", 0, "--json")
    assert all(token < 256 and token % 3 for token in report["tokens"]) and len(set(report["tokens"])) > 50


def test_mistakes_are_named(m):
    s = spec(m, more=", bos: <bos>")
    assert "model/t.json: error: tokenizer has no token '<bos>', the spec's bos" in m.error("run", s, "-w", "w", "--prompt", "a")
    small = m.file("model/small.yaml", (m.directory / s).read_text().replace("vocab_size: 300", "vocab_size: 100").replace(", bos: <bos>", ""))
    m.run("init", small, "--seed", 1, "-o", "w2")
    assert "contains token 257, outside the vocabulary (0 to 99)" in m.error("run", small, "-w", "w2", "--prompt", "the")
    assert "text: invalid UTF-8 at byte 1" in m.error("eval", small, "-w", "w2", "--text", "-", stdin=b"a\xff")
    m.file("model/t.json", '{"model": {"type": "Unigram"}}')
    assert "model/t.json: error: model.type: 'Unigram'" in m.error("run", small, "-w", "w2", "--prompt", "a")
    (m.directory / "model" / "t.json").unlink()
    assert "model/t.json: error: cannot open" in m.error("run", small, "-w", "w2", "--prompt", "a")


if __name__ == "__main__":
    sys.exit(run_tests(globals(), share_kernels=True))
