"""Text to tokens and back."""
from __future__ import annotations

import codecs
import typing

from mossc._c import Diags, Handle, check, ffi, int32_pointer, lib, tokens_array
from mossc.spec import Spec


def characters() -> codecs.IncrementalDecoder:
    """Bytes to characters as they come: ids that are bytes come as such."""
    return codecs.getincrementaldecoder("utf-8")("replace")


class Tokenizer:
    """The tokenizer that a spec names, with its files. Several threads may use one."""

    def __init__(self, spec: Spec) -> None:
        out = ffi.new("MossTokenizer **")
        with Diags() as diags:
            diags.check(lib.mossc_tokenizer_open(spec._c, diags.pointer, out))
        self._handle = Handle("tokenizer", out[0], lib.moss_tokenizer_free)

    @property
    def _c(self) -> typing.Any:
        return self._handle.pointer

    @staticmethod
    def _id(token: int) -> int | None:
        return None if token < 0 else token

    @property
    def bos(self) -> int | None:
        """The id that a text begins with, or None."""
        return self._id(lib.moss_tokenizer_bos(self._c))

    @property
    def eos(self) -> int | None:
        """The first of `ends`, or None."""
        return self._id(lib.moss_tokenizer_eos(self._c))

    @property
    def ends(self) -> list[int]:
        """The ids that end a text."""
        out = ffi.new("const int32_t **")
        return list(ffi.unpack(out[0], n)) if (n := lib.moss_tokenizer_ends(self._c, out)) else []

    def set_ends(self, ids: typing.Sequence[int]) -> None:
        """Puts ids in place of `ends`."""
        array = tokens_array(ids)
        check(lib.moss_tokenizer_set_ends(self._c, int32_pointer(array), len(array)))

    def encode(self, text: str | bytes, *, part: bool = False, behind: bool = False) -> list[int]:
        """The ids that a model is fed for a text: bos, if there is one, and the text's. part: without bos; behind: it follows other text, and
        some tokenizers then put no blank before it."""
        data = text.encode() if isinstance(text, str) else bytes(memoryview(text))
        tokens = ffi.new("MossTokens *")
        try:
            if part or behind:
                check(lib.moss_encode_part(self._c, data, len(data), behind, tokens))
            else:
                check(lib.moss_encode(self._c, data, len(data), tokens))
            return list(ffi.unpack(tokens.ids, tokens.count)) if tokens.count else []
        finally:
            lib.moss_tokens_free(tokens)

    def bytes_of(self, token: int) -> bytes:
        """The bytes of one id, which need not be whole characters; none for bos, what ends a text, and ids that stand for nothing."""
        size, room = ffi.new("size_t *"), ffi.new("char[64]")
        check(lib.moss_token_bytes(self._c, token, room, len(room), size))
        if size[0] > len(room):
            room = ffi.new("char[]", size[0])
            check(lib.moss_token_bytes(self._c, token, room, len(room), size))
        return ffi.unpack(room, size[0])

    def decode(self, tokens: typing.Iterable[int], *, whole: bool = False) -> str:
        """The text of ids. whole: it stands by itself, and some tokenizers then take a blank away in front. What is not UTF-8 becomes U+FFFD."""
        with Decoder(self, whole=whole) as decoder:
            return "".join([decoder.add(int(token)) for token in tokens]) + decoder.end()


class Decoder:
    """The text of ids as they come, in whole characters."""

    def __init__(self, tokenizer: Tokenizer, *, whole: bool = False) -> None:
        out = ffi.new("MossStream **")
        check(lib.moss_stream_create(tokenizer._c, out))
        self._handle = Handle("decoder", out[0], lib.moss_stream_free, tokenizer._handle)
        self._size = ffi.new("size_t *")
        self._characters = characters()
        if whole:
            lib.moss_stream_whole(out[0])

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.release()

    def _bytes(self, pointer: typing.Any) -> bytes:
        if pointer == ffi.NULL:
            raise MemoryError
        return bytes(ffi.buffer(pointer, self._size[0]))

    def add(self, token: int) -> str:
        """The text that a token adds; may be empty."""
        return self._characters.decode(self._bytes(lib.moss_stream_add(self._handle.pointer, token, self._size)))

    def end(self) -> str:
        """What is still held of a character that did not become whole, as U+FFFD. The next text may begin."""
        return self._characters.decode(self._bytes(lib.moss_stream_end(self._handle.pointer, self._size)), True)
