"""Models that the commands make: a spec, its tensors, the files that belong to it; and what each is worth."""
from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import shutil
import typing

from mossc.flexi import checkpoint as files
from mossc.flexi import text as texts
from mossc.imports import SPEC, WEIGHTS
from mossc.model import Model
from mossc.spec import Spec

REPORT = "report.json"
_BESIDE = ("generation.yaml",)  # what a model's directory has besides the files that the spec names


@dataclasses.dataclass
class Made:
    """A model that is not written yet."""

    spec: Spec
    tensors: dict[str, files.Stored]
    beside: pathlib.Path  # the directory of the spec that it was made of, where its tokenizer lies

    def write(self, directory: pathlib.Path, said: str) -> None:
        """spec.yaml, model.safetensors, and the tokenizer's file. said: a comment."""
        spec, named = self.spec, self.spec.resolved["tokenizer"].get("file")
        if named:
            shutil.copyfile(self.beside / named, directory / pathlib.Path(named).name)
            spec = spec.set({"tokenizer.file": pathlib.Path(named).name})
        for name in _BESIDE:
            if (self.beside / name).is_file():
                shutil.copyfile(self.beside / name, directory / name)
        (directory / SPEC).write_text(f"# {said}\n{spec.yaml()}")
        files.write(directory / WEIGHTS, self.tensors)


@dataclasses.dataclass(frozen=True)
class Worth:
    """What was measured of a model."""

    bits_per_byte: float
    prompt_tokens_per_second: float
    tokens_per_second: float  # one by one


@contextlib.contextmanager
def opened(made: Made, room: pathlib.Path, threads: int) -> typing.Iterator[Model]:
    """A model that is not written: its weights lie in `room` meanwhile."""
    path = room / "variant.safetensors"
    files.write(path, made.tensors, sync=False)
    try:
        with Model(made.spec, path, threads=threads) as model:
            yield model
    finally:
        path.unlink()


def measure(model: Model, scored: bytes, what: str, progress: texts.Progress) -> Worth:
    text = texts.tokenise(model, scored)
    bits, prompts = texts.bits_per_byte(model, text, what, progress)
    return Worth(bits, prompts, texts.decode_speed(model, text.windows[0]))


def size(spec: Spec) -> dict[str, int]:
    cost = spec.cost()
    return {"parameters": cost.parameters, "bytes": cost.weight_bytes}


def write_report(directory: pathlib.Path, report: dict) -> None:
    (directory / REPORT).write_text(json.dumps(report, indent=1) + "\n")
