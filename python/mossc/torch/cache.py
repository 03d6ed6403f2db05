"""The state of sequences between calls: of each block, and how many tokens it has seen."""
from __future__ import annotations

import torch
from torch import Tensor

from .blocks import State


class MosscCache:
    """states[i]: those of block i, one a branch; None before the first token. Tensors begin with the batch's axis, or with a
    multiple of it where experts have states."""

    is_compileable = False

    def __init__(self, n_blocks: int):
        self.states: list[list[State] | None] = [None] * n_blocks
        self.position = 0
        self.batch = 0  # sequences, once there are states

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.position

    def _each(self, change) -> None:
        self.states = [s and [{name: change(v) for name, v in unit.items()} for unit in s] for s in self.states]

    def detach(self) -> MosscCache:
        """Cuts the gradient: what training carries from window to window."""
        self._each(Tensor.detach)
        return self

    def clone(self) -> MosscCache:
        out = MosscCache(len(self.states))
        out.states, out.position, out.batch = self.states, self.position, self.batch
        out._each(Tensor.clone)
        return out

    def select(self, batch: int, rows: Tensor) -> None:
        """Of a batch of sequences, those of `rows`, which may repeat."""
        self._each(lambda v: v.unflatten(0, (batch, -1))[rows].flatten(0, 1))
        self.batch = len(rows)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self.select(len(beam_idx), beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        self.select(self.batch, indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        self.select(self.batch, torch.arange(self.batch).repeat_interleave(repeats))
