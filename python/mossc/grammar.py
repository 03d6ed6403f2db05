"""Texts that follow a JSON schema, a regular expression or a grammar, by llguidance (the extra `grammar`)."""
from __future__ import annotations

import json
import typing

import numpy as np

if typing.TYPE_CHECKING:
    from mossc.generate import Mask
    from mossc.model import Model


def _llguidance() -> typing.Any:
    try:
        import llguidance
    except ImportError as error:
        raise ImportError("for grammars, install llguidance: pip install 'mossc[grammar]'") from error
    return llguidance


class _Vocabulary:
    """A model's tokens as llguidance wants them. An id more stands for the end where the model has none; it is never picked."""

    def __init__(self, model: Model) -> None:
        tokenizer = self._tokenizer = model.tokenizer
        self.tokens = [tokenizer.bytes_of(id) for id in range(model.vocab_size)]
        self.bos_token_id = tokenizer.bos
        self.eos_token_id = model.vocab_size if tokenizer.eos is None else tokenizer.eos
        self.special_token_ids = [id for id, text in enumerate(self.tokens) if not text]
        if tokenizer.eos is None:
            self.tokens.append(b"")
            self.special_token_ids.append(self.eos_token_id)
        self.ends = [id for id in tokenizer.ends] or [self.eos_token_id]

    def __call__(self, text: str | bytes) -> list[int]:
        return self._tokenizer.encode(text, part=True)


def tokenizer_of(model: Model) -> typing.Any:
    """The model's llguidance.LLTokenizer, made once."""
    if model._grammar_tokenizer is None:
        guide, vocabulary = _llguidance(), _Vocabulary(model)
        model._grammar_tokenizer = guide.LLTokenizer(guide.TokenizerWrapper(vocabulary), n_vocab=len(vocabulary.tokens),
                                                     eos_token=vocabulary.ends)
    return model._grammar_tokenizer


class GrammarMask:
    """A mask (mossc.Mask) of a grammar of llguidance: Lark text, or what LLMatcher.grammar_from_… gives."""

    def __init__(self, model: Model, grammar: str) -> None:
        self._matcher = _llguidance().LLMatcher(tokenizer_of(model), grammar, log_level=0)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise ValueError(self._matcher.get_error())

    def allow(self, bits: np.ndarray, limit: int) -> bool:
        if self._matcher.is_stopped():
            self._check()
            return False
        mask = np.frombuffer(self._matcher.compute_bitmask(), np.uint32)
        self._check()
        bits[:] = mask[:len(bits)]
        if limit % 32:
            bits[-1] &= np.uint32((1 << limit % 32) - 1)
        return bool(bits.any())

    def commit(self, token: int) -> None:
        self._matcher.consume_token(token)
        self._check()

    def rollback(self, count: int) -> None:
        self._matcher.rollback(count)
        self._check()


def mask_of(model: Model, mask: Mask | None = None, *, json_schema: typing.Any = None, regex: str | None = None,
            grammar: str | None = None) -> Mask | None:
    """The mask of the one that is given: a mask itself; a JSON schema, a dict or its text; a regular expression; a grammar in llguidance's
    Lark. ValueError: several are given."""
    given = [value is not None for value in (mask, json_schema, regex, grammar)]
    if sum(given) > 1:
        raise ValueError("mask, json_schema, regex and grammar: one of them at most")
    if mask is not None or not any(given):
        return mask
    matcher = _llguidance().LLMatcher
    if json_schema is not None:
        text = matcher.grammar_from_json_schema(json_schema if isinstance(json_schema, str) else json.dumps(json_schema))
    else:
        text = matcher.grammar_from_regex(regex) if regex is not None else matcher.grammar_from_lark(grammar)
    return GrammarMask(model, text)
