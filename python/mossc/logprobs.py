"""Probabilities of tokens, of logits that are at hand. Model.score tells them of tokens that are fed."""
from __future__ import annotations

import numpy as np


def log_probabilities(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """float64 [n]: natural logarithms of the probabilities of targets, ids [n]. logits: float32 [n, V], one row before each of them."""
    wide = logits.astype(np.float64)
    most = wide.max(1)
    return wide[np.arange(len(targets)), targets] - most - np.log(np.exp(wide - most[:, None]).sum(1))
