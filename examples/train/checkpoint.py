"""Files: the weights as mossc reads them (safetensors), and everything a run needs to go on (npz)."""

import json
import os
import pathlib
import struct

import ml_dtypes
import numpy as np

CODES = {"F32": np.dtype(np.float32), "BF16": np.dtype(ml_dtypes.bfloat16), "F16": np.dtype(np.float16)}
NAMES = {v: k for k, v in CODES.items()}
SPEC_DTYPES = {"f32": "F32", "bf16": "BF16", "f16": "F16"}


def stored_dtype(name, dtype):
    """What `weights.dtype` means for one tensor: embed, head and the maps have it, the rest is f32."""
    parts = name.split(".")
    narrow = parts[-1] == "weight" and (parts[-2].endswith("_proj") or parts[-2] in ("embed", "head"))
    return CODES[SPEC_DTYPES[dtype] if narrow else "F32"]


def _replace(path, write):
    """Writes beside the file, then renames: a reader sees the old file or the new one."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with open(fresh, "wb") as f:
        write(f)
    fresh.replace(path)


def write_safetensors(path, params, dtype="f32"):
    arrays = {k: np.asarray(v).astype(stored_dtype(k, dtype)) for k, v in sorted(params.items())}
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, a in arrays.items():
        header[name] = {"dtype": NAMES[a.dtype], "shape": list(a.shape), "data_offsets": [at, at + a.nbytes]}
        at += a.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)

    def write(f):
        f.write(struct.pack("<Q", len(text)) + text)
        for a in arrays.values():
            f.write(a.tobytes())

    _replace(path, write)


def read_safetensors(path):
    """Name -> float32 array."""
    data = pathlib.Path(path).read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    out = {}
    for name, h in header.items():
        begin, end = (8 + size + at for at in h["data_offsets"])
        out[name] = np.frombuffer(data[begin:end], CODES[h["dtype"]]).reshape(h["shape"]).astype(np.float32)
    return out


def save_run(path, params, opt, state, progress):
    """Everything of a run: weights, optimizer, carried states, and how far it is."""
    flat = {"params/" + k: v for k, v in params.items()}
    flat |= {f"opt/{part}/{k}": v for part in ("first", "second") for k, v in opt[part].items()}
    flat["opt/step"] = opt["step"]
    flat |= {f"state/{i}/{k}": v for i, s in enumerate(state) for k, v in s.items()}
    flat["progress"] = json.dumps(progress)
    _replace(path, lambda f: np.savez(f, **{k: np.asarray(v) for k, v in flat.items()}))


def load_run(path, blocks):
    with np.load(path) as file:
        flat = {k: file[k] for k in file.files}
    under = lambda head: {k[len(head):]: v for k, v in flat.items() if k.startswith(head)}
    opt = {"first": under("opt/first/"), "second": under("opt/second/"), "step": flat["opt/step"]}
    state = [under(f"state/{i}/") for i in range(blocks)]
    return under("params/"), opt, state, json.loads(str(flat["progress"]))
