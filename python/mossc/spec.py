"""Specs: read, checked, resolved and priced by the compiler, which alone knows the language and its defaults."""
from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
import typing

import numpy as np

from mossc import imports
from mossc._c import Diags, Handle, ffi, lib, path_bytes, strings, struct, text_of
from mossc.errors import Message, MosscError


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a model, or a block of it, costs. A multiply-add is two FLOPs."""

    parameters: int  # elements of a checkpoint
    active_parameters: int  # of them, used by one token: idle experts are not
    weight_bytes: int  # of a checkpoint in the spec's weights.dtype and its overrides
    state_bytes: int  # of one sequence, on a CPU
    flops: int  # of one token that is decoded
    token_bytes: int  # of weights and states that it reads and writes


@dataclasses.dataclass(frozen=True)
class Block:
    """A block of a spec, in order."""

    kind: str  # "ssm", "mlp", "attention", …
    name: str  # as the spec has it; "" where it has none
    path: str  # "stack[0].blocks[1]"
    line: int  # of the spec
    experts: int  # 0: it has none
    top_k: int
    share: str  # the block whose weights it has; "" where they are its own
    branches: int  # of a parallel; else 0


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """A tensor of a checkpoint."""

    name: str  # "blocks.3.x_proj.weight"
    shape: tuple[int, ...]
    dtype: str  # what its values are rounded to when they are loaded: "f32", "bf16", "f16", "q8" or "q4"
    block: int  # of the spec; -1: outside the blocks
    map: str  # what weights.overrides, and of a block share.adapters.targets, call it: "x_proj"; "": neither may name it
    own: str  # the word of share.own under which a share has one of its own: "conv"; "": none
    per_expert: bool  # the leading dimension counts the block's experts


#: Keys of a block for what stands before and behind it; a share has its own.
ENDS = ("input_scale", "output_scale", "out_norm")


def word_of(entry: dict) -> str:
    """The key that says what an entry of a resolved stack is: a kind, `parallel` or `share`."""
    (word,) = (key for key in entry if key != "name")
    return word


def _with_none(text: str) -> str:
    """JSON with the language's word in place of null."""
    return re.sub(r'"(?:\\.|[^"\\])*"|null', lambda found: "none" if found[0] == "null" else found[0], text)


def _scalar(value: typing.Any) -> str:
    return value if isinstance(value, str) else _json(value)


def _json(value: typing.Any) -> str:
    """A value of a spec as JSON, which is YAML; NumPy's numbers as what they are, None as the language's `none`."""
    return _with_none(json.dumps(value, default=_plain))


def _plain(value: typing.Any) -> typing.Any:
    if isinstance(value, (np.integer, np.floating, np.bool_)):
        return value.item()
    raise TypeError(f"a value of a spec: expected a text, a number, a bool, None, a list or a dict, not {type(value).__name__}")


def find(source: str | os.PathLike, weights: typing.Sequence[str | os.PathLike] = ()) -> tuple[Spec, list[pathlib.Path]]:
    """A spec by its path, as Spec takes it, with its weights: those that are given, else those beside it. MosscError: there are none."""
    spec = Spec(source)
    paths = [pathlib.Path(path) for path in weights] or ([spec.weights] if spec.weights else [])
    if not paths:
        raise MosscError("bad_input", f"{source}: weights are needed: their file, or a directory with {imports.SPEC} and {imports.WEIGHTS}")
    return spec, paths


class Spec:
    """A checked spec.

    source: a path of a spec, of a directory that `mossc import` made, or of a checkpoint of others (a Hugging Face folder, a GGUF file),
    which is imported into the cache; a dict (as `resolved` gives one, or any that means YAML of the language); or the text of a spec, which has more than one
    line. `set` overrides values: {"weights.dtype": "bf16", "stack[0].repeat": 2}; the library reads each as a text PATH=VALUE, which messages
    call `--set`, as the program's option. name: stands for the path of a dict or a text in messages.

    A config or a module of mossc.torch is a source too. None stands for the language's `none`. A pickled spec of a file is read from there again.

    MosscError: it is wrong, with line, column and hint.
    """

    def __init__(self, source: typing.Any, *, set: dict[str, typing.Any] | None = None, name: str = "spec") -> None:
        source = source.as_spec() if hasattr(source, "as_spec") else source
        self._sets = {path: _scalar(value) for path, value in (set or {}).items()}
        if isinstance(source, Spec):
            self._path, self._text = source._path, source._text
            self._sets = {**source._sets, **self._sets}
        elif isinstance(source, dict):
            self._path, self._text = name, _json(source).encode()
        elif isinstance(source, str) and "\n" in source:
            self._path, self._text = name, source.encode()
        else:
            self._path, self._text = imports.spec_of(os.fspath(source)), None
        self._open()

    def _open(self) -> None:
        out = ffi.new("MosscSpec **")
        sets, self_owners = strings("set", [f"{path}={value}".encode() for path, value in self._sets.items()])
        with Diags() as diags:
            if self._text is None:
                error = lib.mossc_spec_open(path_bytes(self._path), sets, len(self._sets), diags.pointer, out)
            else:
                error = lib.mossc_spec_parse(path_bytes(self._path), self._text, len(self._text), sets, len(self._sets), diags.pointer, out)
            diags.check(error)
            #: Warnings and notes about it.
            self.messages: list[Message] = diags.messages()
        self._handle = Handle("spec", out[0], lib.mossc_spec_free)

    @property
    def _c(self) -> typing.Any:
        return self._handle.pointer

    @property
    def path(self) -> pathlib.Path | None:
        """The file that it was read from; None: it was not read from one."""
        return pathlib.Path(self._path) if self._text is None else None

    @property
    def weights(self) -> pathlib.Path | None:
        """The model.safetensors beside the spec, where it lies in a directory of an import; else None."""
        beside = self.path and self.path.name == imports.SPEC and self.path.with_name(imports.WEIGHTS)
        return beside if beside and beside.exists() else None

    @property
    def name(self) -> str:
        return text_of(lib.mossc_spec_name(self._c))

    @property
    def vocab_size(self) -> int:
        return lib.mossc_spec_vocab_size(self._c)

    @property
    def d_model(self) -> int:
        return lib.mossc_spec_d_model(self._c)

    @property
    def max_positions(self) -> int:
        """Tokens of a sequence, at most; 0: no bound."""
        return lib.mossc_spec_max_positions(self._c)

    @property
    def hash(self) -> str:
        """32 hexadecimal digits: of all that gives a model its meaning, not of names, comments and places."""
        return bytes(ffi.buffer(lib.mossc_spec_hash(self._c), 16)).hex()

    def _print(self, form: int) -> str:
        out = ffi.new("char **")
        with Diags() as diags:
            diags.check(lib.mossc_spec_print(self._c, form, out, ffi.NULL))
        try:
            return text_of(out[0])
        finally:
            lib.mossc_text_free(out[0])

    def yaml(self) -> str:
        """The spec with every value written out, as YAML."""
        return self._print(lib.MOSSC_YAML)

    @property
    def resolved(self) -> dict:
        """The spec with every value written out: a new dict each time."""
        return json.loads(self._print(lib.MOSSC_JSON))

    @property
    def blocks(self) -> list[Block]:
        out = []
        for i in range(lib.mossc_spec_n_blocks(self._c)):
            b = ffi.new("MosscBlock *")
            with Diags() as diags:
                diags.check(lib.mossc_spec_block(self._c, i, b, ffi.sizeof("MosscBlock")))
            out.append(Block(text_of(b.kind), text_of(b.name), text_of(b.path), b.line, b.experts, b.top_k, text_of(b.share), b.branches))
        return out

    @property
    def tensors(self) -> list[TensorInfo]:
        """What a checkpoint holds, block by block."""
        count, tensor = ffi.new("int64_t *"), ffi.new("MosscTensor *")
        with Diags() as diags:
            diags.check(lib.mossc_spec_n_tensors(self._c, count))
            out = []
            for i in range(count[0]):
                diags.check(lib.mossc_spec_tensor(self._c, i, tensor, ffi.sizeof("MosscTensor")))
                out.append(TensorInfo(text_of(tensor.name), tuple(tensor.shape[d] for d in range(tensor.rank)), text_of(tensor.dtype),
                                      tensor.block, text_of(tensor.map), text_of(tensor.own), tensor.per_expert))
        return out

    def write_fresh(self, path: str | os.PathLike, seed: int = 0) -> None:
        """Writes a checkpoint of fresh weights, float32 safetensors: the bytes of `mossc init` with this seed."""
        with Diags() as diags:
            diags.check(lib.mossc_fresh_write(self._c, seed, path_bytes(path), ffi.NULL, ffi.NULL, diags.pointer))

    def _cost(self, ask: typing.Callable[[typing.Any, int], typing.Any]) -> Cost:
        cost = ffi.new("MosscCost *")
        with Diags() as diags:
            diags.check(ask(cost, ffi.sizeof("MosscCost")))
        return Cost(**{field.name: int(getattr(cost, field.name)) for field in dataclasses.fields(Cost)})

    def cost(self, position: int = 0) -> Cost:
        """What a token costs after `position` others, which is what attention looks back on; and the sizes."""
        return self._cost(lambda out, size: lib.mossc_spec_cost(self._c, position, out, size))

    def block_cost(self, i: int, position: int = 0) -> Cost:
        """The same of block i of `blocks`; -1: of the parts outside the blocks (embedding, final norm, head)."""
        return self._cost(lambda out, size: lib.mossc_spec_block_cost(self._c, i, position, out, size))

    def set(self, values: dict[str, typing.Any] | None = None, **more: typing.Any) -> Spec:
        """A spec of the same source with values overridden: spec.set({"weights.dtype": "bf16"}), spec.set(d_model=64)."""
        return Spec(self, set={**(values or {}), **more})

    def __reduce__(self) -> tuple:
        return _again, (os.path.abspath(self._path) if self._text is None else self._path, self._text, self._sets)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spec) and self.hash == other.hash

    def __hash__(self) -> int:
        return hash(self.hash)

    def __repr__(self) -> str:
        return f"<mossc.Spec {self.name}: {lib.mossc_spec_n_blocks(self._c)} blocks, {self.cost().parameters} parameters>"


def _again(path: str, text: bytes | None, sets: dict[str, str]) -> Spec:
    """A spec that was pickled."""
    spec = Spec.__new__(Spec)
    spec._path, spec._text, spec._sets = path, text, sets
    spec._open()
    return spec
