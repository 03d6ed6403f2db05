"""What a block of kind ssm spends its time on besides its maps, of float32 on a CPU, in C (python/scan.c, conv.c), as operations with
gradients: the selective scan, and the causal convolution with silu. Threads share out sequences or channels."""
from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mossc._c import ffi, lib

LANES = 32  # channels of a part come in so many


def usable(*tensors: Tensor) -> bool:
    return all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors)


def _expect(**shapes: tuple[Tensor | None, tuple[int, ...]]) -> None:
    """C reads and writes as far as these say. ValueError."""
    for name, (tensor, shape) in shapes.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise ValueError(f"{name}: expected numbers of shape {shape}, got {tuple(tensor.shape)}")


@torch.compiler.disable
def expert_scan(
    x: Tensor, dt: Tensor, B: Tensor, C: Tensor, A: Tensor, state: Tensor, index: Tensor | None, gates: Tensor | None
) -> tuple[Tensor, Tensor]:
    """x [b, T, I]; dt [b, T, K, I]; B, C [b, T, K, N]; A [E or 1, I, N]; state [b, E, I, N]; index, gates [b, T, K] (None: one state
    for all tokens). Returns y [b, T, I], the sums over K of gate times output, and the last state."""
    (b, T, inner), chosen, states, experts = x.shape, dt.shape[2], B.shape[3], state.shape[1]
    pairs = (b, T, chosen)
    _expect(dt=(dt, (*pairs, inner)), B=(B, (*pairs, states)), C=(C, (*pairs, states)), state=(state, (b, experts, inner, states)),
            A=(A, (experts if A.shape[0] > 1 else 1, inner, states)), index=(index, pairs), gates=(gates, pairs))
    return _Scan.apply(*(t.contiguous() for t in (x, dt, B, C, A, state)), index, gates)


@torch.compiler.disable
def conv_silu(x: Tensor, past: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """silu of the depthwise causal convolution. x [B, T, I]; past [B, W − 1, I]; weight [I, W]; bias [I] or None -> [B, T, I]."""
    batch, _, inner = x.shape
    _expect(past=(past, (batch, weight.shape[1] - 1, inner)), weight=(weight, (inner, weight.shape[1])), bias=(bias, (inner,)))
    return _Conv.apply(x.contiguous(), past.contiguous(), weight, bias)


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
    return [ffi.new("MosscPart *", part) for part in found]


def _run(call, parts: list) -> None:
    """call(i, part) for each part, in threads (C runs without the GIL)."""
    if len(parts) == 1:
        done = [call(0, parts[0])]
    else:
        with ThreadPoolExecutor(len(parts)) as pool:
            done = list(pool.map(call, range(len(parts)), parts))
    if not all(done):
        raise MemoryError("no memory for a kernel of training")


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, dt, B, C, A, state, index, gates):
        index = None if index is None else index.contiguous()
        gates = None if gates is None else gates.contiguous()
        scan = _describe(x, dt, B, C, A, state, index, gates)
        y, last = torch.empty_like(x), torch.empty_like(state)
        kept = x.new_empty(lib.mossc_scan_kept(scan)) if any(ctx.needs_input_grad) else None
        _run(lambda _, part: lib.mossc_scan_forward(scan, part, _floats(y), _floats(last), _floats(kept)), _parts(x.shape[0], x.shape[2]))
        ctx.save_for_backward(x, dt, B, C, A, state, index, gates, kept)
        return y, last

    @staticmethod
    @once_differentiable
    def backward(ctx, gy, g_last):
        x, dt, B, C, A, state, index, gates, kept = ctx.saved_tensors
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
            return lib.mossc_scan_back(scan, part, _floats(kept), _floats(gy), _floats(g_last), out)

        _run(part_back, parts)
        total = lambda t: None if t is None else t[0] if len(t) == 1 else t.sum(0)
        return gx, gdt, total(gB), total(gC), total(gA), gstate, None, total(ggates)


class _Conv(torch.autograd.Function):
    @staticmethod
    def _describe(x, past, by_tap, bias):
        conv = ffi.new("MosscConv *")
        conv.batch, conv.length, conv.inner = x.shape
        conv.width = by_tap.shape[0]
        conv.x, conv.past, conv.weight, conv.bias = (_floats(t) for t in (x, past, by_tap, bias))
        return conv

    @staticmethod
    def forward(ctx, x, past, weight, bias):
        by_tap = weight.t().contiguous()
        bias = None if bias is None else bias.contiguous()
        conv = _Conv._describe(x, past, by_tap, bias)
        y = torch.empty_like(x)

        def part_forward(_, part):
            lib.mossc_conv_forward(conv, part, _floats(y))
            return True

        _run(part_forward, _parts(x.shape[0], x.shape[2]))
        ctx.save_for_backward(x, past, by_tap, bias)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, gy):
        x, past, by_tap, bias = ctx.saved_tensors
        conv = _Conv._describe(x, past, by_tap, bias)
        parts = _parts(x.shape[0], x.shape[2])
        gx, gpast = torch.empty_like(x), torch.empty_like(past)
        gweight = by_tap.new_zeros(len(parts), *by_tap.shape)
        gbias = None if bias is None else bias.new_zeros(len(parts), *bias.shape)
        gy = gy.contiguous()

        def part_back(i, part):
            out = ffi.new("MosscConvGradients *", (_floats(gx), _floats(gpast), _floats(gweight[i]), _floats(None if bias is None else gbias[i])))
            return lib.mossc_conv_back(conv, part, _floats(gy), out)

        _run(part_back, parts)
        return gx, gpast, gweight.sum(0).t(), None if bias is None else gbias.sum(0)
