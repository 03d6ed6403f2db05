#!/usr/bin/env python3
"""Logits that a CPU made, carried to a machine that can make none: there mossc runs the same models on a GPU and compares.

    carried_logits.py make --mossc PROGRAM DIR               of the models below, on the CPU
    carried_logits.py compare --mossc PROGRAM [--seconds N] DIR

Weights are not carried: mossc init gives the same ones for a seed everywhere (moss-tiny brings its own). Standard library only."""
import argparse
import array
import json
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOLERANCE = 1e-3  # of the root mean square: sums of float32 in different orders, through all layers
MODES = [("token by token", ["--mode", "decode"]), ("chunks of 7", ["--chunk", "7"]), ("chunks of 64", ["--chunk", "64"]), ("one prompt", [])]
# Name, spec, overrides, tokens, and how many rows of logits are kept (a row of a large vocabulary is 200 KB).
MODELS = [
    ("moss-tiny", "moss-tiny", [], 256, 256),
    ("jamba-like", "jamba-like", [], 200, 8),
    ("mamba-370m-bf16", "mamba-370m", ["weights.dtype=bf16"], 300, 8),
    ("mamba-370m-f32-short", "mamba-370m", ["stack[0].repeat=6"], 300, 4),
    ("mossnet-outputs-bf16", "mossnet-8x200m-outputs", ["weights.dtype=bf16"], 200, 8),
    ("wide-bf16", "mamba-370m", ["weights.dtype=bf16", "d_model=4096", "stack[0].repeat=2"], 150, 6),
]


def say(text):
    print(text, flush=True)


def run(mossc, *words):
    done = subprocess.run([mossc, *map(str, words)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"mossc {words[0]} ended with {done.returncode}: {done.stderr.strip()}")


def tokens_of(count):
    return " ".join(str((7 * i * i + 3 * i + 11) % 250) for i in range(count))


def read_npy(path):
    """Shape and float32 values of a .npy file that mossc wrote."""
    data = path.read_bytes()
    size = int.from_bytes(data[8:10], "little")
    header = data[10 : 10 + size].decode()
    rows, columns = (int(part) for part in header.split("'shape': (")[1].split(")")[0].split(","))
    values = array.array("f")
    values.frombytes(data[10 + size :])
    return rows, columns, values


def kept_rows(tokens, kept):
    """Rows that are kept: evenly over the text, the last among them."""
    return [(i + 1) * tokens // kept - 1 for i in range(kept)]


class Model:
    def __init__(self, row, directory, mossc):
        self.name, spec, sets, self.tokens, self.kept = row
        self.mossc, self.directory = mossc, pathlib.Path(directory)
        self.spec = [ROOT / "specs" / f"{spec}.yaml", *(word for value in sets for word in ("--set", value))]
        self.weights = ROOT / "models" / "moss-tiny.safetensors" if spec == "moss-tiny" else None

    def prepare(self):
        (self.directory / "tokens").write_text(tokens_of(self.tokens))
        if self.weights is None:
            self.weights = self.directory / "w.safetensors"
            run(self.mossc, "init", *self.spec, "--seed", 3, "-o", self.weights)

    def logits(self, *options):
        out = self.directory / "logits.npy"
        run(self.mossc, "logits", *self.spec, "-w", self.weights, "--tokens", self.directory / "tokens", "-o", out, *options)
        rows, columns, values = read_npy(out)
        kept = array.array("f")
        for row in kept_rows(rows, self.kept):
            kept.extend(values[row * columns : (row + 1) * columns])
        return kept


def distance(some, others):
    rms = (sum(value * value for value in others) / len(others)) ** 0.5
    if len(some) != len(others):
        return float("inf")
    worst = max(abs(a - b) for a, b in zip(some, others))
    return worst / rms if worst == worst and rms > 0 else float("inf")


def make(options):
    target = pathlib.Path(options.directory)
    target.mkdir(parents=True, exist_ok=True)
    rows = [row for row in MODELS if not options.models or row[0] in options.models]
    for row in rows:
        with tempfile.TemporaryDirectory() as directory:
            model = Model(row, directory, options.mossc)
            model.prepare()
            (target / f"{model.name}.f32").write_bytes(model.logits().tobytes())
        say(f"{row[0]}: {row[4]} rows")
    (target / "models.json").write_text(json.dumps(rows))


def compare(options):
    target, end = pathlib.Path(options.directory), time.monotonic() + options.seconds
    failed = compared = 0
    for row in json.loads((target / "models.json").read_text()):
        if options.models and row[0] not in options.models:
            continue
        carried = array.array("f")
        carried.frombytes((target / f"{row[0]}.f32").read_bytes())
        with tempfile.TemporaryDirectory() as directory:
            model = Model(row, directory, options.mossc)
            model.prepare()
            for name, words in MODES:
                if time.monotonic() > end:
                    say(f"{row[0]}, {name}: left out, the {options.seconds} s are over")
                    continue
                far = distance(model.logits("--device", options.device, *words), carried)
                bad = not far < TOLERANCE
                say(f"{row[0]}, {name}: off by {far:.2g} of the rms{' FAILED' if bad else ''}")
                failed, compared = failed + bad, compared + 1
    say(f"{compared} compared, {failed} failed")
    return 1 if failed or not compared else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("do", choices=["make", "compare"])
    parser.add_argument("--mossc", required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("directory")
    parser.add_argument("models", nargs="*", help="names of models (default: all)")
    options = parser.parse_args()
    options.mossc = str(pathlib.Path(options.mossc).resolve())
    return make(options) if options.do == "make" else compare(options)


sys.exit(main())
