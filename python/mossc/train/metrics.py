"""What a run says of itself: lines on standard error, metrics.jsonl, TensorBoard."""
from __future__ import annotations

import json
import pathlib
import sys

from mossc.files import replace


class Metrics:
    """Of the first process alone. `step`: the one that the run goes on from; what was written of later ones is dropped."""

    def __init__(self, directory: pathlib.Path, step: int, active: bool):
        self.active, self.board = active, None
        if not active:
            return
        path = directory / "metrics.jsonl"
        if path.exists():
            kept = [line for line in path.read_bytes().splitlines(keepends=True) if _step_of(line) <= step]
            replace(path, lambda file: file.writelines(kept))
        self.file = open(path, "a", encoding="utf-8", buffering=1)
        try:
            from torch.utils.tensorboard import SummaryWriter
            self.board = SummaryWriter(str(directory / "tensorboard"), purge_step=step + 1)
        except ImportError:
            pass

    def write(self, step: int, **values: float) -> None:
        if not self.active:
            return
        print(json.dumps({"step": step, **values}), file=self.file)
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(name, value, step)

    def say(self, text: str) -> None:
        if self.active:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.active:
            self.file.close()
            if self.board is not None:
                self.board.close()


def _step_of(line: bytes) -> float:
    """Of a line that was cut short, or is none of a run's, infinity."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return float("inf")
