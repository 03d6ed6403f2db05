"""The tensors of one block while it computes, and the linear maps made of them."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from . import quant
from .experts import Pairs, grouped_linear


@dataclass
class Weights:
    """Names are those of the language behind `blocks.{i}.`; a share sees its own tensors over those of the block that it repeats.

    stored: name -> the tensor as the forward pass takes it (rounded to what the spec stores); per_expert: parts with an expert axis.
    """

    tensors: dict[str, Tensor]
    dtypes: dict[str, str]
    stored: Callable[[str, Tensor, bool], Tensor]
    rounds: bool  # inputs of q8 and q4 maps are rounded
    per_expert: frozenset[str] = frozenset()
    targets: frozenset[str] = frozenset()  # maps with adapters

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def get(self, name: str) -> Tensor | None:
        return self.tensors.get(name)

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    # ---- parameters that are no maps

    def mixed(self, part: str, name: str, mix: Pairs | None, value: Tensor | None = None) -> Tensor | None:
        """A parameter, or under `params` the mixture of the chosen experts' for each of M tokens [M, ..]."""
        value = self.tensors.get(name) if value is None else value
        if value is None or mix is None or part not in self.per_expert:
            return value
        return (mix.dense.to(value.dtype) @ value.flatten(1)).unflatten(1, value.shape[1:])

    # ---- maps

    def _matrix(self, name: str) -> tuple[Tensor, bool]:
        """The weight of a map, and whether its input is rounded."""
        full = name + ".weight"
        dtype = self.dtypes[full]
        rounds = self.rounds and dtype in quant.BLOCKS
        return self.stored(full, self.tensors[full], rounds), rounds

    def _adapter(self, name: str) -> tuple[Tensor, Tensor] | None:
        word = name.replace("shared.", "shared_")
        if word not in self.targets:
            return None
        return tuple(self.stored(at, self.tensors[at], False) for at in (f"adapters.{word}.A", f"adapters.{word}.B"))

    def map(self, name: str, x: Tensor, mix: Pairs | None = None) -> Tensor:
        """W x + b + B(A x) for x [M, in]; with `mix` and experts of its own, the mixture of the chosen experts'."""
        if mix is not None and name in self.per_expert:
            return mix.combine(self.sorted(name, mix.sort(x), mix))
        w, rounds = self._matrix(name)
        y = F.linear(quant.round_input(x) if rounds else x, w, self.tensors.get(name + ".bias"))
        adapter = self._adapter(name)
        return y if adapter is None else y + F.linear(F.linear(x, adapter[0]), adapter[1])

    def sorted(self, name: str, x: Tensor, pairs: Pairs) -> Tensor:
        """The maps of the experts on sorted pairs x [P, in]."""
        w, rounds = self._matrix(name)
        y = grouped_linear(quant.round_input(x) if rounds else x, w, pairs.ends, self.tensors.get(name + ".bias"))
        adapter = self._adapter(name)
        if adapter is not None:
            y = y + grouped_linear(grouped_linear(x, adapter[0], pairs.ends), adapter[1], pairs.ends)
        return y

    def pairs(self, name: str, x: Tensor, pairs: Pairs) -> Tensor:
        """A map on pairs, shared or of the experts: x [M, in] or [M, K, in] -> [M, K, out]."""
        if name in self.per_expert:
            return pairs.unsort(self.sorted(name, pairs.sort(x) if x.dim() == 2 else pairs.sort_pairs(x), pairs))
        y = self.map(name, x.flatten(0, -2)).unflatten(0, x.shape[:-1])
        return y if x.dim() == 3 else y[:, None].expand(-1, pairs.index.shape[1], -1)

    def every(self, name: str, x: Tensor, j: int) -> Tensor:
        """Map j of those of the shared experts."""
        w, rounds = self._matrix(name)
        bias = self.tensors.get(name + ".bias")
        y = F.linear(quant.round_input(x) if rounds else x, w[j], None if bias is None else bias[j])
        adapter = self._adapter(name)
        return y if adapter is None else y + F.linear(F.linear(x, adapter[0][j]), adapter[1][j])
