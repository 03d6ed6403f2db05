"""The scan of mamba2 and mamba3, whose heads decay as one: chunks by matrix products (arXiv 2405.21060).

    s_t = α_t s_{t−1} + (inputs)        y_{t,r} = s_t q_{t,r}        per head, s [P, N]

The input of token j is Σ_r v_{j,r} ⊗ k_{j,r}. It enters the state that its own token reads with `now_j`, and the states of all later tokens
as if it had entered with `later_j` and decayed since. For mamba2 both are Δ. For mamba3's trapezoid, later_j = γ_j + (1 − λ_{j+1})·Δ_{j+1},
since β_{j+1} = (1 − λ_{j+1})·Δ_{j+1}·α_{j+1} takes the same token in once more.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .functions import wide

CHUNK = 64


def ssd(v: Tensor, k: Tensor, q: Tensor, log_decay: Tensor, now: Tensor, later: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """v [R, L, r, H, P]; k, q [R, L, r, G, N], G divides H; log_decay (of α), now, later [R, L, H]; state [R, H, P, N].

    Returns y [R, L, r, H, P], of v's type, and the last state, float32 at least, which has all inputs with `later`.
    """
    kind, length = v.dtype, v.shape[1]
    v, k, q, log_decay, now, later, state = map(wide, (v, k, q, log_decay, now, later, state))
    chunk = min(CHUNK, length)
    fill = -length % chunk
    v, k, q, log_decay, now, later = (_chunks(x, fill, chunk) for x in (v, k, q, log_decay, now, later))
    share = v.shape[-2] // k.shape[-2]
    heads = lambda x: x.repeat_interleave(share, dim=-2) if share > 1 else x
    total = log_decay.cumsum(2)  # [R, n, c, H]
    weights = _within(total, now, later)  # [R, n, H, c, c]
    scores = torch.einsum("bnirgd,bnjsgd->bngirjs", q, k)
    scores = scores.repeat_interleave(share, dim=2) if share > 1 else scores
    y = torch.einsum("bnhirjs,bnhij,bnjshp->bnirhp", scores, weights, v)
    to_end = (total[:, :, -1:] - total).exp() * later  # [R, n, c, H]
    made = torch.einsum("bnjh,bnjshp,bnjshd->bnhpd", to_end, v, heads(k))
    before, last = _carry(state, total[:, :, -1].exp(), made)
    y = y + torch.einsum("bnih,bnirhd,bnhpd->bnirhp", total.exp(), heads(q), before)
    return y.flatten(1, 2)[:, :length].to(kind), last


def _chunks(x: Tensor, fill: int, chunk: int) -> Tensor:
    """[R, L, ..] -> [R, n, c, ..], zeros behind: no decay and no input."""
    if fill:
        x = F.pad(x, (0, 0) * (x.dim() - 2) + (0, fill))
    return x.unflatten(1, (-1, chunk))


def _within(total: Tensor, now: Tensor, later: Tensor) -> Tensor:
    """[R, n, H, i, j]: what of input j is in the state that token i reads."""
    total, now, later = (x.transpose(2, 3) for x in (total, now, later))
    size = total.shape[-1]
    below = torch.ones(size, size, dtype=torch.bool, device=total.device).tril(-1)
    gap = (total[..., :, None] - total[..., None, :]).masked_fill(~below, -torch.inf)
    return gap.exp() * later[..., None, :] + torch.diag_embed(now)


def _carry(state: Tensor, decay: Tensor, made: Tensor) -> tuple[Tensor, Tensor]:
    """The state before each chunk [R, n, H, P, N] and after the last."""
    before = []
    for n in range(made.shape[1]):
        before.append(state)
        state = decay[:, n, :, None, None] * state + made[:, n]
    return torch.stack(before, 1), state
