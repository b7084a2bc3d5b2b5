"""From a split to batches on the host: decoding and augmenting in worker processes, bytes until the batch."""

import gc
import os
import re
import signal
import time
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from common.errors import InputError
from data.catalogue import Split
from data.photographs import UnreadablePhotograph, read_squashed
from data.samplers import Draw, EpochBatches, GroupBatches, InOrder, ReversedPairs, ShardedBatches, StreamBatches
from data.shards import read_ahead
from data.workers import NOTHING, WorkerStatus, death, hang

NO_LABEL = -1  # the target of a photograph whose label nobody knows
POLL = 2.0  # seconds between two looks at the workers while a batch is waited for


class Batch(NamedTuple):
    """images uint8 (B, 3, H, W), target int64 (B,), index int64 (B,): places in the split.

    `unreadable` lists (index, reason) of photographs that could not be decoded; they have no row in the batch.
    `progress`: share 0 … 1 of the training that was done before it, for what a method anneals.
    `seeds`: int64 (B,), from which all is drawn that is random about a photograph after the loader; a function of the
    run's seed, the epoch and the place in it alone. `generators`: of these seeds, one a photograph, in training.
    `whole`: photographs in the batch of all processes together.
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
        """The batch with a fresh generator for every photograph."""
        return self._replace(generators=[torch.Generator().manual_seed(seed) for seed in self.seeds.tolist()])

    def pieces(self, count: int, group: int) -> Iterator["Batch"]:
        """The batch in `count` pieces, or in as many as have two groups each; the members of a group stay together."""
        groups = len(self.index) // group
        count = max(1, min(count, groups // 2))
        bounds = [group * (groups * n // count) for n in range(count + 1)]
        for start, stop in pairwise(bounds):
            images, target, index, seeds = (
                part[start:stop] for part in (self.images, self.target, self.index, self.seeds)
            )
            yield Batch(images, target, index, [], self.progress, seeds, self.whole)


class Visit(NamedTuple):
    """What a worker makes of a `Draw`: the pixels, or why there are none; `seed`: see `Batch`."""

    image: Tensor | str
    label: int
    index: int
    seed: int
    whole: int


class WorkerLost(InputError):
    """A process that reads photographs has died or hangs; the message names the photograph it was at."""


class Photographs(Dataset):
    """The photographs of a split, squashed to `resize` and, in training, augmented by `transform`.

    What is random about a visit depends on its `Draw` alone.

    `stream`: they are visited shard by shard, so that each shard is better read as a whole. `patience`: seconds that
    one may take to read, see `batches`. What each of the `workers` is at, others can see.
    """

    def __init__(
        self,
        split: Split,
        resize: int,
        transform=None,
        seed: int = 0,
        stream: bool = False,
        workers: int = 0,
        patience: float = 0,
    ):
        self.split, self.resize, self.transform = split, resize, transform
        self.seed, self.stream = seed, stream
        self.patience = patience
        self.status = WorkerStatus(workers)

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, draw: Draw) -> Visit:
        if not (worker := get_worker_info()):
            return self.visit(draw)
        self.status.note(worker.id, draw.index)
        visit = self.visit(draw)
        self.status.note(worker.id, NOTHING)
        return visit

    def visit(self, draw: Draw) -> Visit:
        label = NO_LABEL if self.split.labels is None else int(self.split.labels[draw.index])
        path = self.split.path(draw.index)
        if self.stream:
            read_ahead(path.shard, draw.epoch)
        # Neither the number of workers or processes nor a resumption changes what a visit draws.
        first, second = np.random.SeedSequence([self.seed, draw.epoch, draw.position]).generate_state(2, np.uint64)
        try:
            pixels = read_squashed(path, self.resize)
            if self.transform:
                image = self.transform(pixels, torch.Generator().manual_seed(int(first)))
            else:
                image = torch.from_numpy(pixels).permute(2, 0, 1)  # (3, resize, resize)
        except UnreadablePhotograph as error:
            image = str(error)
        return Visit(image, label, draw.index, int(second >> np.uint64(1)), draw.whole)


def collate(visits: list[Visit]) -> Batch:
    """Stack what could be read; name what could not."""
    good = [visit for visit in visits if isinstance(visit.image, Tensor)]
    images, target, index, seeds, _ = zip(*good, strict=True) if good else ((), (), (), (), ())
    return Batch(
        # with the channels last, as they lie in each of them
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
    """As `collate`, keeping every `group` adjacent visits together: a member that cannot be read is replaced by one
    that can. A group without any is left out."""
    whole = []
    for start in range(0, len(visits), group):
        members = visits[start : start + group]
        good = [member for member in members if isinstance(member.image, Tensor)]
        whole += [member if isinstance(member.image, Tensor) else good[0] for member in members if good]
    return collate([*whole, *(visit for visit in visits if isinstance(visit.image, str))])


def keep_shared() -> None:
    """Leave all objects there are so far out of garbage collections, before worker processes are made: a collection
    looks at every object, and looking at one copies the page that a process shares with others."""
    gc.unfreeze()  # what an earlier training has left
    gc.collect()
    gc.freeze()


def train_loader(
    split: Split,
    batches: EpochBatches | GroupBatches | ReversedPairs,
    transform,
    workers: int,
    seed: int,
    pin: bool,
    rank: int = 0,
    size: int = 1,
    patience: float = 0,
) -> DataLoader:
    """Augmented batches in the order of `batches`, of each the part of process `rank` of `size`.

    `loader.batch_sampler.go_to(epoch, batch)` chooses what the next iteration begins with.
    """
    keep_shared()
    return DataLoader(
        Photographs(split, transform.resize, transform, seed, isinstance(batches, StreamBatches), workers, patience),
        batch_sampler=ShardedBatches(batches, rank, size),
        collate_fn=collate if batches.group == 1 else partial(collate_groups, group=batches.group),
        num_workers=workers,
        pin_memory=pin,
        persistent_workers=workers > 0,
        timeout=POLL * (workers > 0),
    )


def eval_loader(
    split: Split,
    resize: int,
    batch_size: int,
    workers: int,
    pin: bool,
    places: range | None = None,
    patience: float = 0,
) -> DataLoader:
    """Every photograph of `split`, or of these places of it, once and in order, squashed to `resize`."""
    return DataLoader(
        Photographs(split, resize, workers=workers, patience=patience),
        batch_size,
        sampler=InOrder(range(len(split)) if places is None else places),
        collate_fn=collate,
        num_workers=workers,
        pin_memory=pin,
        timeout=POLL * (workers > 0),
    )


def batches(loader: DataLoader) -> Iterator[Batch]:
    """What the loader yields.

    Raises WorkerLost where a worker process has died, or has been for more than `patience` seconds (0: any number) at
    one photograph. It is raised only here, while a batch is waited for: never in the middle of what is done with one.
    """
    photographs, iterator, waited = loader.dataset, None, time.monotonic()
    while True:
        try:
            iterator = iterator or iter(loader)
            if loader.num_workers and signal.getsignal(signal.SIGCHLD) not in (None, signal.SIG_DFL):
                # Torch's raises wherever the process is, were it in writing a checkpoint; the look after POLL suffices.
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            batch = next(iterator)
        except StopIteration:
            return
        except RuntimeError as error:
            if not str(error).startswith("DataLoader "):
                raise
            if "timed out" not in str(error):
                raise WorkerLost(_death(photographs, iterator, str(error))) from error
            _require_progress(photographs, time.monotonic() - waited)
            continue
        except (ConnectionError, EOFError, FileNotFoundError) as error:
            # A batch is handed over by the worker that has made it, which may have died since.
            workers = getattr(iterator, "_workers", [])
            for worker in workers:
                worker.join(0.2)
            dead = [str(worker.pid) for worker in workers if worker.exitcode is not None]
            if not dead:
                raise
            raise WorkerLost(_death(photographs, iterator, " ".join(dead))) from error
        yield batch
        waited = time.monotonic()


def _death(photographs: Photographs, iterator: object, message: str) -> str:
    """What to say of the workers whose numbers of processes are in the message."""
    dead = {int(pid) for pid in re.findall(r"\d+", message)}
    codes = [worker.exitcode for worker in getattr(iterator, "_workers", []) if worker.pid in dead]
    return death(codes, [photographs.split.path(place) for *_, place in photographs.status.of(dead)])


def _require_progress(photographs: Photographs, waited: float) -> None:
    """WorkerLost where one worker has been at its photograph for too long, or for as long nothing has come at all."""
    # None at any: what they have read does not arrive.
    longest, pid, place = next(iter(photographs.status.of()), (waited, 0, NOTHING))
    if not 0 < photographs.patience < longest:
        return
    if pid:
        os.kill(pid, signal.SIGKILL)  # else this process would wait for it when it ends
    raise WorkerLost(hang(longest, photographs.split.path(place) if pid else "nothing that it reads"))
