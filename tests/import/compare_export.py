#!/usr/bin/env python3
"""mossc export --format gguf beside llama.cpp's converter, by PyPI's gguf: names, shapes, forms and numbers of golden GGUF files, and the keys
that both have. Skipped (77) where gguf is not installed or there are no golden files.

usage: compare_export.py --mossc PROGRAM
"""
import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

try:
    import numpy as np
    from gguf import GGUFReader
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

GOLDEN = pathlib.Path(os.environ.get("MOSSC_GOLDEN") or pathlib.Path(__file__).resolve().parents[3] / "shared" / "golden")
FOLDERS = ["llama-a", "mixtral-a", "qwen2-a", "qwen3-a", "mamba-a", "mamba2-a", "mamba2-a-groups", "falcon_mamba-a-eqeps", "jamba-a", "granitemoehybrid-a",
           "granitemoehybrid-a-attn", "granitemoehybrid-a-dense", "lfm2-a", "nemotron_h-a-dense", "nemotron_h-a-latent", "nemotron_h-a-moe", "olmoe-a",
           "qwen3_moe-a"]  # fmt: skip
OTHERWISE = ("GGUF.", "general.name", "tokenizer.")
# The converter has no longest sequence of these; and there is no width of dense layers that are not there.
UNSAID = {"granitehybrid.context_length", "nemotron_h.context_length", "nemotron_h_moe.context_length", "nemotron_h.rope.dimension_count",
          "nemotron_h_moe.rope.dimension_count", "qwen3moe.feed_forward_length"}  # fmt: skip


def plain(value):
    """A list of one number again and again is that number."""
    return value[0] if isinstance(value, list) and len(set(value)) == 1 else value


def compare(name, ours, theirs):
    tensors = {t.name: t for t in theirs.tensors}
    assert {t.name for t in ours.tensors} == set(tensors), (name, {t.name for t in ours.tensors} ^ set(tensors))
    for t in ours.tensors:
        other = tensors[t.name]
        assert list(t.shape) == list(other.shape) and t.tensor_type == other.tensor_type, (name, t.name, t.shape, other.shape)
        off = np.abs(t.data.astype(np.float64) - other.data).max()
        assert off <= (1e-6 * np.abs(other.data).max() if t.name.endswith("ssm_a") else 0), (name, t.name, off)
    for key in set(ours.fields) & set(theirs.fields):
        if not key.startswith(OTHERWISE) and key not in UNSAID:
            a, b = (plain(fields[key].contents()) for fields in (ours.fields, theirs.fields))
            assert a == b, (name, key, a, b)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mossc", required=True)
    mossc = parser.parse_args().mossc
    if not GOLDEN.is_dir():
        print(f"skipped: no folder {GOLDEN}")
        return 77
    for name in FOLDERS:
        with tempfile.TemporaryDirectory() as directory:
            out = pathlib.Path(directory)
            subprocess.run([mossc, "import", GOLDEN / name, "-o", out / "m"], check=True, stdout=subprocess.DEVNULL)
            subprocess.run([mossc, "export", out / "m/spec.yaml", "-w", out / "m/model.safetensors", "--format", "gguf", "-o", out / "out.gguf"], check=True,
                           stdout=subprocess.DEVNULL)  # fmt: skip
            compare(name, GGUFReader(out / "out.gguf"), GGUFReader(GOLDEN / "gguf" / f"{name}.gguf"))
            print(f"ok      {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
