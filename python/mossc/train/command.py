"""The command python -m mossc.train."""
from __future__ import annotations

import ctypes
import signal
import sys

import torch

from mossc import MosscError
from mossc.errors import said

from . import distributed, options
from .loop import train
from .run import NotFinite, Run, Stop

ERROR, BY_SIGNAL = 1, 128
# mallopt's parameters: M_ARENA_MAX, M_MMAP_MAX, M_TRIM_THRESHOLD (−1: never), M_TOP_PAD.
KEEP_BUFFERS = ((-8, 1), (-4, 0), (-1, -1), (-2, 1 << 28))


def keep_buffers() -> None:
    """Has glibc keep a step's large buffers for the next step: otherwise each comes back from the kernel as pages to be cleared."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    for parameter, value in KEEP_BUFFERS if mallopt else ():
        mallopt(parameter, value)


def main(arguments: list[str] | None = None) -> int:
    chosen = options.parse(arguments)
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    world = None
    try:
        world = distributed.join(chosen.device)
        if world.device.type == "cpu":
            keep_buffers()
        run = Run(chosen, world)
        stop = Stop()
        cost = run.spec.cost()
        run.metrics.say(f"{run.spec.name}: {cost.parameters:,} parameters, {cost.active_parameters:,} active per token; "
                        f"{'goes on' if run.progress.steps else 'begins'} at step {run.progress.steps}; {world.size} process{'es' if world.size > 1 else ''}, {world.device}")
        by = train(run, stop)
        run.metrics.close()
        return BY_SIGNAL + by if by else 0
    except (MosscError, NotFinite, ValueError, OSError) as error:
        print(f"mossc.train: {said(error)}", file=sys.stderr)
        return ERROR
    except KeyboardInterrupt:  # before the first step
        return BY_SIGNAL + signal.SIGINT
    finally:
        if world:
            distributed.leave(world)
