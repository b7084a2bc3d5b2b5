"""Several processes, one a GPU, on one machine or many: what `torchrun` starts, through torch.distributed.

A script that was started without it is a world of one process, where nothing here does anything.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from common.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

torch = LazyModule("torch")  # a help text does not need it


@dataclass(frozen=True)
class World:
    """Which process this is: `rank` of `size`, `local_rank` of `local_size` on its machine."""

    rank: int
    size: int
    local_rank: int
    local_size: int
    restarts: int  # of all processes together, each after one of them died

    @property
    def first(self) -> bool:
        """Whether this is the process that prints and writes."""
        return self.rank == 0

    def share(self, n: int, unit: int = 1) -> range:
        """This process's part of n things in a row; see `shares`."""
        return self.shares(n, unit)[self.rank]

    def shares(self, n: int, unit: int = 1) -> list[range]:
        """n things in a row, divided among the processes: in whole units, except for the last thing."""
        bounds = [min(n, unit * (-(-n // unit) * rank // self.size)) for rank in range(self.size + 1)]
        return [range(start, stop) for start, stop in pairwise(bounds)]


def world() -> World:
    """What torchrun has put into the environment."""
    names = dict(RANK=0, WORLD_SIZE=1, LOCAL_RANK=0, LOCAL_WORLD_SIZE=1, TORCHELASTIC_RESTART_COUNT=0)
    return World(*(int(os.environ.get(name, default)) for name, default in names.items()))


def join() -> None:
    """Wait for the other processes: CPU tensors then travel through gloo, those of GPUs through NCCL."""
    distributed = torch.distributed
    if world().size > 1 and not distributed.is_initialized():
        store, rank, size = next(distributed.rendezvous("env://"))
        # torchrun keeps its store when it starts processes again, with the addresses of the dead ones in it.
        store = distributed.PrefixStore(f"start {world().restarts}", store)
        distributed.init_process_group(store=store, rank=rank, world_size=size)


def summed(values: dict[str, float | Tensor]) -> dict[str, float | Tensor]:
    """The sum of every value over all processes, which have the same names."""
    if world().size == 1 or not values:
        return values
    names = sorted(values)
    sums = torch.tensor([float(values[name]) for name in names], dtype=torch.float64)
    torch.distributed.all_reduce(sums)
    return dict(zip(names, sums.tolist(), strict=True))


def gathered(value: object) -> list:
    """The value of every process, in the order of their ranks."""
    values = [value] * world().size
    if len(values) > 1:
        torch.distributed.all_gather_object(values, value)
    return values


def added(array: np.ndarray) -> np.ndarray:
    """The sum of integer arrays of one shape over all processes, in place."""
    if world().size > 1:
        torch.distributed.all_reduce(torch.from_numpy(array))
    return array


def agree(signals: list[int], due: bool = False) -> tuple[int, bool]:
    """The same for every process: a signal that one of them has received, or 0; and what `due` is for the first.

    What a process does follows from this alone: a signal may reach one process, and no other, at any moment.
    """
    received, dues = zip(*gathered((list(signals), due)), strict=True)
    return next((signum for some in received for signum in some), 0), dues[0]


def barrier() -> None:
    """Wait until every process is here."""
    if world().size > 1:
        torch.distributed.all_reduce(torch.zeros(1))  # through gloo, whatever GPU the process has
