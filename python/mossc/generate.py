"""Making text: options of sampling, and the iterator over what comes."""
from __future__ import annotations

import dataclasses
import operator
import secrets
import typing

import numpy as np

from mossc._c import Callbacks, Diags, Handle, check, ffi, int32_pointer, keep_error, lib, path_bytes, strings, struct, text_of
from mossc.tokenizer import characters

if typing.TYPE_CHECKING:
    from mossc.model import Model
    from mossc.spec import Spec
    from mossc.state import State

STOPS = {value: name.removeprefix("MOSS_STOP_").lower() for value, name in ffi.typeof("MossStop").elements.items()}
NO_BOUND = 2**64 - 1


@dataclasses.dataclass(frozen=True)
class Defaults:
    """How a model makes text: what the generation.yaml beside its spec says, else what mossc does."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repeat_penalty: float
    stop_ids: tuple[int, ...]  # that end a text, besides the spec's eos
    chat_template: str | None  # Jinja


def defaults_of(spec: Spec) -> Defaults:
    out = ffi.new("const MosscGeneration **")
    path = path_bytes(spec.path) if spec.path else ffi.NULL
    with Diags() as diags:
        diags.check(lib.mossc_generation_open(path, diags.pointer, out))
    g = out[0]
    try:
        template = text_of(g.chat_template) if g.chat_template != ffi.NULL else None
        return Defaults(g.temperature, g.top_k, g.top_p, g.min_p, g.repeat_penalty, tuple(g.stops[0:g.n_stops]), template)
    finally:
        lib.mossc_generation_free(g)


class Mask(typing.Protocol):
    """Which tokens may come next, as a grammar says it. Methods are called in the middle of a step: they use no object of mossc."""

    def allow(self, bits: typing.Any, limit: int) -> bool:
        """Fills bits, uint32 [(limit + 31) // 32], all zero before: the lowest bit first, a token each. False: none may, the text ends."""

    def commit(self, token: int) -> None:
        """This token was picked and fed."""

    def rollback(self, count: int) -> None:
        """The last `count` of those that were committed are taken back."""


@dataclasses.dataclass(frozen=True)
class Piece:
    """A token that was picked, and the text that it adds: perhaps none, as while a character or a stop string is not whole."""

    token: int | None  # None: text that was held, at the very end
    text: str
    logprob: float | None = None  # natural, of the model's own probabilities; where `logprobs` was asked for
    top: tuple[tuple[int, float], ...] = ()  # the most probable tokens and their logprobs, in order


class _MaskCalls(Callbacks):
    """What a picker's callbacks need."""

    def __init__(self, mask: Mask | None) -> None:
        self.mask = mask


class Picker:
    """A MossPicker, with what its callbacks need. An exception in a callback ends the text there, and is raised when the step is over."""

    def __init__(self, model: Model, mask: Mask | None, logit_bias: typing.Mapping[int, float] | None, logprobs: int | None,
                 **picking: typing.Any) -> None:
        self._calls, self._told = _MaskCalls(mask), logprobs
        if logprobs is not None:
            picking["logprobs"] = max(1, logprobs)  # C tells a token's own with others, or nothing
        context = self._context = ffi.new_handle(self._calls)
        biases = ffi.new("MossBias[]", [(token, add) for token, add in (logit_bias or {}).items()])
        if mask is not None:
            picking.update(allow=lib.py_MossPicking_allow, commit=lib.py_MossPicking_commit, rollback=lib.py_MossPicking_rollback)
        out = ffi.new("MossPicker **")
        options = struct("MossPicking", context=context, biases=biases, n_biases=len(biases), **picking)
        check(lib.moss_picker_create(options, model.vocab_size, out))
        self._handle = Handle("generation", out[0], lib.moss_picker_free)
        self._count = ffi.new("uint32_t *")

    @property
    def pointer(self) -> typing.Any:
        return self._handle.pointer

    def feed(self, tokens: typing.Any) -> None:
        """Tokens that came before: penalties see them."""
        check(lib.moss_picker_feed(self.pointer, int32_pointer(tokens), len(tokens)))

    def logprobs(self) -> tuple[float | None, tuple[tuple[int, float], ...]]:
        """Of the last token: its own, and the most probable ones."""
        first = lib.moss_picker_logprobs(self.pointer, self._count)
        told = [(first[i].token, first[i].logprob) for i in range(self._count[0])]
        return (told[0][1], tuple(told[1:1 + self._told])) if told else (None, ())

    def raise_error(self) -> None:
        """That of a callback in the call that is over."""
        self._calls.raise_error()


@ffi.def_extern(name="py_MossPicking_allow", error=False, onerror=keep_error)
def _allow(context: typing.Any, bits: typing.Any, limit: int) -> bool:
    words = (limit + 31) // 32
    return bool(ffi.from_handle(context).mask.allow(np.frombuffer(ffi.buffer(bits, 4 * words), np.uint32), limit))


@ffi.def_extern(name="py_MossPicking_commit", onerror=keep_error)
def _commit(context: typing.Any, token: int) -> None:
    ffi.from_handle(context).mask.commit(token)


@ffi.def_extern(name="py_MossPicking_rollback", onerror=keep_error)
def _rollback(context: typing.Any, count: int) -> None:
    ffi.from_handle(context).mask.rollback(count)


class Generation(typing.Iterator[Piece]):
    """A text as it comes: an iterator of pieces. `state` stands after all of them when it is over; `stop` then says why it ended: "count",
    "eos" (or a grammar's end), "positions" (max_positions was reached), "text" (a stop string), "caller" (`close`), "error" (of the model or
    a mask; the exception was raised)."""

    def __init__(self, model: Model, state: State, sampler: typing.Any, completion: typing.Any, picker: Picker | None, owners: typing.Any) -> None:
        self.model, self.state, self._picker, self._sampler = model, state, picker, sampler
        self._owners = (owners, completion)
        out = ffi.new("MossWriting **")
        check(lib.moss_writing_begin(model._c, state._c, model.tokenizer._c, sampler, completion, out))
        needs = [state._handle, model.tokenizer._handle] + ([picker._handle] if picker else [])
        self._handle = Handle("generation", out[0], lib.moss_writing_free, *needs)
        self._piece, self._more = ffi.new("MossPiece *"), ffi.new("bool *")
        self._characters = characters()
        self.stop: str | None = None

    def __next__(self) -> Piece:
        if self.stop is not None:
            raise StopIteration
        error = lib.moss_writing_next(self._handle.pointer, self._piece, self._more)
        piece = self._taken(error)
        if piece is None:
            raise StopIteration
        return piece

    def _taken(self, error: typing.Any) -> Piece | None:
        """What C has put into self._piece and self._more; None: it is over. An exception ends it."""
        try:
            if self._picker:
                self._picker.raise_error()
            if self._more[0]:
                return self._made()
            check(error)
        except BaseException:
            self._end("error")
            raise
        self._end(STOPS[lib.moss_writing_stop(self._handle.pointer)])
        rest = self._characters.decode(b"", True)
        return Piece(None, rest) if rest else None

    def _made(self) -> Piece:
        token, text = self._piece.token, bytes(ffi.buffer(self._piece.text, self._piece.size))
        logprob, top = self._picker.logprobs() if self._picker and token >= 0 else (None, ())
        return Piece(token if token >= 0 else None, self._characters.decode(text), logprob, top)

    def text(self) -> str:
        """The text of all pieces that are still to come."""
        return "".join([piece.text for piece in self])

    def _end(self, stop: str) -> None:
        self.stop = stop
        self._handle.release()

    def close(self) -> None:
        """Ends it here. On a GPU up to 31 more tokens may have been fed."""
        if self.stop is None:
            self._end("caller")


class Batch(typing.Iterator[tuple[int, Piece]]):
    """Texts that are made together, a step for a token of each: an iterator of (which, piece). Each is the text that it would be alone;
    `generations` has them, with state and stop. An exception ends the text that it is of, and comes behind the pieces of that step; whoever
    goes on has the rest of the other texts. Made by Model.generate_batch."""

    def __init__(self, generations: typing.Sequence[Generation]) -> None:
        self.generations = list(generations)
        self._ready: list[tuple[int, Piece]] = []
        self._errors: list[BaseException] = []

    def __next__(self) -> tuple[int, Piece]:
        while not self._ready:
            if self._errors:
                raise self._errors.pop(0)
            going = [(i, g) for i, g in enumerate(self.generations) if g.stop is None]
            if not going:
                raise StopIteration
            self._step(going)
        return self._ready.pop(0)

    def _step(self, going: list[tuple[int, Generation]]) -> None:
        writings = ffi.new("MossWriting *[]", [g._handle.pointer for _, g in going])
        pieces, more = ffi.new("MossPiece[]", len(going)), ffi.new("bool[]", len(going))
        check(lib.moss_writings_next(writings, len(going), pieces, more))
        for k, (i, g) in enumerate(going):
            g._piece[0], g._more[0] = pieces[k], more[k]
            error = ffi.new("MossError *")[0] if more[k] else lib.moss_writing_next(g._handle.pointer, g._piece, g._more)
            try:
                piece = g._taken(error)
            except BaseException as exception:
                self._errors.append(exception)
                continue
            if piece is not None:
                self._ready.append((i, piece))

    def texts(self) -> list[str]:
        """The whole text of each: of all pieces that are still to come."""
        out = [""] * len(self.generations)
        for i, piece in self:
            out[i] += piece.text
        return out


def stop_texts(stop: str | typing.Sequence[str] | None) -> list[str]:
    """What `stop` of generate means: None, a text or texts."""
    texts = [] if stop is None else [stop] if isinstance(stop, str) else list(stop)
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"stop: expected texts, not {text!r}; ids that end a text are those of model.tokenizer.set_ends")
    return texts


def seed_of(seed: int | None) -> int:
    """What `seed` of generate means; None: any."""
    if seed is None:
        return secrets.randbits(64)
    try:
        return operator.index(seed)
    except TypeError:
        raise TypeError(f"seed: expected an integer or None, not {seed!r}") from None


def check_biases(biases: typing.Mapping[int, float] | None) -> None:
    """`logit_bias` of generate. TypeError: a key is no id."""
    for token in biases or {}:
        if not hasattr(token, "__index__"):
            raise TypeError(f"logit_bias: expected ids of tokens as keys, not {token!r}; model.tokenizer.encode(text, part=True) has them")


def begin(model: Model, state: State, before: typing.Any, *, seen: typing.Any, max_tokens: int | None, temperature: float | None,
          top_k: int | None, top_p: float | None, min_p: float | None, repeat_penalty: float | None, presence_penalty: float, frequency_penalty: float,
          penalty_window: int, logit_bias: typing.Mapping[int, float] | None, seed: int, stop: typing.Sequence[str], ignore_eos: bool,
          logprobs: int | None, mask: Mask | None, whole: bool = False) -> Generation:
    """Feeds a state int32 [n] tokens, which penalties count too, and begins the text that follows. seen: int32 [m], that the state was fed
    before, for penalties. Options are refused before anything is fed."""
    for name, number in (("max_tokens", max_tokens), ("logprobs", logprobs)):
        if number is not None and number < 0:
            raise ValueError(f"{name}: expected a number from 0, or None, not {number}")
    own = model.defaults
    sampler = struct("MossSampler", temperature=own.temperature if temperature is None else temperature,
                     top_k=own.top_k if top_k is None else top_k, top_p=own.top_p if top_p is None else top_p, state=seed % 2**64)
    picking = {"min_p": own.min_p if min_p is None else min_p,
               "repeat_penalty": own.repeat_penalty if repeat_penalty is None else repeat_penalty,
               "presence_penalty": presence_penalty, "frequency_penalty": frequency_penalty, "penalty_window": penalty_window}
    plain = picking["repeat_penalty"] in (0, 1) and not (picking["min_p"] or presence_penalty or frequency_penalty)
    picker = None
    if not plain or logit_bias or mask is not None or logprobs is not None:
        picker = Picker(model, mask, logit_bias, logprobs, **picking)
        picker.feed(seen)
        picker.feed(before)
    array, owners = strings("stop", [text.encode() for text in stop])
    completion = struct("MossCompletion", count=NO_BOUND if max_tokens is None else max_tokens, stops=array, n_stops=len(stop),
                        ignore_eos=ignore_eos, whole=whole, picker=picker.pointer if picker else ffi.NULL)
    check(lib.moss_completion_check(model._c, model.tokenizer._c, sampler, completion))
    model.feed(state, before)
    return Generation(model, state, sampler, completion, picker, (array, owners))
