"""The state of one sequence."""
from __future__ import annotations

import os
import typing

import numpy as np

from mossc._c import Handle, check, ffi, lib, path_bytes

if typing.TYPE_CHECKING:
    from mossc.model import Model


class State:
    """What a model knows of one sequence. `Model.state` makes one; it belongs to that model. One thread at a time uses a model and its states."""

    def __init__(self, model: Model, pointer: typing.Any) -> None:
        self.model = model
        self._handle = Handle("state", pointer, lib.moss_state_free, model._handle)

    @property
    def _c(self) -> typing.Any:
        return self._handle.pointer

    @property
    def position(self) -> int:
        """Tokens fed so far."""
        return lib.moss_state_position(self._c)

    @property
    def failed(self) -> bool:
        """Whether its last step failed: it is refused until it is reset or taken back."""
        return lib.moss_state_failed(self._c)

    @property
    def logits(self) -> np.ndarray | None:
        """float32 [vocab_size], a copy: after the last token, where its last step wanted them, or it was loaded or cloned with them. Else None."""
        pointer = lib.moss_state_logits(self._c)
        if pointer == ffi.NULL:
            return None
        return np.frombuffer(ffi.buffer(pointer, 4 * self.model.vocab_size), np.float32).copy()

    def reset(self) -> None:
        """Back to position 0."""
        lib.moss_state_reset(self._c)

    def clone(self) -> State:
        """A state of its own that goes on from here."""
        out = ffi.new("MossState **")
        check(lib.moss_state_clone(self._c, out))
        return State(self.model, out[0])

    def __copy__(self) -> State:
        return self.clone()

    def __deepcopy__(self, memo: dict) -> State:
        return self.clone()

    def save(self, path: str | os.PathLike) -> None:
        """Writes it to a file, which `Model.load_state` reads, on any CPU; the file appears under its name only when it is whole."""
        check(lib.moss_state_save(self._c, path_bytes(path)))

    def checkpoint(self) -> None:
        """Keeps a copy, for `rewind`."""
        check(lib.moss_state_checkpoint(self._c))

    def rewind(self, n: int) -> None:
        """Takes the last n tokens back, to the bit: of up to MOSS_REWIND (64) fed since `checkpoint`, or all of those fed since."""
        check(lib.moss_state_rewind(self._c, n))

    def close(self) -> None:
        """Frees its memory. It is also freed when Python drops it."""
        self._handle.release()

    def __enter__(self) -> State:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<mossc.State of {self.model.spec.name} at {self.position}>" if self._handle.is_open else "<mossc.State, closed>"
