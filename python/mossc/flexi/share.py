"""Which blocks go, which others take their places, and the weights of those that do (FlexiGPT, arXiv 2501.14713)."""
from __future__ import annotations

import dataclasses
import functools
import typing

import numpy as np

from mossc.errors import MosscError
from mossc.flexi.checkpoint import FILE_DTYPES, Checkpoint, Stored, store
from mossc.flexi.lowrank import factors, left_over
from mossc.flexi.matching import assign_in_runs
from mossc.flexi.stack import Stack
from mossc.spec import Spec

_AT_ONCE = 1 << 25  # numbers of differences that are held at once


def count_of(rate: float, blocks: int) -> int:
    """How many blocks a rate is. MosscError: none."""
    wanted = int(rate * blocks + 0.5)
    if wanted == 0:
        raise MosscError("bad_input", f"rate {rate:g} of {blocks} blocks is less than one")
    return wanted


def _that_may_go(stack: Stack, influence: np.ndarray, drop: bool) -> list[int]:
    """In the order of influence, the least first."""
    groups = [stack.kind(i) if drop else stack.signature(i) for i in range(len(stack))]
    left = {group: groups.count(group) for group in groups}
    out: list[int] = []
    for i in np.argsort(influence, kind="stable").tolist():
        if left[groups[i]] > 1 and not stack.is_needed(i) and (drop or stack.can_be_shared(i)):
            out.append(i)
            left[groups[i]] -= 1
    return out


def choose(stack: Stack, influence: np.ndarray, rate: float, drop: bool) -> list[int]:
    """The blocks that go, rising: of the rate's share of all those of least influence, such that one stays of every kind; where they are
    replaced, one of every kind and shape whose weights may be shared. Blocks that others share stay. MosscError: none may go."""
    wanted, able = count_of(rate, len(stack)), _that_may_go(stack, influence, drop)
    if able:
        return sorted(able[:wanted])
    last = "kind" if drop else "kind and shape"
    hint = "; --drop needs no other of the same shape" if not drop and _that_may_go(stack, influence, True) else ""
    raise MosscError("bad_input", f"no block can go: each is the last of its {last}, or another shares its weights{hint}")


class Weights:
    """The maps of a model's blocks as numbers, each read once."""

    def __init__(self, stack: Stack, checkpoint: Checkpoint) -> None:
        self.stack, self.checkpoint = stack, checkpoint
        self.floats = functools.lru_cache(maxsize=None)(self._floats)

    def _floats(self, block: int, part: str) -> np.ndarray:
        return self.checkpoint.floats(f"blocks.{block}.{part}")

    def map(self, block: int, name: str) -> np.ndarray:
        """float32 [out, in], or [planes, out, in]."""
        return self.floats(block, self.stack.maps(block)[name])

    def is_per_expert(self, block: int, name: str) -> bool:
        return self.stack.tensors[block][self.stack.maps(block)[name]].per_expert


@dataclasses.dataclass(frozen=True)
class Distance:
    """How far a block is from another one whose weights it would share."""

    value: float  # Σ over maps of ‖(W_i − W_j) − SVD_r(W_i − W_j)‖²_F
    experts: list[int] | None  # of each expert of the other block: the expert of this one that is put there; None: it has none


def expert_costs(ours: np.ndarray, theirs: np.ndarray, rank: int) -> np.ndarray:
    """float64 [E, E]: [f, e] what is left of ours[e] − theirs[f] [E, out, in]."""
    count = len(ours)
    rows = max(1, _AT_ONCE // max(1, ours.size))
    return np.concatenate([left_over(ours[None].astype(np.float64) - theirs[first:first + rows, None], rank)
                           for first in range(0, count, rows)])


def distance(weights: Weights, block: int, other: int, rank: int, targets: typing.Collection[str]) -> Distance:
    """Of a block from another of its signature; maps that are no targets get no correction."""
    stack = weights.stack
    total, count = 0.0, stack.experts(block)
    costs = np.zeros((count, count))
    for name in stack.maps(block):
        ours, theirs, r = weights.map(block, name), weights.map(other, name), rank if name in targets else 0
        if weights.is_per_expert(block, name):
            costs += expert_costs(ours, theirs, r)
        else:
            total += float(left_over(ours.astype(np.float64) - theirs, r).sum())
    if count == 0:
        return Distance(total, None)
    order = assign_in_runs(costs, stack.runs_of_experts(block))
    return Distance(total + float(costs[np.arange(count), order].sum()), order.tolist())


@dataclasses.dataclass(frozen=True)
class Replacement:
    """A block that goes, and the one whose weights are in its place."""

    block: int
    by: int
    distance: float
    experts: list[int] | None


def nearest(weights: Weights, block: int, kept: typing.Iterable[int], rank: int, targets: typing.Collection[str],
            tell: typing.Callable[[], None] = lambda: None) -> Replacement:
    """The kept block of its kind and shape that is nearest, before or after it; of equal ones the first."""
    stack, best = weights.stack, None
    for other in kept:
        if stack.signature(other) != stack.signature(block) or not stack.can_be_shared(other):
            continue
        found = distance(weights, block, other, rank, targets)
        if best is None or found.value < best.distance:
            best = Replacement(block, other, found.value, found.experts)
        tell()
    if best is None:
        raise MosscError("bad_input", f"block {block}: no block of its kind and shape stays")
    return best


# ---- the spec and the weights that follow

@dataclasses.dataclass(frozen=True)
class Placed:
    """A block of the new model, in its order."""

    entry: dict
    of: int  # the block whose tensors it takes where `made` has none
    made: dict[str, Stored]  # without "blocks.3."


def kept_block(stack: Stack, i: int, is_shared: bool) -> Placed:
    return Placed(stack.named(i) if is_shared else stack.entries[i], i, {})


def share_entry(stack: Stack, i: int, by: int, rank: int, targets: typing.Sequence[str], own: typing.Sequence[str], out_norm: str) -> dict:
    """What stands in the place of block i: the weights of block `by`. rank 0: without adapters."""
    body = stack.body(i)
    share = {"block": stack.name(by), "input_scale": body["input_scale"], "output_scale": body["output_scale"], "out_norm": out_norm}
    if rank and targets:
        share["adapters"] = {"rank": rank, "targets": list(targets)}
    if own:
        share["own"] = list(own)
    return {**({"name": stack.entries[i]["name"]} if "name" in stack.entries[i] else {}), "share": share}


def constant_norm(width: int, square: float, output_scale: float) -> Stored:
    """out_norm.weight such that what the block adds has that mean square, if what is normed is large beside the norm's eps."""
    return store(np.full(width, np.sqrt(square) / output_scale, np.float32))


def scaled(stored: Stored, factor: float) -> Stored:
    return store(stored.floats() * np.float32(factor), stored.dtype)


def in_order(values: np.ndarray, order: typing.Sequence[int] | None) -> np.ndarray:
    return values if order is None else values[np.asarray(order)]


def small_tensors(weights: Weights, r: Replacement, own: typing.Collection[str]) -> dict[str, Stored]:
    """The pruned block's own small tensors, experts in their new order; where there is no order they are handed on as they lie."""
    out = {}
    for part, tensor in weights.stack.tensors[r.block].items():
        if tensor.own in own and r.experts is not None and (tensor.per_expert or tensor.own == "router"):
            stored = weights.checkpoint.parts(f"blocks.{r.block}.{part}")[f"blocks.{r.block}.{part}"]
            out[part] = store(in_order(stored.floats(), r.experts), stored.dtype)
    return out


def adapters(weights: Weights, r: Replacement, rank: int, targets: typing.Sequence[str], dtype: str) -> dict[str, Stored]:
    """A and B of each target: the correction of rank `rank` that brings the other block's map nearest to the pruned one's."""
    out = {}
    for name in targets if rank else ():
        ours, theirs = weights.map(r.block, name), weights.map(r.by, name)
        if weights.is_per_expert(r.block, name):
            ours = in_order(ours, r.experts)
        a, b = factors(ours.astype(np.float64) - theirs, rank)
        out[f"adapters.{name}.A"], out[f"adapters.{name}.B"] = store(a, dtype), store(b, dtype)
    return out


def adapter_dtype(spec: Spec) -> str:
    """Of the file: what the language rounds adapters to."""
    dtype = next((tensor.dtype for tensor in spec.tensors if ".adapters." in tensor.name), "f32")
    return FILE_DTYPES[dtype]


def collect(spec: Spec, placed: typing.Sequence[Placed], checkpoint: Checkpoint) -> dict[str, Stored]:
    """All tensors of the new spec: made ones, and those of the old checkpoint as they lie."""
    out: dict[str, Stored] = {}
    for tensor in spec.tensors:
        if tensor.block < 0:
            out |= checkpoint.parts(tensor.name)
            continue
        block, part = placed[tensor.block], tensor.name.split(".", 2)[2]
        if part in block.made:
            out[tensor.name] = block.made[part]
            continue
        old = f"blocks.{block.of}.{part}"
        for found, stored in checkpoint.parts(old).items():
            out[tensor.name + found[len(old):]] = stored
    return out
