"""What grows with what: time and memory with the length of a sequence, resident memory with the weights. Parts of bench.py.

  linear   a model of ssm blocks alone: the time of a prompt grows as its length, that of a token and the memory do not grow
  memory   the largest resident memory while a checkpoint is run or packed, beside the bytes of the packed weights
"""
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

LENGTHS = [128, 256, 512, 1024, 2048, 4096, 8192]
LINEAR_SPEC = ("specs/mamba-130m.yaml", ["stack[0].repeat=6", "vocab_size=4096"])
DECODED = 64
MEMORY_SPECS = [("specs/mamba-370m.yaml", "f32"), ("specs/mamba-370m.yaml", "bf16")]


def finish(command):
    """What the command printed, and its largest resident memory in bytes."""
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen([str(word) for word in command], stdout=out, stderr=subprocess.PIPE)
        errors = process.stderr.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            sys.exit(f"{' '.join(map(str, command))} ended with {process.returncode}:\n{errors}")
        out.seek(0)
        return out.read().decode(), usage.ru_maxrss * 1024


def exponent(lengths, seconds):
    """p of seconds = a * length^p, by least squares on logarithms."""
    return statistics.linear_regression([math.log(n) for n in lengths], [math.log(s) for s in seconds]).slope


def linear(options):
    spec, sets = LINEAR_SPEC
    prompt, token, memory = ({n: [] for n in LENGTHS} for _ in range(3))
    for _ in range(options.rounds):
        for n in LENGTHS:
            command = [options.mossc, "bench", spec, "--prefill", n, "--decode", DECODED, "--repeat", 1, "--json"]
            command += [word for value in sets for word in ("--set", value)]
            command += ["--threads", options.threads] if options.threads else []
            text, peak = finish(command)
            result = json.loads(text)
            prompt[n].append(n / result["prefill_tok_s"]["max"])
            token[n].append(1 / result["decode_tok_s"]["max"])
            memory[n].append(peak)
    print(f"| {spec.split('/')[-1][:-5]} {' '.join(sets)}: tokens | prompt, µs a token | a token after it, µs | peak memory, MiB |")
    print("| --- | --- | --- | --- |")
    for n in LENGTHS:
        print(f"| {n} | {1e6 * min(prompt[n]) / n:.0f} | {1e6 * min(token[n]):.0f} | {max(memory[n]) / 2**20:.0f} |", flush=True)
    print(f"\nexponents: prompt {exponent(LENGTHS, [min(prompt[n]) for n in LENGTHS]):.3f}, "
          f"token {exponent(LENGTHS, [min(token[n]) for n in LENGTHS]):.3f}")


def memory(options):
    print("| spec | command | packed weights, MiB | peak memory, MiB | more than the weights, MiB |")
    print("| --- | --- | --- | --- | --- |")
    for spec, dtype in MEMORY_SPECS:
        with tempfile.TemporaryDirectory() as name:
            directory = pathlib.Path(name)
            sets = ["--set", f"weights.dtype={dtype}"]
            finish([options.mossc, "init", spec, "-o", directory / "w", *sets])
            packing = finish([options.mossc, "pack", spec, "-w", directory / "w", "-o", directory / "packed", *sets])[1]
            running = finish([options.mossc, "run", spec, "-w", directory / "w", "--prompt", "a", "-n", 1, "--top-k", 1, *sets])[1]
            weights = (directory / "packed").stat().st_size
        for command, peak in (("run", running), ("pack", packing)):
            cells = [f"{x / 2**20:.0f}" for x in (weights, peak, peak - weights)]
            print(f"| {spec.split('/')[-1][:-5]}, {dtype} | {command} | {' | '.join(cells)} |", flush=True)
