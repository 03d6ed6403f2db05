#!/usr/bin/env python3
"""Random blocks of Q8_0 and Q4_K as test_ir_quant reads them, against PyPI's gguf. Skipped (77) where that is not installed."""
import subprocess
import sys

try:
    import numpy as np
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

BLOCKS = 4096


def random_blocks(rng, size, halves):
    """Any bytes, but for the f16 numbers, which are finite."""
    blocks = rng.integers(0, 256, (BLOCKS, size), dtype=np.uint8)
    blocks[:, : 2 * halves] = rng.normal(0, 0.01, (BLOCKS, halves)).astype(np.float16).view(np.uint8)
    return blocks


def main():
    rng = np.random.default_rng(1)
    for word, kind, size, halves in (("q8", GGMLQuantizationType.Q8_0, 34, 1), ("q4", GGMLQuantizationType.Q4_K, 144, 2)):
        blocks = random_blocks(rng, size, halves)
        if word == "q8":
            blocks[:, 2:][blocks[:, 2:] == 0x80] = 0x81  # -128 is read as -127
        ours = subprocess.run([sys.argv[1], "dequantise", word], input=blocks.tobytes(), capture_output=True, check=True).stdout
        theirs = dequantize(blocks, kind).astype(np.float32)
        assert np.array_equal(np.frombuffer(ours, np.float32), theirs.reshape(-1)), f"{word} differs"
        print(f"{word}: {theirs.size} weights are the same")


main()
