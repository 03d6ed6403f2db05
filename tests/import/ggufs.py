"""GGUF files for tests: keys and tensors of NumPy, written as llama.cpp's converter lays them out."""
import struct

import numpy as np

U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
F32_TENSOR = 0
# Number of the form, weights and bytes of a block, places of its f16 numbers.
BLOCKS = {"Q8_0": (8, 32, 34, [0]), "Q4_0": (2, 32, 18, [0]), "Q4_1": (3, 32, 20, [0, 2]), "Q4_K": (12, 256, 144, [0, 2]), "Q6_K": (14, 256, 210, [208])}


def text(value):
    value = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(value)) + value


def typed(value):
    """The type of a value and its bytes."""
    if isinstance(value, bool):
        return BOOL, struct.pack("<?", value)
    if isinstance(value, int):
        return U32, struct.pack("<I", value)
    if isinstance(value, float):
        return F32, struct.pack("<f", value)
    if isinstance(value, str):
        return STRING, text(value)
    kinds, items = zip(*(typed(item) for item in value))
    return ARRAY, struct.pack("<IQ", kinds[0], len(items)) + b"".join(items)


class Blocks:
    """Rows in blocks of random bytes whose f16 numbers are small."""

    def __init__(self, form, rows, columns, seed=1):
        self.number, weights, size, halves = BLOCKS[form]
        self.shape = (rows, columns)
        rng = np.random.default_rng(seed)
        self.bytes = rng.integers(0, 256, (rows * columns // weights, size), dtype=np.uint8)
        for at in halves:
            self.bytes[:, at : at + 2] = rng.normal(0, 0.01, (len(self.bytes), 1)).astype(np.float16).view(np.uint8)
        if form == "Q8_0":
            self.bytes[self.bytes == 0x80] = 0x81  # -128, which q8 has not

    def tobytes(self):
        return self.bytes.tobytes()


def write(path, keys, tensors):
    """keys: name -> value; tensors: name -> float32 array or Blocks."""
    head, data = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)), b""
    for key, value in keys.items():
        kind, raw = typed(value)
        head += text(key) + struct.pack("<I", kind) + raw
    for name, values in tensors.items():
        form, values = (values.number, values) if isinstance(values, Blocks) else (F32_TENSOR, np.ascontiguousarray(values, "<f4"))
        head += text(name) + struct.pack(f"<I{len(values.shape)}QIQ", len(values.shape), *reversed(values.shape), form, len(data))
        data += values.tobytes()
        data += b"\0" * (-len(data) % 32)
    path.write_bytes(head + b"\0" * (-len(head) % 32) + data)
    return path


def paired(values, heads):
    """Rows of q or k as the llama architecture has them: the two halves of a head's rows in turn."""
    rest = values.shape[1:]
    return values.reshape(heads, 2, len(values) // heads // 2, *rest).swapaxes(1, 2).reshape(values.shape)
