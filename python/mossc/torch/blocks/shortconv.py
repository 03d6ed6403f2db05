"""shortconv: a short convolution between two gates (LFM2)."""
from __future__ import annotations

from torch import Tensor

from ..weights import Weights
from .base import Kind, Result, State, before, causal_conv, last_of


class Shortconv(Kind):
    def __call__(self, w: Weights, u: Tensor, state: State | None, position: int) -> Result:
        batch, length, _ = u.shape
        x = u.flatten(0, 1)
        of = lambda name: w.map(name, x).unflatten(0, (batch, length))
        gated = of("b_proj") * of("in_proj")
        past = before(state, "past", gated, batch, self.keys["d_conv"] - 1, gated.shape[2])
        y = of("c_proj") * causal_conv(gated, past, w["conv.weight"], w.get("conv.bias"))
        return Result(w.map("out_proj", y.flatten(0, 1)).view_as(u), {"past": last_of(past, gated)})
