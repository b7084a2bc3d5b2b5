"""Which photographs an epoch visits, and in which order. Both depend on the seed and the epoch alone."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from common.errors import InputError


class Draw(NamedTuple):
    """One visit of a photograph, as a sampler asks for it.

    index: place of the photograph in its split. epoch, position: what is random about the visit is drawn from the run's
    seed and these two; no two visits of a run share both. whole: photographs in its batch, over all processes; 0
    outside training.
    """

    index: int
    epoch: int
    position: int
    whole: int = 0


def balanced_subset(labels: np.ndarray, per_class: int, seed: int = 0) -> np.ndarray:
    """Sorted indices of min(per_class, count) random photographs of every class, without repetition.

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

    An epoch has ⌈n / batch_size⌉ batches whose sizes differ by at most one. So no image is dropped, and no tiny last
    batch disturbs the batch statistics. `epoch` chooses the order; `start` is the first batch of the next iteration.
    """

    group = 1  # adjacent images that a batch never separates

    def __init__(self, indices: np.ndarray, batch_size: int, seed: int = 0):
        self.indices, self.batch_size, self.seed = np.asarray(indices), batch_size, seed
        self.epoch = self.start = 0

    def __len__(self) -> int:
        """Number of batches in a whole epoch, for any `start`."""
        return -(-len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[list[Draw]]:
        order = self.order(np.random.default_rng([self.seed, self.epoch]))
        for positions in np.array_split(order, len(self))[self.start :]:
            yield [Draw(int(self.indices[p]), self.epoch, int(p)) for p in positions]

    def order(self, rng: np.random.Generator) -> np.ndarray:
        """The positions in `indices`, in the order of an epoch, (n,)."""
        return rng.permutation(len(self.indices))


class StreamBatches(EpochBatches):
    """`EpochBatches` that visit the shards in random order and mix the photographs of `at_once` shards at a time.

    Each shard is then read once an epoch, which helps where memory cannot hold all shards and seeking is slow.

    `data.pack` packs in a uniformly random order. Another order on top that does not depend on the photographs leaves
    it uniformly random. So the batches of an epoch are as mixed as those of `EpochBatches`, for any `at_once`. Epochs
    only share which photographs are in one shard: these come close together, each time with other shards and in
    another order. Shards that are sorted by class give batches of a few classes.

    indices: the images to visit; shard int (n,): the shard of every photograph of the split.
    """

    def __init__(self, indices: np.ndarray, shard: np.ndarray, batch_size: int, at_once: int, seed: int = 0):
        super().__init__(indices, batch_size, seed)
        _, self.shard = np.unique(shard[self.indices], return_inverse=True)
        self.at_once = at_once

    def order(self, rng: np.random.Generator) -> np.ndarray:
        shuffled = rng.permutation(len(self.indices))
        turn = rng.permutation(self.shard.max() + 1)[self.shard] // self.at_once
        return shuffled[np.argsort(turn[shuffled], kind="stable")]


class GroupBatches(Sampler):
    """Batches of groups: an anchor image followed by `positives` other images of its class.

    Every image is the anchor once an epoch. The groups of a batch are of different classes, so there are at least as
    many batches as the largest class has images. Sizes of batches differ by at most one group. An anchor's positives
    are drawn every epoch without replacement. A class with too few images fills its groups with repeated visits, which
    are augmented differently. `epoch` and `start` as in `EpochBatches`.

    indices: the images to visit; labels int (n,): labels of the whole split.
    batch_size: images in a batch, a multiple of positives + 1, else InputError.
    """

    def __init__(self, indices: np.ndarray, labels: np.ndarray, batch_size: int, positives: int, seed: int = 0):
        if rest := batch_size % (positives + 1):
            near = f"{batch_size - rest + positives + 1}" + (f" or {batch_size - rest}" if batch_size > rest else "")
            raise InputError(
                f"--batch-size {batch_size}: no multiple of {positives + 1}, the photographs of a group; take {near}"
            )
        order = np.argsort(labels[indices], kind="stable")
        self.indices = np.asarray(indices)[order]  # class by class
        _, self.label, self.counts = np.unique(labels[self.indices], return_inverse=True, return_counts=True)
        self.starts = np.cumsum(self.counts) - self.counts
        self.group, self.groups, self.seed = positives + 1, batch_size // (positives + 1), seed
        self.batch_size = batch_size
        self.epoch = self.start = 0

    def __len__(self) -> int:
        """Number of batches in a whole epoch, for any `start`."""
        return max(-(-len(self.indices) // self.groups), int(self.counts.max()))

    def __iter__(self) -> Iterator[list[Draw]]:
        rng, batches = np.random.default_rng([self.seed, self.epoch]), len(self)
        shuffled = rng.permutation(len(self.indices))
        # Classes in random order. None has more than `batches` images, so every batches-th image has another class.
        turn = rng.permutation(len(self.counts))[self.label]
        anchors = shuffled[np.argsort(turn[shuffled], kind="stable")]
        for number, first in list(enumerate(rng.permutation(batches)))[self.start :]:
            draw = np.random.default_rng([self.seed, self.epoch, number])
            places = [place for anchor in anchors[first::batches] for place in self._group(anchor, draw)]
            position = number * self.groups * self.group
            yield [Draw(int(self.indices[place]), self.epoch, position + n) for n, place in enumerate(places)]

    def _group(self, anchor: int, draw: np.random.Generator) -> np.ndarray:
        """Positions of an anchor and its positives in `indices`, (group,)."""
        start, count = self.starts[self.label[anchor]], self.counts[self.label[anchor]]
        others = 1 + draw.choice(count - 1, min(self.group, count) - 1, replace=False)  # distances from the anchor
        steps = np.resize(np.array([0, *others]), self.group)  # repeated where there are too few
        return start + (anchor - start + steps) % count


class ReversedPairs(Sampler):
    """Batches of pairs: an image of `EpochBatches`, and a random image that favours rare classes.

    The second image has class k with a probability proportional to 1 / count_k; all images of class k are equally
    likely. These are the uniform and the reversed sampler of Zhou et al., "BBN", CVPR 2020, section 3.3. `epoch` and
    `start` as in `EpochBatches`.

    indices: the images to visit; labels int (n,): labels of the whole split; batch_size: images in a batch, two a pair.
    """

    group = 2

    def __init__(self, indices: np.ndarray, labels: np.ndarray, batch_size: int, seed: int = 0):
        if batch_size % 2:
            raise InputError(f"--batch-size {batch_size}: pairs need an even number; take {batch_size + 1}")
        self.uniform, self.seed = EpochBatches(indices, batch_size // 2, seed), seed
        self.batch_size = batch_size
        self.indices = self.uniform.indices
        self.by_class = np.asarray(indices)[np.argsort(labels[indices], kind="stable")]
        _, self.counts = np.unique(labels[indices], return_counts=True)
        self.starts = np.cumsum(self.counts) - self.counts
        self.epoch = self.start = 0

    def __len__(self) -> int:
        """Number of batches in a whole epoch, for any `start`."""
        return len(self.uniform)

    def __iter__(self) -> Iterator[list[Draw]]:
        self.uniform.epoch, self.uniform.start = self.epoch, self.start
        chance = 1 / self.counts / (1 / self.counts).sum()
        for number, batch in enumerate(self.uniform, self.start):
            draw = np.random.default_rng([self.seed, self.epoch, number])
            classes = draw.choice(len(chance), len(batch), p=chance)
            places = self.starts[classes] + draw.integers(self.counts[classes])
            other = len(self.by_class)  # partners have positions of their own, so their augmentation differs
            pairs = zip(batch, self.by_class[places].tolist(), strict=True)
            yield [d for first, index in pairs for d in (first, Draw(index, first.epoch, other + first.position))]


class ShardedBatches(Sampler):
    """One process's shard of every batch in `batches`, for training on several processes.

    A batch is divided between its groups into `size` adjacent shards that are as equal as possible; this is number
    `rank`. Every draw has the number of photographs in the whole batch.
    """

    def __init__(self, batches: "EpochBatches | GroupBatches | ReversedPairs", rank: int = 0, size: int = 1):
        self.batches, self.group, self.rank, self.size = batches, batches.group, rank, size

    def go_to(self, epoch: int, batch: int) -> None:
        """Let the next iteration begin with this batch of this epoch."""
        self.batches.epoch, self.batches.start = epoch, batch

    def __len__(self) -> int:
        """Number of batches in a whole epoch."""
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Draw]]:
        for batch in self.batches:
            groups = len(batch) // self.group
            first, last = (groups * rank // self.size * self.group for rank in (self.rank, self.rank + 1))
            yield [draw._replace(whole=len(batch)) for draw in batch[first:last]]


class InOrder(Sampler):
    """The photographs at these places once, in this order, for evaluation."""

    def __init__(self, places: Sequence[int]):
        self.places = places

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[Draw]:
        return (Draw(index, 0, index) for index in self.places)
