"""Which photographs an epoch visits, in which order: pure functions of a seed, so any moment can be resumed."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from common.errors import InputError


class Draw(NamedTuple):
    """One visit of a photograph: what it is (`index`) and what is random about it is drawn from (`epoch`, `position`).

    `whole`: photographs in its batch, over all processes; 0 outside training.
    """

    index: int
    epoch: int
    position: int
    whole: int = 0


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

    group = 1  # adjacent images that belong together

    def __init__(self, indices: np.ndarray, batch_size: int, seed: int = 0):
        self.indices, self.batch_size, self.seed = np.asarray(indices), batch_size, seed
        self.epoch = self.start = 0

    def __len__(self) -> int:
        """Batches of a whole epoch, whatever `start` is."""
        return -(-len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[list[Draw]]:
        order = self.order(np.random.default_rng([self.seed, self.epoch]))
        for positions in np.array_split(order, len(self))[self.start :]:
            yield [Draw(int(self.indices[p]), self.epoch, int(p)) for p in positions]

    def order(self, rng: np.random.Generator) -> np.ndarray:
        """The places of `indices` in the turn of an epoch."""
        return rng.permutation(len(self.indices))


class StreamBatches(EpochBatches):
    """`EpochBatches` that visit the shards in random order, `at_once` of them at a time, and mix the photographs of
    these: so a shard is read once an epoch, by whoever cannot hold or seek in all of them.

    How good that is: the packing order of `data.pack` is a uniformly random permutation, and any order that does not
    look at the photographs, applied to it, is one too. So the batches of an epoch are as mixed as those of
    `EpochBatches`, whatever `at_once` is. What epochs share is only which photographs lie in one shard: within an
    epoch these come within a stretch of `at_once` shards, together with other shards and in another order each time.
    Shards that are not packed in random order, as those of a catalogue sorted by class, give batches of a few classes.

    indices: the images to visit; shard int (n,): of every photograph of the split.
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
    """Batches of groups: an anchor and `positives` other images of its class, adjacent; every image is an anchor once.

    The groups of a batch are of different classes, so there are at least as many batches as the largest class has
    images; their sizes differ by at most one group. The positives of an anchor are drawn anew every epoch, without
    replacement; a class with too few images fills its groups with further visits of them, which are augmented
    differently. `epoch` and `start` as in `EpochBatches`.

    indices: the images to visit; labels int (n,): of the whole split.
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
        _, self.kind, self.counts = np.unique(labels[self.indices], return_inverse=True, return_counts=True)
        self.starts = np.cumsum(self.counts) - self.counts
        self.group, self.groups, self.seed = positives + 1, batch_size // (positives + 1), seed
        self.epoch = self.start = 0

    def __len__(self) -> int:
        """Batches of a whole epoch, whatever `start` is."""
        return max(-(-len(self.indices) // self.groups), int(self.counts.max()))

    def __iter__(self) -> Iterator[list[Draw]]:
        rng, batches = np.random.default_rng([self.seed, self.epoch]), len(self)
        shuffled = rng.permutation(len(self.indices))
        # Classes in random order, each at most `batches` long: every batches-th image is of another class.
        turn = rng.permutation(len(self.counts))[self.kind]
        anchors = shuffled[np.argsort(turn[shuffled], kind="stable")]
        for number, first in list(enumerate(rng.permutation(batches)))[self.start :]:
            draw = np.random.default_rng([self.seed, self.epoch, number])
            places = [place for anchor in anchors[first::batches] for place in self._group(anchor, draw)]
            position = number * self.groups * self.group
            yield [Draw(int(self.indices[place]), self.epoch, position + n) for n, place in enumerate(places)]

    def _group(self, anchor: int, draw: np.random.Generator) -> np.ndarray:
        """Places of an anchor and its positives, (group,)."""
        start, count = self.starts[self.kind[anchor]], self.counts[self.kind[anchor]]
        others = 1 + draw.choice(count - 1, min(self.group, count) - 1, replace=False)  # steps from the anchor
        steps = np.resize(np.array([0, *others]), self.group)  # too few: from the front again
        return start + (anchor - start + steps) % count


class ReversedPairs(Sampler):
    """Batches of pairs: an image in the turn of `EpochBatches`, and one drawn the more often the rarer its class is.

    The second is of class k with a probability in proportion to 1 / count_k, and any image of it equally likely: the
    uniform and the reversed sampler of Zhou et al., "BBN", CVPR 2020, section 3.3. `epoch` and `start` as there.

    indices: the images to visit; labels int (n,): of the whole split; batch_size: images in a batch, two a pair.
    """

    group = 2

    def __init__(self, indices: np.ndarray, labels: np.ndarray, batch_size: int, seed: int = 0):
        if batch_size % 2:
            raise InputError(f"--batch-size {batch_size}: pairs need an even number; take {batch_size + 1}")
        self.uniform, self.seed = EpochBatches(indices, batch_size // 2, seed), seed
        self.indices = self.uniform.indices
        self.by_class = np.asarray(indices)[np.argsort(labels[indices], kind="stable")]
        _, self.counts = np.unique(labels[indices], return_counts=True)
        self.starts = np.cumsum(self.counts) - self.counts
        self.epoch = self.start = 0

    def __len__(self) -> int:
        """Batches of a whole epoch, whatever `start` is."""
        return len(self.uniform)

    def __iter__(self) -> Iterator[list[Draw]]:
        self.uniform.epoch, self.uniform.start = self.epoch, self.start
        chance = 1 / self.counts / (1 / self.counts).sum()
        for number, batch in enumerate(self.uniform, self.start):
            draw = np.random.default_rng([self.seed, self.epoch, number])
            kinds = draw.choice(len(chance), len(batch), p=chance)
            places = self.starts[kinds] + draw.integers(self.counts[kinds])
            other = len(self.by_class)  # the partner's augmentation is another one than that of any image's own turn
            pairs = zip(batch, self.by_class[places].tolist(), strict=True)
            yield [d for own, index in pairs for d in (own, Draw(index, own.epoch, other + own.position))]


class ShardedBatches(Sampler):
    """One process's part of every batch of `batches`, which several processes train on together.

    A batch is cut between its groups into `size` adjacent parts as equal as can be; this is part `rank`. Every draw
    has the number of photographs in the whole batch.
    """

    def __init__(self, batches: "EpochBatches | GroupBatches | ReversedPairs", rank: int = 0, size: int = 1):
        self.batches, self.group, self.rank, self.size = batches, batches.group, rank, size

    def go_to(self, epoch: int, batch: int) -> None:
        """Begin at this batch of this epoch."""
        self.batches.epoch, self.batches.start = epoch, batch

    def __len__(self) -> int:
        """Batches of a whole epoch, wherever it begins."""
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Draw]]:
        for batch in self.batches:
            groups = len(batch) // self.group
            first, last = (groups * rank // self.size * self.group for rank in (self.rank, self.rank + 1))
            yield [draw._replace(whole=len(batch)) for draw in batch[first:last]]


class InOrder(Sampler):
    """Every photograph of a range of places once, in the order of the split."""

    def __init__(self, places: range):
        self.places = places

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[Draw]:
        return (Draw(index, 0, index) for index in self.places)
