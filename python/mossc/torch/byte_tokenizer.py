"""The tokenizer whose tokens are bytes, as transformers reads one: byte-level BPE without merges, in which byte b is id b."""
from __future__ import annotations

import json

BOS = "<bos>"


def _characters() -> list[str]:
    """What a byte-level tokenizer writes for each byte: the printable ones of Latin-1 for themselves, characters from 256 on for the others,
    in order."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def _put_first(name: str, id_: int) -> dict:
    """The post-processor that puts a token in front of a text."""
    first, text = {"SpecialToken": {"id": name, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    return {"type": "TemplateProcessing", "single": [first, text], "pair": [first, text, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {name: {"id": name, "ids": [id_], "tokens": [name]}}}


def byte_tokenizer(specials: dict[str, int]) -> bytes:
    """A tokenizer.json. specials: name to id, from 256 on, of tokens that are no bytes; BOS stands before every text."""
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    added = [{"id": id_, "content": name, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
             for name, id_ in specials.items()]
    vocabulary = {character: byte for byte, character in enumerate(_characters())} | specials
    return json.dumps({"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None, "pre_tokenizer": level,
                       "post_processor": _put_first(BOS, specials[BOS]) if BOS in specials else None, "decoder": level, "model": {"type": "BPE", "vocab": vocabulary, "merges": []}}).encode()
