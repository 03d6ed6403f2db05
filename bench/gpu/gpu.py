#!/usr/bin/env python3
"""What mossc does on a GPU beside what was asked of it: one run, all ratios of that run.

  decode    one sequence: the time allowed (1.1 x bytes / copy rate + 1.5 us a phase) over the time, and the part of the bandwidth
  batch     64 sequences: the larger of bytes / copy rate and FLOPs / peak, over the time
  prefill   4 prompts of 4096 tokens: their linear layers beside cuBLAS on the same shapes, the whole beside cuBLAS' peak, the scan beside
            its bound, all of it beside mamba_ssm
  compile   by NVRTC, and from the kernel cache

cuBLAS and mamba_ssm are measured through PyTorch (torch_side.py), in turns with mossc, where --python has them; where not, and wherever
else something is missing, the line says why it was not measured. Weights are random, in bf16. Without a GPU it says so and ends well.

usage: gpu.py --mossc PROGRAM [--device cuda:N] [--python PYTHON] [--quick] [--json] [decode] [batch] [prefill] [compile]
"""
import argparse
import json
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
SPECS = HERE.parent.parent / "specs"
ROWS_OF_STEP = 8192  # of a prompt: CG_CUDA_MAX_ROWS
EXPLAINED_ROWS = 512  # `mossc explain` takes no more; shapes do not depend on it

# Name, spec, overrides, the part of the bandwidth that was asked, and whether that is the target or only what the bound comes to.
DECODE = [
    ("moss-tiny", "moss-tiny", [], None, False),
    ("mamba-130m", "mamba-130m", [], None, False),
    ("mamba-370m", "mamba-370m", [], None, False),
    ("mossnet-8x200m", "mossnet-8x200m-outputs", [], 0.41, False),
    ("mamba, 1.4 B", "mamba-370m", ["d_model=2048"], 0.65, False),
    ("mamba, 2.8 B", "mamba-370m", ["d_model=2560", "stack[0].repeat=64"], 0.72, False),
    ("mamba, 6.8 B", "mamba-370m", ["d_model=4096", "stack[0].repeat=64"], 0.80, True),
]
QUICK_DECODE = 4  # of these
BATCH = [("mossnet-8x200m", "mossnet-8x200m-outputs"), ("mamba-370m", "mamba-370m")]
PREFILL = [("mamba-370m", "mamba-370m"), ("mossnet-8x200m", "mossnet-8x200m-outputs")]
COMPILE = [("mossnet-8x200m", "mossnet-8x200m-outputs"), ("mamba-130m", "mamba-130m")]  # of 24 blocks

SMOKE = """\
mossc: 1
name: smoke
vocab_size: 64
d_model: 32
defaults: {ssm: {d_state: 4}}
stack:
  - ssm: {}
"""
NO_GPU = ("NVIDIA driver (libcuda.so.1) was not found", "found no GPU", "does not exist: the driver found")


class NotMeasured(Exception):
    """Why."""


def median(values):
    return statistics.median(values)


# ---------------------------------------------------------------------------------------------- the two sides


class Mossc:
    def __init__(self, options):
        self.options, self.end = options, time.monotonic() + options.seconds

    def run(self, *words):
        left = self.end - time.monotonic()
        if left < 5:
            raise NotMeasured(f"the {self.options.seconds} s of this run were over")
        try:
            done = subprocess.run([self.options.mossc, *map(str, words)], capture_output=True, text=True, timeout=left)
        except subprocess.TimeoutExpired:
            raise NotMeasured(f"the {self.options.seconds} s of this run were over") from None
        if done.returncode != 0:
            said = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
            raise NotMeasured(f"mossc {words[0]}: {said[0].removeprefix('mossc: error: ')}")
        return json.loads(done.stdout)

    def limits(self):
        return self.run("limits", "--device", self.options.device, "--json", "--repeat", 1 if self.options.smoke else 3)

    def bench(self, spec, sets, *words):
        overrides = [word for value in ["weights.dtype=bf16", *sets] for word in ("--set", value)]
        once = ["--no-cache"] if self.options.smoke else []
        return self.run("bench", spec, *overrides, "--device", self.options.device, "--json", *once, *words)


class Torch:
    """torch_side.py, or the reason why it cannot be asked."""

    def __init__(self, options):
        self.process, ordinal = None, options.device.partition(":")[2] or "0"
        try:
            self.process = subprocess.Popen([options.python, HERE / "torch_side.py", ordinal], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            stderr=subprocess.DEVNULL, text=True)
            self.facts = self.answer()
        except (OSError, NotMeasured) as error:
            self.facts = {"why": str(error)}

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise NotMeasured(f"PyTorch's side ended with {self.process.wait()}")
        return json.loads(line)

    def ask(self, **question):
        if self.facts.get("why"):
            raise NotMeasured(self.facts["why"])
        if question["do"] in ("mamba", "scan") and not self.facts["mamba_ssm"]:
            raise NotMeasured("mamba_ssm is not installed")
        try:
            print(json.dumps(question), file=self.process.stdin, flush=True)
            answer = self.answer()
        except BrokenPipeError:
            raise NotMeasured("PyTorch's side has ended") from None
        if "why" in answer:
            raise NotMeasured(answer["why"])
        return answer

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process:
            self.process.stdin.close()
            self.process.wait()


# ---------------------------------------------------------------------------------------------- the report


class Report:
    """Lines: what, of which model, what was asked and what came out. A line without `asked` is there for comparison."""

    def __init__(self, options):
        self.options, self.lines = options, []
        if not options.json:
            print("| what | model | asked | got | |")
            print("| --- | --- | --- | --- | --- |")

    def add(self, what, model, values, asked=None, about=None, at_most=False, why=None, digits=2):
        held = None if asked is None or not values else median(values) <= asked if at_most else median(values) >= asked
        self.lines.append({"what": what, "model": model, "asked": asked, "at_most": at_most, "values": values, "held": held, "not_measured": why})
        if self.options.json:
            return
        wanted = f"{'≤' if at_most else '≥'} {asked:g}" if asked is not None else f"about {about:g}" if about is not None else ""
        verdict = f"not measured: {why}" if why else "" if held is None else "reached" if held else "missed"
        got = f"{median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})" if values else ""
        print(f"| {what} | {model} | {wanted} | {got} | {verdict} |", flush=True)

    def missing(self, what, model, asked, why, at_most=False):
        self.add(what, model, [], asked, at_most=at_most, why=str(why))


def spread(stats):
    return [stats["min"], stats["median"], stats["max"]]


# ---------------------------------------------------------------------------------------------- decoding


def decode(bench, _, report):
    options, cases = bench.options, DECODE
    if options.smoke:
        cases = [("smoke", options.smoke, [], 0.5, False)]
    for i, (name, spec, sets, share, is_target) in enumerate(cases):
        large = any("repeat" in value or "d_model" in value for value in sets)
        what = "decode, of the bandwidth" if is_target else "decode, time allowed / time"
        asked = share if is_target else 1
        if options.quick and i >= QUICK_DECODE:
            report.missing(what, name, asked, "left out by --quick")
            continue
        try:
            steps = ["--prefill", 4, "--decode", 3] if options.smoke else ["--prefill", 64, "--decode", 512]
            repeat = 1 if options.smoke or large else 2 if options.quick else 3
            result = bench.bench(options.path(spec), sets, *steps, "--repeat", repeat, "--limits")
        except NotMeasured as why:
            report.missing(what, name, asked, why)
            continue
        if not is_target:
            report.add(what, f"{name}, {result['phases']} phases", spread(result["decode_of_bound"]), asked)
        bandwidth = spread(result["decode_of_bandwidth"])
        report.add("decode, of the bandwidth", name, bandwidth, asked if is_target else None, None if is_target else share)
        report.add("decode, tokens/s", name, spread(result["decode_tok_s"]), digits=0)


def batch(bench, torch, report):
    options = bench.options
    cases = [("smoke", options.smoke)] if options.smoke else BATCH[:1] if options.quick else BATCH
    for name, spec in cases:
        what = "64 sequences, bound / time"
        try:
            size, steps = (3, ["--prefill", 4, "--decode", 2]) if options.smoke else (64, ["--prefill", 16, "--decode", 256])
            repeat = 1 if options.smoke else 2
            result = bench.bench(options.path(spec), [], "--batch", size, *steps, "--repeat", repeat, "--limits")
        except NotMeasured as why:
            report.missing(what, name, 0.55, why)
            continue
        report.add(what, name, spread(result["decode_of_bound"]), 0.55)
        report.add("64 sequences, tokens/s", name, spread(result["decode_tok_s"]), digits=0)


# ---------------------------------------------------------------------------------------------- prompts


def linear_of(bench, spec, size, length):
    """The products that the linear layers of such prompts are, from the kernels' names and FLOPs: rows x K times K x O, of the chosen experts
    rows · top_k / experts each."""
    explained = bench.run("explain", spec, "--set", "weights.dtype=bf16", "--rows", EXPLAINED_ROWS, "--json")["prompt"]
    step = min(ROWS_OF_STEP, size * length)
    shapes = []
    for part in explained["parts"]:
        experts = int((re.search(r"(\d+) experts", part.get("about", "")) or [0, 1])[1])
        for line in part["lines"]:
            named = re.match(r"map_block_(\d+)x(\d+)_", line["kernel"])
            if not named:
                continue
            K, O = int(named[1]), int(named[2])
            if "_logits" in line["kernel"]:
                shapes.append({"experts": 1, "rows": size, "K": K, "O": O, "count": 1})
                continue
            times = round(line["flops"] / (line["phases"] * EXPLAINED_ROWS * 2 * K * O))  # matrices a row goes through
            dual = 2 if "_dual" in line["kernel"] else 1
            count = line["phases"] * size * length / step
            if "_chosen" in line["kernel"]:
                rows = max(1, step * times // dual // experts)
                shapes.append({"experts": experts, "rows": rows, "K": K, "O": O * dual, "count": count})
            else:
                shapes.append({"experts": 1, "rows": step, "K": K, "O": O * times, "count": count})
    return shapes


class Prompts:
    """One model's prompts, in turns with the other side: A B A B …"""

    def __init__(self, bench, torch, name, spec):
        self.bench, self.torch, self.name, self.spec = bench, torch, name, spec
        self.size, self.length = (2, 12) if bench.options.smoke else (4, 4096)
        self.fast, self.exact, self.peers = [], [], {}
        self.why = NotMeasured("no round was completed")  # where a list is empty

    def mossc(self, *words):
        steps = ["--batch", self.size, "--prefill", self.length, "--decode", 1, "--repeat", 1 if self.bench.options.smoke else 2, "--limits"]
        return self.bench.bench(self.bench.options.path(self.spec), [], *steps, *words)

    def peer(self, part, key, **question):
        """Adds a measurement of the other side, or keeps why there is none."""
        if isinstance(self.peers.get(part), NotMeasured):
            return
        try:
            self.peers.setdefault(part, []).append(self.torch.ask(do=part, **question)[key])
        except NotMeasured as why:
            self.peers[part] = why

    def round(self, shapes):
        self.fast.append(self.mossc("--fast"))
        self.peer("peak", "tflop_s")
        self.peer("linear", "ms", shapes=shapes)
        if not self.bench.options.smoke:
            self.exact.append(self.mossc())
        if self.name == "mamba-370m":
            self.peer("mamba", "tok_s", d_model=1024, n_layer=48, vocab_size=50280, batch=self.size, length=self.length)
            self.peer("scan", "ms", d_inner=2048, d_state=16, batch=self.size, length=self.length, count=48)

    def ratios(self, runs, part, ratio):
        """Round by round, beside the other side's `part` if it is named; or why not."""
        theirs = self.peers.get(part, self.why) if part else runs
        if isinstance(theirs, NotMeasured) or not runs:
            raise theirs if isinstance(theirs, NotMeasured) else self.why
        return [ratio(one, other) for one, other in zip(runs, theirs)]

    def of_peak(self, run, peak):
        seconds = self.size * self.length / run["prefill_tok_s"]["median"]
        return run["prefill_linear_flops"] / seconds / (1e12 * peak)


def prefill_lines(p, report):
    """The lines of a model's rounds."""

    def line(what, asked, runs, part, ratio, digits=2):
        try:
            report.add(what, p.name, p.ratios(runs, part, ratio), asked, digits=digits)
        except NotMeasured as why:
            report.missing(what, p.name, asked, why)

    line("prompts, --fast: cuBLAS' time on the linear layers' shapes / the linear layers'", 0.55, p.fast, "linear", lambda run, ms: ms / run["linear_ms"])
    line("prompts, --fast: linear layers' FLOPs / time / cuBLAS' peak", 0.35, p.fast, "peak", p.of_peak)
    line("prompts: scan, bound / time", 0.60, p.fast, None, lambda run, _: run["scan_of_bound"])
    if p.name == "mamba-370m":
        line("prompts, --fast: mossc / mamba_ssm", 1.2, p.fast, "mamba", lambda run, tok_s: run["prefill_tok_s"]["median"] / tok_s)
        line("scan: mamba_ssm's / mossc's, time", None, p.fast, "scan", lambda run, ms: ms / run["scan_ms"])
    line("prompts, --fast: linear layers' FLOPs / time / mma.sync limit", None, p.fast, None, lambda run, _: run["prefill_of_peak"]["median"])
    line("prompts, --fast: tokens/s", None, p.fast, None, lambda run, _: run["prefill_tok_s"]["median"], digits=0)
    if not p.bench.options.smoke:
        line("prompts: cuBLAS' time on the linear layers' shapes / the linear layers'", None, p.exact, "linear", lambda run, ms: ms / run["linear_ms"])
        line("prompts: linear layers' FLOPs / time / cuBLAS' peak", None, p.exact, "peak", p.of_peak)


def prefill(bench, torch, report):
    options = bench.options
    cases = [("smoke", options.smoke)] if options.smoke else PREFILL[:1] if options.quick else PREFILL
    for name, spec in cases:
        p = Prompts(bench, torch, name, spec)
        try:
            shapes = linear_of(bench, options.path(spec), p.size, p.length)
            for _ in range(1 if options.quick or options.smoke else 3):
                p.round(shapes)
        except NotMeasured as why:
            p.why = why
        prefill_lines(p, report)


# ---------------------------------------------------------------------------------------------- compiling


def compiling(bench, _, report):
    options = bench.options
    cases = [] if options.smoke else COMPILE[:1] if options.quick else COMPILE
    for name, spec in cases:
        try:
            result = bench.bench(options.path(spec), [], "--prefill", 2, "--decode", 1, "--repeat", 1 if options.quick else 3)
        except NotMeasured as why:
            report.missing("compile, cold, ms", name, 4000, why, at_most=True)
            continue
        report.add("compile, cold, ms", name, spread(result["compile_ms"]), 4000, at_most=True, digits=0)
        cached = spread(result["cached_ms"]) if "cached_ms" in result else []
        report.add("compile, cached, ms", name, cached, 100, at_most=True, digits=0, why=None if cached else "the kernel cache keeps nothing")


PARTS = {"decode": decode, "batch": batch, "prefill": prefill, "compile": compiling}


# ---------------------------------------------------------------------------------------------- the run


def heading(limits, facts):
    peers = facts.get("why") or f"PyTorch {facts['torch']} (CUDA {facts['cuda']}), mamba_ssm {facts['mamba_ssm'] or 'none'}"
    mma = f", mma.sync {limits['mma_tflop_s']['median']:.0f} TFLOP/s" if "mma_tflop_s" in limits else ""
    return (f"{limits['device']} ({limits['architecture']}, {limits['multiprocessors']} multiprocessors, driver of CUDA {limits['driver']}): "
            f"copying {limits['copy_gb_s']['median']:.0f} GB/s{mma}, exp {limits['exp_g_s']['median']:.0f} G/s. Beside it: {peers}.\n")


def measure(options):
    start, bench = time.monotonic(), Mossc(options)
    try:
        limits = bench.limits()
    except NotMeasured as why:
        print(f"gpu: not measured: {why}")
        return 0 if any(words in str(why) for words in NO_GPU) else 1
    with Torch(options) as torch:
        if not options.json:
            print(heading(limits, torch.facts))
        report = Report(options)
        for part in options.what or PARTS:
            PARTS[part](bench, torch, report)
        seconds = time.monotonic() - start
        if options.json:
            print(json.dumps({"limits": limits, "peers": torch.facts, "results": report.lines, "seconds": seconds}))
        else:
            print(f"\n{seconds:.0f} s")
    return 0


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1].strip(), description=__doc__.split("usage:")[0],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mossc", required=True)
    parser.add_argument("--device", default="cuda", help="cuda or cuda:N")
    parser.add_argument("--python", default="python3", help="a Python that has torch, and mamba_ssm (default: python3)")
    parser.add_argument("--quick", action="store_true", help="fewer models and rounds: under three minutes in place of ten")
    parser.add_argument("--seconds", type=int, help="after which nothing more is begun (default: 570, or 170 with --quick)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to see that this program works; the figures mean nothing")
    parser.add_argument("what", nargs="*", help="decode, batch, prefill, compile (default: all)")
    options = parser.parse_args()
    options.seconds = options.seconds or (170 if options.quick else 570)
    for part in options.what:
        if part not in PARTS:
            parser.error(f"there is no part '{part}'")
    with tempfile.TemporaryDirectory() as directory:
        if options.smoke:
            options.smoke = pathlib.Path(directory) / "smoke.yaml"
            options.smoke.write_text(SMOKE)
        options.path = lambda spec: spec if isinstance(spec, pathlib.Path) else SPECS / f"{spec}.yaml"
        return measure(options)


if __name__ == "__main__":
    sys.exit(main())
