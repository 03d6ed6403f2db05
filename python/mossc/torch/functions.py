"""Elementwise functions and norms of the language (docs/language.md). All take and give tensors of any shape."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

ACTIVATIONS = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda v: F.gelu(v, approximate="tanh"),
    "relu2": lambda v: F.relu(v).square(),
}
GATED = {"swiglu": "silu", "geglu": "gelu", "geglu_tanh": "gelu_tanh"}


def wide(v: Tensor) -> Tensor:
    """bf16 and f16, which autocast makes, as float32: for what adds up over a sequence."""
    return v.float() if v.dtype in (torch.bfloat16, torch.float16) else v


def softplus(v: Tensor) -> Tensor:
    """log(1 + e^v), float32 at least; the threshold lies where double does not see the difference."""
    return F.softplus(wide(v), threshold=40.0)


def heavy_tail(v: Tensor) -> Tensor:
    """1 + v from 0 on, 1/(1 − v) below."""
    return torch.where(v >= 0, 1 + v, 1 / (1 + v.abs()))


A_ACTIVATIONS = {"heavy_tail": heavy_tail, "softplus": softplus}


def rms(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """x over the root of its mean square, over the last axis."""
    return F.rms_norm(x, x.shape[-1:], weight, eps)


def layer(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], weight, bias, eps)


def held(v: Tensor) -> Tensor:
    """Zero-order hold: what Δ is multiplied with, for v = Δ·A. Six terms of the series from −1/4 on, as the language defines it."""
    far = v < -0.25
    v_far = torch.where(far, v, -1.0)
    series = 1 + v * (1 / 2 + v * (1 / 6 + v * (1 / 24 + v * (1 / 120 + v / 720))))
    return torch.where(far, torch.expm1(v_far) / v_far, series)


def held_slope(v: Tensor) -> Tensor:
    """The derivative of held."""
    far = v < -0.25
    v_far = torch.where(far, v, -1.0)
    series = 1 / 2 + v * (2 / 6 + v * (3 / 24 + v * (4 / 120 + v * (5 / 720))))
    return torch.where(far, (torch.exp(v_far) * v_far - torch.expm1(v_far)) / v_far.square(), series)
