#!/usr/bin/env python3
"""The tokenizers of the tiny models (tests/golden): ids with and without special tokens, and what ids say. All of the folders that lie
beside the repository; of those that are kept in tests/golden/data, at least."""
import argparse
import json
import os
import pathlib
import subprocess
import sys

from ids import encode

HERE = pathlib.Path(__file__).parent
KEPT = HERE / "models"

# What Llama 2's template makes of a conversation; a tokenizer whose normalizer puts a blank before every piece shows where a text is cut.
LLAMA2 = {"marks": "{{ bos_token + '[INST] ' + content + '<<SYS>>' + ' [/INST]' }}",
          "chats": [{"messages": [{"role": "user", "content": "a river"}, {"role": "assistant", "content": "ran"}, {"role": "user", "content": "more"}],
                     "add_generation_prompt": True}],
          "rendered": "<s>[INST] a river [/INST] ran </s><s>[INST] more [/INST]"}


def added_bos(tokenizer):
    """The one special token that a template puts before a text, or None."""
    template = tokenizer.get("post_processor") or {}
    steps = template.get("single", [])
    return steps[0]["SpecialToken"]["id"] if steps and "SpecialToken" in steps[0] else None


def by_template(program, folder, chats, jinja=None):
    """The ids of conversations by the template that the model's Jinja, or this one, is recognised as, message by message."""
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    lines = "".join(json.dumps(chat) + "\n" for chat in chats)
    command = [program, str(folder / "tokenizer.json"), str(1 << 24), config.get("bos_token") or "", config.get("eos_token") or "", jinja or config["chat_template"]]
    done = subprocess.run(command, input=lines.encode(), capture_output=True, timeout=60)
    if done.returncode:
        return [{"error": done.stderr.decode()}] * len(chats)
    return [json.loads(line) for line in done.stdout.decode().split("\n") if line]


def check(program, chat_program, folder):
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    cases = json.loads((folder / "tokenizer-cases.json").read_text(encoding="utf-8"))
    texts = [case["text"] for case in cases["cases"]]
    bare = encode(program, folder / "tokenizer.json", texts)
    with_bos = encode(program, folder / "tokenizer.json", texts, bos=added_bos(tokenizer))
    wrong = []
    for case, plain, special in zip(cases["cases"], bare, with_bos):
        if plain.get("ids") != case["ids_without_special"] or plain.get("said") != case["decoded"] or special.get("ids") != case["ids"]:
            wrong.append((case, plain, special))
    # A chat's text has its bos already.
    chats = cases.get("chats", [])
    for chat, got in zip(chats, encode(program, folder / "tokenizer.json", [chat["rendered"] for chat in chats])):
        if got.get("ids") != chat["ids"]:
            wrong.append((chat, got))
    for chat, got in zip(chats, by_template(chat_program, folder, chats)):
        if got.get("ids") != chat["ids"]:
            wrong.append((chat, got))
    if folder.name == "llama-a":
        got, whole = by_template(chat_program, folder, LLAMA2["chats"], LLAMA2["marks"])[0], encode(program, folder / "tokenizer.json", [LLAMA2["rendered"]])[0]
        if got.get("ids") != whole["ids"] or got.get("template") != "llama2":
            wrong.append((LLAMA2["rendered"], got, whole))
    print(f"{folder.name}: {len(texts)} texts, {len(chats)} chats, {len(wrong)} differ")
    for item in wrong:
        print("  ", *item)
    return not wrong and len(texts) > 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ids", required=True)
    parser.add_argument("--chat", required=True)
    parser.add_argument("--shared", default=os.environ.get("MOSSC_GOLDEN", HERE.parents[1] / ".." / "shared" / "golden"))
    options = parser.parse_args()
    kept, shared = sorted(KEPT.glob("*/tokenizer-cases.json")), sorted(pathlib.Path(options.shared).glob("*/tokenizer-cases.json"))
    assert len(kept) >= 3, KEPT
    if not shared:
        print(f"no folders in {options.shared}: only the kept ones are compared")
    results = [check(options.ids, options.chat, path.parent) for path in kept + shared]
    print(f"{len(results)} tokenizers, {results.count(False)} differ")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
