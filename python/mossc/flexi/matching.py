"""One-to-one matching of least cost: the assignment problem, by shortest augmenting paths (Kuhn 1955, Munkres 1957; in the form of
Jonker and Volgenant 1987), O(n³)."""
from __future__ import annotations

import numpy as np


def assign(cost: np.ndarray) -> np.ndarray:
    """cost: float64 [n, n], finite. Gives int [n]: the column of each row, such that the sum of their costs is least."""
    n = len(cost)
    row_price, column_price = np.zeros(n + 1), np.zeros(n + 1)
    row_of = np.zeros(n + 1, np.int64)  # of each column, from 1; 0: nobody's. Column 0 holds the row that looks for one
    for row in range(1, n + 1):
        row_of[0], column = row, 0
        least, before, done = np.full(n + 1, np.inf), np.zeros(n + 1, np.int64), np.zeros(n + 1, bool)
        while row_of[column]:
            done[column] = True
            here = row_of[column]
            reduced = cost[here - 1] - row_price[here] - column_price[1:]
            closer = ~done[1:] & (reduced < least[1:])
            least[1:][closer] = reduced[closer]
            before[1:][closer] = column
            column = 1 + int(np.argmin(np.where(done[1:], np.inf, least[1:])))
            step = least[column]
            row_price[row_of[done]] += step
            column_price[done] -= step
            least[~done] -= step
        while column:
            row_of[column] = row_of[before[column]]
            column = before[column]
    out = np.empty(n, np.int64)
    out[row_of[1:] - 1] = np.arange(n)
    return out


def assign_in_runs(cost: np.ndarray, runs: int) -> np.ndarray:
    """The same where rows and columns stand in `runs` equal runs, and a run of rows goes to a run of columns as a whole."""
    n = len(cost)
    size = n // runs
    blocks = cost.reshape(runs, size, runs, size).transpose(0, 2, 1, 3)  # [run, run, size, size]
    inner = np.array([[assign(block) for block in line] for line in blocks])  # [run, run, size]
    of_run = assign(np.take_along_axis(blocks, inner[..., None], 3).sum((2, 3)))
    return np.concatenate([of_run[r] * size + inner[r, of_run[r]] for r in range(runs)])
