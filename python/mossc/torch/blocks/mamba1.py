"""ssm of kind mamba1, dense, with experts that mix parameters, and with experts that have states."""
from __future__ import annotations

from torch import Tensor

from ..experts import Pairs
from ..functions import ACTIVATIONS, softplus, wide
from ..scan import expert_scan, selective_scan
from ..weights import Weights
from .base import Context, Kind, Result, State, before, conv_act, last_of, normed


class Mamba1(Kind):
    def __init__(self, keys: dict, context: Context):
        super().__init__(keys, context)
        self.inner, self.N, self.R, self.W = keys["d_inner"], keys["d_state"], keys["dt_rank"], keys["d_conv"]
        self.act = ACTIVATIONS[keys["activation"]]
        self.zoh = keys["discretize"] == "zoh"
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
        x = w.map("in_proj", rows, mix).unflatten(0, (batch, length))
        past = before(state, "past", x, batch, self.W - 1, self.inner)
        c = conv_act(x, past, *self._conv(w, mix, batch), self.keys["activation"])
        if self.experts and self.router["input"] == "inner":
            chosen, loss = self.route(w, c.flatten(0, 1))
            losses.append(loss)
            mix = chosen if self.params else None
        y, after = self._outputs(w, c, chosen, state) if self.outputs else self._one(w, c, mix, state)
        z = self.act(w.map("gate_proj", rows, mix))
        out = w.map("out_proj", y.flatten(0, 1) * z, mix).view_as(u)
        return Result(out, {"past": last_of(past, x), "s": after}, losses)

    def _conv(self, w: Weights, mix: Pairs | None, batch: int):
        """Weight and bias, of each token where experts mix them."""
        of = lambda name, dims: self._by_token(w.mixed("conv", name, mix), dims, batch)
        return of("conv.weight", 2), of("conv.bias", 1)

    @staticmethod
    def _by_token(value: Tensor | None, dims: int, batch: int) -> Tensor | None:
        """[M, ..] -> [B, T, ..] of a parameter of `dims` axes; others as they are."""
        return value if value is None or value.dim() == dims else value.unflatten(0, (batch, -1))

    def _low(self, w: Weights, low: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x_proj's output as δ, B and C, normed where the spec says so."""
        eps = self.keys["inner_norm_eps"]
        parts = low.split([self.R, self.N, self.N], -1)
        return tuple(normed(w, key, part, eps, self.keys[key]) for key, part in zip(("dt_norm", "b_norm", "c_norm"), parts))

    def _one(self, w: Weights, c: Tensor, mix: Pairs | None, state: State | None) -> tuple[Tensor, Tensor]:
        """One state. c [B, T, I] -> y [B, T, I] and the state [B, I, N]."""
        batch, length, _ = c.shape
        flat = c.flatten(0, 1)
        delta, B, C = self._low(w, w.map("x_proj", flat, mix))
        dt = softplus(w.map("dt_proj", delta, mix))
        by_sequence = lambda v: v.unflatten(0, (batch, length))
        A, gates = -wide(w["A_log"]).exp(), None
        if mix is not None and "A" in self.per_expert:
            gates = by_sequence(mix.dense.to(A.dtype))
        else:
            A = A[None]
        s = before(state, "s", c, batch, self.inner, self.N)
        y, s = selective_scan(by_sequence(dt), c, A, by_sequence(B), by_sequence(C), s, gates, self.zoh)
        return y + self._by_token(w.mixed("D", "D", mix), 1, batch) * c, s

    def _outputs(self, w: Weights, c: Tensor, chosen: Pairs, state: State | None) -> tuple[Tensor, Tensor]:
        """A state for each expert: [B, E, I, N]. The sum over the chosen of gate times output."""
        batch, length, _ = c.shape
        E = self.experts["count"]
        pairs = chosen.every() if self.experts["idle"] == "update" else chosen
        flat = c.flatten(0, 1)
        delta, B, C = self._low(w, w.pairs("x_proj", flat, pairs))
        dt = softplus(w.pairs("dt_proj", delta, pairs))
        A = -wide(w["A_log"]).exp()
        A = A if "A" in self.per_expert else A[None]
        by_sequence = lambda v: v.unflatten(0, (batch, length))
        s = before(state, "s", c, batch, E, self.inner, self.N)
        of_pairs = [by_sequence(v) for v in (dt, B, C, pairs.index, pairs.gates)]
        y, s = expert_scan(of_pairs[0], c, A, *of_pairs[1:3], s, *of_pairs[3:], self.zoh)
        D = w["D"]
        through = pairs.dense.to(D.dtype) @ D if "D" in self.per_expert else pairs.gates.sum(1, keepdim=True) * D
        return y + by_sequence(through) * c, s
