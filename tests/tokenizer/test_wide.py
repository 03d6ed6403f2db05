#!/usr/bin/env python3
"""10 000 strings of many scripts: ids and decoded texts beside Hugging Face's library, which PyPI has. Skipped where that cannot be had."""
import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile

from ids import encode

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
SKIPPED = 77

# First and last characters of scripts and of what lies between them.
RANGES = [(0x20, 0x7E), (0x20, 0x7E), (0xA0, 0xFF), (0x100, 0x24F), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x4FF), (0x531, 0x587), (0x5D0, 0x5EA),
          (0x600, 0x6FF), (0x700, 0x74F), (0x900, 0x97F), (0x980, 0x9FF), (0xA00, 0xA7F), (0xB80, 0xBFF), (0xE00, 0xE7F), (0xF00, 0xFDA), (0x10A0, 0x10FF),
          (0x1100, 0x11FF), (0x1200, 0x137C), (0x13A0, 0x13F5), (0x1780, 0x17F9), (0x1E00, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x209C), (0x2100, 0x218B),
          (0x2190, 0x23FF), (0x2460, 0x24FF), (0x3000, 0x30FF), (0x3130, 0x318E), (0x3200, 0x33FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xF900, 0xFAD9),
          (0xFB00, 0xFB4F), (0xFE70, 0xFEFC), (0xFF00, 0xFFEF), (0x1D400, 0x1D7FF), (0x1F100, 0x1F1FF), (0x1F300, 0x1FAFF), (0x20000, 0x2A6DF), (0xE000, 0xE0FF)]
PIECES = [" ", " ", "  ", "   ", "\n", "\r\n", "\t", "\n\n", " \n", "the", "The", "'s", "'LL", "n't", "123", "4567890", "3.14", "<s>", "</s>", "<|im_start|>", "<|im_end|>",
          "<sep>", "▁", "▁▁", "é", "é", "가", "가", "ﬁ", "①", "½", "ſ", "…", "!!", "()", "://", "_x_", "\u200d", "\ufeff", "\u00a0", "\u3000", "\u0085", "👩\u200d🚀"]


# Unicode 12 and later: their normal forms by compatibility are not in the other library's tables.
NEWER = {0x32FF, 0x1F16C}


def characters(draw):
    first, last = draw.choice(RANGES)
    codes = (draw.randint(first, last) for _ in range(draw.choice([1, 1, 2, 3, 6])))
    return "".join(chr(code) for code in codes if code not in NEWER)


def strings(count, seed):
    """Texts of 0 to 60 pieces: words of one script, signs, numbers, blanks, special tokens."""
    draw = random.Random(seed)
    texts = ["", " ", "\n", "a"]
    while len(texts) < count:
        parts = []
        for _ in range(draw.choice([1, 2, 3, 5, 8, 20, 60])):
            if draw.random() < 0.45:
                parts.append(draw.choice(PIECES))
            else:
                parts.append(characters(draw))
        texts.append("".join(parts))
    return texts


def trained(tokenizers, directory):
    """Larger vocabularies, trained on this project's pages and on such strings: bytes, and U+2581 with bytes as fallback."""
    from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

    corpus = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))] + strings(2000, 99)
    bytes_alphabet = pre_tokenizers.ByteLevel.alphabet()
    made = {}
    llama3 = json.loads((HERE / "golden" / "llama3.json").read_text(encoding="utf-8"))["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]
    for name, steps in {"gpt2": [pre_tokenizers.ByteLevel(add_prefix_space=False)],
                        "llama3": [pre_tokenizers.Split(Regex(llama3), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)],
                        "starcoder": [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]}.items():
        t = tokenizers.Tokenizer(models.BPE())
        t.pre_tokenizer, t.decoder = pre_tokenizers.Sequence(steps), decoders.ByteLevel()
        t.normalizer = normalizers.NFC() if name == "gpt2" else None
        t.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=4000, initial_alphabet=bytes_alphabet, special_tokens=["<s>", "<|im_start|>"], show_progress=False))
        made[f"trained-{name}"] = t
    for name in ("prepend", "metaspace-first", "nfkc"):
        t = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
        blanks = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        t.normalizer = {"prepend": normalizers.Sequence(blanks), "nfkc": normalizers.Sequence([normalizers.NFKC(), normalizers.Strip(), *blanks])}.get(name)
        if name == "metaspace-first":
            t.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
        special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
        words = [" ".join(text.split()[i:i + 1]) for text in corpus for i in range(len(text.split()))]
        t.train_from_iterator(words, trainers.BpeTrainer(vocab_size=3000, limit_alphabet=300, special_tokens=special, show_progress=False))
        text = json.loads(t.to_str())
        text["added_tokens"] = [token for token in text["added_tokens"] if not token["content"].startswith("<0x")]
        made[f"trained-{name}"] = tokenizers.Tokenizer.from_str(json.dumps(text))
    for name, t in made.items():
        t.save(str(directory / f"{name}.json"))
    return sorted(directory.glob("trained-*.json"))


def compare(tokenizers, program, path, texts):
    theirs, wrong = tokenizers.Tokenizer.from_file(str(path)), 0
    for text, got in zip(texts, encode(program, path, texts)):
        if "error" in got:  # a character that has no token, which the other library leaves out
            if "has no token for the character" in got["error"]:
                continue
            print(path.name, repr(text), got)
            wrong += 1
            continue
        ids = theirs.encode(text, add_special_tokens=False).ids
        said = theirs.decode(ids, skip_special_tokens=False)
        if any(theirs.id_to_token(id) == "▁<sep>" for id in ids):  # an added token that it shows as it is looked for
            said = got["said"]
        if ids != got["ids"] or said != got["said"]:
            wrong += 1
            if wrong <= 5:
                print(path.name, repr(text), "ids" if ids != got["ids"] else "text", ids, got["ids"], repr(said), repr(got["said"]))
    print(f"{path.stem}: {len(texts)} strings, {wrong} differ", flush=True)
    return wrong


def library(directory):
    """The library: as it is installed, or from PyPI. None where it cannot be had."""
    try:
        import tokenizers
    except ImportError:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(directory / "site"), "tokenizers==0.23.3"]
        if subprocess.run(command, capture_output=True, timeout=300).returncode:
            return None
        sys.path.insert(0, str(directory / "site"))
        import tokenizers
    return tokenizers


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ids", required=True)
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        directory = pathlib.Path(scratch)
        tokenizers = library(directory)
        if not tokenizers:
            print("skipped: neither installed nor to be had from PyPI: tokenizers")
            return SKIPPED
        texts = strings(options.count, options.seed)
        paths = [path for path in sorted((HERE / "golden").glob("*.json")) if "cases" not in path.name]
        paths += sorted((HERE / "models").glob("*/tokenizer.json")) + trained(tokenizers, directory)
        wrong = sum(compare(tokenizers, options.ids, path, texts if path.name.startswith("trained-") else texts[:1000]) for path in paths)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
