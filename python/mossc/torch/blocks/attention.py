"""attention: softmax attention with groups of heads, a window, rotations, norms of q and k."""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..weights import Weights
from .base import Context, Kind, Result, State, normed


def frequencies(rope: dict) -> Tensor:
    """ω_i [dim/2] in double, scaled."""
    dim = rope["dim"]
    omega = rope["theta"] ** (-2 * torch.arange(dim // 2, dtype=torch.float64, device="cpu") / dim)
    scaling = rope["scaling"]
    if scaling == "none":
        return omega
    if scaling["kind"] == "linear":
        return omega / scaling["factor"]
    low, high, original = (scaling[key] for key in ("low_freq_factor", "high_freq_factor", "original_max_positions"))
    length = 2 * math.pi / omega
    part = (original / length - low) / (high - low)
    between = omega * ((1 - part) / scaling["factor"] + part)
    return torch.where(length < original / high, omega, torch.where(length > original / low, omega / scaling["factor"], between))


class Attention(Kind):
    def __init__(self, keys: dict, context: Context):
        super().__init__(keys, context)
        self.heads, self.kv_heads, self.head_dim = keys["n_heads"], keys["n_kv_heads"], keys["head_dim"]
        self.window = None if keys["window"] == "none" else keys["window"]
        self.omega = None if keys["rope"] == "none" else frequencies(keys["rope"])
        self.scale = keys.get("scale", 1 / math.sqrt(self.head_dim))

    def __call__(self, w: Weights, u: Tensor, state: State | None, position: int) -> Result:
        batch, length, _ = u.shape
        x = u.flatten(0, 1)
        of = lambda name, heads: w.map(name, x).view(batch, length, heads, self.head_dim)
        q = self._turned(self._clipped(self._normed(w, "q_norm", of("q_proj", self.heads))), position)
        k = self._turned(self._clipped(self._normed(w, "k_norm", of("k_proj", self.kv_heads))), position)
        v = self._clipped(of("v_proj", self.kv_heads))
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        if state is not None:
            k, v = torch.cat([state["k"], k], 2), torch.cat([state["v"], v], 2)
        y = self._attend(q, k, v).transpose(1, 2).flatten(2).flatten(0, 1)
        keep = k.shape[2] if self.window is None else min(k.shape[2], self.window - 1)
        after = {"k": k[:, :, k.shape[2] - keep :], "v": v[:, :, v.shape[2] - keep :]}
        return Result(w.map("o_proj", y).view_as(u), after)

    def _normed(self, w: Weights, name: str, x: Tensor) -> Tensor:
        kind = self.keys["qk_norm"]
        rows = x if kind != "full" else x.flatten(2)
        return normed(w, name, rows, self.context.norm_eps, kind).view_as(x)

    def _clipped(self, x: Tensor) -> Tensor:
        c = self.keys["qkv_clip"]
        return x if c == "none" else x.clamp(-c, c)

    def _turned(self, x: Tensor, position: int) -> Tensor:
        """x [B, T, heads, hd]; angles are formed in double."""
        if self.omega is None:
            return x
        at = torch.arange(position, position + x.shape[1], dtype=torch.float64, device="cpu")
        angle = at[:, None, None] * self.omega  # [T, 1, dim/2]
        cos, sin = (f(angle).to(device=x.device, dtype=x.dtype) for f in (torch.cos, torch.sin))
        dim = self.keys["rope"]["dim"]
        head, rest = x[..., :dim], x[..., dim:]
        if self.keys["rope"]["pairing"] == "interleaved":
            a, b = head[..., 0::2], head[..., 1::2]
            turned = torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2)
        else:
            a, b = head.chunk(2, -1)
            turned = torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
        return torch.cat([turned, rest], -1)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q [B, H, T, hd]; k, v [B, Hkv, S, hd], the last T of S being q's own."""
        share = self.heads // self.kv_heads
        if share > 1:
            k, v = k.repeat_interleave(share, 1), v.repeat_interleave(share, 1)
        length, seen = q.shape[2], k.shape[2]
        if length == seen and (self.window is None or self.window >= seen):
            return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.scale)
        back = torch.arange(seen - length, seen, device=q.device)[:, None] - torch.arange(seen, device=q.device)
        mask = (back >= 0) if self.window is None else (back >= 0) & (back < self.window)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.scale)
