"""Pruning: blocks of little influence go, and others stand in for them."""
from __future__ import annotations

import dataclasses
import pathlib
import typing

import numpy as np

from mossc.errors import MosscError
from mossc.flexi import model as models
from mossc.flexi import output, share
from mossc.flexi import text as texts
from mossc.flexi.checkpoint import Checkpoint
from mossc.flexi.stack import Stack
from mossc.model import Model
from mossc.spec import Spec, find

ALL = ("all",)


@dataclasses.dataclass
class Prune:
    """What `prune` is asked for. Lists of words: ("all",) means every one that fits."""

    spec: str
    weights: list[str]
    text: pathlib.Path
    output: pathlib.Path
    rate: float
    rank: int = 16
    drop: bool = False
    targets: tuple[str, ...] = ("smaller",)  # "smaller": maps whose adapter has fewer numbers than they
    own: tuple[str, ...] = ALL
    out_norm: str = "rms"
    text_bytes: int = 65536
    score: pathlib.Path | None = None
    threads: int = 0
    progress: texts.Progress = lambda what, done, total: None


def read_texts(text: pathlib.Path, most: int, score: pathlib.Path | None) -> tuple[bytes, bytes]:
    """(what calibrates, what is scored): of one file its last fifth is kept apart."""
    try:
        with open(text, "rb") as file:
            data, scored = file.read(most), b""
        if score:
            with open(score, "rb") as file:
                scored = file.read(most)
    except OSError as error:
        raise MosscError("no_file", f"{error.filename}: {error.strerror}") from None
    if score is None:
        cut = len(data) * 4 // 5
        while cut < len(data) and data[cut] & 0xC0 == 0x80:
            cut += 1
        data, scored = data[:cut], data[cut:]
    return data, scored


def words(asked: typing.Sequence[str], known: typing.Sequence[str], what: str) -> list[str]:
    if tuple(asked) == ALL:
        return list(known)
    for word in asked:
        if word not in known:
            raise MosscError("bad_input", f"{what}: '{word}' is none of {', '.join(known) or 'those that there are (none)'}")
    return [word for word in known if word in asked]


def targets_of(stack: Stack, block: int, asked: typing.Sequence[str], rank: int) -> list[str]:
    """The maps of a block that get adapters. A name that some other kind of block has is passed over."""
    maps = stack.maps(block)
    if tuple(asked) == ALL:
        return list(maps)
    if tuple(asked) == ("smaller",):
        shapes = {name: stack.tensors[block][part].shape[-2:] for name, part in maps.items()}
        return [name for name, (out, into) in shapes.items() if rank * (out + into) < out * into]
    return [name for name in maps if name in asked]


def check_names(stack: Stack, o: Prune) -> None:
    maps = {name for i in range(len(stack)) for name in stack.maps(i)}
    small = {word for i in range(len(stack)) for word in stack.small(i)}
    if o.targets != ("smaller",):
        words(o.targets, sorted(maps), "--targets")
    words(o.own, sorted(small), "--own")


class Pruning:
    """One run: the model that is pruned, what was seen of it, and what was decided."""

    def __init__(self, o: Prune) -> None:
        self.o = o
        self.spec, self.paths = find(o.spec, o.weights)
        self.stack = Stack(self.spec)
        check_names(self.stack, o)
        self.wanted = share.count_of(o.rate, len(self.stack))
        self.weights = share.Weights(self.stack, Checkpoint(self.paths))
        self.calibrating, self.scored = read_texts(o.text, o.text_bytes, o.score)
        with Model(self.spec, self.paths, threads=o.threads) as m:
            self.blocks = texts.look_at_blocks(m, texts.tokenise(m, self.calibrating), o.progress)
        self.pruned = share.choose(self.stack, self.blocks.influence, o.rate, o.drop)
        self.kept = [i for i in range(len(self.stack)) if i not in self.pruned]
        self.replacements: list[share.Replacement] = []

    def made(self, placed: list[share.Placed], suffix: str) -> models.Made:
        spec = self.stack.with_entries([p.entry for p in placed], suffix)
        return models.Made(spec, share.collect(spec, placed, self.weights.checkpoint), (self.spec.path or pathlib.Path()).parent)

    def dropped(self) -> models.Made:
        return self.made([share.kept_block(self.stack, i, False) for i in self.kept], "-dropped")

    def targets(self, block: int) -> list[str]:
        return targets_of(self.stack, block, self.o.targets, self.o.rank)

    def find_replacements(self) -> None:
        alike = {i: [j for j in self.kept if self.stack.signature(j) == self.stack.signature(i)] for i in self.pruned}
        total, done = sum(map(len, alike.values())), 0

        def tell() -> None:
            nonlocal done
            done += 1
            self.o.progress("distances", done, total)

        self.replacements = [share.nearest(self.weights, i, alike[i], self.o.rank, self.targets(i), tell) for i in self.pruned]

    def _share(self, r: share.Replacement, rank: int, dtype: str) -> share.Placed:
        stack, body = self.stack, self.stack.body(r.block)
        own = [word for word in stack.small(r.block) if self.o.own == ALL or word in self.o.own]
        had = body["out_norm"] != "none"
        entry = share.share_entry(stack, r.block, r.by, rank, self.targets(r.block), own, body["out_norm"] if had else self.o.out_norm)
        made = share.small_tensors(self.weights, r, own) | share.adapters(self.weights, r, rank, self.targets(r.block), dtype)
        if self.o.out_norm != "none" and not had:
            made["out_norm.weight"] = share.constant_norm(self.spec.d_model, float(self.blocks.square[r.block]), body["output_scale"])
        return share.Placed(entry, r.block, made)

    def settle_norms(self, made: models.Made, room: pathlib.Path) -> models.Made:
        """What the shares add has the mean square of what the pruned blocks added: the norm's eps, and what reaches a share, change it."""
        if self.o.out_norm == "none":
            return made
        with models.opened(made, room, self.o.threads) as m:
            squares = texts.look_at_blocks(m, texts.tokenise(m, self.calibrating), self.o.progress, "norms of shares").square
        for r in self.replacements:
            name = f"blocks.{r.block}.out_norm.weight"
            if self.stack.body(r.block)["out_norm"] == "none" and squares[r.block] > 0:
                made.tensors[name] = share.scaled(made.tensors[name], float(np.sqrt(self.blocks.square[r.block] / squares[r.block])))
        return made

    def shared(self, rank: int) -> models.Made:
        """With the replacements in place; rank 0: without adapters."""
        of = {r.block: r for r in self.replacements}
        used = {r.by for r in self.replacements}
        dtype = "F32"
        while True:  # the spec says what adapters are rounded to: it is made twice
            placed = [self._share(of[i], rank, dtype) if i in of else share.kept_block(self.stack, i, i in used) for i in range(len(self.stack))]
            made = self.made(placed, "-shared")
            if not rank or dtype == share.adapter_dtype(made.spec):
                return made
            dtype = share.adapter_dtype(made.spec)


def _about(p: Pruning) -> dict:
    """The report, but for what is measured."""
    notes = []
    if len(p.pruned) < p.wanted:
        notes.append(f"{len(p.pruned)} blocks may go, {p.wanted} were asked for: one of every kind stays")
    taken = sorted({part for r in p.replacements for part in p.stack.taken(r.block)})
    if taken:
        notes.append(f"taken from the other block as they are, since a share has no word for them: {', '.join(taken)}")
    bare = sorted({p.stack.kind(r.block) for r in p.replacements if not p.targets(r.block)})
    if bare and p.o.targets == ("smaller",) and p.o.rank:
        notes.append(f"no adapters in the place of {', '.join(bare)}: each map has fewer numbers than one of rank {p.o.rank} would")
    return {
        "command": "prune", "spec": str(p.o.spec), "spec_hash": p.spec.hash, "method": "drop" if p.o.drop else "share",
        "rate": p.o.rate, "rank": None if p.o.drop else p.o.rank, "out_norm": None if p.o.drop else p.o.out_norm,
        "calibration": {"text": str(p.o.text), "tokens": p.blocks.tokens},
        "block_influence": p.blocks.influence.tolist(),
        "pruned": p.pruned,
        "replaced_by": [r.by for r in p.replacements] or [None] * len(p.pruned),
        "distance": [r.distance for r in p.replacements] or [None] * len(p.pruned),
        "experts": [r.experts for r in p.replacements] or [None] * len(p.pruned),
        "targets": {p.stack.kind(r.block): p.targets(r.block) for r in p.replacements},
        "notes": notes,
    }


def compare(before: Spec, after: Spec, worth: dict[str, models.Worth], final: str) -> dict:
    """Sizes and measurements of the model before and after, and of what lies between."""
    sizes = {"before": models.size(before), "after": models.size(after)}
    worths = {**worth, "after": worth[final]}
    return {
        "parameters": {when: s["parameters"] for when, s in sizes.items()},
        "bytes": {when: s["bytes"] for when, s in sizes.items()},
        "bits_per_byte": {when: w.bits_per_byte for when, w in worths.items()},
        "speed": {when: {"prompt_tokens_per_second": w.prompt_tokens_per_second, "tokens_per_second": w.tokens_per_second}
                  for when, w in worths.items()},
    }


def prune(o: Prune) -> dict:
    """Writes o.output: spec.yaml, model.safetensors, report.json. Gives the report. MosscError."""
    with output.Directory(o.output) as room:
        p = Pruning(o)
        worth: dict[str, models.Worth] = {}

        def look(what: str, made: models.Made) -> models.Made:
            with models.opened(made, room, o.threads) as m:
                worth[what] = models.measure(m, p.scored, what, o.progress)
            return made

        with Model(p.spec, p.paths, threads=o.threads) as m:
            worth["before"] = models.measure(m, p.scored, "before", o.progress)
        final, made = "dropped", look("dropped", p.dropped())
        if not o.drop:
            p.find_replacements()
            look("shared", p.settle_norms(p.shared(0), room))
            final, made = "adapted", look("adapted", p.settle_norms(p.shared(o.rank), room))
        report = _about(p) | compare(p.spec, made.spec, worth, final)
        made.write(room, f"Made by mossc.flexi prune of {p.spec.name}.")
        models.write_report(room, report)
    return report
