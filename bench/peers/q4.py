"""The errors of q4 weights: mossc's search beside llama.cpp's Q4_K, on the same rows. Runs in the environment that peers.py makes.

    q4.py --directory DIR --model W.safetensors [--json]

Both write blocks of the same form (GGUF's Q4_K), so that only the choice of their numbers differs. The error is Σ h (w − w')², with h = 1
and with random h of a log-normal distribution (σ 1.5), which llama.cpp gets as its importance matrix. mossc's search is compiled into a
library of its own; llama.cpp's is ggml_quantize_chunk of llama-cpp-python, and gguf makes weights of its blocks.
"""
import argparse
import ctypes
import json
import pathlib
import subprocess
import sys
import time

import gguf
import llama_cpp
import numpy as np

ROOT = pathlib.Path(__file__).parent.parent.parent
SOURCES = ["ir/quant_search.c"]
SUPER, GROUP, SEED = 256, 32, 1


class Row(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in "qstdm"]


def pointer(array):
    return array.ctypes.data_as(ctypes.c_void_p) if array is not None else None


def compile_search(directory):
    library = directory / "quant_search.so"
    command = ["cc", "-O3", "-std=c17", "-ffp-contract=off", "-shared", "-fPIC", "-I", ROOT, *(ROOT / name for name in SOURCES), "-o", library]
    subprocess.run([str(word) for word in command], check=True)
    search = ctypes.CDLL(str(library.resolve())).ir_q4_search
    search.restype, search.argtypes = ctypes.c_bool, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64, ctypes.POINTER(Row)]
    return search


def ours(search, rows, h):
    """The weights, and seconds of one thread."""
    K = rows.shape[1]
    groups, supers = K // GROUP, K // SUPER
    parts = [np.zeros((len(rows), n), t) for n, t in ((groups * 16, np.uint8), (groups, np.uint8), (groups, np.uint8), (supers, np.float16),
                                                       (supers, np.float16))]
    start = time.perf_counter()
    for i, row in enumerate(rows):
        if not search(pointer(row), pointer(h), K, ctypes.byref(Row(*(pointer(part[i]) for part in parts)))):
            sys.exit("the search refuses a row")
    seconds = time.perf_counter() - start
    q, s, t, d, m = parts
    q = np.stack([q & 15, q >> 4], -1).reshape(len(rows), groups, GROUP).astype(np.float32)
    scale = np.repeat(d.astype(np.float32), 8, 1) * s
    low = np.repeat(m.astype(np.float32), 8, 1) * t
    return (scale[..., None] * q - low[..., None]).reshape(rows.shape), seconds


def find_ggml():
    library = next((pathlib.Path(llama_cpp.__file__).parent / "lib").glob("libggml-base.so*"))
    quantize = ctypes.CDLL(str(library)).ggml_quantize_chunk
    quantize.restype = ctypes.c_size_t
    quantize.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    return quantize


def theirs(quantize, rows, h):
    kind = gguf.GGMLQuantizationType.Q4_K
    blocks = np.zeros((len(rows), rows.shape[1] // SUPER * gguf.GGML_QUANT_SIZES[kind][1]), np.uint8)
    start = time.perf_counter()
    quantize(int(kind), pointer(rows), pointer(blocks), 0, *rows.shape, pointer(h))
    return gguf.quants.dequantize(blocks, kind), time.perf_counter() - start


def read_model(path):
    """Name → float32 array of the matrices of a checkpoint in F32 or BF16."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    arrays = {}
    for name, entry in header.items():
        if name == "__metadata__" or len(entry["shape"]) < 2 or entry["dtype"] not in ("F32", "BF16"):
            continue
        raw = body[slice(*entry["data_offsets"])]
        values = np.frombuffer(raw, np.float32) if entry["dtype"] == "F32" else (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(np.float32)
        arrays[name] = values.reshape(entry["shape"])
    return arrays


def sets(model):
    rng = np.random.default_rng(SEED)
    shape = (256, 1024)
    yield "normal", rng.normal(size=shape)
    yield "uniform", rng.uniform(-1, 1, shape)
    yield "Student's t, 3 degrees", rng.standard_t(3, shape)
    yield "Student's t, 1.5 degrees", rng.standard_t(1.5, shape)
    classes = {}
    for name, values in read_model(model).items():
        if name.endswith("_proj.weight") and values.shape[-1] >= 64:  # not dt_proj, which stays in bf16
            classes.setdefault(name.split(".")[-2], []).append(values.ravel())
    for name, values in sorted(classes.items()):
        whole = np.concatenate(values)
        rows = whole[: whole.size // (3 * SUPER) * 3 * SUPER].reshape(-1, 3 * SUPER)  # of whole super-blocks, as Q4_K wants
        yield f"{model.stem}, {name}", rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--directory", type=pathlib.Path, required=True)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    search, quantize = compile_search(options.directory), find_ggml()
    rng = np.random.default_rng(SEED)
    results = []
    for name, rows in sets(options.model):
        rows = np.ascontiguousarray(rows, np.float32)
        h = np.exp(rng.normal(size=rows.shape[1]) * 1.5).astype(np.float32)
        result = {"rows": name, "weights": rows.size}
        for key, weights in (("plain", None), ("weighted", h)):
            (a, our_seconds), (b, their_seconds) = ours(search, rows, weights), theirs(quantize, rows, weights)
            count = np.float64(1) if weights is None else weights.astype(np.float64)
            power = np.sum(count * rows.astype(np.float64) ** 2)
            mine, other = (float(np.sum(count * (rows - back).astype(np.float64) ** 2)) for back in (a, b))
            result[key] = {"mossc": (mine / power) ** 0.5, "llama": (other / power) ** 0.5, "ratio": mine / other,
                           "mossc_weights_s": rows.size / our_seconds, "llama_weights_s": rows.size / their_seconds}
        results.append(result)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
