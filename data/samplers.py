"""Which photographs an epoch visits, in which order: pure functions of a seed, so any moment can be resumed."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from errors import InputError


class Draw(NamedTuple):
    """One visit of a photograph: what it is (`index`) and what its augmentation is drawn from (the other two)."""

    index: int
    epoch: int
    position: int


def balanced_subset(labels: np.ndarray, per_class: int, seed: int = 0) -> np.ndarray:
    """Sorted indices of min(per_class, count) photographs of every class, drawn without replacement.

    The report's section 1: "all the categories contain 30 images (using all images if the number of images in the
    corresponding category is less than 30)". `labels` int (n,); `per_class` at least 1, else InputError.
    """
    if per_class < 1:
        raise InputError(f"--balanced {per_class}: expected at least 1 photograph a class")
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]  # each class's photographs, in random order
    counts = np.bincount(labels)
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)  # place within the class
    return np.sort(by_class[rank < per_class])


class EpochBatches(Sampler):
    """Batches of `Draw`s that visit every one of `indices` once an epoch, in a new order each epoch.

    An epoch is cut into ⌈n / batch_size⌉ batches whose sizes differ by at most one: no image is dropped and no tiny
    last batch disturbs the batch statistics. `epoch` chooses the order; `start` skips the batches done before
    a resumption.
    """

    def __init__(self, indices: np.ndarray, batch_size: int, seed: int = 0):
        self.indices, self.batch_size, self.seed = np.asarray(indices), batch_size, seed
        self.epoch = self.start = 0

    def __len__(self) -> int:
        """Batches of a whole epoch, whatever `start` is."""
        return -(-len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[list[Draw]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.indices))
        for positions in np.array_split(order, len(self))[self.start :]:
            yield [Draw(int(self.indices[p]), self.epoch, int(p)) for p in positions]


class InOrder(Sampler):
    """Every one of n photographs once, in the order of the split."""

    def __init__(self, n: int):
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[Draw]:
        return (Draw(index, 0, index) for index in range(self.n))
