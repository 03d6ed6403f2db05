"""Muon for matrices, AdamW for everything else.

Muon (Jordan et al. 2024) replaces the momentum of a matrix by the nearest orthogonal one, found by a few Newton-Schulz steps; matrices of
one shape, those of experts among them, are done together.
"""
from __future__ import annotations

import collections

import torch
from torch import Tensor, nn

QUINTIC = (3.4445, -4.7750, 2.0315)  # the polynomial's coefficients, tuned by Jordan for speed
STEPS = 5
# Maps of few outputs, whose rows mean different things, are AdamW's.
NO_MUON = ("embed", "head", "router", "dt_proj", "a_proj", "trap_proj", "angle_proj", "shared_gate", "conv")


def is_matrix(name: str, parameter: nn.Parameter) -> bool:
    parts = name.split(".")
    return parts[-1] == "weight" and parameter.dim() >= 2 and parts[-2] not in NO_MUON


def orthogonal(x: Tensor, kind: torch.dtype = torch.float32) -> Tensor:
    """The orthogonal factor of every matrix of x [S, m, n], m ≤ n, to Muon's rough accuracy, for which products of bf16 do."""
    x = (x / (x.square().sum((1, 2), keepdim=True).sqrt() + 1e-7)).to(kind)
    a, b, c = QUINTIC
    for _ in range(STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


class Muon(torch.optim.Optimizer):
    """lr scales steps of unit spectral norm; decay is of the weights, by lr; kind: what orthogonal factors are found in."""

    def __init__(self, parameters: list[nn.Parameter], lr: float, decay: float, momentum: float = 0.95, kind: torch.dtype = torch.float32):
        super().__init__(parameters, {"lr": lr, "decay": decay, "momentum": momentum})
        self.kind = kind

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            by_shape = collections.defaultdict(list)
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if "moment" not in state:
                    state["moment"] = torch.zeros_like(p)
                moment = state["moment"]
                moment.mul_(group["momentum"]).add_(p.grad)
                ahead = (p.grad + group["momentum"] * moment).flatten(0, -3) if p.dim() > 2 else (p.grad + group["momentum"] * moment)[None]
                tall = ahead.shape[1] > ahead.shape[2]
                ahead = ahead.mT if tall else ahead
                by_shape[ahead.shape[1:]].append((p, ahead, tall))
            for members in by_shape.values():
                done = orthogonal(torch.cat([ahead for _, ahead, _ in members]), self.kind).split([len(ahead) for _, ahead, _ in members])
                for (p, _, tall), step in zip(members, done):
                    size = max(1.0, p.shape[-2] / p.shape[-1]) ** 0.5
                    p.mul_(1 - group["lr"] * group["decay"]).add_((step.mT if tall else step).reshape(p.shape), alpha=-group["lr"] * size)


def make(model: nn.Module, kind: str, muon_lr: float, lr: float, decay: float, precision: str = "f32") -> list[torch.optim.Optimizer]:
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    matrices = [p for name, p in trained if is_matrix(name, p)]
    rest = [p for name, p in trained if not is_matrix(name, p)]
    if kind == "muon":
        groups = [{"params": rest, "weight_decay": 0.0}]
    else:
        groups = [{"params": matrices, "weight_decay": decay}, {"params": rest, "weight_decay": 0.0}]
    out = [torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, betas=(0.9, 0.99), eps=1e-10)]
    if kind == "muon" and matrices:
        out.append(Muon(matrices, muon_lr, decay, kind=torch.bfloat16 if precision == "bf16" else torch.float32))
    for optimizer in out:
        for group in optimizer.param_groups:
            group["full_lr"] = group["lr"]
    return out


def set_rate(optimizers: list[torch.optim.Optimizer], share: float) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = share * group["full_lr"]
