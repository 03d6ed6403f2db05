"""The C library from Python: errors as exceptions, ownership of C objects, arrays over C memory. Private to the package."""
from __future__ import annotations

import os
import typing

import numpy as np

from mossc._native import ffi, lib
from mossc.errors import Message, MosscError

# Names of the members of a C enum, without their common beginning: {0: "ok", 1: "bad_weights", …}.
CODES = {value: name.removeprefix("MOSS_").lower() for value, name in ffi.typeof("MossCode").elements.items()}
SEVERITIES = {value: name.removeprefix("MOSSC_").lower() for value, name in ffi.typeof("MosscSeverity").elements.items()}


def text_of(pointer: typing.Any) -> str:
    """A C string; what is not UTF-8 in it is replaced."""
    return ffi.string(pointer).decode("utf-8", "replace")


def path_bytes(path: str | os.PathLike) -> bytes:
    """A path as the system takes it."""
    return os.fsencode(path)


def struct(name: str, **values: typing.Any) -> typing.Any:
    """A C struct of `name`, zero but for `values`; its member `size`, where it has one, says how long it is."""
    out = ffi.new(name + " *")
    if any(member == "size" for member, _ in ffi.typeof(name).fields):
        out.size = ffi.sizeof(name)
    for member, value in values.items():
        setattr(out, member, value)
    return out


def strings(what: str, texts: typing.Sequence[bytes]) -> typing.Any:
    """const char *[n] of these texts, and what keeps them alive: (array, owners). what: names them in the error about a NUL, where C would
    see a text's end."""
    for text in texts:
        if b"\0" in text:
            raise ValueError(f"{what}: expected texts without NUL, not {text.decode(errors='replace')!r}")
    owners = [ffi.new("char[]", text) for text in texts]
    return ffi.new("char *[]", owners), owners


class Diags:
    """A MosscDiags for the duration of a call."""

    def __enter__(self) -> Diags:
        self.pointer = lib.mossc_diags_create()
        if self.pointer == ffi.NULL:
            raise MemoryError
        return self

    def __exit__(self, *_: object) -> None:
        lib.mossc_diags_free(self.pointer)

    def messages(self) -> list[Message]:
        out = []
        for i in range(lib.mossc_diags_count(self.pointer)):
            d = lib.mossc_diags_at(self.pointer, i)
            out.append(Message(SEVERITIES[d.severity], text_of(d.code), text_of(d.path), d.line, d.column, d.length,
                               text_of(d.message), text_of(d.hint)))
        return out

    def check(self, error: typing.Any) -> None:
        """Raises what a MossError says, with these messages."""
        check(error, self.messages())


def check(error: typing.Any, messages: typing.Sequence[Message] = ()) -> None:
    """Raises what a MossError says, if it is one."""
    if error.code == lib.MOSS_OK:
        return
    raise MosscError(CODES[error.code], text_of(error.text), messages)


class Handle:
    """A C object with its free function. Objects that it needs are kept until it is gone, whatever order Python finds them in: it is
    freed when it was released and the last that needs it is gone too. name: what messages call it."""

    def __init__(self, name: str, pointer: typing.Any, free: typing.Callable[[typing.Any], None], *needs: Handle) -> None:
        self._name, self._pointer, self._free, self._needs = name, pointer, free, needs
        self._users, self._open = 1, True
        for other in needs:
            other._users += 1

    @property
    def pointer(self) -> typing.Any:
        if not self._open:
            raise ValueError(f"the {self._name} was closed")
        return self._pointer

    @property
    def is_open(self) -> bool:
        return self._open

    def release(self) -> None:
        """The owner's last word; again does nothing."""
        if self._open:
            self._open = False
            self._leave()

    def _leave(self) -> None:
        self._users -= 1
        if self._users == 0:
            self._free(self._pointer)
            for other in self._needs:
                other._leave()

    def __del__(self) -> None:
        if getattr(self, "_open", False):
            self.release()


class Callbacks:
    """What C gives back to callbacks as their context. An exception in one, whose `onerror` is keep_error, waits for the end of the call."""

    error: BaseException | None = None

    def raise_error(self) -> None:
        error, self.error = self.error, None
        if error is not None:
            raise error


def keep_error(exception: typing.Any, error: BaseException, traceback: typing.Any) -> None:
    """`onerror` of a callback whose first argument is called `context`: the handle of a Callbacks."""
    ffi.from_handle(traceback.tb_frame.f_locals["context"]).error = error


def tokens_array(tokens: typing.Any) -> np.ndarray:
    """int32 [n], contiguous, of any integers."""
    array = np.asarray(tokens)
    if array.ndim != 1:
        raise ValueError(f"tokens are one sequence of ids, not an array of shape {array.shape}")
    if array.size == 0:
        return np.empty(0, np.int32)
    if array.dtype.kind not in "iu":
        raise TypeError(f"tokens are integers, not {array.dtype}")
    if array.min() < -2**31 or array.max() >= 2**31:
        raise ValueError("a token is out of the range of int32")
    return np.ascontiguousarray(array, np.int32)


def int32_pointer(array: np.ndarray) -> typing.Any:
    """const int32_t * of a contiguous int32 array, which must live as long."""
    return ffi.cast("const int32_t *", array.ctypes.data)
