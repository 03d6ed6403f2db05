"""mossc import of GGUF files: the logits of the models that they were converted from, and those of quantised tensors.

usage: test_gguf.py --mossc PROGRAM --ids PROGRAM [--kept] [FILE…]

gguf/NAME.gguf is the folder NAME of test_golden.py by llama.cpp's converter: tokens and logits are the folder's, and so are the ids of texts
(tokenizer-cases.json, by the program of tests/tokenizer). gguf-quantised/NAME/TYPE.gguf
has logits of its own: TYPE-exact.npy, of the dequantised tensors. The files lie beside the repository, in ../shared/golden or where
MOSSC_GOLDEN says; --kept runs the few that are kept here, in data/.
"""
import argparse
import json
import pathlib
import re
import shutil
import sys
import tempfile

import numpy as np

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tokenizer"))
from golden import SKIPPED, TOLERANCE, off, root_of, run  # noqa: E402
from ids import encode  # noqa: E402

EXACT = 5e-5  # with --exact
# Without, and with inputs of maps as they are: weights in blocks that q8 and q4 do not hold are rounded to q8. Blocks that they hold add nothing.
WEIGHTS = {"F16": TOLERANCE, "BF16": TOLERANCE, "Q8_0": EXACT, "Q4_0": 0.1, "Q4_K_M": 0.1, "Q5_K_M": 0.1, "Q6_K": 0.1}
INPUTS = 0.15  # inputs of maps in blocks rounded to q8 besides; llama.cpp, which does that too, is off by up to 0.11


def imported(mossc, file, scratch, *options):
    """The directory that mossc import made."""
    out = scratch / "out"
    shutil.rmtree(out, ignore_errors=True)
    done = run(mossc, "import", file, "-o", out, *options)
    assert done.returncode == 0, f"mossc import ended with {done.returncode}:\n{done.stderr}"
    return out


def compare(mossc, out, tokens, expected, tolerance, *options):
    logits, spec = out / "logits.npy", out / "spec.yaml"
    done = run(mossc, "logits", spec, "-w", out / "model.safetensors", "--tokens", tokens, "-o", logits, *options)
    assert done.returncode == 0, f"mossc logits ended with {done.returncode}:\n{done.stderr}\n{spec.read_text()}"
    value = off(np.load(logits), np.load(expected))
    assert value <= tolerance, f"off by {value:.2g} of the rms, more than {tolerance}\n{spec.read_text()}"
    return value


def check_texts(ids, out, folder):
    """Ids of texts, and what they say."""
    bos = [int(number) for number in re.findall(r"^tokenizer: .*bos: (\d+)", (out / "spec.yaml").read_text(), re.M)]
    cases = json.loads((folder / "tokenizer-cases.json").read_text(encoding="utf-8"))["cases"]
    for case, got in zip(cases, encode(ids, out / "tokenizer.json", [case["text"] for case in cases]), strict=True):
        assert got.get("ids") == case["ids_without_special"] and got.get("said") == case["decoded"], (case, got)
        assert bos + got["ids"] == case["ids"], (bos, case)
    return len(cases)


def check(mossc, ids, root, file, scratch):
    """What was found of one file."""
    if file.parent.name == "gguf":
        folder, out = root / file.stem, imported(mossc, file, scratch)
        value = compare(mossc, out, folder / "tokens.txt", folder / "logits.npy", TOLERANCE, "--reference", 32)
        return f"{value:.2g}; {check_texts(ids, out, folder)} texts have the ids of the folder"
    tokens, expected = file.parent / "tokens.txt", file.parent / f"{file.stem}-exact.npy"
    exact = compare(mossc, imported(mossc, file, scratch, "--exact"), tokens, expected, EXACT)
    out = imported(mossc, file, scratch)
    weights = compare(mossc, out, tokens, expected, WEIGHTS[file.stem], "--set", "weights.activations=f32")
    return f"exact {exact:.2g}, weights {weights:.2g}, inputs too {compare(mossc, out, tokens, expected, INPUTS):.2g}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mossc", required=True)
    parser.add_argument("--ids", required=True)
    parser.add_argument("--kept", action="store_true", help="run the files in the repository")
    parser.add_argument("files", nargs="*", help="gguf/NAME.gguf, of the folder of files")
    options = parser.parse_args()
    root = root_of(options.kept)
    if not root.is_dir():
        print(f"skipped: no folder {root}")
        return SKIPPED
    files = [root / name for name in options.files] or sorted([*root.glob("gguf/*.gguf"), *root.glob("gguf-quantised/*/*.gguf")])
    assert files, f"{root} has no GGUF files"
    failed = []
    with tempfile.TemporaryDirectory() as directory:
        for file in files:
            name = file.relative_to(root)
            try:
                print(f"ok      {name}: off by, of the rms: {check(options.mossc, options.ids, root, file, pathlib.Path(directory))}", flush=True)
            except AssertionError as error:
                failed.append(name)
                print(f"FAILED  {name}: {error}", flush=True)
    print(f"{len(files)} files, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
