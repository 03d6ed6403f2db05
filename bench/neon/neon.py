"""What code for ARM executes, counted under qemu-user, and what llvm-mca thinks of its inner loops.

    python3 bench/neon/neon.py --mossc build/release/mossc [count|loops|size]…

count  instructions of one decoded token and of a prompt, kernel by kernel: per weight, per multiply-add, per state element
loops  cycles of the large inner loops of linear layers and scans on Cortex-X4, A720 and A520, beside the bound of the pipes that
       multiply: all products alone (fmla, sdot, smmla)
size   bytes of code of an artefact

The models are compiled by `mossc compile`, linked by the cross compiler and run by qemu-aarch64 with one worker. Needs
gcc-aarch64-linux-gnu, qemu-user and llvm-mca.
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SYSROOT = "/usr/aarch64-linux-gnu"
LARGE = 70  # instructions of a loop that is worth a line
CORES = ["cortex-x4", "cortex-a720", "cortex-a520"]
ELEMENT_BYTES = {"f32": 4, "bf16": 2, "f16": 2, "q8": 544 / 512, "q4": (8 * 288 + 64) / (8 * 512)}
# (name, spec, settings, target): the prompt has as many tokens as PROMPT has bytes.
MODELS = [
    ("mamba-130m f32", "mamba-130m", ["weights.dtype=f32"], "aarch64"),
    ("mamba-130m bf16", "mamba-130m", ["weights.dtype=bf16"], "aarch64"),
    ("mamba-130m f16", "mamba-130m", ["weights.dtype=f16"], "aarch64"),
    ("mamba-130m q8", "mamba-130m", ["weights.dtype=q8"], "aarch64+dotprod"),
    ("mamba-130m q4", "mamba-130m", ["weights.dtype=q4"], "aarch64+dotprod"),
    ("mamba-130m q8", "mamba-130m", ["weights.dtype=q8"], "aarch64+dotprod+i8mm"),
    ("mamba-130m q4", "mamba-130m", ["weights.dtype=q4"], "aarch64+dotprod+i8mm"),
    ("moss-tiny", "moss-tiny", [], "aarch64"),
    ("two blocks of mamba2-370m f32", "mamba2-370m", ["weights.dtype=f32", "stack[0].repeat=2"], "aarch64"),
]
SCANS = ("scan", "heads")
PRODUCTS = ("fmla", "sdot", "smmla")
PROMPT = "It was a dark ev"  # sixteen tokens: two blocks of rows


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
                          **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\nended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


# ------------------------------------------------------------------------------------------------ counting


class Artefact:
    """A model compiled for ARM, with fresh weights and one worker."""

    def __init__(self, mossc, spec, settings, target, directory):
        self.mossc, self.spec, self.directory = mossc, ROOT / f"specs/{spec}.yaml", directory
        self.settings = [word for value in settings + ["tokenizer={kind: bytes}"] for word in ("--set", value)]
        checkpoint = directory / "fresh.safetensors"
        run(mossc, "init", self.spec, *self.settings, "-o", checkpoint)
        run(mossc, "compile", self.spec, *self.settings, "-w", checkpoint, "--target", target, "--cpus", "0", "-o", directory / "out")
        checkpoint.unlink()
        out = directory / "out"
        self.program = directory / "program"
        self.object = next(out.glob("*.o"))
        sources = [out / "main.c", self.object, *sorted((out / "mossrt").glob("*/*.c"))]
        run("aarch64-linux-gnu-gcc", "-O2", "-ffp-contract=off", "-ffunction-sections", "-Wl,--gc-sections", "-D_GNU_SOURCE", f"-I{out}",
            f"-I{out / 'mossrt'}", "-o", self.program, *sources, "-lm", "-pthread")

    def counts(self, plugin, tokens):
        """Instructions by symbol of a run that prints so many tokens after PROMPT."""
        log = self.directory / "counts.txt"
        run("qemu-aarch64", "-cpu", "max", "-L", SYSROOT, "-d", "plugin", "-D", log, "-plugin", plugin, self.program,
            "--prompt", PROMPT, "-n", tokens, "--dir", self.directory / "out", stdin=subprocess.DEVNULL)
        rows = (line.split(maxsplit=1) for line in log.read_text(errors="replace").splitlines())
        return {symbol: int(count) for count, symbol in rows}

    def explain(self):
        return json.loads(run(self.mossc, "explain", self.spec, *self.settings, "--rows", len(PROMPT), "--json"))


def kernels_of(step):
    """What `mossc explain` says of a step, summed by kernel."""
    kernels = {}
    for part in step["parts"]:
        for line in part["lines"]:
            sums = kernels.setdefault(line["kernel"], dict.fromkeys(("phases", "flops", "weight_bytes", "state_bytes"), 0))
            for key in sums:
                sums[key] += line[key]
    return kernels


def executed(counts, kernel):
    """Kernels of an artefact may carry a prefix or a suffix of their model."""
    return sum(count for symbol, count in counts.items() if re.search(rf"(^|_){re.escape(kernel)}$", symbol))


def ratio(count, of):
    return f"{count / of:.3f}" if of else ""


def count_model(mossc, plugin, model):
    name, spec, settings, target = model
    with tempfile.TemporaryDirectory() as directory:
        artefact = Artefact(mossc, spec, settings, target, pathlib.Path(directory))
        prompt, longer = artefact.counts(plugin, 1), artefact.counts(plugin, 2)
        token = {symbol: count - prompt.get(symbol, 0) for symbol, count in longer.items()}
        facts = artefact.explain()
        elements = ELEMENT_BYTES[re.search(r"_(f32|bf16|f16|q8|q4)_", " ".join(k for k in kernels_of(facts["token"]) if k.startswith("linear"))).group(1)]
        step = kernels_of(facts["token"])
        print(f"\n{name}, {target}: {sum(token.values()) / 1e6:.1f} million instructions a decoded token, "
              f"{sum(prompt.values()) / 1e6 / len(PROMPT):.1f} a token of a prompt of {len(PROMPT)} (start included)\n")
        print("| kernel | phases | thousand instructions | a weight | a multiply-add | a state element |\n| --- | --- | --- | --- | --- | --- |")
        states = 0
        for step, counts, rows in ((step, token, 1), (kernels_of(facts["prompt"]), prompt, len(PROMPT))):
            for kernel, k in step.items():
                count, is_linear, is_scan = executed(counts, kernel), kernel.startswith("linear"), kernel.startswith(SCANS)
                # A state element is read and written once a token.
                states = k["state_bytes"] / 8 if is_scan and rows == 1 else states
                print(f"| {kernel} | {k['phases']} | {count / 1e3:.1f} "
                      f"| {ratio(count, k['weight_bytes'] / elements) if is_linear and rows == 1 else ''} "
                      f"| {ratio(count, k['flops'] / 2) if is_linear and rows > 1 else ''} "
                      f"| {ratio(count, states * rows) if is_scan else ''} |")
        sys.stdout.flush()


def count(mossc, models):
    with tempfile.TemporaryDirectory() as directory:
        plugin = pathlib.Path(directory) / "libcount.so"
        run("cc", "-O2", "-shared", "-fPIC", "-o", plugin, HERE / "count.c")
        for model in models:
            count_model(mossc, plugin, model)


# ------------------------------------------------------------------------------------------------ loops


def loops(assembly):
    """(kernel, instructions) of every loop without a branch inside."""
    kernel, label, body = None, None, []
    for line in assembly.splitlines():
        function, block = re.match(r"(\w+):", line), re.match(r"(\.LBB\w+):", line)
        if function:
            kernel, label, body = function.group(1), None, []
        elif block:
            label, body = block.group(1), []
        elif kernel and line.startswith("\t") and not line.startswith("\t."):
            body += [text for text in [line.split("//")[0].strip()] if text]
            branch = re.match(r"\t(?:b\.\w+|cbn?z|tbn?z|b)\t.*?(\.LBB\w+)", line)
            if branch and branch.group(1) == label:
                yield kernel, body
            if branch:
                label, body = None, []


def mca():
    return next((path for path in map(shutil.which, ("llvm-mca-22", "llvm-mca-21", "llvm-mca-20", "llvm-mca-19", "llvm-mca")) if path), None)


def cycles(core, body):
    """Cycles of an iteration, and what its busiest unit needs, by llvm-mca."""
    text = run(mca(), "-mtriple=aarch64", f"-mcpu={core}", "-mattr=+dotprod,+i8mm", "-iterations=100", input="\n".join(body))
    total = int(re.search(r"Total Cycles:\s+(\d+)", text).group(1)) / 100
    return total, float(re.search(r"Block RThroughput:\s+([\d.]+)", text).group(1))


def print_loops(mossc, model):
    name, spec, settings, target = model
    assembly = run(mossc, "asm", ROOT / f"specs/{spec}.yaml", *[w for s in settings for w in ("--set", s)], "--target", target)
    print(f"\n{name}, {target}: cycles of an iteration / of its products alone / of its busiest unit\n")
    print(f"| kernel | instructions | products | loads | spills | {' | '.join(CORES)} |\n| --- | --- | --- | --- | --- |{' --- |' * len(CORES)}")
    for kernel, body in loops(assembly):
        products = [line for line in body if line.startswith(PRODUCTS)]
        if not kernel.startswith(("linear", *SCANS)) or len(body) < LARGE or not products:
            continue
        spills = sum("[sp" in line for line in body)
        cells = []
        for core in CORES:
            total, busiest = cycles(core, body)
            cells.append(f"{total:.0f} / {cycles(core, products)[1]:.0f} / {busiest:.0f}")
        print(f"| {kernel} | {len(body)} | {len(products)} | {sum(line.startswith('ld') for line in body)} | {spills} | {' | '.join(cells)} |")
    sys.stdout.flush()


# ------------------------------------------------------------------------------------------------ size


def size(mossc, models):
    print("\n| model | object: code | tables | program, stripped, without weights |\n| --- | --- | --- | --- |")
    for name, spec, settings, target in models:
        with tempfile.TemporaryDirectory() as directory:
            artefact = Artefact(mossc, spec, settings, target, pathlib.Path(directory))
            sections = run("aarch64-linux-gnu-size", "-A", artefact.object)
            bytes_of = {"text": 0, "other": 0}
            for section, count in re.findall(r"^(\.\S+)\s+(\d+)\s", sections, re.MULTILINE):
                bytes_of["text" if section.startswith(".text") else "other"] += int(count)
            run("aarch64-linux-gnu-strip", artefact.program)
            print(f"| {name} | {bytes_of['text']} | {bytes_of['other']} | {os.path.getsize(artefact.program)} |")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mossc", required=True)
    parser.add_argument("--model", help="only models whose names contain this")
    parser.add_argument("parts", nargs="*", default=["count", "loops", "size"])
    o = parser.parse_args()
    mossc = pathlib.Path(o.mossc).resolve()
    models = [model for model in MODELS if not o.model or o.model in model[0]]
    if "count" in o.parts:
        count(mossc, models)
    if "loops" in o.parts:
        for model in models:
            print_loops(mossc, model)
    if "size" in o.parts:
        size(mossc, models)


main()
