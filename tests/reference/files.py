"""Safetensors files and the narrow dtypes in NumPy."""
import json
import struct

import numpy as np

READ = {"F32": "<f4", "F16": "<f2", "I8": "i1", "U8": "u1"}


def read_safetensors(path):
    """name -> array: float32 (bf16 and f16 are widened), or integers of 8 bits."""
    with open(path, "rb") as file:
        data = file.read()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = (8 + size + offset for offset in entry["data_offsets"])
        raw = data[begin:end]
        if entry["dtype"] == "BF16":
            values = (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
        else:
            values = np.frombuffer(raw, READ[entry["dtype"]])
        if values.dtype == np.float16:
            values = values.astype("<f4")
        tensors[name] = values.reshape(entry["shape"])
    return tensors


def write_safetensors(path, tensors):
    """Each in its array's dtype: float32, float16, int8 or uint8."""
    dtypes = {np.dtype(kind): name for name, kind in READ.items()}
    header, offset = {}, 0
    for name, values in tensors.items():
        header[name] = {"dtype": dtypes[values.dtype], "shape": list(values.shape), "data_offsets": [offset, offset + values.nbytes]}
        offset += values.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for values in tensors.values():
            file.write(np.ascontiguousarray(values).tobytes())


def narrow(values, dtype):
    """Nearest even, widened back."""
    values = np.asarray(values, np.float32)
    if dtype == "f16":
        return values.astype(np.float16).astype(np.float32)
    if dtype == "bf16":
        bits = np.ascontiguousarray(values).view(np.uint32).astype(np.uint64)
        bits = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
        return bits.astype(np.uint32).view(np.float32)
    return values
