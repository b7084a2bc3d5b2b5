"""From a split to batches on the host: decoding and augmenting in worker processes, bytes until the batch."""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data.catalogue import Split
from data.samplers import Draw, EpochBatches, GroupBatches, InOrder, ReversedPairs
from data.transforms import UnreadablePhotograph, read_photograph

NO_LABEL = -1  # the target of a photograph whose label nobody knows


class Batch(NamedTuple):
    """images uint8 (B, 3, H, W), target int64 (B,), index int64 (B,): places in the split.

    `unreadable` lists (index, reason) of photographs that could not be decoded; they have no row in the batch.
    `progress`: share 0 … 1 of the training that was done before it, for what a method anneals.
    """

    images: Tensor
    target: Tensor
    index: Tensor
    unreadable: list[tuple[int, str]]
    progress: float = 0.0


class Photographs(Dataset):
    """The photographs of a split, decoded and transformed; every visit's randomness depends on its `Draw` alone."""

    def __init__(self, split: Split, transform, seed: int = 0):
        self.split, self.transform, self.seed = split, transform, seed

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, draw: Draw) -> tuple[Tensor | str, int, int]:
        label = NO_LABEL if self.split.labels is None else int(self.split.labels[draw.index])
        try:
            image = read_photograph(self.split.path(draw.index))
        except UnreadablePhotograph as error:
            return str(error), label, draw.index
        # Neither the number of workers nor a resumption changes what a visit draws.
        with torch.random.fork_rng(devices=[]):
            seed = np.random.SeedSequence([self.seed, draw.epoch, draw.position]).generate_state(1, np.uint64)[0]
            torch.default_generator.manual_seed(int(seed))
            return self.transform(image), label, draw.index


def collate(visits: list[tuple[Tensor | str, int, int]]) -> Batch:
    """Stack what could be read; name what could not."""
    good = [visit for visit in visits if isinstance(visit[0], Tensor)]
    images, target, index = zip(*good, strict=True) if good else ((), (), ())
    return Batch(
        torch.stack(images) if good else torch.empty(0, 3, 0, 0, dtype=torch.uint8),
        torch.tensor(target, dtype=torch.int64),
        torch.tensor(index, dtype=torch.int64),
        [(index, reason) for reason, _, index in visits if isinstance(reason, str)],
    )


def collate_groups(visits: list[tuple[Tensor | str, int, int]], group: int) -> Batch:
    """As `collate`, keeping every `group` adjacent visits together: a member that cannot be read is replaced by one
    that can. A group without any is left out."""
    whole = []
    for start in range(0, len(visits), group):
        members = visits[start : start + group]
        good = [member for member in members if isinstance(member[0], Tensor)]
        whole += [member if isinstance(member[0], Tensor) else good[0] for member in members if good]
    return collate([*whole, *(visit for visit in visits if isinstance(visit[0], str))])


def train_loader(
    split: Split,
    batches: EpochBatches | GroupBatches | ReversedPairs,
    transform,
    workers: int,
    seed: int,
    pin: bool,
) -> DataLoader:
    """Augmented batches in the order of `batches`; set `loader.batch_sampler.epoch` before every epoch."""
    return DataLoader(
        Photographs(split, transform, seed),
        batch_sampler=batches,
        collate_fn=collate if batches.group == 1 else partial(collate_groups, group=batches.group),
        num_workers=workers,
        pin_memory=pin,
        persistent_workers=workers > 0,
    )


def eval_loader(
    split: Split, transform, batch_size: int, workers: int, pin: bool, places: range | None = None
) -> DataLoader:
    """Every photograph of `split`, or of these places of it, once and in order."""
    return DataLoader(
        Photographs(split, transform),
        batch_size,
        sampler=InOrder(range(len(split)) if places is None else places),
        collate_fn=collate,
        num_workers=workers,
        pin_memory=pin,
    )
