"""The rate over a run."""
from __future__ import annotations

import math


def factor(kind: str, done: float, warmup: float, fall: float, floor: float) -> float:
    """What rates are multiplied with when a share `done` of the run is over: rises from near 0 over `warmup`, then `wsd`: 1, falling
    linearly to floor over the last `fall`; `cosine`: half a period, from 1 to floor."""
    rise = min(1.0, (done + 1e-3) / warmup) if warmup > 0 else 1.0
    if kind == "cosine":
        down = 0.5 * (1 + math.cos(math.pi * max(0.0, done - warmup) / max(1e-9, 1 - warmup)))
    else:
        down = max(0.0, min(1.0, (1 - done) / fall)) if fall > 0 else 1.0
    return min(rise, floor + (1 - floor) * down)
