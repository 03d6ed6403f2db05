"""Weights of 8 and 4 bits, as the library rounds them when it loads a checkpoint."""
from __future__ import annotations

import numpy as np

from mossc._c import check, ffi, lib

GROUP = 32


def round_weights(dtype: str, w: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dtype: "q8" or "q4"; w float32 [rows, K]. Returns q int8 [rows, K], d and m float32 [rows, ⌈K/32⌉]: weight k of a row is
    d[k // 32]·q[k] − m[k // 32]. The GIL is released meanwhile.

    MosscError: a weight is not finite, or too large."""
    w = np.ascontiguousarray(w, np.float32)
    rows, K = w.shape
    groups = -(-K // GROUP)
    q, d, m = np.empty((rows, K), np.int8), np.empty((rows, groups), np.float32), np.empty((rows, groups), np.float32)
    pointer = lambda kind, array: ffi.cast(kind, array.ctypes.data)
    check(lib.mossc_round_weights(dtype.encode(), pointer("const float *", w), rows, K, pointer("int8_t *", q), pointer("float *", d),
                                  pointer("float *", m)))
    return q, d, m
