"""The router of a block: which experts a token goes through, and with which weight."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .experts import Pairs, RouterLoss
from .weights import Weights


def route(w: Weights, keys: dict, count: int, rho: Tensor) -> tuple[Pairs, RouterLoss]:
    """keys: the block's `router`; rho [M, in], in its own type. Experts of a token rise."""
    with torch.autocast(rho.device.type, enabled=False):
        r = F.linear(rho.to(w["router.weight"].dtype), w["router.weight"], w.get("router.bias"))
        p = r.softmax(-1) if keys["score"] == "softmax" else r.sigmoid()
        index = _choose(p + w["router.select_bias"] if keys["select_bias"] else r, keys)
        gates = p.gather(1, index)
        if keys["normalize"]:
            gates = gates / (gates.sum(1, keepdim=True) + 1e-20)
        return Pairs(index, gates * keys["scale"], count), _losses(r, p, index, count)


@torch.no_grad()
def _choose(score: Tensor, keys: dict) -> Tensor:
    """[M, top_k], rising; equal scores go to the lower index."""
    if keys["groups"] != "none":
        n, top = keys["groups"]["count"], keys["groups"]["top"]
        runs = score.unflatten(1, (n, -1))
        of_run = runs.topk(min(2, runs.shape[2]), dim=2).values.sum(2)
        best = of_run.sort(dim=1, descending=True, stable=True).indices[:, :top]
        there = torch.zeros_like(of_run, dtype=torch.bool).scatter(1, best, True)
        score = runs.masked_fill(~there[:, :, None], -torch.inf).flatten(1)
    order = score.sort(dim=1, descending=True, stable=True).indices
    return order[:, : keys["top_k"]].sort(dim=1).values


def _losses(r: Tensor, p: Tensor, index: Tensor, count: int) -> RouterLoss:
    load = torch.bincount(index.flatten(), minlength=count).to(p.dtype)
    return RouterLoss((p / p.sum(-1, keepdim=True)).mean(0), r.logsumexp(-1).square().mean(), load)
