"""Writes a checkpoint of float32 numbers, as training keeps them, in the dtypes of its spec: f32, bf16 or f16.

    python store.py SPEC CHECKPOINT OUT
"""
import sys

import torch
from safetensors.torch import load_file, save_file

import mossc

KINDS = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def main() -> int:
    if len(sys.argv) != 4:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    spec, given, out = sys.argv[1:]
    dtypes = {tensor.name: tensor.dtype for tensor in mossc.Spec(spec).tensors}
    if not set(dtypes.values()) <= KINDS.keys():
        print("the spec has q8 or q4 weights: `mossc quantize` writes those", file=sys.stderr)
        return 1
    save_file({name: tensor.to(KINDS[dtypes[name]]).contiguous() for name, tensor in load_file(given).items()}, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
