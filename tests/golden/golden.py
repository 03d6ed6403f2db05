"""What the tests of imported models share."""
import os
import pathlib
import subprocess

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
SKIPPED = 77
TOLERANCE = 1e-4  # largest difference over the root mean square; transformers itself is off by up to 1e-5 in float32


def root_of(kept):
    """The folder of models: of those in the repository, or of all, which lie beside it or where MOSSC_GOLDEN says."""
    return HERE / "data" if kept else pathlib.Path(os.environ.get("MOSSC_GOLDEN") or HERE.parents[2] / "shared" / "golden")


def run(*command):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True)


def off(logits, expected):
    """Largest difference over the root mean square."""
    assert logits.shape == expected.shape and logits.dtype == np.float32, (logits.shape, logits.dtype, expected.shape)
    expected = expected.astype(np.float64)
    return np.abs(logits - expected).max() / np.sqrt(np.mean(expected**2))
