"""Conversations by chat template: texts of one, two and three turns, with and without a system's, as the templates that models are published with
make them (chats.json, recorded with jinja2).

Two things are ours: a system's text of mistral_v3 and mistral_tekken stands in the first message, where it stays as a conversation goes on, not in
the last one; and mistral puts a blank before answers, as Mistral's own library does.

    python3 tests/tokenizer/test_chats.py --chat build/release/tests/tokenizer/test_tokenizer_chat
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

DAY = "1700000000"  # 14 November 2023
GOLDEN = pathlib.Path(__file__).resolve().parent / "chats.json"


def characters_of_bytes():
    prints = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in prints else chr(next(others)) for byte in range(256)]


VOCAB = ["{bos}", "{eos}", *characters_of_bytes()]


def tokenizer():
    """Bytes, and two special tokens by the names that the texts have for them."""
    added = [{"id": i, "content": VOCAB[i], "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True} for i in range(2)]
    step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {"added_tokens": added, "normalizer": None, "pre_tokenizer": step, "post_processor": None, "decoder": step,
            "model": {"type": "BPE", "vocab": {text: i for i, text in enumerate(VOCAB)}, "merges": []}}  # fmt: skip


def text_of(ids):
    return b"".join(VOCAB[i].encode() if i < 2 else bytes([i - 2]) for i in ids).decode()


def conversation(golden, turns, system):
    messages = [{"role": "system", "content": golden["system"]}] if system else []
    for turn in range(turns):
        messages.append({"role": "user", "content": golden["users"][turn]})
        if turn + 1 < turns:
            messages.append({"role": "assistant", "content": golden["answers"][turn]})
    return {"messages": messages, "add_generation_prompt": True}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--chat", required=True)
    chat, golden, count = parser.parse_args().chat, json.loads(GOLDEN.read_text(encoding="utf-8")), 0
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "tokenizer.json"
        path.write_text(json.dumps(tokenizer()))
        for name, texts in golden["texts"].items():
            chats = [conversation(golden, int(key[0]), key.endswith("with")) for key in texts]
            done = subprocess.run([chat, path, str(len(VOCAB)), "{bos}", "{eos}", name], input="".join(json.dumps(one) + "\n" for one in chats), capture_output=True, text=True,
                                  env={**os.environ, "SOURCE_DATE_EPOCH": DAY})  # fmt: skip
            assert done.returncode == 0, (name, done.stderr)
            got = [text_of(json.loads(line)["ids"]) for line in done.stdout.splitlines()]
            for key, text, wanted in zip(texts, got, texts.values(), strict=True):
                assert text == wanted, f"{name}, {key} system:\n{text!r} is not\n{wanted!r}"
                count += 1
    print(f"{count} conversations of {len(golden['texts'])} templates")
    return 0


if __name__ == "__main__":
    sys.exit(main())
