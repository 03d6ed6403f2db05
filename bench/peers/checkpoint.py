"""Checkpoints as mossc reads them (safetensors, all float32), mapped as NumPy arrays."""
import json

import numpy as np


def tensors(path, mode="r"):
    """Name → array. With mode r+ what is written to an array is written to the file."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    header.pop("__metadata__", None)
    data = np.memmap(path, np.uint8, mode, offset=8 + size)
    arrays = {}
    for name, entry in header.items():
        if entry["dtype"] != "F32":
            raise ValueError(f"{path}: {name} is {entry['dtype']}, not F32")
        begin, end = entry["data_offsets"]
        arrays[name] = data[begin:end].view(np.float32).reshape(entry["shape"])
    return arrays


def roughen(path, seed):
    """Gives noise to what `mossc init` makes regular: with norms and D of ones and equal rows in A, a factor that one side
    forgets or a row that it mixes up would not show in the logits. Norms of δ, B and C without an MLP are falcon_mamba's, which
    have no weights: they stay ones."""
    rng = np.random.default_rng(seed)
    arrays = tensors(path, "r+")
    ones = () if any(name.endswith(".down_proj.weight") for name in arrays) else (".dt_norm.weight", ".b_norm.weight", ".c_norm.weight")
    for name, values in arrays.items():
        if name.endswith(("norm.weight", ".D", ".A_log", ".select_bias")) and not name.endswith(ones):
            values += 0.2 * rng.standard_normal(values.shape, np.float32)
