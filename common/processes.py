"""Several processes that `torchrun` starts, one for each GPU, on one machine or many. They use torch.distributed.

A script that was started without torchrun is a world of one process. There every function returns what it was given.
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
    restarts: int  # torchrun restarts all processes when one of them dies

    @property
    def first(self) -> bool:
        """Whether this is the process that prints and writes."""
        return self.rank == 0

    def share(self, n: int, unit: int = 1) -> range:
        """The part of n items that belongs to this process; see `shares`."""
        return self.shares(n, unit)[self.rank]

    def shares(self, n: int, unit: int = 1) -> list[range]:
        """The part of n items that belongs to each process: adjacent items, in whole units except at the end."""
        bounds = [min(n, unit * (-(-n // unit) * rank // self.size)) for rank in range(self.size + 1)]
        return [range(start, stop) for start, stop in pairwise(bounds)]


def world() -> World:
    """This process, as torchrun's environment variables describe it."""
    names = dict(RANK=0, WORLD_SIZE=1, LOCAL_RANK=0, LOCAL_WORLD_SIZE=1, TORCHELASTIC_RESTART_COUNT=0)
    return World(*(int(os.environ.get(name, default)) for name, default in names.items()))


def join() -> None:
    """Connect to the other processes: by gloo for tensors on CPUs, by NCCL for tensors on GPUs."""
    distributed = torch.distributed
    if world().size > 1 and not distributed.is_initialized():
        store, rank, size = next(distributed.rendezvous("env://"))
        # After a restart torchrun's store still holds the addresses of the dead processes.
        store = distributed.PrefixStore(f"start {world().restarts}", store)
        distributed.init_process_group(store=store, rank=rank, world_size=size)


def summed(values: dict[str, float | Tensor]) -> dict[str, float | Tensor]:
    """The sum of each value over all processes. Every process must give the same names."""
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


def summed_array(array: np.ndarray) -> np.ndarray:
    """The sum of an integer array over all processes; it replaces the content of `array`."""
    if world().size > 1:
        torch.distributed.all_reduce(torch.from_numpy(array))
    return array


def agree(signals: list[int], due: bool = False) -> tuple[int, bool]:
    """Agree on a signal that any process has received (0: none), and on `due` of the first process.

    Processes must stop and save together, but a signal may reach only one of them.
    """
    received, dues = zip(*gathered((list(signals), due)), strict=True)
    return next((signum for some in received for signum in some), 0), dues[0]


def barrier() -> None:
    """Wait until every process has called this."""
    if world().size > 1:
        torch.distributed.all_reduce(torch.zeros(1))  # a tensor on the CPU: through gloo, also if the process has a GPU
