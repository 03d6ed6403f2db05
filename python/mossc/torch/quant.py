"""Weights as the spec stores them, and inputs of 8 bits: rounded going forward, passed through going back.

What is trained are the float32 numbers; the forward pass computes with what `mossc` makes of them when it loads the checkpoint
(docs/language.md, "Weights of 8 and 4 bits"), so that the loss is that of the compiled model.
"""
from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch
import torch.nn.functional as F
from torch import Tensor

from mossc.rounding import GROUP, round_weights

from .quant_search import q4_numbers

NARROW = {"bf16": torch.bfloat16, "f16": torch.float16}
BLOCKS = ("q8", "q4")


class _Straight(torch.autograd.Function):
    """Another value with the gradient of x."""

    @staticmethod
    def forward(ctx, x, value):
        return value.view_as(value)

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


def grouped(x: Tensor) -> Tensor:
    """[.., K] -> [.., G, 32], zeros behind the last."""
    fill = -x.shape[-1] % GROUP
    return (F.pad(x, (0, fill)) if fill else x).unflatten(-1, (-1, GROUP))


def _ungrouped(x: Tensor, size: int) -> Tensor:
    return x.flatten(-2)[..., :size]


def _q8(w: Tensor) -> Tensor:
    groups = grouped(w.float())
    d = (groups.abs().amax(-1, keepdim=True) / 127).half().float()
    q = torch.where(d == 0, 0.0, (groups / torch.where(d == 0, 1.0, d)).round().clamp(-127, 127))
    return _ungrouped(d * q, w.shape[-1]).to(w.dtype)


def _q4(w: Tensor, exact: bool) -> Tensor:
    """exact: in w's own type; otherwise as the float32 number that a weight is."""
    rows = w.float().reshape(-1, w.shape[-1])
    q, D, M = _q4_on_cpu(rows) if rows.device.type == "cpu" else q4_numbers(rows)
    kind = w.dtype if exact else torch.float32
    value = D.to(kind)[..., None] * grouped(q.to(kind)) - M.to(kind)[..., None]
    return _ungrouped(value, w.shape[-1]).reshape(w.shape).to(w.dtype)


def _q4_on_cpu(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """q4_numbers by the C library, a thread for each part of the rows. Detached, since no_grad does not reach other threads, where numpy() would
    refuse rows that are a view of a parameter."""
    parts = rows.detach().chunk(max(1, min(torch.get_num_threads(), len(rows) // 16)))
    with ThreadPoolExecutor(len(parts)) as pool:
        done = list(pool.map(lambda part: round_weights("q4", part.numpy()), parts))
    return tuple(torch.cat([torch.from_numpy(found[i]) for found in done]) for i in range(3))


@torch.no_grad()
def stored(w: Tensor, dtype: str, exact: bool = False) -> Tensor:
    """The numbers that a tensor of this dtype of the spec holds, in w's type."""
    if dtype in NARROW:
        return w.float().to(NARROW[dtype]).to(w.dtype)
    return _q8(w) if dtype == "q8" else _q4(w, exact) if dtype == "q4" else w


def fake_quantise(w: Tensor, dtype: str, exact: bool = False) -> Tensor:
    """`stored`, with the gradient of w."""
    return w if dtype == "f32" else _Straight.apply(w, stored(w, dtype, exact))


@torch.no_grad()
def _rounded(x: Tensor) -> Tensor:
    groups = grouped(x.float())
    a = groups.abs().amax(-1, keepdim=True)
    small = a < 2.0**-100
    a = torch.where(small, 1.0, a)
    p = (groups * (127 / a)).round().clamp(-127, 127)
    return _ungrouped(torch.where(small, 0.0, (a / 127).to(x.dtype) * p.to(x.dtype)), x.shape[-1])


def round_input(x: Tensor) -> Tensor:
    """x as a map of q8 or q4 takes it: 8 bits a number, a scale for each 32."""
    return _Straight.apply(x, _rounded(x))
