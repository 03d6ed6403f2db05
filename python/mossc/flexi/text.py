"""What models do with a text: the scores of its tokens, the hidden states at them, and how fast."""
from __future__ import annotations

import dataclasses
import math
import time
import typing

import numpy as np

from mossc.errors import MosscError
from mossc.logprobs import log_probabilities
from mossc.model import Model

Progress = typing.Callable[[str, int, int], None]  # what, done, of how many
WINDOW = 2048  # tokens of a sequence, where a model bounds it
_PIECE = 256  # tokens whose logits are held at once


@dataclasses.dataclass(frozen=True)
class Text:
    """A text as a model's tokens, in windows that overlap by one token: each but the first of a window is scored in it."""

    windows: list[list[int]]
    bytes: int  # that the scored tokens stand for

    @property
    def tokens(self) -> int:
        return sum(len(window) - 1 for window in self.windows)


def tokenise(model: Model, text: bytes) -> Text:
    """MosscError: it is too short."""
    ids = model.tokenizer.encode(text)
    if len(ids) < 2:
        raise MosscError("bad_input", "the text is too short: it has less than two tokens")
    if model.max_positions == 1:
        raise MosscError("bad_input", "a model with max_positions 1 looks at no text")
    most = min(WINDOW, model.max_positions) if model.max_positions else len(ids)
    windows = [ids[first:first + most] for first in range(0, len(ids) - 1, most - 1)]
    unscored = 0 if model.tokenizer.bos is not None else len(model.tokenizer.decode(ids[:1]).encode())
    return Text(windows, len(text) - unscored)


def _pieces(windows: typing.Sequence[typing.Sequence[int]], size: int) -> typing.Iterator[tuple[int, int, list[int]]]:
    """(window, first token within it, tokens)"""
    for w, window in enumerate(windows):
        for first in range(0, len(window), size):
            yield w, first, list(window[first:first + size])


def bits_per_byte(model: Model, text: Text, what: str, progress: Progress) -> tuple[float, float]:
    """(bits per byte, tokens per second as prompts). The text's windows are sequences of their own."""
    total, done, seconds, state = 0.0, 0, 0.0, None
    for w, first, piece in _pieces(text.windows, _PIECE):
        state = model.state() if first == 0 else state
        start = time.perf_counter()
        logits = model.logits(piece, state)
        seconds += time.perf_counter() - start
        targets = np.asarray(text.windows[w][first + 1:first + 1 + len(piece)])
        total -= float(log_probabilities(logits[:len(targets)], targets).sum())
        done += len(targets)
        progress(what, done, text.tokens)
    return total / math.log(2) / text.bytes, done / seconds


def decode_speed(model: Model, tokens: typing.Sequence[int], count: int = 48) -> float:
    """Tokens per second, one by one behind 64 others: of `count`, the median. Fewer where max_positions bounds them."""
    most = model.max_positions or 64 + count
    count = min(count, most - 1)
    prompt = tokens[:min(64, most - count)]
    state, times = model.state(), []
    model.feed(state, prompt)
    for i in range(count):
        start = time.perf_counter()
        model.feed(state, [tokens[(len(prompt) + i) % len(tokens)]])
        times.append(time.perf_counter() - start)
    return 1 / float(np.median(times))


@dataclasses.dataclass(frozen=True)
class Blocks:
    """What the blocks of a model do to the residual stream on a text."""

    influence: np.ndarray  # float64 [blocks]: 1 − the mean cosine between the stream before and after (ShortGPT, arXiv 2403.03853)
    square: np.ndarray  # float64 [blocks]: the mean square of what each adds
    tokens: int


def look_at_blocks(model: Model, text: Text, progress: Progress, what: str = "block influence") -> Blocks:
    """By the compiled model, on a CPU. MosscError."""
    cosines = squares = 0.0
    done, state = 0, None
    for w, first, piece in _pieces(text.windows, model.max_rows):
        state = model.state() if first == 0 else state
        stream = model.hidden(piece, state).astype(np.float64)  # [blocks + 1, n, D]
        norms = np.sqrt((stream * stream).sum(2))
        lengths = norms[:-1] * norms[1:]
        dots = (stream[:-1] * stream[1:]).sum(2)
        cosines = cosines + np.where(lengths > 0, dots / np.where(lengths > 0, lengths, 1), 1.0).sum(1)
        squares = squares + ((stream[1:] - stream[:-1]) ** 2).mean(2).sum(1)
        done += len(piece)
        progress(what, done, text.tokens + len(text.windows))
    return Blocks(1 - cosines / done, squares / done, done)
