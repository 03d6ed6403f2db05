"""Makes golden/NAME.json (small tokenizers) and golden/NAME.cases.json (texts, their ids, what the ids say) with Hugging Face's
own library: `pip install tokenizers`, then `python3 make_golden.py`. Run by hand; the tests need its files only."""
import json
import pathlib

from tokenizers import Tokenizer

DIRECTORY = pathlib.Path(__file__).parent / "golden"

TEXTS = ["", " ", "   ", "a", "the cat", "The cat's thé thé  then", " the  the   the", "can't won't I'll we've", "12345 6 789",
         "x\n\ny\r\n z\t\tw", "thethethe", "<s>the</s>", " <s> the </s> ", "a<s>b", "a <sep> b", "a<sep>b", "<sep>", "x <mask>  y",
         "<mask><mask>", "  <mask>  <mask>  ", "e\u0301 \u00e9 E\u0300\u0323", "\u1112\u1161\u11ab \ud55c", "中文 the 日本",
         "🙂🙂 the", "½ Ⅷ ٣", "\u00a0the\u3000the\u180ethe\u0085", "caf\u00e9 cafe\u0301", "the.the,the!?", "A.B.C", "the<s>the<s>"]


def byte_characters():
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printed]
    return {**{b: chr(b) for b in printed}, **{b: chr(256 + i) for i, b in enumerate(others)}}


BYTES = byte_characters()
MERGES = ["t h", "th e", "Ġ the", "Ġ t", "Ġ Ġ", "ĠĠ ĠĠ", "c a", "ca t", "Ġ cat", "Ã ©", "1 2", "3 4", "12 34", "' s", "h e", "t he"]


def added(id, content, **flags):
    return {"id": id, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
            "special": True, **flags}


def byte_level(merges=MERGES, **model):
    vocab = {BYTES[b]: b for b in range(256)}
    for merge in merges:
        vocab.setdefault("".join(merge.split(" ")), len(vocab))
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
             "fuse_unk": False, "vocab": vocab, "merges": merges, **model}
    return model, len(vocab)


def file(model, **sections):
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None, "pre_tokenizer": None,
            "post_processor": None, "decoder": BYTE_LEVEL, "model": model, **sections}


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def split(pattern, behavior, invert=False):
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}


def sequence(*stages):
    return {"type": "Sequence", "pretokenizers": list(stages)}


def gpt2():
    """GPT-2's kind, with NFC as GPT-NeoX has it, and added tokens of both sorts."""
    model, n = byte_level()
    return file(model, normalizer={"type": "NFC"}, pre_tokenizer=BYTE_LEVEL, post_processor=BYTE_LEVEL,
                added_tokens=[added(n, "<s>"), added(n + 1, "</s>"), added(n + 2, "é é", normalized=True, special=False)])


def flags():
    """Every flag of added tokens; blanks come first; merges as pairs; one token that the vocab has already."""
    model, n = byte_level(merges=MERGES)
    model["merges"] = [merge.split(" ") for merge in model["merges"]]
    tokens = [added(model["vocab"]["the"], "the", single_word=True), added(n, "<s>", lstrip=True), added(n + 1, "</s>", rstrip=True),
              added(n + 2, "<sep>", single_word=True, normalized=True), added(n + 3, "<mask>", lstrip=True, rstrip=True),
              added(n + 4, "  ", special=False)]
    return file(model, pre_tokenizer={**BYTE_LEVEL, "add_prefix_space": True}, added_tokens=tokens)


def llama3():
    """A pattern of the file's, bytes behind it, and whole words that need no merges."""
    model, n = byte_level(ignore_merges=True)
    model["vocab"]["Ġthen"] = n
    pattern = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    return file(model, pre_tokenizer=sequence(split({"Regex": pattern}, "Isolated"), {**BYTE_LEVEL, "use_regex": False}),
                added_tokens=[added(n + 1, "<s>")], post_processor={"type": "Sequence", "processors": [BYTE_LEVEL]})


def splits():
    """Every behaviour of Split, inverted too, with patterns and with texts."""
    model, n = byte_level()
    return file(model, pre_tokenizer=sequence(
        split({"Regex": r"\s"}, "MergedWithNext"), split({"String": "."}, "MergedWithPrevious"), split({"Regex": r"\p{N}"}, "Contiguous"),
        split({"Regex": "[^!]"}, "Removed", invert=True), split({"Regex": "(?=[A-Z])|^x"}, "Isolated"),
        {**BYTE_LEVEL, "use_regex": False}))


def fallback():
    """Characters as symbols; what the vocab lacks becomes bytes."""
    vocab = {"<unk>": 0, **{f"<0x{b:02X}>": b + 1 for b in range(256)}}
    for text in ["t", "h", "e", " ", "é", "中", "th", "the", " the", "  "]:
        vocab[text] = len(vocab)
    model = {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None, "end_of_word_suffix": None,
             "fuse_unk": True, "byte_fallback": True, "vocab": vocab, "merges": [["t", "h"], ["th", "e"], [" ", "the"], [" ", " "]]}
    decoder = {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]}
    return file(model, decoder=decoder, added_tokens=[added(len(vocab), "<s>")])


def unknown(fuse):
    vocab = {text: id for id, text in enumerate(["<unk>", "t", "h", "e", " ", "th", "the"])}
    model = {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None, "end_of_word_suffix": None,
             "fuse_unk": fuse, "byte_fallback": False, "vocab": vocab, "merges": ["t h", "th e"]}
    return file(model, decoder={"type": "Fuse"})


def spaced(**sections):
    """SentencePiece's kind, as Llama and Mistral have it: U+2581 for a blank, bytes for what is not there."""
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2, **{f"<0x{b:02X}>": b + 3 for b in range(256)}}
    merges = [["▁", "the"], ["▁", "t"], ["t", "h"], ["th", "e"], ["c", "a"], ["ca", "t"], ["▁", "cat"], ["▁", "▁"], ["▁▁", "▁▁"], ["1", "2"],
              [".", "the"], ["▁", "</s>"]]
    for text in ["▁", "t", "h", "e", "c", "a", "é", "中", "1", "2", "3", ".", "A", "B", *("".join(merge) for merge in merges)]:
        vocab.setdefault(text, len(vocab))
    model = {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None, "end_of_word_suffix": None,
             "fuse_unk": True, "byte_fallback": True, "ignore_merges": False, "vocab": vocab, "merges": [m for m in merges if m[1] != "</s>"]}
    decoder = chain("decoders", replace("▁", " "), {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0})
    tokens = [added(0, "<unk>"), added(1, "<s>"), added(2, "</s>"), added(len(vocab), "<sep>", normalized=True, special=False)]
    return file(model, **{"decoder": decoder, "added_tokens": tokens, **sections})


def chain(name, *steps):
    return {"type": "Sequence", name: list(steps)}


def replace(pattern, content):
    return {"type": "Replace", "pattern": {"String": pattern} if isinstance(pattern, str) else {"Regex": pattern[0]}, "content": content}


def metaspace(scheme, split, **more):
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split, **more}


def llama2():
    return spaced(normalizer=chain("normalizers", {"type": "Prepend", "prepend": "▁"}, replace(" ", "▁")))


def gemma():
    """Blanks are replaced, but none is put in front; a split that a text decides."""
    decoder = chain("decoders", replace("▁", " "), {"type": "ByteFallback"}, {"type": "Fuse"})
    return spaced(normalizer=replace(" ", "▁"), pre_tokenizer=split({"String": " "}, "MergedWithPrevious"), decoder=decoder)


def metaspaces():
    """Metaspace behind another step: what begins the text, and what begins a piece."""
    return spaced(pre_tokenizer=sequence(split({"Regex": r"\n"}, "Isolated"), metaspace("first", False)))


def normal():
    """Every normalizer, and decoders that work token by token."""
    decoder = chain("decoders", replace(["▁+"], " "), {"type": "Strip", "content": "t", "start": 1, "stop": 0}, {"type": "ByteFallback"}, {"type": "Fuse"})
    return spaced(normalizer=chain("normalizers", {"type": "NFKC"}, replace([r"\p{N}{2,}"], "12"), {"type": "Strip", "strip_left": True, "strip_right": False},
                                   {"type": "NFD"}, {"type": "Strip", "strip_left": False, "strip_right": True}, replace(" ", "▁")), decoder=decoder)


def forms():
    """What a device has too: normal forms by compatibility, numbers, a text put in front."""
    model, n = byte_level()
    return file(model, normalizer=chain("normalizers", {"type": "NFKD"}, {"type": "Prepend", "prepend": "the "}, {"type": "NFKC"}, replace("thé", "the")),
                pre_tokenizer=sequence({"type": "Digits", "individual_digits": True}, BYTE_LEVEL), added_tokens=[added(n, "<s>"), added(n + 1, "the <sep>")])


def digits():
    """Numbers as they stand together, and Metaspace between bytes."""
    model, n = byte_level()
    return file(model, pre_tokenizer=sequence({"type": "Digits", "individual_digits": False}, {**BYTE_LEVEL, "use_regex": False}))


# A normalized added token decodes to what it is looked for as, there; here, to its own text.
OWN_TEXTS = {("llama2", "a <sep> b"): "a<sep> b"}


def main():
    DIRECTORY.mkdir(exist_ok=True)
    made = {"gpt2": gpt2(), "flags": flags(), "llama3": llama3(), "splits": splits(), "fallback": fallback(),
            "unknown": unknown(False), "unknown-fused": unknown(True), "llama2": llama2(), "gemma": gemma(),
            "metaspaces": metaspaces(), "metaspace-always": spaced(pre_tokenizer=metaspace("always", True), decoder=metaspace("always", True)),
            "metaspace-first": spaced(pre_tokenizer=metaspace("first", True), decoder=metaspace("first", True)),
            "metaspace-never": spaced(pre_tokenizer=metaspace("never", True), decoder=metaspace("never", True)),
            "normal": normal(), "forms": forms(), "digits": digits()}
    for name, content in made.items():
        text = json.dumps(content, ensure_ascii=False)
        (DIRECTORY / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        tokenizer, lines = Tokenizer.from_str(text), []
        for case in TEXTS:
            ids = tokenizer.encode(case, add_special_tokens=False).ids
            said = tokenizer.decode(ids, skip_special_tokens=False)
            said = OWN_TEXTS.get((name, case), said)
            lines.append(json.dumps({"text": case, "ids": ids, "said": said}, ensure_ascii=False))
        (DIRECTORY / f"{name}.cases.json").write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
