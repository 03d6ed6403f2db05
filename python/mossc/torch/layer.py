"""An entry of the stack as a module: its norm, its block or branches, and the residual sum."""
from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from mossc.spec import ENDS, TensorInfo, word_of

from .blocks import KINDS, Context, Kind, State
from .functions import layer as layer_norm
from .functions import rms
from .rounding import Rounding
from .tree import held, hold
from .weights import Weights


@dataclass
class Unit:
    """A block that computes: one of the stack, or a branch."""

    kind: Kind
    keys: dict
    prefix: str = ""  # of its tensors in the layer
    targets: frozenset[str] = frozenset()


class Norm:
    """x -> normed, with weights of a layer's tensors."""

    def __init__(self, keys: dict):
        self.layer, self.eps = keys["kind"] == "layer", keys["eps"]

    def __call__(self, x: Tensor, tensors: dict[str, Tensor], name: str) -> Tensor:
        if self.layer:
            return layer_norm(x, tensors[name + ".weight"], tensors[name + ".bias"], self.eps)
        return rms(x, tensors[name + ".weight"], self.eps)


class Layer(nn.Module):
    """x + block(norm(x)). `lender`: of a share, the layer whose tensors it computes with, which it does not own."""

    def __init__(self, index: int, entry: dict, tensors: list[TensorInfo], norm: Norm, context: Context, rounding: Rounding):
        super().__init__()
        self.at = f"blocks.{index}."
        mine = [(t.name.removeprefix(self.at), t.shape, t.dtype) for t in tensors if t.name.startswith(self.at)]
        self._places = hold(self, [(name, shape) for name, shape, _ in mine])
        self._dtypes = {name: dtype for name, _, dtype in mine}
        self._norm, self._context, self._rounding = norm, context, rounding
        self._lender: list[Layer] = []  # in a list, so that its parameters are no child's
        self._units = [] if word_of(entry) == "share" else self._make_units(entry)
        self._share = entry.get("share")

    def _make_units(self, entry: dict) -> list[Unit]:
        word = word_of(entry)
        if word != "parallel":
            return [Unit(KINDS[word](entry[word], self._context), entry[word])]
        return [
            Unit(KINDS[word_of(b)](b[word_of(b)], self._context), b[word_of(b)], f"branches.{j}.")
            for j, b in enumerate(entry[word])
        ]

    def lend_from(self, lender: Layer) -> None:
        """Completes a share."""
        self._lender = [lender]
        (unit,) = lender._units
        adapters = self._share["adapters"]
        targets = frozenset() if adapters == "none" else frozenset(adapters["targets"])
        self._units = [Unit(unit.kind, self._share, targets=targets)]

    def _tensors(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        own = held(self._places)
        if not self._lender:
            return own, self._dtypes
        (lender,) = self._lender
        lent = {name: value for name, value in held(lender._places).items() if name != "out_norm.weight"}
        return lent | own, lender._dtypes | self._dtypes

    def forward(self, x: Tensor, state: list[State] | None, position: int):
        """x [B, T, D] -> x, the states of its units, and what each router did (RouterLoss)."""
        tensors, dtypes = self._tensors()
        u = self._norm(x, tensors, "norm")
        states, losses = [], []
        for j, unit in enumerate(self._units):
            weights = self._weights(unit, tensors, dtypes)
            y, after, loss = self._run(unit, weights, u, None if state is None else state[j], position)
            x = x + y.to(x.dtype)
            states.append(after)
            losses += loss
        return x, states, losses

    def _weights(self, unit: Unit, tensors: dict[str, Tensor], dtypes: dict[str, str]) -> Weights:
        cut = lambda table: {name[len(unit.prefix) :]: v for name, v in table.items() if name.startswith(unit.prefix)}
        stored = lambda name, value, exact: self._rounding(value, mine[name], exact)
        mine = cut(dtypes)
        return Weights(cut(tensors), mine, stored, self._rounding.inputs, unit.kind.per_expert, unit.targets)

    def _run(self, unit: Unit, w: Weights, u: Tensor, state: State | None, position: int):
        scale_in, scale_out, out_norm = (unit.keys[key] for key in ENDS)
        result = unit.kind(w, u if scale_in == 1 else u * scale_in, state, position)
        y = result.y
        if out_norm == "rms":
            y = rms(y, w["out_norm.weight"], self._context.norm_eps)
        return (y if scale_out == 1 else y * scale_out), result.state, result.losses

    def router_biases(self) -> list[nn.Parameter | None]:
        """`select_bias` of each router of forward's losses, in their order; None where it has none."""
        tensors, _ = self._tensors()
        return [tensors.get(unit.prefix + "router.select_bias") for unit in self._units if unit.kind.experts]


class Block(Layer):
    """A layer that FSDP may shard by itself."""


class Lender(Layer):
    """A layer whose tensors others compute with: they stay whole while the stack runs."""
