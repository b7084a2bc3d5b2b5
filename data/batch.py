"""Batches of photographs, and how the visits of single ones become a batch."""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """A batch of photographs: what a loader yields and a training step takes.

    images: uint8 (B, 3, H, W) from the loader. target: int64 (B,), class or NO_LABEL. index: int64 (B,), places in
    the split. unreadable: (index, reason) of photographs that could not be decoded; these have no row in the batch.
    progress: share 0 … 1 of the training that was done before this batch. seeds: int64 (B,), for everything random
    about a photograph after the loader, such as Cutout. generators: one for each photograph, from `seeds`, in training.
    whole: photographs in this batch over all processes.
    """

    images: Tensor
    target: Tensor
    index: Tensor
    unreadable: list[tuple[int, str]]
    progress: float = 0.0
    seeds: Tensor | None = None
    whole: int = 0
    generators: list[torch.Generator] | None = None

    def with_generators(self) -> "Batch":
        """The batch with a new generator for every photograph, from `seeds`."""
        return self._replace(generators=[torch.Generator().manual_seed(seed) for seed in self.seeds.tolist()])

    def pieces(self, count: int, group: int) -> Iterator["Batch"]:
        """Split the batch into at most `count` smaller ones of at least two groups each, for gradient accumulation.

        group: adjacent photographs that stay together.
        """
        groups = len(self.index) // group
        count = max(1, min(count, groups // 2))
        bounds = [group * (groups * n // count) for n in range(count + 1)]
        for start, stop in pairwise(bounds):
            images, target, index, seeds = (
                values[start:stop] for values in (self.images, self.target, self.index, self.seeds)
            )
            yield Batch(images, target, index, [], self.progress, seeds, self.whole)


class Visit(NamedTuple):
    """A visited photograph: what a worker makes of a `Draw`. `seed` and `whole`: see `Batch`."""

    image: Tensor | str  # uint8 (3, H, W), or why it could not be read
    label: int
    index: int
    seed: int
    whole: int


def collate(visits: list[Visit]) -> Batch:
    """Stack the photographs that could be read; list the others in `unreadable`."""
    good = [visit for visit in visits if isinstance(visit.image, Tensor)]
    images, target, index, seeds, _ = zip(*good, strict=True) if good else ((), (), (), (), ())
    return Batch(
        # channels last in memory, as in each image
        torch.stack([image.permute(1, 2, 0) for image in images]).permute(0, 3, 1, 2)
        if good
        else torch.empty(0, 3, 0, 0, dtype=torch.uint8),
        torch.tensor(target, dtype=torch.int64),
        torch.tensor(index, dtype=torch.int64),
        [(visit.index, visit.image) for visit in visits if isinstance(visit.image, str)],
        seeds=torch.tensor(seeds, dtype=torch.int64),
        whole=visits[0].whole if visits else 0,
    )


def collate_groups(visits: list[Visit], group: int) -> Batch:
    """As `collate` for groups of `group` adjacent visits.

    A member that cannot be read is replaced by one of its group that can. A group without any readable member is left
    out.
    """
    complete = []
    for start in range(0, len(visits), group):
        members = visits[start : start + group]
        good = [member for member in members if isinstance(member.image, Tensor)]
        complete += [member if isinstance(member.image, Tensor) else good[0] for member in members if good]
    return collate([*complete, *(visit for visit in visits if isinstance(visit.image, str))])
