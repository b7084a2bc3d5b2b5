"""Several processes, one a GPU, on one machine or many: what `torchrun` starts, through torch.distributed.

A script that was started without it is a world of one process, where nothing here does anything.
"""

import os
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class World:
    """Which process this is: `rank` of `size`, `local_rank` of `local_size` on its machine."""

    rank: int
    size: int
    local_rank: int
    local_size: int
    restarts: int  # of all processes together, after one of them had died

    @property
    def first(self) -> bool:
        """Whether this is the process that prints and writes."""
        return self.rank == 0

    def share(self, n: int, unit: int = 1) -> range:
        """This process's part of n things in a row; see `shares`."""
        return self.shares(n, unit)[self.rank]

    def shares(self, n: int, unit: int = 1) -> list[range]:
        """n things in a row shared among the processes: every one is somebody's, in whole units but for the last."""
        bounds = [min(n, unit * (-(-n // unit) * rank // self.size)) for rank in range(self.size + 1)]
        return [range(start, stop) for start, stop in pairwise(bounds)]


def world() -> World:
    """What torchrun has put into the environment."""
    names = dict(RANK=0, WORLD_SIZE=1, LOCAL_RANK=0, LOCAL_WORLD_SIZE=1, TORCHELASTIC_RESTART_COUNT=0)
    return World(*(int(os.environ.get(name, default)) for name, default in names.items()))


def join() -> None:
    """Wait for the other processes: CPU tensors then travel through gloo, those of GPUs through NCCL."""
    if world().size > 1 and not dist.is_initialized():
        store, rank, size = next(dist.rendezvous("env://"))
        # torchrun keeps its store when it starts processes again, with the addresses of the dead ones in it.
        store = dist.PrefixStore(f"start {world().restarts}", store)
        dist.init_process_group(store=store, rank=rank, world_size=size)


def summed(values: dict[str, float | Tensor]) -> dict[str, float | Tensor]:
    """The sum of every value over all processes, which have the same names."""
    if world().size == 1 or not values:
        return values
    names = sorted(values)
    sums = torch.tensor([float(values[name]) for name in names], dtype=torch.float64)
    dist.all_reduce(sums)
    return dict(zip(names, sums.tolist(), strict=True))


def gathered(own: object) -> list:
    """What every process has, in the order of their ranks."""
    everyone = [own] * world().size
    if len(everyone) > 1:
        dist.all_gather_object(everyone, own)
    return everyone


def added(own: np.ndarray) -> np.ndarray:
    """The sum of integer arrays of one shape over all processes."""
    if world().size > 1:
        dist.all_reduce(torch.from_numpy(own))
    return own


def barrier() -> None:
    """Nobody goes on before everybody is here."""
    if world().size > 1:
        added(np.zeros(1, np.int64))
