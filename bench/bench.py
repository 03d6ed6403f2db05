#!/usr/bin/env python3
"""Interleaved comparisons, for bench/NOTES.md: A B A B …, since a shared host drifts by a third within minutes.

  fusion   each fusion pass on and off: tokens/s of decoding and of a prompt, and the ratio round by round
  decode   decoding a model in f32 beside the read limit of this machine, measured in the same rounds
  limits   the limits alone
  linear   time and memory of ssm blocks by the length of the sequence (bench/growth.py)
  memory   resident memory by the bytes of the weights (bench/growth.py)

usage: bench.py --mossc PROGRAM [fusion] [decode] [limits] [linear] [memory] [--rounds R] [--threads N]
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
DECODE_SPEC = ("specs/mamba-370m.yaml", 16, 24)


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


def decode(options):
    spec, prefill, tokens = DECODE_SPEC
    shares, rates, limits = [], [], []
    for _ in range(options.rounds):
        before = machine(options)["read_gb_s"]["max"]
        result = bench(options, spec, prefill, tokens)
        limit = max(before, machine(options)["read_gb_s"]["max"])
        rate = result["decode_tok_s"]["max"] * result["active_weight_bytes"] / 1e9
        rates.append(rate)
        limits.append(limit)
        shares.append(rate / limit)
    print(f"decode of {spec}, f32: reads {spread(rates)} GB/s; this machine can read {spread(limits)} GB/s; share {spread(shares)}")


def limits(options):
    print(json.dumps(machine(options), indent=1))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mossc", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("what", nargs="*", help="limits, decode, fusion, linear, memory (default: all)")
    options = parser.parse_args()
    parts = {"limits": limits, "decode": decode, "fusion": fusion, "linear": linear, "memory": memory}
    for what in options.what or parts:
        if what not in parts:
            parser.error(f"there is no part '{what}'")
        parts[what](options)


if __name__ == "__main__":
    main()
