"""mlp: a gated or plain MLP, or experts that are."""
from __future__ import annotations

from torch import Tensor

from ..experts import Pairs
from ..functions import ACTIVATIONS, GATED
from ..weights import Weights
from .base import Kind, Result, State

MAPS = ("gate_proj", "up_proj", "down_proj")


class Mlp(Kind):
    @property
    def per_expert(self) -> frozenset[str]:
        return frozenset(MAPS) if self.experts else frozenset()

    def __call__(self, w: Weights, u: Tensor, state: State | None, position: int) -> Result:
        x = u.flatten(0, 1)
        if not self.experts:
            return Result(self._feed(x, w.map).view_as(u), {})
        pairs, losses = self.route(w, x)
        y = self._routed(w, x, pairs)
        if self.experts["shared"]:
            y = y + self._shared(w, x)
        return Result(y.view_as(u), {}, [losses])

    def _feed(self, x: Tensor, linear) -> Tensor:
        word = self.keys["activation"]
        hidden = linear("up_proj", x)
        if word in GATED:
            hidden = ACTIVATIONS[GATED[word]](linear("gate_proj", x)) * hidden
        else:
            hidden = ACTIVATIONS[word](hidden)
        return linear("down_proj", hidden)

    def _routed(self, w: Weights, x: Tensor, pairs: Pairs) -> Tensor:
        latent = self.experts["latent"] != "none"
        inner = w.map("latent_down_proj", x) if latent else x
        y = pairs.combine(self._feed(pairs.sort(inner), lambda name, v: w.sorted(name, v, pairs)))
        return w.map("latent_up_proj", y) if latent else y

    def _shared(self, w: Weights, x: Tensor) -> Tensor:
        y = sum(self._feed(x, lambda name, v: w.every("shared." + name, v, j)) for j in range(self.experts["shared"]))
        return y * (x @ w["shared_gate.weight"].t()).sigmoid() if "shared_gate.weight" in w else y
