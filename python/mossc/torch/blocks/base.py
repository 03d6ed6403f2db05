"""What all kinds of block share: their interface, and pieces that several use."""
from __future__ import annotations

import abc
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .. import native
from ..experts import Pairs, RouterLoss
from ..functions import ACTIVATIONS, rms, wide
from ..router import route
from ..weights import Weights

State = dict[str, Tensor]


@dataclass
class Context:
    """What a block needs to know besides its own keys."""

    d_model: int
    norm_eps: float


@dataclass
class Result:
    """y [B, T, D]; the state after the last token; the losses of the routers that ran."""

    y: Tensor
    state: State
    losses: list[RouterLoss] = field(default_factory=list)


class Kind(abc.ABC):
    """A kind of block: what it computes, of the block's resolved keys. It holds no tensors."""

    def __init__(self, keys: dict, context: Context):
        self.keys, self.context = keys, context
        experts = keys.get("experts", "none")
        self.experts = None if experts == "none" else experts
        self.router = keys.get("router")

    @property
    def per_expert(self) -> frozenset[str]:
        """The parts with an expert axis: maps, "conv", "A", "D"."""
        return frozenset(self.experts["per_expert"]) if self.experts else frozenset()

    @abc.abstractmethod
    def __call__(self, w: Weights, u: Tensor, state: State | None, position: int) -> Result:
        """u [B, T, D], scaled; state None: a sequence begins; position: that of u's first token."""

    def route(self, w: Weights, rho: Tensor) -> tuple[Pairs, RouterLoss]:
        """rho [M, in]."""
        return route(w, self.router, self.experts["count"], rho)


def before(state: State | None, name: str, like: Tensor, *shape: int) -> Tensor:
    """A part of the state, zeros at the beginning of a sequence."""
    return like.new_zeros(shape) if state is None else state[name]


def causal_conv(x: Tensor, past: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Depthwise. x [B, T, I]; past [B, W − 1, I]; weight [I, W], or [B, T, I, W] of each token; bias [I] or [B, T, I]. -> [B, T, I]"""
    seen = torch.cat([past, x], 1)
    y = sum(seen[:, j : j + x.shape[1]] * weight[..., j] for j in range(weight.shape[-1]))
    return y if bias is None else y + bias


def conv_act(x: Tensor, past: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    """causal_conv with the activation of this name behind it."""
    if activation == "silu" and weight.dim() == 2:
        wide_x, wide_past, wide_weight, wide_bias = (v if v is None else wide(v) for v in (x, past, weight, bias))
        if native.usable(wide_x, wide_past, wide_weight):
            return native.conv_silu(wide_x, wide_past, wide_weight, wide_bias).to(x.dtype)
    return ACTIVATIONS[activation](causal_conv(x, past, weight, bias))


def last_of(past: Tensor, x: Tensor, lengths: Tensor | None = None) -> Tensor:
    """The last W − 1 of past [B, W − 1, I] and x [B, T, I]; with lengths [B], of x only so many."""
    width = past.shape[1]
    seen = torch.cat([past, x], 1)
    if lengths is None:
        return seen[:, seen.shape[1] - width :]
    at = lengths[:, None] + torch.arange(width, device=x.device)
    return seen.gather(1, at[..., None].expand(-1, -1, x.shape[2]))


def normed(w: Weights, name: str, x: Tensor, eps: float, chosen: str) -> Tensor:
    """An RMS norm where the key that asks for it is not `none`."""
    return x if chosen == "none" else rms(x, w[name + ".weight"], eps)
