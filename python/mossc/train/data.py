"""Tokens from text and token files, memory-mapped; streams of windows."""
from __future__ import annotations

import hashlib
import json
import pathlib
import re

import numpy as np

import mossc
from mossc.files import replace

PIECE = 1 << 20  # bytes of text tokenized at a time, about
SHARD = 1 << 26  # tokens of a shard
RAW = {".u16": "<u2", ".u32": "<u4"}
WORD = re.compile(rb"(?!\xc2|\xe1\x9a|\xe2\x80|\xe2\x81|\xe3\x80\x80)\S")  # what is no white space of Unicode, in UTF-8


class Tokens:
    """Token ids of several arrays, one after the other; `bytes`: of the text they stand for, None: unknown."""

    def __init__(self, parts: list[np.ndarray], bytes_: int | None):
        self.parts = parts
        self.ends = np.cumsum([len(part) for part in parts])
        self.bytes = bytes_

    def __len__(self) -> int:
        return int(self.ends[-1])

    def at(self, begin: int, count: int) -> np.ndarray:
        """int64 [count], from the start again behind the end."""
        out, filled = np.empty(count, np.int64), 0
        while filled < count:
            where = (begin + filled) % len(self)
            part = int(np.searchsorted(self.ends, where, side="right"))
            inside = where - (int(self.ends[part - 1]) if part else 0)
            taken = self.parts[part][inside : inside + count - filled]
            out[filled : filled + len(taken)] = taken
            filled += len(taken)
        return out


def open_tokens(paths: list[str], spec: mossc.Spec, cache: pathlib.Path, make: bool = True) -> Tokens:
    """The tokens of text and token files. Text of a tokenizer that is not bytes is tokenized into shards below `cache`, once; with
    make=False they must be there.

    ValueError: a file is too short, or holds ids that the model has not."""
    opened = [_open(pathlib.Path(path), spec, cache, make) for path in paths]
    parts = [part for parts, _ in opened for part in parts if len(part)]
    sizes = [size for _, size in opened]
    if not parts:
        raise ValueError(f"{', '.join(paths)}: there are no tokens")
    for part in parts:
        if part.dtype != np.uint8 or spec.vocab_size < 256:
            _check_ids(part, spec.vocab_size)
    return Tokens(parts, None if None in sizes else sum(sizes))


def _check_ids(part: np.ndarray, vocab_size: int) -> None:
    """ValueError: one is not of the vocabulary."""
    name = getattr(part, "filename", None) or "the data"
    for at in range(0, len(part), SHARD):
        least, most = int(part[at : at + SHARD].min()), int(part[at : at + SHARD].max())
        if least < 0 or most >= vocab_size:
            raise ValueError(f"{name}: token {least if least < 0 else most} is outside the vocabulary of {vocab_size}")


def _open_array(path: pathlib.Path) -> np.ndarray:
    try:
        out = np.load(path, mmap_mode="r")
    except ValueError as error:  # no .npy, or one of objects
        raise ValueError(f"{path}: no array of token ids: {error}") from None
    if out.dtype.kind not in "iu" or out.ndim != 1:
        raise ValueError(f"{path}: expected token ids, integers in one dimension, got {out.dtype} of shape {out.shape}")
    return out


def _open_raw(path: pathlib.Path) -> np.ndarray:
    size, width = path.stat().st_size, np.dtype(RAW[path.suffix]).itemsize
    if size % width:
        raise ValueError(f"{path}: expected token ids of {width} bytes each, got {size} bytes")
    return np.memmap(path, RAW[path.suffix], "r") if size else np.empty(0, RAW[path.suffix])


def _open(path: pathlib.Path, spec: mossc.Spec, cache: pathlib.Path, make: bool) -> tuple[list[np.ndarray], int | None]:
    """(arrays, bytes of text)."""
    if path.suffix == ".npy":
        return [_open_array(path)], None
    if path.suffix in RAW:
        return [_open_raw(path)], None
    size = path.stat().st_size
    if size == 0:
        return [], 0
    if spec.resolved["tokenizer"]["kind"] == "bytes":
        return [np.memmap(path, np.uint8, "r")], size
    return _shards(path, spec, cache, make), size


def _shards(path: pathlib.Path, spec: mossc.Spec, cache: pathlib.Path, make: bool) -> list[np.ndarray]:
    stat, tokenizer = path.stat(), spec.resolved["tokenizer"]
    key = json.dumps([str(path.resolve()), stat.st_size, stat.st_mtime_ns, tokenizer])
    directory = cache / hashlib.sha256(key.encode()).hexdigest()[:16]
    index = directory / "index.json"
    if not index.exists():
        if not make:
            raise ValueError(f"{path}: its tokens are not at {directory}")
        _tokenize(path, spec, directory)
    told = json.loads(index.read_text())
    return [np.memmap(directory / name, told["dtype"], "r") for name in told["shards"]]


def _tokenize(path: pathlib.Path, spec: mossc.Spec, directory: pathlib.Path) -> None:
    """Shards and, last, their index."""
    directory.mkdir(parents=True, exist_ok=True)
    dtype, tokenizer = "<u2" if spec.vocab_size <= 1 << 16 else "<u4", mossc.Tokenizer(spec)
    names, held, count = [], [], 0

    def write() -> None:
        nonlocal held, count
        names.append(f"{len(names):05d}.bin")
        replace(directory / names[-1], lambda file: np.concatenate(held).astype(dtype).tofile(file))
        held, count = [], 0

    before = tokenizer.encode(b"\n", part=True, behind=True)
    for i, text in enumerate(_pieces(path)):
        try:
            if i == 0:
                ids = np.asarray(tokenizer.encode(text))
            else:  # with the newline before it: a normalizer may put a blank before any text
                ids = np.asarray(tokenizer.encode(b"\n" + text, part=True, behind=True)[len(before):])
        except mossc.MosscError as error:  # no UTF-8
            raise ValueError(f"{path}: piece {i}, of about {PIECE} bytes: {error}") from None
        held.append(ids)
        count += len(ids)
        if count >= SHARD:
            write()
    if count:
        write()
    replace(directory / "index.json", lambda file: file.write(json.dumps({"text": str(path), "dtype": dtype, "shards": names}).encode()))


def _pieces(path: pathlib.Path):
    """Bytes of the text, cut where tokens end."""
    with open(path, "rb") as file:
        held: list[bytes] = []  # what no cut is in, joined once: a text may be one line
        while block := file.read(PIECE):
            cut = _cut(block)
            if cut:
                yield b"".join([*held, block[:cut]])
                held.clear()
            held.append(block[cut:])
        if rest := b"".join(held):
            yield rest


def _cut(block: bytes) -> int:
    """Behind the last newline that something visible follows: no tokenizer of the language has a token across it, while runs of white space
    may be one. 0: there is none."""
    at = block.rfind(b"\n", 0, max(0, len(block) - 3))
    while at >= 0 and not WORD.match(block, at + 1):
        at = block.rfind(b"\n", 0, at)
    return at + 1


class Streams:
    """The tokens as `batch` streams side by side: window i of rows first..end of them."""

    def __init__(self, tokens: Tokens, batch: int, window: int, first: int, end: int):
        if len(tokens) < window + 1:
            raise ValueError(f"the data has {len(tokens)} tokens, fewer than a window of {window} and its next")
        self.tokens, self.window = tokens, window
        self.starts = [row * (len(tokens) // batch) for row in range(first, end)]

    def __getitem__(self, i: int) -> np.ndarray:
        """int64 [rows, window + 1]; the last of each row is the first of its next window."""
        return np.stack([self.tokens.at(start + i * self.window, self.window + 1) for start in self.starts])
