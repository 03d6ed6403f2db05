#!/usr/bin/env python3
"""Random blocks of every form as test_import_form reads them, against PyPI's gguf. Skipped (77) where that is not installed.

usage: compare_forms.py PROGRAM | --record > form_vectors.h
"""
import subprocess
import sys

try:
    import numpy as np
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import dequantize
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

BLOCKS = 4096
# Where the f16 numbers of a block stand.
HALVES = {
    "F16": [0], "Q8_0": [0], "Q4_0": [0], "Q5_0": [0], "Q4_1": [0, 2], "Q5_1": [0, 2], "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2],
    "Q5_K": [0, 2], "Q6_K": [208],
}


def random_blocks(rng, word, count):
    """Any bytes, but for the f16 numbers, which are finite."""
    blocks = rng.integers(0, 256, (count, GGML_QUANT_SIZES[GGMLQuantizationType[word]][1]), dtype=np.uint8)
    for at in HALVES[word]:
        blocks[:, at : at + 2] = rng.normal(0, 0.01, (count, 1)).astype(np.float16).view(np.uint8)
    return blocks


def floats(blocks, word):
    return dequantize(blocks, GGMLQuantizationType[word]).astype(np.float32).reshape(-1)


def listed(values):
    return ", ".join(f"{value:#x}" for value in values)


def record():
    rng = np.random.default_rng(2)
    print("/* A block of each form, random bytes but for its f16 numbers, and the bits of what PyPI's gguf 0.19.0 makes of it\n"
          " * (gguf.quants.dequantize). Made by compare_forms.py --record. */\n#include <stdint.h>\n")
    for word in HALVES:
        blocks = random_blocks(rng, word, 1)
        print(f"static const uint8_t block_{word}[] = {{{listed(blocks.reshape(-1))}}};")
        print(f"static const uint32_t floats_{word}[] = {{{listed(floats(blocks, word).view(np.uint32))}}};")


def main():
    if sys.argv[1] == "--record":
        return record()
    rng = np.random.default_rng(1)
    for word in HALVES:
        blocks = random_blocks(rng, word, BLOCKS)
        ours = subprocess.run([sys.argv[1], "dequantise", word], input=blocks.tobytes(), capture_output=True, check=True).stdout
        theirs = floats(blocks, word)
        assert np.array_equal(np.frombuffer(ours, np.uint32), theirs.view(np.uint32)), f"{word} differs"
        print(f"{word}: {theirs.size} weights are the same")


main()
