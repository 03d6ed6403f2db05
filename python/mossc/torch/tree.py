"""Tensors held under the language's names: `shared.up_proj.weight` is parameter `weight` of module `up_proj` in module `shared`."""
from __future__ import annotations

from typing import Iterable

import torch
from torch import Tensor, nn

UNTRAINED = "select_bias"  # moved by hand (MosscModel.balance_experts); no gradient reaches it


class Holder(nn.Module):
    """Parameters and further holders; computes nothing."""


def hold(root: nn.Module, names: Iterable[tuple[str, tuple[int, ...]]]) -> list[tuple[str, nn.Module, str]]:
    """Adds a parameter for each name and shape below root. Returns (name, its module, its name there) for `held`."""
    places = []
    for name, shape in names:
        *path, leaf = name.split(".")
        at = root
        for part in path:
            if part not in at._modules:
                at.add_module(part, Holder())
            at = at._modules[part]
        at.register_parameter(leaf, nn.Parameter(torch.empty(shape), requires_grad=leaf != UNTRAINED))
        places.append((name, at, leaf))
    return places


def held(places: list[tuple[str, nn.Module, str]]) -> dict[str, Tensor]:
    return {name: at._parameters[leaf] if leaf in at._parameters else getattr(at, leaf) for name, at, leaf in places}
