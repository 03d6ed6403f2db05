#!/usr/bin/env python3
"""Interleaved comparisons, for bench/NOTES.md: A B A B …, since a shared host drifts by a third within minutes.

  fusion   each fusion pass on and off: tokens/s of decoding and of a prompt, and the ratio round by round
  bounds   prompts, decoding and batches beside what the machine's limits allow, which are timed before and after each
  limits   the limits alone
  linear   time and memory of ssm blocks by the length of the sequence (bench/growth.py)
  memory   resident memory by the bytes of the weights (bench/growth.py)

usage: bench.py --mossc PROGRAM [fusion] [bounds] [limits] [linear] [memory] [--rounds R] [--threads N]
"""
import argparse
import json
import statistics
import subprocess
import sys

from growth import linear, memory

FUSION_PASSES = ["route-fusion", "scan-fusion", "elementwise-fusion"]
# Spec, overrides that make it small enough to repeat often, prompt, tokens decoded. A pass that has nothing to do is left out.
FUSION_SPECS = [
    ("specs/mossnet-8x200m-outputs.yaml", ["stack[0].repeat=2", "vocab_size=4096"], 64, 16, FUSION_PASSES),
    ("specs/mossnet-8x200m-params.yaml", ["stack[0].repeat=2", "vocab_size=4096"], 64, 16, FUSION_PASSES),
    ("specs/mamba-130m.yaml", ["stack[0].repeat=6", "vocab_size=4096"], 128, 32, ["scan-fusion", "elementwise-fusion"]),
    ("specs/moss-tiny.yaml", [], 128, 64, FUSION_PASSES),
]
# Spec, dtype of its weights, sequences, tokens of each one's prompt, tokens decoded after it.
BOUNDS = [
    ("mamba-130m", "f32", 1, 512, 64),
    ("mamba-130m", "bf16", 1, 512, 64),
    ("mamba-370m", "f32", 1, 128, 24),
    ("mamba-370m", "bf16", 1, 128, 32),
    ("mamba-370m", "f16", 1, 128, 32),
    ("mossnet-8x200m-outputs", "f32", 1, 128, 24),
    ("mossnet-8x200m-outputs", "bf16", 1, 128, 32),
    ("mamba-130m", "f32", 16, 32, 24),
    ("mossnet-8x200m-outputs", "f32", 16, 32, 16),
]


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return json.loads(done.stdout)


def threads(options):
    return ["--threads", str(options.threads)] if options.threads else []


# Of three measurements the best is taken, as for the limits: what else runs on the machine only ever takes away.
def bench(options, spec, prefill, decode, *more):
    steps = ["--prefill", str(prefill), "--decode", str(decode), "--repeat", "3"]
    return run([options.mossc, "bench", spec, *steps, "--json", *threads(options), *more])


def machine(options):
    return run([options.mossc, "limits", "--repeat", "3", "--json", *threads(options)])


def spread(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def fusion(options):
    print("| spec | pass | decode, on | off | on/off | prompt, on | off | on/off |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for spec, sets, prefill, decode, passes in FUSION_SPECS:
        overrides = [word for value in sets for word in ("--set", value)]
        for name in passes:
            on, off = [], []
            for _ in range(options.rounds):
                on.append(bench(options, spec, prefill, decode, *overrides))
                off.append(bench(options, spec, prefill, decode, *overrides, f"--no-{name}"))
            cells = []
            for key in ("decode_tok_s", "prefill_tok_s"):
                with_it, without = ([entry[key]["max"] for entry in runs] for runs in (on, off))
                cells += [f"{statistics.median(with_it):.4g}", f"{statistics.median(without):.4g}"]
                cells.append(spread([a / b for a, b in zip(with_it, without)]))
            print(f"| {spec.split('/')[-1][:-5]} {' '.join(sets)} | {name} | {' | '.join(cells)} |", flush=True)


def cell(stats, form):
    return f"{stats['median']:{form}} ({stats['min']:{form}}–{stats['max']:{form}})"


def bounds(options):
    print("| spec | weights | sequences | prompt, tokens/s | of its bound | decode, tokens/s | of its bound |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for spec, dtype, batch, prefill, decode in BOUNDS:
        steps = ["--batch", str(batch), "--prefill", str(prefill), "--decode", str(decode), "--repeat", str(options.rounds)]
        overrides = ["--set", f"weights.dtype={dtype}", "--limits", "--no-cache", "--json"]
        result = run([options.mossc, "bench", f"specs/{spec}.yaml", *steps, *overrides, *threads(options)])
        cells = [cell(result[f"{what}_{key}"], form) for what in ("prefill", "decode") for key, form in (("tok_s", ".0f"), ("of_bound", ".2f"))]
        print(f"| {spec} | {dtype} | {batch} | {' | '.join(cells)} |", flush=True)


def limits(options):
    print(json.dumps(machine(options), indent=1))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mossc", required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("what", nargs="*", help="limits, bounds, fusion, linear, memory (default: all)")
    options = parser.parse_args()
    parts = {"limits": limits, "bounds": bounds, "fusion": fusion, "linear": linear, "memory": memory}
    for what in options.what or parts:
        if what not in parts:
            parser.error(f"there is no part '{what}'")
        parts[what](options)


if __name__ == "__main__":
    main()
