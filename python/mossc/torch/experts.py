"""Experts: which are chosen, and linear maps through those that are.

A pair is a token with one of its experts. Pairs stand in the order [M, K] of their tokens, or sorted by expert, so that each expert
multiplies rows that lie beside each other; no capacity, no token dropped.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor


class RouterLoss(NamedTuple):
    """What training needs to know of a router's choices."""

    mean: Tensor  # [E]: the mean over tokens of a score's share of its token's scores
    z: Tensor  # scalar: the mean of logsumexp(r)²
    load: Tensor  # [E]: pairs of each expert; no gradient


@dataclass
class Pairs:
    """The experts of M tokens: index [M, K] and gates [M, K]."""

    index: Tensor
    gates: Tensor
    count: int

    @cached_property
    def order(self) -> Tensor:
        """[M·K]: the pairs by expert."""
        return torch.argsort(self.index.flatten(), stable=True)

    @cached_property
    def inverse(self) -> Tensor:
        out = torch.empty_like(self.order)
        out[self.order] = torch.arange(out.numel(), device=out.device)
        return out

    @cached_property
    def token(self) -> Tensor:
        """[M·K]: the token of each sorted pair."""
        return self.order // self.index.shape[1]

    @cached_property
    def ends(self) -> list[int]:
        """[E]: where each expert's sorted pairs end."""
        return torch.bincount(self.index.flatten(), minlength=self.count).cumsum(0).tolist()

    @cached_property
    def dense(self) -> Tensor:
        """[M, E]: gates, zero where an expert is not chosen."""
        return self.gates.new_zeros(self.index.shape[0], self.count).scatter(1, self.index, self.gates)

    def every(self) -> Pairs:
        """All experts for every token; those that were not chosen with gate 0."""
        index = torch.arange(self.count, device=self.index.device).expand(self.index.shape[0], -1)
        return Pairs(index, self.dense, self.count)

    def sort(self, x: Tensor) -> Tensor:
        """Of tokens [M, ..] -> [M·K, ..] sorted, as an input of maps."""
        return _Sort.apply(as_input(x), self)

    def sort_pairs(self, x: Tensor) -> Tensor:
        """[M, K, ..] -> [M·K, ..] sorted, as an input of maps."""
        return _Permute.apply(as_input(x).flatten(0, 1), self.order, self.inverse)

    def unsort(self, x: Tensor) -> Tensor:
        """[M·K, ..] sorted -> [M, K, ..]."""
        return _Permute.apply(x, self.inverse, self.order).unflatten(0, self.index.shape)

    def combine(self, sorted_x: Tensor) -> Tensor:
        """Σ_k gate · x of sorted pairs [M·K, D] -> [M, D]."""
        return torch.bmm(self.gates.to(sorted_x.dtype)[:, None], self.unsort(sorted_x))[:, 0]


class _Permute(torch.autograd.Function):
    """Rows in another order; the gradient goes back by the inverse, where indexing would add up."""

    @staticmethod
    def forward(ctx, x, order, inverse):
        ctx.save_for_backward(order, inverse)
        return x.index_select(0, order)

    @staticmethod
    def backward(ctx, g):
        order, inverse = ctx.saved_tensors
        return _Permute.apply(g, inverse, order), None, None


class _Sort(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, pairs):
        ctx.pairs = pairs
        return x.index_select(0, pairs.token)

    @staticmethod
    def backward(ctx, g):
        return ctx.pairs.unsort(g).sum(1), None


class _Grouped(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w, bias, ends):
        ctx.save_for_backward(x, w)
        ctx.ends, ctx.biased = ends, bias is not None
        y = x.new_empty(x.shape[0], w.shape[1])
        for e, a, b in _row_runs(ends, x):
            if bias is None:
                torch.mm(x[a:b], w[e].t(), out=y[a:b])
            else:
                torch.addmm(bias[e], x[a:b], w[e].t(), out=y[a:b])
        return y

    @staticmethod
    def backward(ctx, gy):
        x, w = ctx.saved_tensors
        gy = gy.contiguous()
        gx = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        gw = torch.zeros_like(w) if ctx.needs_input_grad[1] else None
        gbias = w.new_zeros(w.shape[:2]) if ctx.biased and ctx.needs_input_grad[2] else None
        for e, a, b in _row_runs(ctx.ends, x) if gx is not None else ():
            torch.mm(gy[a:b], w[e], out=gx[a:b])
        for e, a, b in _runs(ctx.ends):
            if gw is not None:
                whole = _whole(a, b, _step(x))
                torch.mm(gy[a:whole].t(), x[a:whole], out=gw[e])
                if whole < b:
                    gw[e].addmm_(gy[whole:b].t(), x[whole:b])
            if gbias is not None:
                torch.sum(gy[a:b], 0, out=gbias[e])
        return gx, gw, gbias, None


def _step(x: Tensor) -> int:
    """Numbers of rows are multiples of it where that saves time: oneDNN compiles each product of 16 bits for its sizes, which takes as long as
    the product, and experts have other numbers of rows each time."""
    return 64 if x.device.type == "cpu" and x.dtype in (torch.bfloat16, torch.float16) else 1


def _whole(begin: int, end: int, step: int) -> int:
    """Where the last whole step from `begin` on ends."""
    return end - (end - begin) % step


def _runs(ends: list[int]):
    begin = 0
    for e, end in enumerate(ends):
        if end > begin:
            yield e, begin, end
        begin = end


def _row_runs(ends: list[int], x: Tensor):
    """_runs, in whole steps: what lies behind a run's end is computed by its expert too, and then again by those that it belongs to."""
    step = _step(x)
    for e, a, b in _runs(ends):
        stretched = _whole(a, b + step - 1, step)
        if stretched <= ends[-1]:
            yield e, a, stretched
            continue
        whole = _whole(a, b, step)
        if whole > a:
            yield e, a, whole
        if whole < b:
            yield e, whole, b


def as_input(x: Tensor) -> Tensor:
    """x in the type that maps multiply in under autocast."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


def grouped_linear(x: Tensor, w: Tensor, ends: list[int], bias: Tensor | None = None) -> Tensor:
    """x [P, in] sorted by expert, w [E, out, in], bias [E, out] -> [P, out]."""
    return _Grouped.apply(as_input(x).contiguous(), as_input(w), None if bias is None else as_input(bias), ends)


class Rows:
    """Pairs as sequences of their own: a row for each (sequence, expert), in which its tokens follow each other.

    index [B, T, K]. Rows are as long as the longest; what lies behind a row's end is zero.
    """

    def __init__(self, index: Tensor, count: int):
        batch, _, _ = index.shape
        self.shape, self.count = index.shape, count
        row = (torch.arange(batch, device=index.device)[:, None, None] * count + index).flatten()
        order = torch.argsort(row, stable=True)
        self.lengths = torch.bincount(row, minlength=batch * count)  # [B·E]
        self.length = int(self.lengths.max())
        first = self.lengths.cumsum(0) - self.lengths
        sorted_row = row[order]
        at = torch.arange(row.numel(), device=index.device) - first[sorted_row]
        self.slot = torch.empty_like(row)
        self.slot[order] = sorted_row * self.length + at

    def spread(self, x: Tensor) -> Tensor:
        """[B, T, K, ..] -> [B·E, L, ..]."""
        out = x.new_zeros(len(self.lengths) * self.length, *x.shape[3:])
        return out.index_copy(0, self.slot, x.flatten(0, 2)).unflatten(0, (-1, self.length))

    def collect(self, rows: Tensor) -> Tensor:
        """[B·E, L, ..] -> [B, T, K, ..]."""
        return rows.flatten(0, 1)[self.slot].unflatten(0, self.shape)
