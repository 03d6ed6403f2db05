"""The selective scan of mamba1 in tensors, with a gradient that keeps no states.

    s_t = exp(Δ_t A) ∘ s_{t−1} + (h_t ∘ x_t) ⊗ B_t        y_t = s_t·C_t        h = Δ, or what zero-order hold makes of it

A sequence is walked in chunks. Going forward the state at each chunk's start is kept; going back a chunk's states are computed again from
there. Time comes first in a chunk, so that a step is one operation on contiguous memory. States are float32 at least; outputs have x's type.
"""
from __future__ import annotations

import torch
from torch import Tensor

from . import native
from .experts import Rows
from .functions import held, held_slope, wide

CHUNK_ELEMENTS = 1 << 23  # of the states of a chunk, all of which are there at once


def selective_scan(
    dt: Tensor, x: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor, mix: Tensor | None = None, zoh: bool = False
) -> tuple[Tensor, Tensor]:
    """dt, x [R, L, I]; B, C [R, L, N]; state [R, I, N]; A [R, I, N] or [1, I, N], or with mix [R, L, E] that is mixed for each
    token, A [E, I, N]. Returns y [R, L, I] and the last state."""
    kind = x.dtype
    dt, x, A, B, C, state = map(wide, (dt, x, A, B, C, state))
    mix = None if mix is None else wide(mix)
    if not zoh and mix is None and A.shape[0] == 1 and native.usable(dt, x, A, B, C, state):
        y, last = native.expert_scan(x, dt[:, :, None], B[:, :, None], C[:, :, None], A, state[:, None], None, None)
        last = last[:, 0]
    else:
        y, last = _Scan.apply(dt, x, A, B, C, state, mix, zoh)
    return y.to(kind), last


def expert_scan(
    dt: Tensor, x: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor, index: Tensor, gates: Tensor, zoh: bool
) -> tuple[Tensor, Tensor]:
    """Of each token the K states that it chooses (index, gates [b, T, K]), of E; the others stay. x [b, T, I]; dt [b, T, K, I];
    B, C [b, T, K, N]; A [E or 1, I, N]; state [b, E, I, N]. Returns y [b, T, I], the sum over K of gate times output; and the states."""
    kind = x.dtype
    dt, x, A, B, C, state, gates = map(wide, (dt, x, A, B, C, state, gates))
    if not zoh and native.usable(dt, x, A, B, C, state):
        y, last = native.expert_scan(x, dt, B, C, A, state, index, gates.to(x.dtype))
        return y.to(kind), last
    batch, experts = state.shape[:2]
    rows = Rows(index, experts)
    inputs = rows.spread(x[:, :, None].expand_as(dt))
    tables = A if A.shape[0] == 1 else A.expand(batch, *A.shape).flatten(0, 1)
    y, last = selective_scan(rows.spread(dt), inputs, tables, rows.spread(B), rows.spread(C), state.flatten(0, 1), None, zoh)
    return (rows.collect(y) * gates.to(y.dtype)[..., None]).sum(2).to(kind), last.unflatten(0, (batch, experts))


class _Chunk:
    """What a chunk's steps multiply with; time first: [c, R, ..]."""

    def __init__(self, span: slice, dt, x, A, B, C, mix, zoh):
        first = lambda v: v[:, span].transpose(0, 1)
        self.dt, self.x, self.B, self.C = first(dt)[..., None], first(x)[..., None], first(B)[:, :, None], first(C)[:, :, None]
        self.mix = None if mix is None else first(mix)
        self.A = A if mix is None else torch.tensordot(self.mix, A, 1)
        self.v = self.dt * self.A
        self.decay = self.v.exp()
        self.held = self.dt * held(self.v) if zoh else self.dt
        self.zoh = zoh

    def states(self, state: Tensor) -> Tensor:
        """[c, R, I, N] after each step."""
        s = (self.held * self.x) * self.B
        for t in range(s.shape[0]):
            state = s[t].addcmul_(self.decay[t], state)
        return s


def _spans(length: int, step: int):
    return [slice(at, min(at + step, length)) for at in range(0, length, step)]


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, dt, x, A, B, C, state, mix, zoh):
        rows, length, inner = x.shape
        step = max(1, min(length, CHUNK_ELEMENTS // max(1, rows * inner * A.shape[-1])))
        y, starts = torch.empty_like(x), []
        for span in _spans(length, step):
            starts.append(state)
            s = _Chunk(span, dt, x, A, B, C, mix, zoh).states(state)
            y[:, span] = torch.einsum("crin,rcn->rci", s, C[:, span])
            state = s[-1].clone()
        ctx.save_for_backward(dt, x, A, B, C, mix, *starts)
        ctx.step, ctx.zoh = step, zoh
        return y, state

    @staticmethod
    def backward(ctx, gy, g_last):
        dt, x, A, B, C, mix, *starts = ctx.saved_tensors
        gdt, gx, gB, gC = (torch.empty_like(v) for v in (dt, x, B, C))
        gA = torch.zeros_like(A)
        gmix = None if mix is None else torch.empty_like(mix)
        carry = g_last
        for span, start in reversed(list(zip(_spans(x.shape[1], ctx.step), starts))):
            k = _Chunk(span, dt, x, A, B, C, mix, ctx.zoh)
            s = k.states(start)
            gC[:, span] = torch.einsum("crin,rci->rcn", s, gy[:, span])
            G = gy[:, span].transpose(0, 1)[..., None] * k.C
            for t in range(G.shape[0] - 1, -1, -1):
                G[t] += carry
                carry = k.decay[t] * G[t]
            before = torch.cat([start[None], s[:-1]])
            gv = G * before * k.decay
            back = lambda v: v.transpose(0, 1)
            if ctx.zoh:
                gheld = G * k.x * k.B
                gx[:, span] = back((G * k.held * k.B).sum(-1))
                gB[:, span] = back((G * k.held * k.x).sum(2))
                gv += gheld * k.dt * held_slope(k.v)
                gdt[:, span] = back((gheld * held(k.v)).sum(-1))
            else:
                gh = (G * k.B).sum(-1)
                gx[:, span] = back(gh * k.dt[..., 0])
                gB[:, span] = back((G * (k.dt * k.x)).sum(2))
                gdt[:, span] = back(gh * k.x[..., 0])
            gdt[:, span] += back((gv * k.A).sum(-1))
            gvdt = gv * k.dt
            if mix is None:
                gA += gvdt.sum((0, 1), keepdim=False)[None] if A.shape[0] == 1 else gvdt.sum(0)
            else:
                gA += torch.einsum("cre,crin->ein", k.mix, gvdt)
                gmix[:, span] = back(torch.einsum("crin,ein->cre", gvdt, A))
        return gdt, gx, gA, gB, gC, carry, gmix, None
