"""Checkpoints of safetensors, tensor by tensor: bytes that are handed on as they are, and numbers."""
from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
import struct
import typing

import numpy as np

from mossc.errors import MosscError

MOST_HEADER = 100 << 20  # bytes
_WIDTHS = {"F32": 4, "BF16": 2, "F16": 2, "I8": 1, "U8": 1}
#: What a dtype of the language is called in a file. Blocks of 8 and 4 bits are several tensors, and are handed on only.
FILE_DTYPES = {"f32": "F32", "bf16": "BF16", "f16": "F16"}


@dataclasses.dataclass(frozen=True)
class Stored:
    """A tensor as a file holds it."""

    dtype: str  # "F32", "BF16", "F16", "I8", "U8"
    shape: tuple[int, ...]
    data: typing.Any  # its bytes, row-major, little endian

    def floats(self) -> np.ndarray:
        """float32 of its shape."""
        if self.dtype == "BF16":
            flat = (np.frombuffer(self.data, "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            flat = np.frombuffer(self.data, {"F32": "<f4", "F16": "<f2"}[self.dtype]).astype(np.float32)
        return flat.reshape(self.shape)


def store(values: np.ndarray, dtype: str = "F32") -> Stored:
    """Numbers as a tensor of that dtype, rounded to nearest even."""
    array = np.ascontiguousarray(values, np.float32)
    if dtype == "BF16":
        bits = array.view(np.uint32)
        rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    else:
        rounded = array.astype({"F32": "<f4", "F16": "<f2"}[dtype])
    return Stored(dtype, array.shape, rounded.tobytes())


def _wrong(path: pathlib.Path, what: str) -> MosscError:
    return MosscError("bad_weights", f"{path}: {what}")


def _header(path: pathlib.Path, file: np.ndarray) -> tuple[dict, int]:
    if len(file) < 8:
        raise _wrong(path, "not a safetensors file: it is shorter than 8 bytes")
    (size,) = struct.unpack("<Q", file[:8].tobytes())
    if size > min(MOST_HEADER, len(file) - 8):
        raise _wrong(path, "not a safetensors file: its header does not fit into it")
    try:
        header = json.loads(file[8:8 + size].tobytes())
    except (ValueError, RecursionError) as error:
        raise _wrong(path, f"not a safetensors file: {error}") from None
    if not isinstance(header, dict):
        raise _wrong(path, "not a safetensors file: its header is no map")
    return header, 8 + size


def _place(about: object, room: int) -> tuple[str, tuple[int, ...], int, int]:
    """(dtype, shape, first byte, end) of an entry of a header. ValueError: it is none, or of no dtype that this program takes, or goes past the
    file's `room` bytes."""
    try:
        dtype, shape, (first, end) = about["dtype"], tuple(about["shape"]), about["data_offsets"]
        right = all(type(n) is int and n >= 0 for n in (*shape, first, end)) and end - first == math.prod(shape) * _WIDTHS[dtype]
    except (KeyError, TypeError, ValueError):
        right = False
    if not right or end > room:
        raise ValueError
    return dtype, shape, first, end


class Checkpoint:
    """Tensors that are spread over files, which are mapped."""

    def __init__(self, paths: typing.Sequence[str | os.PathLike]) -> None:
        self.tensors: dict[str, Stored] = {}
        for path in map(pathlib.Path, paths):
            self._open(path)

    def _open(self, path: pathlib.Path) -> None:
        try:
            file = np.memmap(path, np.uint8, "r")
        except (OSError, ValueError) as error:
            raise MosscError("no_file", f"{path}: {getattr(error, 'strerror', None) or error}") from None
        header, begin = _header(path, file)
        for name, about in header.items():
            if name == "__metadata__":
                continue
            try:
                dtype, shape, first, end = _place(about, len(file) - begin)
            except ValueError:
                raise _wrong(path, f"tensor '{name}' has a dtype or a place that this program does not take") from None
            self.tensors[name] = Stored(dtype, shape, file[begin + first:begin + end])

    def floats(self, name: str) -> np.ndarray:
        """float32 of the tensor's shape. MosscError: it is missing, or is stored in blocks of 8 or 4 bits."""
        stored = self.tensors.get(name)
        if stored is not None and stored.dtype in FILE_DTYPES.values():
            return stored.floats()
        if stored is None and f"{name}.d" in self.tensors:
            raise MosscError("bad_weights", f"tensor '{name}' has 8 or 4 bits a weight: blocks are pruned as floats. "
                             "Import or train the model with weights.dtype bf16 or f32, and quantise what was pruned (`mossc quantize`)")
        raise MosscError("bad_weights", f"tensor '{name}' is missing")

    def parts(self, name: str) -> dict[str, Stored]:
        """The tensor as it lies in the files: itself, or the tensors that its blocks of 8 or 4 bits are made of, by name."""
        if name in self.tensors:
            return {name: self.tensors[name]}
        found = {f"{name}.{part}": self.tensors[f"{name}.{part}"] for part in ("q8", "q4", "d", "m", "s", "t") if f"{name}.{part}" in self.tensors}
        if not found:
            raise MosscError("bad_weights", f"tensor '{name}' is missing")
        return found


def write(path: str | os.PathLike, tensors: typing.Mapping[str, Stored], sync: bool = True) -> None:
    """A safetensors file."""
    header, at = {}, 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [at, at + len(tensor.data)]}
        at += len(tensor.data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(tensor.data)
        file.flush()
        if sync:
            os.fsync(file.fileno())
