"""Checkpoint folders for tests, made and changed: tiny ones of random numbers, and copies of those in tests/golden/data."""
import json
import pathlib
import shutil
import sys

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "reference"))
sys.path.insert(0, str(ROOT / "tests" / "cli"))
from files import read_safetensors, write_safetensors  # noqa: E402

KEPT = ROOT / "tests" / "golden" / "data"


def make(m, name, config, tensors, **texts):
    """A folder in the scratch directory of m (harness.Mossc). texts: other files, name without suffix -> JSON."""
    folder = m.directory / name
    folder.mkdir()
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    write_safetensors(folder / "model.safetensors", {name: np.ascontiguousarray(values) for name, values in tensors.items()})
    for file, content in texts.items():
        (folder / f"{file}.json").write_text(json.dumps(content))
    return folder


def kept(m, name, **keys):
    """A copy of a folder in tests/golden/data, with keys of its config changed (None: removed)."""
    folder = m.directory / name
    shutil.copytree(KEPT / name, folder)
    change(folder, **keys)
    return folder


def change(folder, file="config.json", **keys):
    path = folder / file
    config = json.loads(path.read_text())
    for key, value in keys.items():
        config.pop(key, None)
        if value is not None:
            config[key] = value
    path.write_text(json.dumps(config))


def tensors_of(folder):
    return {name: values.copy() for name, values in read_safetensors(folder / "model.safetensors").items()}


def put(folder, tensors):
    write_safetensors(folder / "model.safetensors", tensors)


class Drawn:
    """Random tensors by name, as they are asked for; float64 of what the file holds."""

    def __init__(self, seed):
        self.rng, self.tensors = np.random.default_rng(seed), {}

    def __call__(self, name, *shape, near=0.0, scale=None):
        if name not in self.tensors:
            scale = scale if scale is not None else 1 / np.sqrt(shape[-1]) if len(shape) > 1 else 0.2
            self.tensors[name] = (near + scale * self.rng.standard_normal(shape)).astype(np.float32)
        return self.tensors[name].astype(np.float64)


# ---- tokenizers


def added(vocab, count):
    return [{"id": i, "content": vocab[i], "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True} for i in range(count)]


def llama_tokenizer():
    """SentencePiece's kind as Hugging Face writes it: for each token all pairs that make it, the token of the highest score first."""
    vocab = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", "a", "b", "c", "ab", "\u2581a", "\u2581ab", "abc"]
    merges = ["a b", "\u2581 a", "\u2581a b", "\u2581 ab", "ab c"]
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added(vocab, 3), "pre_tokenizer": None, "post_processor": None,
            "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"}, {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
            "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
                                                         {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
            "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": True,
                      "byte_fallback": True, "ignore_merges": False, "vocab": {text: i for i, text in enumerate(vocab)}, "merges": merges}}  # fmt: skip


def characters_of_bytes():
    """GPT-2's characters for bytes 0 to 255."""
    prints = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in prints else chr(next(others)) for byte in range(256)]


def bytes_tokenizer(pattern=None):
    """GPT-2's kind: bytes as characters and some merges; three special tokens in front. 276 tokens. pattern: of words, else ByteLevel's."""
    merges = ["t h", "th e", "\u0120 a", "\u0120 the", "i n", "e r", "\u0120 w", "o u", "\u0120a n", "\u0120an d", "1 2", "12 3", "\u00c3 \u00a9", "h \u00c3\u00a9",
              "\u0120 \u0120", "\u010a \u010a", "' s"]  # fmt: skip
    vocab = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *characters_of_bytes(), *(pair.replace(" ", "") for pair in merges)]
    bytes_step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": not pattern}
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added(vocab, 3), "normalizer": None, "post_processor": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, bytes_step]} if pattern else bytes_step,
            "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False,
                      "byte_fallback": False, "ignore_merges": False, "vocab": {text: i for i, text in enumerate(vocab)}, "merges": merges}}  # fmt: skip


# A tokenizer.json, as small as one can be.
TOKENIZER = {"added_tokens": [], "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}, "decoder": {"type": "Fuse"}}


def imported(m, folder, *options, out="out"):
    """The text of the spec."""
    m.run("import", folder, "-o", out, "--verify", *options)
    return (m.directory / out / "spec.yaml").read_text()


def refused(m, folder, *words, options=()):
    """An import that must fail, say these words, and leave nothing."""
    error = m.error("import", folder, "-o", "wrong", *options)
    for word in words:
        assert word in error, f"{word!r} is not in\n{error}"
    left = [name for name in m.left() if name.startswith("wrong")]
    assert not left, left
    return error


def header(path):
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size])
