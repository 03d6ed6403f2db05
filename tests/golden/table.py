"""The table of families in docs/import.md, filled from the tests: runs test_golden.py, test_gguf.py and the tokenizer's cases, and prints Markdown.

usage: table.py --mossc PROGRAM --ids PROGRAM [--speed ./dev-bench-peers.json]

A family is a model_type; of its folders and files the worst difference is shown. --speed: what `./dev bench peers --json speed chat` printed,
for the last column: decoding, mossc beside llama.cpp.
"""
import argparse
import json
import pathlib
import re
import statistics
import subprocess
import sys

from golden import HERE, root_of

ROOT = root_of(kept=False)
# Models of bench/peers by family.
SPEEDS = {"falcon_h1": "falcon-h1-280m", "falcon_mamba": "falcon-mamba-140m", "granitemoehybrid": "granite-4-h-350m", "jamba": "jamba-300m",
          "lfm2": "lfm2-350m", "llama": "SmolLM2-135M-Instruct", "mamba": "mamba-130m", "mamba2": "mamba2-130m", "mistral": "mistral-250m",
          "mixtral": "mixtral-8x128m", "nemotron_h": "nemotron-h-240m", "olmoe": "olmoe-400m", "qwen2": "qwen2.5-0.5b", "qwen3": "qwen3-0.6b",
          "qwen3_moe": "qwen3-moe-370m"}  # fmt: skip


def lines(script, *arguments):
    done = subprocess.run([sys.executable, HERE / script, *arguments], capture_output=True, text=True, cwd=HERE.parents[1])
    sys.stderr.write(done.stdout if done.returncode else "")
    if done.returncode:
        sys.exit(f"{script} ended with {done.returncode}")
    return done.stdout.splitlines()


def family_of(name):
    config = json.loads((ROOT / name / "config.json").read_text())
    return config.get("model_type") or "mamba_ssm"


def speeds_of(path):
    """{model: "1.4 (f32), 1.3 (bf16)"}"""
    if not path:
        return {}
    results, found = json.loads(path.read_text()), {}
    for row in results.get("speed", []) + results.get("chat", {}).get("speeds", []):
        ratio = statistics.median(row["decode"]["ratio"])
        found.setdefault(row["spec"], []).append(f"{ratio:.2f} ({row['dtype']}, {row['llama_type']})")
    return {name: ", ".join(parts) for name, parts in found.items()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mossc", required=True)
    parser.add_argument("--ids", required=True)
    parser.add_argument("--speed", type=pathlib.Path)
    options = parser.parse_args()
    rows, speeds = {}, speeds_of(options.speed)
    for line in lines("test_golden.py", "--mossc", options.mossc):
        if match := re.match(r"ok +(\S+): off by.*?compiled, prefill (\S+), compiled, decode ([\d.e+-]+)", line):
            row = rows.setdefault(family_of(match[1]), {"hf": [], "gguf": [], "texts": 0})
            row["hf"].append(max(float(match[2]), float(match[3])))
            row["texts"] += len(json.loads(cases.read_text())["cases"]) if (cases := ROOT / match[1] / "tokenizer-cases.json").exists() else 0
    for line in lines("test_gguf.py", "--mossc", options.mossc, "--ids", options.ids):
        if match := re.match(r"ok +gguf/(\S+)\.gguf: off by, of the rms: ([\d.e+-]+);", line):
            rows[family_of(match[1])]["gguf"].append(float(match[2]))
    print("| family | Hugging Face: models, worst | GGUF: models, worst | texts with the right ids | decoding beside llama.cpp |")
    print("| --- | --- | --- | --- | --- |")
    for name, row in sorted(rows.items()):
        hf, gguf = (f"{len(row[part])}, {max(row[part]):.1e}" if row[part] else "–" for part in ("hf", "gguf"))
        print(f"| {name} | {hf} | {gguf} | {row['texts'] or '–'} | {speeds.get(SPEEDS.get(name), '–')} |")


if __name__ == "__main__":
    main()
