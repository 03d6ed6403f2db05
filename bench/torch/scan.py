"""The selective scan of mossc.torch beside PyTorch's associative_scan, forward and back, on this CPU or a GPU.

    PYTHONPATH=build/release/python python bench/torch/scan.py [--device cuda] [--shapes NAME,…] [--ways NAME,…] [--seconds S]

Shapes are R sequences of L tokens with I channels and N numbers of state each; the experts of moss-tiny's scan (two of eight, a state each)
are left out, since rows that are sequences do for either way. Ways: `c`, what the module does with float32 on a CPU; `chunked`, what it
does elsewhere; `associative`, torch.associative_scan over pairs (decay, input), compiled as a whole with what stands around it;
`associative-eager`, the same without torch.compile. Prints a line each: milliseconds forward, forward and back, the median of those that
--seconds allows for, MiB at the most beyond the inputs (of a GPU), and the largest difference from `chunked` over the largest value.
"""
import argparse
import statistics
import sys
import time

import torch
from torch._higher_order_ops.associative_scan import associative_scan

from mossc.torch import native, scan

SHAPES = {  # R, L, I, N
    "moss-tiny": (32, 256, 384, 16),
    "moss-tiny-short": (8, 64, 384, 16),
    "mamba-130m": (2, 256, 1536, 16),
    "mamba-130m-long": (1, 1024, 1536, 16),
}


def inputs(shape, device):
    R, L, I, N = shape
    torch.manual_seed(0)
    made = {"dt": torch.rand(R, L, I) * 0.1 + 1e-3, "x": torch.randn(R, L, I), "A": -torch.arange(1.0, N + 1).repeat(1, I, 1),
            "B": torch.randn(R, L, N), "C": torch.randn(R, L, N), "state": torch.zeros(R, I, N)}
    return {name: value.to(device).requires_grad_() for name, value in made.items()}


def by_c(dt, x, A, B, C, state):
    y, last = native.expert_scan(x, dt[:, :, None], B[:, :, None], C[:, :, None], A, state[:, None], None, None)
    return y, last[:, 0]


def by_chunks(dt, x, A, B, C, state):
    return scan._Scan.apply(dt, x, A, B, C, state, None, False)


def combine(before, after):
    return before[0] * after[0], after[0] * before[1] + after[1]


def by_associative_scan(dt, x, A, B, C, state):
    decay = torch.exp(dt[..., None] * A[:, None])
    added = (dt * x)[..., None] * B[:, :, None]
    added = torch.cat([added[:, :1] + decay[:, :1] * state[:, None], added[:, 1:]], 1)
    mode = "pointwise" if x.is_cuda else "generic"
    _, states = associative_scan(combine, (decay, added), 1, combine_mode=mode)
    return torch.einsum("rlin,rln->rli", states, C), states[:, -1]


def timed(call, device, seconds):
    """Milliseconds, the median."""
    call()
    spent, begun = [], time.perf_counter()
    while len(spent) < 3 or time.perf_counter() - begun < seconds:
        at = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        spent.append(1000 * (time.perf_counter() - at))
    return statistics.median(spent)


def measure(way, given, wanted, device, seconds):
    loss = lambda out: (out[0].sum() + out[1].sum())
    leaves = list(given.values())
    with torch.no_grad():
        forward = timed(lambda: way(**given), device, seconds)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
    both = timed(lambda: torch.autograd.grad(loss(way(**given)), leaves), device, seconds)
    peak = (torch.cuda.max_memory_allocated() - held) / 2**20 if device == "cuda" else float("nan")
    out = way(**given)
    got = [*(o.detach() for o in out), *torch.autograd.grad(loss(out), leaves)]
    if not wanted:
        wanted += got
    worst = max(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(got, wanted))
    return forward, both, peak, worst


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--ways", default="chunked,c,associative,associative-eager")
    parser.add_argument("--seconds", type=float, default=3)
    options = parser.parse_args()
    ways = {"chunked": by_chunks, "associative": torch.compile(by_associative_scan), "associative-eager": by_associative_scan}
    if options.device == "cpu":
        ways["c"] = by_c
    print(f"torch {torch.__version__}, {options.device}, {torch.get_num_threads()} threads")
    print(f"{'shape':18}{'way':20}{'forward':>10}{'and back':>10}{'MiB':>8}  differs")
    for shape in options.shapes.split(","):
        given, wanted = inputs(SHAPES[shape], options.device), []
        for name in options.ways.split(","):
            if name not in ways:
                continue
            try:
                forward, both, peak, worst = measure(ways[name], given, wanted, options.device, options.seconds)
                print(f"{shape:18}{name:20}{forward:10.1f}{both:10.1f}{peak:8.0f}  {worst:.1e}", flush=True)
            except Exception as error:
                print(f"{shape:18}{name:20} {type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
