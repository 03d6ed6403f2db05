"""Growing: chosen blocks are gone through again, as shares with fresh adapters that begin with almost no effect."""
from __future__ import annotations

import dataclasses
import pathlib
import typing

import numpy as np

from mossc.errors import MosscError
from mossc.flexi import model as models
from mossc.flexi import output, share
from mossc.flexi import text as texts
from mossc.flexi.checkpoint import Checkpoint, Stored, store
from mossc.flexi.prune import compare, read_texts, targets_of
from mossc.flexi.stack import Stack
from mossc.model import Model
from mossc.spec import find


@dataclasses.dataclass
class Extend:
    """What `extend` is asked for."""

    spec: str
    weights: list[str]
    text: pathlib.Path
    output: pathlib.Path
    blocks: list[int]
    times: int = 1
    rank: int = 16
    start: float = 0.01  # of a repetition: the root mean square of what it adds, in shares of that of the block itself
    targets: tuple[str, ...] = ("smaller",)
    seed: int = 0
    text_bytes: int = 65536
    score: pathlib.Path | None = None
    threads: int = 0
    progress: texts.Progress = lambda what, done, total: None


def order(count: int, blocks: typing.Collection[int], times: int) -> list[tuple[int, bool]]:
    """(block, whether it is a repetition) of the new stack: behind each run of chosen neighbours that run again, `times` times."""
    out: list[tuple[int, bool]] = []
    run: list[int] = []
    for i in range(count):
        out.append((i, False))
        if i in blocks:
            run.append(i)
        if run and i + 1 not in blocks:
            out += [(j, True) for j in run] * times
            run = []
    return out


def check_blocks(stack: Stack, blocks: typing.Sequence[int]) -> None:
    for i in blocks:
        if not 0 <= i < len(stack):
            raise MosscError("bad_input", f"block {i} does not exist: the spec has {len(stack)}")
        if stack.kind(i) == "share":
            raise MosscError("bad_input", f"block {i} is a share of block {stack.lender(i)}: name that one, a share has no weights to repeat")
        if not stack.can_be_shared(i):
            raise MosscError("bad_input", f"block {i} is a {stack.kind(i)}, whose weights no share may have")


def fresh_adapters(stack: Stack, i: int, rank: int, targets: typing.Sequence[str], random: np.random.Generator) -> dict[str, Stored]:
    """A uniform within ±1/√in, B zero: as `mossc init` begins."""
    out = {}
    for name in targets if rank else ():
        *planes, rows, columns = stack.tensors[i][stack.maps(i)[name]].shape
        out[f"adapters.{name}.A"] = store(random.uniform(-1, 1, (*planes, rank, columns)) / np.sqrt(columns))
        out[f"adapters.{name}.B"] = store(np.zeros((*planes, rows, rank)))
    return out


def repetition(stack: Stack, i: int, o: Extend, square: float, random: np.random.Generator) -> share.Placed:
    targets = targets_of(stack, i, o.targets, o.rank)
    entry = share.share_entry(stack, i, i, o.rank, targets, (), "rms")
    entry.pop("name", None)
    made = fresh_adapters(stack, i, o.rank, targets, random)
    made["out_norm.weight"] = share.constant_norm(stack.spec.d_model, o.start ** 2 * square, stack.body(i)["output_scale"])
    return share.Placed(entry, i, made)


def extend(o: Extend) -> dict:
    """Writes o.output, as prune does. Gives the report. MosscError."""
    with output.Directory(o.output) as room:
        spec, paths = find(o.spec, o.weights)
        stack = Stack(spec)
        check_blocks(stack, o.blocks)
        calibrating, scored = read_texts(o.text, o.text_bytes, o.score)
        with Model(spec, paths, threads=o.threads) as m:
            blocks = texts.look_at_blocks(m, texts.tokenise(m, calibrating), o.progress)
            worth = {"before": models.measure(m, scored, "before", o.progress)}
        random, new = np.random.default_rng(o.seed), order(len(stack), set(o.blocks), o.times)
        placed = [repetition(stack, i, o, float(blocks.square[i]), random) if again else share.kept_block(stack, i, i in o.blocks)
                  for i, again in new]
        larger = stack.with_entries([p.entry for p in placed], "-extended")
        made = models.Made(larger, share.collect(larger, placed, Checkpoint(paths)), (spec.path or pathlib.Path()).parent)
        with models.opened(made, room, o.threads) as m:
            worth["extended"] = models.measure(m, scored, "extended", o.progress)
        report = {
            "command": "extend", "spec": str(o.spec), "spec_hash": spec.hash, "rank": o.rank, "start": o.start,
            "calibration": {"text": str(o.text), "tokens": blocks.tokens},
            "block_influence": blocks.influence.tolist(),
            "repeated": sorted(set(o.blocks)), "stack": [{"block": i, "repetition": again} for i, again in new],
        } | compare(spec, larger, worth, "extended")
        made.write(room, f"Made by mossc.flexi extend of {spec.name}.")
        models.write_report(room, report)
    return report
