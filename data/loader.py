"""From a split to batches of uint8 images on the host: worker processes decode and augment.

What is random about a visit of a photograph is drawn from (seed, epoch, position) alone: the run's seed, and the epoch
and the position in it that the visit's `Draw` has. It never depends on what was drawn before, nor on the number of
workers or processes, nor on a resumption.
"""

import gc
import os
import re
import signal
import time
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from catalogues.catalogue import Split
from catalogues.shards import read_ahead
from common.errors import InputError, out_of_handles
from common.workers import MORE_HANDLES, NOTHING, WorkerStatus, death, hang, lacking_for
from data.batch import Batch, Visit, collate, collate_groups
from data.handover import Handover
from data.photographs import UnreadablePhotograph, read_squashed
from data.samplers import Draw, EpochBatches, GroupBatches, InOrder, ReversedPairs, ShardedBatches, StreamBatches

NO_LABEL = -1  # the target of a photograph without a label
POLL = 2.0  # seconds between two checks of the workers while waiting for a batch


class WorkerLost(InputError):
    """A worker process has died or hangs; the message names the photograph that it was reading."""


class Photographs(Dataset):
    """The photographs of a split, squashed to `resize` pixels and, in training, augmented by `transform`.

    stream: visits go shard by shard, so each shard is read in advance as a whole. patience: seconds that reading one
    photograph may take, see `batches`. fit: of photographs that are not square, see `fitted`.
    status: which photograph each of the `workers` reads.
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
        fit: str = "squash",
    ):
        self.split, self.resize, self.transform, self.fit = split, resize, transform, fit
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
        """Read and augment one photograph."""
        label = NO_LABEL if self.split.labels is None else int(self.split.labels[draw.index])
        path = self.split.path(draw.index)
        if self.stream:
            read_ahead(path.shard, draw.epoch)
        # The first seed is for augmentation here, the second for what is drawn after the loader.
        first, second = np.random.SeedSequence([self.seed, draw.epoch, draw.position]).generate_state(2, np.uint64)
        try:
            pixels = read_squashed(path, self.resize, self.fit)
            if self.transform:
                image = self.transform(pixels, torch.Generator().manual_seed(int(first)))
            else:
                image = torch.from_numpy(pixels).permute(2, 0, 1)  # (3, resize, resize)
        except UnreadablePhotograph as error:
            image = str(error)
        return Visit(image, label, draw.index, int(second >> np.uint64(1)), draw.whole)


def keep_shared() -> None:
    """Exclude all present objects from garbage collection; call it before worker processes are started.

    A collection writes to every object, which copies the memory page that a worker shares with its parent.
    """
    gc.unfreeze()  # objects of an earlier training
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
    """Augmented batches in the order of `batches`: of each, the shard of process `rank` of `size`.

    `loader.batch_sampler.go_to(epoch, batch)` chooses the first batch of the next iteration.
    """
    keep_shared()
    stream = isinstance(batches, StreamBatches)
    return DataLoader(
        Photographs(split, transform.resize, transform, seed, stream, workers, patience, transform.fit),
        batch_sampler=ShardedBatches(batches, rank, size),
        collate_fn=Handover(
            collate if batches.group == 1 else partial(collate_groups, group=batches.group),
            -(-batches.batch_size // size) * 3 * transform.crop**2,
        ),
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
    places: Sequence[int] | None = None,
    patience: float = 0,
    fit: str = "squash",
) -> DataLoader:
    """Every photograph of `split`, or those at `places` in this order, once, squashed to `resize` pixels.

    fit: of photographs that are not square, see `fitted`.
    """
    return DataLoader(
        Photographs(split, resize, workers=workers, patience=patience, fit=fit),
        batch_size,
        sampler=InOrder(range(len(split)) if places is None else places),
        collate_fn=Handover(collate, batch_size * 3 * resize**2),
        num_workers=workers,
        pin_memory=pin,
        timeout=POLL * (workers > 0),
    )


def batches(loader: DataLoader) -> Iterator[Batch]:
    """The batches of a loader.

    Raises WorkerLost where a worker process has died, or has been reading one photograph for more than `patience`
    seconds (0: no limit), or where there are too few file handles. It is raised only while waiting for a batch, never
    while the caller works with one.
    """
    photographs, iterator, waited = loader.dataset, None, time.monotonic()
    while True:
        try:
            iterator = iterator or _started(loader)
            if loader.num_workers and signal.getsignal(signal.SIGCHLD) not in (None, signal.SIG_DFL):
                # Torch's handler raises anywhere, even while a checkpoint is written. The check after POLL is enough.
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            batch = next(iterator)
        except StopIteration:
            return
        except RuntimeError as error:
            _require_handles_left(error)
            if not str(error).startswith("DataLoader "):
                raise
            if "timed out" not in str(error):
                raise WorkerLost(_death(photographs, iterator, str(error))) from error
            _require_progress(photographs, time.monotonic() - waited)
            continue
        except (OSError, EOFError) as error:
            _require_handles_left(error)
            # The worker that made the batch also hands it over; it may have died in between.
            workers = getattr(iterator, "_workers", [])
            for worker in workers:
                worker.join(0.2)
            dead = [str(worker.pid) for worker in workers if worker.exitcode is not None]
            if not dead:
                raise
            raise WorkerLost(_death(photographs, iterator, " ".join(dead))) from error
        yield batch
        waited = time.monotonic()


def _started(loader: DataLoader) -> Iterator[Batch]:
    """An iterator of the loader, if the system has enough for its workers; else WorkerLost."""
    if loader.num_workers and getattr(loader, "_iterator", None) is None:  # else they run already
        if reason := lacking_for(loader.num_workers):
            raise WorkerLost(reason)
        loader.collate_fn.prepare(loader.num_workers)
    return iter(loader)


def _require_handles_left(error: Exception) -> None:
    """WorkerLost if a file could not be opened because too many are open, here or in a worker."""
    if out_of_handles(error):
        raise WorkerLost(f"too many open files while photographs are read; {MORE_HANDLES}") from error


def _death(photographs: Photographs, iterator: object, message: str) -> str:
    """The error message for the workers whose process ids are in torch's message."""
    dead = {int(pid) for pid in re.findall(r"\d+", message)}
    codes = [worker.exitcode for worker in getattr(iterator, "_workers", []) if worker.pid in dead]
    return death(codes, [photographs.split.path(place) for *_, place in photographs.status.busy(dead)])


def _require_progress(photographs: Photographs, waited: float) -> None:
    """WorkerLost if a worker reads one photograph for too long, or if no batch has come for `waited` seconds."""
    # No worker is reading: their results do not arrive.
    longest, pid, place = next(iter(photographs.status.busy()), (waited, 0, NOTHING))
    if not 0 < photographs.patience < longest:
        return
    if pid:
        os.kill(pid, signal.SIGKILL)  # else this process would wait for the worker at its end
    raise WorkerLost(hang(longest, photographs.split.path(place) if pid else None))
