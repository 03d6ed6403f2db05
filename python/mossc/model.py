"""Models that run."""
from __future__ import annotations

import os
import typing

import numpy as np

from mossc import weights as _weights
from mossc._c import Diags, Handle, check, ffi, int32_pointer, lib, path_bytes, strings, struct, text_of, tokens_array
from mossc.spec import Spec
from mossc.state import State
from mossc.tokenizer import Tokenizer


class Model:
    """A spec, compiled for this machine or a GPU, with its weights.

    spec: a Spec, or what makes one. weights: a path of safetensors or of `mossc pack`; several paths, over which the tensors are spread;
    a dict of arrays, name to float array of the tensor's shape (`tensors`), in float32 or what becomes it; None: fresh ones of `seed`.
    device: "cpu", "cuda", "cuda:N". threads: workers, 0: as many as the process may use CPUs. isa: of a CPU, "avx512", "avx2", "neon";
    None: the best there is. fast: of a GPU. cache: kernels are taken from and kept in the kernel cache.

    One thread at a time uses a model, its states and its tokenizer; the GIL is released while C works. Of the memory, all lasts as long
    as states and arrays over it live. MosscError.
    """

    def __init__(self, spec: typing.Any, weights: typing.Any = None, *, device: str = "cpu", threads: int = 0, isa: str | None = None,
                 fast: bool = False, seed: int = 0, cache: bool = True) -> None:
        self.spec = spec if isinstance(spec, Spec) else Spec(spec)
        self._compiled = self._compile(device, isa, fast, cache)
        self._handle = self._load(weights, threads, seed)
        self._tokenizer: Tokenizer | None = None

    def _compile(self, device: str, isa: str | None, fast: bool, cache: bool) -> Handle:
        texts = [ffi.new("char[]", text.encode()) if text else ffi.NULL for text in (device, isa)]
        options = struct("MosscCompileOptions", device=texts[0], isa=texts[1], fast=fast, no_cache=not cache)
        out = ffi.new("MosscCompiled **")
        with Diags() as diags:
            diags.check(lib.mossc_compile(self.spec._c, options, diags.pointer, out))
        return Handle(out[0], lib.mossc_compiled_free)

    def _load(self, given: typing.Any, threads: int, seed: int) -> Handle:
        options, out = struct("MossOptions", threads=threads), ffi.new("MossModel **")
        compiled = self._compiled.pointer
        with Diags() as diags:
            if given is None:
                error = lib.mossc_model_fresh(compiled, seed, options, diags.pointer, out)
            elif isinstance(given, typing.Mapping):
                elements = _weights.Elements(self._program, given)
                error = lib.mossc_model_from_memory(compiled, lib.py_MossTensorLookup, elements.context, options, diags.pointer, out)
            else:
                paths = [given] if isinstance(given, (str, os.PathLike)) else list(given)
                array, owners = strings([path_bytes(path) for path in paths])
                error = lib.mossc_model_open(compiled, array, len(owners), options, diags.pointer, out)
            diags.check(error)
        return Handle(out[0], lib.moss_model_free, self._compiled)

    @property
    def _c(self) -> typing.Any:
        return self._handle.pointer

    @property
    def _program(self) -> typing.Any:
        return lib.mossc_compiled_program(self._compiled.pointer)

    @property
    def vocab_size(self) -> int:
        """Logits of a token."""
        return lib.moss_program_vocab_size(self._program)

    @property
    def max_positions(self) -> int:
        """Tokens of a sequence, at most; 0: no bound."""
        return lib.moss_program_max_positions(self._program)

    @property
    def max_rows(self) -> int:
        """Tokens of a step, at most, all sequences together."""
        return lib.moss_program_max_rows(self._program)

    @property
    def threads(self) -> int:
        """Workers."""
        return lib.moss_model_threads(self._c)

    @property
    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of each tensor that a checkpoint must hold."""
        return _weights.tensors(self._program)

    @property
    def tokenizer(self) -> Tokenizer:
        """That which the spec names; opened when it is first asked for."""
        if self._tokenizer is None:
            self._tokenizer = Tokenizer(self.spec)
        return self._tokenizer

    def state(self) -> State:
        """A new sequence, at position 0."""
        out = ffi.new("MossState **")
        check(lib.moss_state_create(self._c, out))
        return State(self, out[0])

    def load_state(self, path: str | os.PathLike) -> State:
        """A sequence that `State.save` wrote: of this spec and these weights."""
        out = ffi.new("MossState **")
        check(lib.moss_state_load(self._c, path_bytes(path), out))
        return State(self, out[0])

    def _step(self, state: State, tokens: np.ndarray, want: int) -> None:
        """One step of one sequence. tokens: int32 [1 … max_rows]."""
        segment = ffi.new("MossSegment *", {"state": state._c, "tokens": int32_pointer(tokens), "count": len(tokens), "logits": want})
        check(lib.moss_step(self._c, segment, 1))

    def _tokens(self, text: typing.Any) -> np.ndarray:
        return tokens_array(self.tokenizer.encode(text) if isinstance(text, (str, bytes)) else text)

    def feed(self, state: State, tokens: typing.Any) -> None:
        """Feeds a sequence: ids [n], or a text. The state then has logits. Ctrl-C ends it between steps of `max_rows` tokens, with those before
        it fed."""
        array = self._tokens(tokens)
        for first in range(0, len(array), self.max_rows):
            last = first + self.max_rows >= len(array)
            self._step(state, array[first:first + self.max_rows], lib.MOSS_LAST_LOGITS if last else lib.MOSS_NO_LOGITS)

    def logits(self, tokens: typing.Any, state: State | None = None, last_only: bool = False) -> np.ndarray:
        """Feeds ids [T], or a text, and gives the logits after each of them: float32 [T, vocab_size]; with last_only, after the last:
        float32 [1, vocab_size]. state: the sequence to go on with; None: a new one."""
        array = self._tokens(tokens)
        if last_only and len(array):
            own = state or self.state()
            self.feed(own, array)
            return own.logits[None]
        out = np.empty((0 if last_only else len(array), self.vocab_size), np.float32)
        state = state or self.state()
        for first in range(0, len(array), self.max_rows):
            piece = array[first:first + self.max_rows]
            self._step(state, piece, lib.MOSS_ALL_LOGITS)
            for i in range(len(piece)):
                out[first + i] = np.frombuffer(ffi.buffer(lib.moss_logits(self._c, i), 4 * self.vocab_size), np.float32)
        return out

    def hidden(self, tokens: typing.Any, state: State | None = None) -> np.ndarray:
        """Feeds ids [T], or a text, and gives the residual stream at each of them: float32 [blocks + 1, T, d_model], before each block and
        after the last, before the final norm. state: the sequence to go on with; None: a new one. MosscError: the model is on a GPU."""
        array, blocks = self._tokens(tokens), lib.moss_program_blocks(self._program)
        width = lib.moss_program_width(self._program)
        out = np.empty((blocks + 1, len(array), width), np.float32)
        state = state or self.state()
        check(lib.moss_model_keep_hidden(self._c, True))
        try:
            for first in range(0, len(array), self.max_rows):
                piece = array[first:first + self.max_rows]
                self._step(state, piece, lib.MOSS_NO_LOGITS)
                for block in range(blocks + 1):
                    rows = ffi.buffer(lib.moss_hidden(self._c, block), 4 * len(piece) * width)
                    out[block, first:first + len(piece)] = np.frombuffer(rows, np.float32).reshape(len(piece), width)
        finally:
            check(lib.moss_model_keep_hidden(self._c, False))
        return out

    def close(self) -> None:
        """Frees the model, once its states and the arrays over its memory are gone too. It is also freed when Python drops it."""
        self._handle.release()
        self._compiled.release()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<mossc.Model {self.spec.name}, {text_of(lib.moss_program_name(self._program))}>"
