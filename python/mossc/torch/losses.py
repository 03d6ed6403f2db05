"""Losses: of the text, and of routers."""
from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from .experts import RouterLoss


def text_loss(logits: Tensor, labels: Tensor, items: Tensor | int | None = None) -> Tensor:
    """logits [B, T, V] scored on labels [B, T]: the mean of −log p over those that are not −100, or the sum over `items`."""
    logits = logits.flatten(0, 1).to(torch.promote_types(logits.dtype, torch.float32))
    loss = F.cross_entropy(logits, labels.flatten().long(), reduction="mean" if items is None else "sum")
    return loss if items is None else loss / items


def share_of_batch(labels: Tensor, items: Tensor | int | None) -> Tensor | float:
    """How much of a batch of `items` labels these are: what losses that are means count in it, so that its parts add up to one."""
    return 1.0 if items is None else (labels != -100).sum() / items


def router_losses(routers: list[RouterLoss], training: bool) -> dict:
    """The members of MosscOutput that say how routers did.

    balance: E·Σ_e (share of pairs) · (mean share of score), 1 when even (Switch Transformers), the mean over routers. In training with
    several processes the pairs are those of all: the mean over processes is then the loss of the whole batch.
    """
    if not routers:
        return {}
    loads = [router.load for router in routers]
    if training and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        together = torch.cat(loads)
        dist.all_reduce(together)
        loads = list(together.split([len(load) for load in loads]))
    balance = [len(load) * (load / load.sum() * router.mean).sum() for load, router in zip(loads, routers)]
    z = torch.stack([router.z for router in routers]).mean()
    return {"balance_loss": torch.stack(balance).mean(), "z_loss": z, "router_loads": tuple(loads)}
