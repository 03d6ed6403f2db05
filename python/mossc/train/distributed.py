"""Processes of a run: one, or as many as torchrun started."""
from __future__ import annotations

import datetime
import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn


PATIENCE = datetime.timedelta(days=7)


@dataclass
class World:
    rank: int
    size: int
    device: torch.device
    patient: dist.ProcessGroup | None = None  # all processes, by the CPU, for waits that have no bound

    @property
    def first(self) -> bool:
        return self.rank == 0

    def agree(self, value: float) -> float:
        """The first process's value."""
        if self.size == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.broadcast(tensor, 0)
        return tensor.item()

    def sum(self, *values: float) -> list[float]:
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return tensor.tolist()

    def gather(self, value: object) -> list:
        """Every process's value, in the first; None elsewhere."""
        if self.size == 1:
            return [value]
        out = [None] * self.size if self.first else None
        dist.gather_object(value, out)
        return out

    def wait(self) -> None:
        """However long the first process works (an operation of NCCL gives up after ten minutes)."""
        if self.size > 1:
            dist.barrier(group=self.patient)


def join(device: str | None) -> World:
    """device: of torch ("cpu", "cuda", "cuda:1"); None: a GPU where there is one. ValueError."""
    size, local = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("LOCAL_RANK", 0))
    there = torch.cuda.is_available()
    try:
        where = torch.device(device or ("cuda" if there else "cpu"))
    except RuntimeError:
        raise ValueError(f"--device {device}: expected cpu, cuda or cuda:N") from None
    if where.type == "cuda" and not there:
        raise ValueError("--device cuda: PyTorch finds no GPU here")
    if where.type == "cuda" and where.index is None:
        where = torch.device("cuda", local)
    if where.type == "cuda":
        torch.cuda.set_device(where)
    if size == 1:
        return World(0, 1, where)
    dist.init_process_group("nccl" if where.type == "cuda" else "gloo")
    return World(dist.get_rank(), size, where, dist.new_group(backend="gloo", timeout=PATIENCE))


def leave(world: World) -> None:
    if world.size > 1:
        dist.destroy_process_group()


def wrap(model: nn.Module, world: World, kind: str) -> nn.Module:
    """The module to call: the model, or what keeps the processes' gradients alike. fsdp: layers that lend no weights are sharded one
    by one, the rest with the root."""
    if world.size == 1:
        return model
    if kind == "ddp":
        return nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)
    from torch.distributed.fsdp import fully_shard

    from mossc.torch.layer import Block

    for layer in model.blocks:
        if isinstance(layer, Block):
            fully_shard(layer)
    return fully_shard(model)
