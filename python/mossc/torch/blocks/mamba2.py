"""ssm of kind mamba2: heads that decay as one; with experts of both ways."""
from __future__ import annotations

import torch
from torch import Tensor

from ..experts import Pairs, Rows
from ..functions import ACTIVATIONS, held, rms, softplus, wide
from ..ssd import ssd
from ..weights import Weights
from .base import Context, Kind, Result, State, before, conv_act, last_of


class Mamba2(Kind):
    def __init__(self, keys: dict, context: Context):
        super().__init__(keys, context)
        self.inner, self.N, self.P, self.G, self.W = (keys[k] for k in ("d_inner", "d_state", "head_dim", "n_groups", "d_conv"))
        self.H = self.inner // self.P
        self.act = ACTIVATIONS[keys["activation"]]
        combine = self.experts["combine"] if self.experts else None
        self.params, self.outputs = combine == "params", combine == "outputs"

    def __call__(self, w: Weights, u: Tensor, state: State | None, position: int) -> Result:
        batch, length, _ = u.shape
        rows = u.flatten(0, 1)
        chosen, losses = None, []
        if self.experts and self.router["input"] == "block":
            chosen, loss = self.route(w, rows)
            losses.append(loss)
        mix = chosen if self.params else None
        x_in = w.map("in_proj", rows, mix).unflatten(0, (batch, length))
        past = before(state, "past", x_in, batch, self.W - 1, self.inner)
        x = self._conv_act(x_in, past, *self._conv(w, mix, batch, slice(0, self.inner)))
        if self.experts and self.router["input"] == "inner":
            chosen, loss = self.route(w, x.flatten(0, 1))
            losses.append(loss)
            mix = chosen if self.params else None
        y, after = self._outputs(w, u, x, chosen, state) if self.outputs else self._one(w, u, x, mix, state)
        z = self.act(w.map("gate_proj", rows, mix))
        y = y.flatten(0, 1)
        y = self._norm(w, y) * z if self.keys["norm_before_gate"] else self._norm(w, y * z)
        return Result(w.map("out_proj", y, mix).view_as(u), {"past": last_of(past, x_in), **after}, losses)

    def _conv(self, w: Weights, mix: Pairs | None, batch: int, channels: slice):
        """Weight and bias of some channels, of each token where experts mix them."""
        weight, bias = w.mixed("conv", "conv.weight", mix), w.mixed("conv", "conv.bias", mix)
        by_token = lambda v, dims: v if v.dim() == dims else v.unflatten(0, (batch, -1))
        return by_token(weight, 2)[..., channels, :], None if bias is None else by_token(bias, 1)[..., channels]

    def _conv_act(self, x: Tensor, past: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return conv_act(x, past, weight, bias, self.keys["activation"])

    def _norm(self, w: Weights, y: Tensor) -> Tensor:
        if self.keys["gated_norm"] == "none":
            return y
        runs = y.unflatten(-1, (self.keys["norm_groups"], -1))
        return rms(runs, None, self.keys["inner_norm_eps"]).flatten(-2) * w["gated_norm.weight"]

    def _step(self, raw: Tensor) -> Tensor:
        """Δ."""
        dt, limit = softplus(raw), self.keys["dt_limit"]
        return dt if limit == "none" else dt.clamp(limit[0], None if limit[1] == "none" else limit[1])

    def _scan(self, x: Tensor, bc: Tensor, dt: Tensor, A: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """x [R, L, I], bc [R, L, 2GN], dt [R, L, H], A such that dt·A is; s [R, H, P, N] -> y [R, L, I], s."""
        v = dt * A
        takes = dt * held(v) if self.keys["discretize"] == "zoh" else dt
        k, q = bc.unflatten(-1, (2, 1, self.G, self.N)).unbind(2)
        y, s = ssd(x.unflatten(-1, (1, self.H, self.P)), k, q, v, takes, takes, s)
        return y.flatten(2), s

    def _skip(self, D: Tensor) -> Tensor:
        """D of heads or of channels as one of channels, over the last axis."""
        return D if self.keys["d_per_channel"] else D.repeat_interleave(self.P, -1)

    def _one(self, w: Weights, u: Tensor, x: Tensor, mix: Pairs | None, state: State | None):
        batch, length, _ = u.shape
        rows = u.flatten(0, 1)
        by_sequence = lambda v: v.unflatten(0, (batch, length))
        bc_in = by_sequence(w.map("bc_proj", rows, mix))
        past = before(state, "past_bc", bc_in, batch, self.W - 1, bc_in.shape[2])
        bc = self._conv_act(bc_in, past, *self._conv(w, mix, batch, slice(self.inner, None)))
        dt = by_sequence(self._step(w.map("dt_proj", rows, mix)))
        A = w.mixed("A", "A_log", mix, -wide(w["A_log"]).exp())
        A = A if A.dim() == 1 else by_sequence(A)
        D = self._skip(w.mixed("D", "D", mix))
        s = before(state, "s", x, batch, self.H, self.P, self.N)
        y, s = self._scan(x, bc, dt, A, s)
        y = y + (D if D.dim() == 1 else by_sequence(D)) * x
        return y, {"past_bc": last_of(past, bc_in), "s": s}

    def _outputs(self, w: Weights, u: Tensor, x: Tensor, chosen: Pairs, state: State | None):
        """A state for each expert [B, E, H, P, N], and where bc_proj is per expert a history of B and C too."""
        batch, length, _ = u.shape
        E = self.experts["count"]
        pairs = chosen.every() if self.experts["idle"] == "update" else chosen
        K = pairs.index.shape[1]
        flat = u.flatten(0, 1)
        by_sequence = lambda v: v.unflatten(0, (batch, length))
        rows = Rows(by_sequence(pairs.index), E)
        spread = lambda v: rows.spread(by_sequence(v))
        to_pairs = lambda v: v.flatten(0, 1)[:, None].expand(-1, K, -1)
        conv = self._conv(w, None, batch, slice(self.inner, None))
        if "bc_proj" in self.per_expert:
            bc_in = spread(w.pairs("bc_proj", flat, pairs))  # [B·E, L, 2GN]
            past = before(state, "past_bc", bc_in, batch * E, self.W - 1, bc_in.shape[2])
            bc = self._conv_act(bc_in, past, *conv)
            after = last_of(past, bc_in, rows.lengths)
        else:
            bc_in = by_sequence(w.map("bc_proj", flat))
            past = before(state, "past_bc", bc_in, batch, self.W - 1, bc_in.shape[2])
            bc = spread(to_pairs(self._conv_act(bc_in, past, *conv)))
            after = last_of(past, bc_in)
        dt = spread(self._step(w.pairs("dt_proj", flat, pairs)))
        A = -wide(w["A_log"]).exp()
        A = A.repeat(batch, 1)[:, None] if "A" in self.per_expert else A
        s = before(state, "s", x, batch * E, self.H, self.P, self.N)
        y, s = self._scan(spread(to_pairs(x)), bc, dt, A, s)
        y = (rows.collect(y) * by_sequence(pairs.gates).to(y.dtype)[..., None]).sum(2)
        D = self._skip(w["D"])
        through = pairs.dense.to(D.dtype) @ D if "D" in self.per_expert else pairs.gates.sum(1, keepdim=True) * D
        return y + by_sequence(through) * x, {"past_bc": after, "s": s}
