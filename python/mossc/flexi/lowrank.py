"""What a correction of rank r leaves of a difference between matrices, and the correction itself (Eckart and Young 1936)."""
from __future__ import annotations

import numpy as np


def left_over(difference: np.ndarray, rank: int) -> np.ndarray:
    """‖X − SVD_r(X)‖²_F of each matrix X of difference [..., out, in]: float64 [...], the sum of its squared singular values from the
    (rank + 1)-th on. rank 0: of all."""
    x = np.asarray(difference, np.float64)
    small = min(x.shape[-2:])
    if rank >= small:
        return np.zeros(x.shape[:-2])
    if rank == 0:
        return (x * x).sum((-2, -1))
    gram = x @ np.swapaxes(x, -1, -2) if x.shape[-2] <= x.shape[-1] else np.swapaxes(x, -1, -2) @ x
    squares = np.linalg.eigvalsh(gram)  # rising
    return np.maximum(squares[..., :small - rank], 0).sum(-1)


def factors(difference: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """A [..., r, in] and B [..., out, r], float32, such that B A = SVD_r of difference [..., out, in]: B = U √Σ, A = √Σ Vᵀ. Beyond the
    matrix's own rank they are zero."""
    x = np.asarray(difference, np.float64)
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    n = min(rank, s.shape[-1])
    root = np.sqrt(s[..., :n])
    a = np.zeros(x.shape[:-2] + (rank, x.shape[-1]), np.float32)
    b = np.zeros(x.shape[:-1] + (rank,), np.float32)
    a[..., :n, :] = root[..., :, None] * vt[..., :n, :]
    b[..., :n] = u[..., :n] * root[..., None, :]
    return a, b
