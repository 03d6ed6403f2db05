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
        most = max(int(part[at : at + SHARD].max()) for at in range(0, len(part), SHARD)) if part.dtype != np.uint8 or spec.vocab_size < 256 else 0
        if most >= spec.vocab_size:
            raise ValueError(f"{getattr(part, 'filename', 'the data')}: token {most} is beyond the vocabulary of {spec.vocab_size}")
    return Tokens(parts, None if None in sizes else sum(sizes))


def _open(path: pathlib.Path, spec: mossc.Spec, cache: pathlib.Path, make: bool) -> tuple[list[np.ndarray], int | None]:
    """(arrays, bytes of text)."""
    if path.suffix == ".npy":
        return [np.load(path, mmap_mode="r").reshape(-1)], None
    if path.suffix in RAW:
        return [np.memmap(path, RAW[path.suffix], "r")], None
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
        if i == 0:
            ids = np.asarray(tokenizer.encode(text))
        else:  # with the newline before it: a normalizer may put a blank before any text
            ids = np.asarray(tokenizer.encode(b"\n" + text, part=True, behind=True)[len(before):])
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
        rest = b""
        while block := file.read(PIECE):
            block = rest + block
            cut = _cut(block)
            rest = block[cut:]
            if cut:
                yield block[:cut]
        if rest:
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
