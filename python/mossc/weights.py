"""Weights for a model: what of Python's becomes what the C library takes."""
from __future__ import annotations

import typing

import numpy as np

from mossc._c import Callbacks, ffi, keep_error, lib, text_of
from mossc.errors import MosscError


def tensors(program: typing.Any) -> dict[str, tuple[int, ...]]:
    """Name and shape of each tensor that a program's checkpoint must hold."""
    found = (lib.moss_program_tensor(program, i) for i in range(lib.moss_program_tensors(program)))
    return {text_of(t.name): tuple(t.shape[0:t.rank]) for t in found}


def _readable(values: typing.Any) -> typing.Any:
    """What NumPy reads: of a tensor of torch, which may be bf16, want a gradient or lie on a GPU, its numbers in float32."""
    return values.detach().float().cpu().numpy() if hasattr(values, "detach") else values


class Elements(Callbacks):
    """Tensors of a dict, and float32 copies of what is not so already, for the duration of mossc_model_from_memory."""

    def __init__(self, program: typing.Any, given: typing.Mapping[str, typing.Any]) -> None:
        wanted = tensors(program)
        wrong = [f"tensor '{name}' is missing" for name in wanted if name not in given]
        wrong += [f"tensor '{name}' has no place in this model" for name in given if name not in wanted]
        self._given, self._wanted = given, wanted
        for name in wanted.keys() & given.keys():
            shape = tuple(np.shape(given[name]))
            if shape != wanted[name]:
                wrong.append(f"tensor '{name}' has shape {list(shape)}, expected {list(wanted[name])}")
        if wrong:
            raise MosscError("bad_weights", "\n".join(sorted(wrong)))
        self._arrays: dict[str, np.ndarray] = {}

    def pointer(self, name: str) -> typing.Any:
        if name not in self._wanted:
            return ffi.NULL
        array = self._arrays[name] = np.ascontiguousarray(_readable(self._given[name]), np.float32)
        return ffi.cast("const float *", array.ctypes.data)


@ffi.def_extern(name="py_MossTensorLookup", error=ffi.NULL, onerror=keep_error)
def _look_up(context: typing.Any, name: typing.Any) -> typing.Any:
    return ffi.from_handle(context).pointer(text_of(name))
