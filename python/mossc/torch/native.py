"""The selective scan of float32 on a CPU, in C (python/scan.c), as an operation with a gradient. Threads share out sequences or channels."""
from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mossc._c import ffi, lib

LANES = 16  # channels of a part come in so many


def usable(*tensors: Tensor) -> bool:
    return all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors)


def expert_scan(
    x: Tensor, dt: Tensor, B: Tensor, C: Tensor, A: Tensor, state: Tensor, index: Tensor | None, gates: Tensor | None
) -> tuple[Tensor, Tensor]:
    """x [b, T, I]; dt [b, T, K, I]; B, C [b, T, K, N]; A [E or 1, I, N]; state [b, E, I, N]; index, gates [b, T, K] (None: one state
    for all tokens). Returns y [b, T, I], the sums over K of gate times output, and the last state."""
    return _Scan.apply(*(t.contiguous() for t in (x, dt, B, C, A, state)), index, gates)


def _floats(tensor: Tensor | None):
    return ffi.NULL if tensor is None else ffi.cast("float *", tensor.data_ptr())


def _describe(x, dt, B, C, A, state, index, gates):
    batch, length, chosen, inner = dt.shape
    scan = ffi.new("MosscScan *")
    scan.batch, scan.length, scan.chosen, scan.inner = batch, length, chosen, inner
    scan.experts, scan.states, scan.tables = state.shape[1], state.shape[3], A.shape[0]
    scan.x, scan.dt, scan.b, scan.c, scan.gate, scan.a, scan.start = (_floats(t) for t in (x, dt, B, C, gates, A, state))
    scan.index = ffi.NULL if index is None else ffi.cast("int64_t *", index.data_ptr())
    return scan


def _parts(batch: int, inner: int) -> list:
    """The work in about equal parts: sequences where there are enough, channels otherwise."""
    threads = torch.get_num_threads()
    cut = lambda n, parts: [n * i // parts for i in range(parts + 1)]
    if batch >= threads:
        ends = cut(batch, threads)
        found = [(a, b, 0, inner) for a, b in zip(ends, ends[1:])]
    else:
        blocks = -(-inner // LANES)
        ends = [min(inner, LANES * at) for at in cut(blocks, min(threads, blocks))]
        found = [(0, batch, a, b) for a, b in zip(ends, ends[1:])]
    return [ffi.new("MosscScanPart *", part) for part in found]


def _run(call, parts: list) -> None:
    """call(i, part) for each part, in threads (C runs without the GIL)."""
    if len(parts) == 1:
        done = [call(0, parts[0])]
    else:
        with ThreadPoolExecutor(len(parts)) as pool:
            done = list(pool.map(call, range(len(parts)), parts))
    if not all(done):
        raise MemoryError("no memory for a scan")


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, dt, B, C, A, state, index, gates):
        index = None if index is None else index.contiguous()
        gates = None if gates is None else gates.contiguous()
        scan = _describe(x, dt, B, C, A, state, index, gates)
        y, last = torch.empty_like(x), torch.empty_like(state)
        _run(lambda _, part: lib.mossc_scan_forward(scan, part, _floats(y), _floats(last)), _parts(x.shape[0], x.shape[2]))
        ctx.save_for_backward(x, dt, B, C, A, state, index, gates)
        return y, last

    @staticmethod
    @once_differentiable
    def backward(ctx, gy, g_last):
        x, dt, B, C, A, state, index, gates = ctx.saved_tensors
        scan = _describe(x, dt, B, C, A, state, index, gates)
        parts = _parts(x.shape[0], x.shape[2])
        copies = len(parts) if x.shape[0] < torch.get_num_threads() else 1  # parts of one sequence add to the same
        gx, gdt, gstate = torch.empty_like(x), torch.empty_like(dt), torch.empty_like(state)
        zeros = lambda like, n: None if like is None else like.new_zeros(n, *like.shape)
        gB, gC, ggates, gA = zeros(B, copies), zeros(C, copies), zeros(gates, copies), zeros(A, len(parts))
        gy, g_last = gy.contiguous(), g_last.contiguous()

        def part_back(i, part):
            of = lambda t: _floats(None if t is None else t[i if copies > 1 else 0])
            out = ffi.new("MosscScanGradients *", (_floats(gx), _floats(gdt), _floats(gstate), of(gB), of(gC), of(ggates), _floats(gA[i])))
            return lib.mossc_scan_back(scan, part, _floats(gy), _floats(g_last), out)

        _run(part_back, parts)
        total = lambda t: None if t is None else t[0] if len(t) == 1 else t.sum(0)
        return gx, gdt, total(gB), total(gC), total(gA), gstate, None, total(ggates)
