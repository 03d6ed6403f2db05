"""Checkpoint folders for tests, made and changed: tiny ones of random numbers, and copies of those in tests/golden/data."""
import json
import pathlib
import shutil
import sys

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "reference"))
sys.path.insert(0, str(ROOT / "tests" / "cli"))
from files import read_safetensors, write_safetensors  # noqa: E402

KEPT = ROOT / "tests" / "golden" / "data"


def make(m, name, config, tensors, **texts):
    """A folder in the scratch directory of m (harness.Mossc). texts: other files, name without suffix -> JSON."""
    folder = m.directory / name
    folder.mkdir()
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    write_safetensors(folder / "model.safetensors", {name: np.ascontiguousarray(values) for name, values in tensors.items()})
    for file, content in texts.items():
        (folder / f"{file}.json").write_text(json.dumps(content))
    return folder


def kept(m, name, **keys):
    """A copy of a folder in tests/golden/data, with keys of its config changed (None: removed)."""
    folder = m.directory / name
    shutil.copytree(KEPT / name, folder)
    change(folder, **keys)
    return folder


def change(folder, file="config.json", **keys):
    path = folder / file
    config = json.loads(path.read_text())
    for key, value in keys.items():
        config.pop(key, None)
        if value is not None:
            config[key] = value
    path.write_text(json.dumps(config))


def tensors_of(folder):
    return {name: values.copy() for name, values in read_safetensors(folder / "model.safetensors").items()}


def put(folder, tensors):
    write_safetensors(folder / "model.safetensors", tensors)


class Drawn:
    """Random tensors by name, as they are asked for; float64 of what the file holds."""

    def __init__(self, seed):
        self.rng, self.tensors = np.random.default_rng(seed), {}

    def __call__(self, name, *shape, near=0.0, scale=None):
        if name not in self.tensors:
            scale = scale if scale is not None else 1 / np.sqrt(shape[-1]) if len(shape) > 1 else 0.2
            self.tensors[name] = (near + scale * self.rng.standard_normal(shape)).astype(np.float32)
        return self.tensors[name].astype(np.float64)
