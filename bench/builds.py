#!/usr/bin/env python3
"""Two builds of mossc side by side, A B A B …: tokens/s of prompts and of decoding, and their ratio round by round.

usage: builds.py --before OLD/mossc --after build/release/mossc [--rounds R] [--threads N] [SPEC...]
"""
import argparse
import json
import statistics
import subprocess
import sys

# Spec, tokens of its prompt, tokens decoded after it.
SPECS = [
    ("specs/moss-tiny.yaml", 256, 128),
    ("specs/mamba-130m.yaml", 256, 48),
    ("specs/mossnet-8x200m-outputs.yaml", 128, 16),
    ("specs/jamba-like.yaml", 128, 24),
]


def bench(mossc, spec, prefill, decode, threads):
    command = [mossc, "bench", spec, "--prefill", str(prefill), "--decode", str(decode), "--repeat", "2", "--json"]
    done = subprocess.run(command + (["--threads", str(threads)] if threads else []), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    report = json.loads(done.stdout)
    return report["prefill_tok_s"]["median"], report["decode_tok_s"]["median"]


def line(spec, what, before, after):
    ratios = [b / a for a, b in zip(before, after)]
    print(f"{spec:<38} {what:<8} {statistics.median(before):>9.1f} {statistics.median(after):>9.1f}   "
          f"{statistics.median(ratios):.3f} ({min(ratios):.3f}-{max(ratios):.3f})", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True)
    parser.add_argument("--after", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("specs", nargs="*")
    options = parser.parse_args()
    specs = [row for row in SPECS if not options.specs or row[0] in options.specs]
    print(f"{'tokens/s, medians of rounds':<47} {'before':>9} {'after':>9}   after / before (range)")
    for spec, prefill, decode in specs:
        rounds = [[bench(build, spec, prefill, decode, options.threads) for build in (options.before, options.after)]
                  for _ in range(options.rounds)]
        for i, what in enumerate(("prompt", "decode")):
            line(spec, what, [pair[0][i] for pair in rounds], [pair[1][i] for pair in rounds])


main()
