"""Models that run."""
from __future__ import annotations

import dataclasses
import os
import typing

import numpy as np

from mossc import weights as _weights
from mossc._c import Diags, Handle, check, ffi, int32_pointer, lib, path_bytes, strings, struct, text_of, tokens_array
from mossc.chat import Chat
from mossc.errors import MosscError
from mossc.generate import Batch, Defaults, Generation, Mask, begin, check_biases, defaults_of, seed_of, stop_texts
from mossc.grammar import mask_of
from mossc.spec import Spec
from mossc.state import State
from mossc.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class Score:
    """How probable each of T tokens was after those before it."""

    logprobs: np.ndarray  # float64 [T], natural; NaN for the first of a new sequence
    best: np.ndarray  # int32 [T], the most probable token there; -1 where logprobs is NaN

    @property
    def total(self) -> float:
        """The sum of those that are known."""
        return float(np.nansum(self.logprobs))


class Model:
    """A spec, compiled for this machine or a GPU, with its weights.

    spec: a Spec, or what makes one; of a module of mossc.torch, its weights are taken where none are given. weights: a path of safetensors
    or of `mossc pack`; several paths, over which the tensors are spread; a dict of arrays or of torch's tensors, name to floats of the
    tensor's shape (`tensors`), in float32 or what becomes it; None: those that lie in the directory of an import, or fresh ones of `seed`
    where it is given or there are none.
    device: "cpu", "cuda", "cuda:N". threads: workers, 0: as many as the process may use CPUs. isa: of a CPU, "avx512", "avx2", "neon";
    None: the best there is. fast: of a GPU, or of a CPU with AVX-512 BF16 or ARM's bf16 (another one is an error). cache: kernels are taken from and kept in the kernel cache.

    One thread at a time uses a model, its states and its tokenizer; the GIL is released while C works. Of the memory, all lasts as long
    as states and arrays over it live. MosscError.
    """

    def __init__(self, spec: typing.Any, weights: typing.Any = None, *, device: str = "cpu", threads: int = 0, isa: str | None = None,
                 fast: bool = False, seed: int | None = None, cache: bool = True) -> None:
        self.spec = spec if isinstance(spec, Spec) else Spec(spec)
        if weights is None and seed is None:
            weights = spec.state_dict() if hasattr(spec, "state_dict") else self.spec.weights
        self._compiled = self._compile(device, isa, fast, cache)
        self._handle = self._load(weights, threads, seed or 0)
        self._tokenizer: Tokenizer | None = None
        self._grammar_tokenizer: typing.Any = None
        #: How it makes text where `generate` is told nothing: of the generation.yaml beside the spec, else mossc's own.
        self.defaults: Defaults = defaults_of(self.spec)

    def _compile(self, device: str, isa: str | None, fast: bool, cache: bool) -> Handle:
        texts = [ffi.new("char[]", text.encode()) if text else ffi.NULL for text in (device, isa)]
        options = struct("MosscCompileOptions", device=texts[0], isa=texts[1], fast=fast, no_cache=not cache)
        out = ffi.new("MosscCompiled **")
        with Diags() as diags:
            diags.check(lib.mossc_compile(self.spec._c, options, diags.pointer, out))
        return Handle("model", out[0], lib.mossc_compiled_free)

    def _load(self, given: typing.Any, threads: int, seed: int) -> Handle:
        if threads < 0:
            raise ValueError(f"threads: expected a number from 0, not {threads}")
        options, out = struct("MossOptions", threads=threads), ffi.new("MossModel **")
        compiled = self._compiled.pointer
        with Diags() as diags:
            if given is None:
                error = lib.mossc_model_fresh(compiled, seed, options, diags.pointer, out)
            elif isinstance(given, typing.Mapping):
                elements = _weights.Elements(self._program, given)
                context = ffi.new_handle(elements)
                error = lib.mossc_model_from_memory(compiled, lib.py_MossTensorLookup, context, options, diags.pointer, out)
                elements.raise_error()
            else:
                paths = [given] if isinstance(given, (str, os.PathLike)) else list(given)
                array, owners = strings("weights", [path_bytes(path) for path in paths])
                error = lib.mossc_model_open(compiled, array, len(owners), options, diags.pointer, out)
            diags.check(error)
        return Handle("model", out[0], lib.moss_model_free, self._compiled)

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
        """That which the spec names, with `defaults.stop_ids` among its ends; opened when it is first asked for."""
        if self._tokenizer is None:
            tokenizer = Tokenizer(self.spec)
            if self.defaults.stop_ids:
                tokenizer.set_ends(list(dict.fromkeys((*tokenizer.ends, *self.defaults.stop_ids))))
            self._tokenizer = tokenizer
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

    def _tokens(self, text: typing.Any) -> np.ndarray:
        return tokens_array(self.tokenizer.encode(text) if isinstance(text, (str, bytes)) else text)

    def _pieces(self, tokens: np.ndarray) -> typing.Iterator[tuple[int, np.ndarray]]:
        """(where it begins, int32 [1 … max_rows]): between two of them Python looks for Ctrl-C."""
        if tokens.size and (tokens.min() < 0 or tokens.max() >= self.vocab_size):  # C says it; but before the first piece is fed
            check(lib.moss_feed(self._c, self.state()._c, int32_pointer(tokens), len(tokens), 0))
        for first in range(0, len(tokens), self.max_rows):
            yield first, tokens[first:first + self.max_rows]

    def feed(self, state: State, tokens: typing.Any) -> None:
        """Feeds a sequence: ids [n], or a text. The state then has logits, which it keeps. Ctrl-C ends it between steps of `max_rows` tokens,
        with those before it fed."""
        array = self._tokens(tokens)
        for first, piece in self._pieces(array):
            self.step([(state, piece, "last" if first + len(piece) == len(array) else None)])

    def step(self, segments: typing.Sequence[tuple[State, typing.Any, str | None]]) -> list[np.ndarray | None]:
        """One step of several sequences at once: a batch. Each segment is (state, ids [n] or a text, wanted), at most `max_rows` tokens in
        all; wanted: "all", "last" or None. Gives for each the logits, float32 [n, vocab_size] or [1, vocab_size], or None.

        The arrays are views of one that C has written into; it lives as long as they do."""
        kinds = {"all": lib.MOSS_ALL_LOGITS, "last": lib.MOSS_LAST_LOGITS, None: lib.MOSS_NO_LOGITS}
        for *_, want in segments:
            if want not in kinds:
                raise ValueError(f"wanted: expected 'all', 'last' or None, not {want!r}")
        tokens = [self._tokens(ids) for _, ids, _ in segments]
        counts = [0 if want is None else 1 if want == "last" else len(ids) for ids, (_, _, want) in zip(tokens, segments)]
        array = ffi.new("MossSegment[]", [{"state": state._c, "tokens": int32_pointer(ids), "count": len(ids), "logits": kinds[want]}
                                          for (state, _, want), ids in zip(segments, tokens)])
        rows = self._rows(sum(counts))
        check(lib.moss_step_into(self._c, array, len(segments), self._address(rows)))
        ends = np.cumsum([0, *counts])
        return [None if want is None else rows[ends[i]:ends[i + 1], :self.vocab_size] for i, (_, _, want) in enumerate(segments)]

    def _rows(self, n: int) -> np.ndarray:
        """float32 [n, moss_program_logits_stride], 64-aligned, for moss_step_into."""
        stride = lib.moss_program_logits_stride(self._program)
        memory = np.empty(n * stride + 16, np.float32)
        first = -memory.ctypes.data % 64 // 4
        return memory[first:first + n * stride].reshape(n, stride)

    @staticmethod
    def _address(rows: np.ndarray) -> typing.Any:
        return ffi.cast("float *", rows.ctypes.data) if len(rows) else ffi.NULL

    def logits(self, tokens: typing.Any, state: State | None = None, last_only: bool = False) -> np.ndarray:
        """Feeds ids [T], or a text, and gives the logits after each of them: float32 [T, vocab_size]; with last_only, after the last:
        float32 [1, vocab_size]. state: the sequence to go on with; None: a new one.

        C writes them where the array has them: it is the caller's, and nothing changes it later. (Its rows may lie a few floats apart.)"""
        array = self._tokens(tokens)
        state = state or self.state()
        if last_only and len(array):
            *_, last = self._pieces(array)
            self.feed(state, array[:last[0]])
            return self.step([(state, last[1], "last")])[0]
        rows = self._rows(0 if last_only else len(array))
        for first, piece in self._pieces(array):
            segment = ffi.new("MossSegment *", {"state": state._c, "tokens": int32_pointer(piece), "count": len(piece),
                                                "logits": lib.MOSS_ALL_LOGITS})
            check(lib.moss_step_into(self._c, segment, 1, self._address(rows[first:])))
        return rows[:, :self.vocab_size]

    def score(self, tokens: typing.Any, state: State | None = None) -> Score:
        """Feeds ids [T], or a text, and says how probable each was. state: the sequence to go on with, whose logits the first is judged by;
        None: a new one."""
        array = self._tokens(tokens)
        state = state or self.state()
        out = Score(np.empty(len(array)), np.empty(len(array), np.int32))
        for first, piece in self._pieces(array):
            logprobs, best = (ffi.cast(kind, part.ctypes.data) for kind, part in (("double *", out.logprobs[first:]), ("int32_t *", out.best[first:])))
            check(lib.mossc_score(self._c, state._c, int32_pointer(piece), len(piece), logprobs, best))
        return out

    def generate(self, prompt: typing.Any = None, *, state: State | None = None, seen: typing.Any = (), max_tokens: int | None = 256,
                 temperature: float | None = None, top_k: int | None = None, top_p: float | None = None, min_p: float | None = None,
                 repeat_penalty: float | None = None, presence_penalty: float = 0, frequency_penalty: float = 0, penalty_window: int = 0,
                 logit_bias: typing.Mapping[int, float] | None = None, seed: int | None = 0, stop: str | typing.Sequence[str] | None = (),
                 ignore_eos: bool = False, logprobs: int | None = None, json_schema: typing.Any = None, regex: str | None = None,
                 grammar: str | None = None, mask: Mask | None = None, whole: bool = False) -> Generation:
        """Feeds a prompt, ids or a text, and gives an iterator over what follows: pieces with a token and its text, in characters.

        state: the sequence to go on with; None: a new one. Without a prompt it goes on from the state's logits. seen: what that state was fed
        already, ids or a text, which a state does not keep: penalties then count it too. max_tokens: None: up to an end.
        temperature (0: the most probable token), top_k (0: all), top_p, min_p, repeat_penalty: None: those of `defaults`.
        penalty_window: how many of the last tokens, the prompt's too, penalties count; 0: 64, -1: all. logit_bias: id to what is added to
        its logit; -inf: never. seed: the same gives the same text on every machine; None: any. stop: texts that end it, of which nothing is given.
        ignore_eos: what ends a text is never picked. logprobs: each piece tells its token's log-probability and those of so many of the
        most probable ones. json_schema (a dict or its text), regex, grammar (Lark of llguidance): what the text must follow; the extra
        `grammar` is needed. mask: which tokens may come next, in your own way; one of these four at most. whole: the text stands by itself,
        as an answer does, and some tokenizers then leave out a blank in front.

        Ctrl-C ends it between steps, within the prompt too."""
        stop, seed = stop_texts(stop), seed_of(seed)
        check_biases(logit_bias)
        before = self._tokens([] if prompt is None else prompt)
        if state is None and not len(before):
            text = isinstance(prompt, (str, bytes))
            raise MosscError("bad_input", "prompt is empty and the spec has no bos" if text else "expected a prompt of a token at least, or a state")
        mask = mask_of(self, mask, json_schema=json_schema, regex=regex, grammar=grammar)
        return begin(self, state or self.state(), before, seen=self._tokens(seen), max_tokens=max_tokens, temperature=temperature, top_k=top_k,
                     top_p=top_p, min_p=min_p, repeat_penalty=repeat_penalty, presence_penalty=presence_penalty,
                     frequency_penalty=frequency_penalty, penalty_window=penalty_window, logit_bias=logit_bias, seed=seed, stop=stop,
                     ignore_eos=ignore_eos, logprobs=logprobs, mask=mask, whole=whole)

    def generate_batch(self, prompts: typing.Sequence[typing.Any], *, seeds: typing.Sequence[int] | None = None, seed: int | None = None,
                       state: State | None = None, **options: typing.Any) -> Batch:
        """`generate` for several prompts, each with these options, whose tokens are made together: an iterator of (which, piece); `.texts()` has
        the whole texts. seeds: [len(prompts)]; seed: seed, seed + 1, …; neither: that of `generate` for all. state: each goes on from a clone of
        it; a prompt of None adds nothing, so that [None] * n with a state and a seed are n texts behind one beginning."""
        if isinstance(prompts, (str, bytes)):
            raise TypeError("prompts: expected a sequence of prompts, not one text")
        if seeds is None:
            seeds = [0] * len(prompts) if seed is None else range(seed_of(seed), seed_of(seed) + len(prompts))
        if len(seeds) != len(prompts):
            raise ValueError(f"seeds: expected {len(prompts)}, one for each prompt, not {len(seeds)}")
        return Batch([self.generate(prompt, seed=own, state=state and state.clone(), **options) for prompt, own in zip(prompts, seeds)])

    def chat(self, system: str | None = None, *, template: str | None = None, **variables: typing.Any) -> Chat:
        """A conversation by the model's chat template, or another one's Jinja. system: the system's text; variables: others of the template."""
        return Chat(self, system, template, variables)

    def hidden(self, tokens: typing.Any, state: State | None = None) -> np.ndarray:
        """Feeds ids [T], or a text, and gives the residual stream at each of them: float32 [blocks + 1, T, d_model], before each block and
        after the last, before the final norm. state: the sequence to go on with; None: a new one. MosscError: the model is on a GPU."""
        array, blocks = self._tokens(tokens), lib.moss_program_blocks(self._program)
        width = lib.moss_program_width(self._program)
        out = np.empty((blocks + 1, len(array), width), np.float32)
        state = state or self.state()
        check(lib.moss_model_keep_hidden(self._c, True))
        try:
            for first, piece in self._pieces(array):
                self.step([(state, piece, None)])
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
        if not self._handle.is_open:
            return f"<mossc.Model {self.spec.name}, closed>"
        return f"<mossc.Model {self.spec.name}, {text_of(lib.moss_program_name(self._program))}>"
