"""The worker processes of `data.pack`, each of which packs whole shards."""

import multiprocessing
import os
import signal
import threading
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

import numpy as np
from tqdm import tqdm

from catalogues.catalogue import Catalogue, Split
from common.errors import InputError
from common.workers import NOTHING, WorkerStatus, death, hang
from data.pack_shards import Job, pack_shard, read_summary


class Progress:
    """Shared by the workers: how many photographs they have packed, and which photograph each one reads."""

    def __init__(self, catalogue: Catalogue, workers: int):
        self.splits, self.workers, self.status = list(catalogue.splits.values()), workers, WorkerStatus(workers)
        self.count, self._started = multiprocessing.Value("q", 0), multiprocessing.Value("q", 0)
        self._worker = 0

    def start(self) -> None:
        """Take a worker number for this process."""
        with self._started.get_lock():
            self._worker = self._started.value
            self._started.value += 1

    def begin(self, split: Split, place: int) -> None:
        number = [each.name for each in self.splits].index(split.name)
        self.status.note(self._worker, len(self.splits) * place + number)

    def end(self) -> None:
        self.status.note(self._worker, NOTHING)
        with self.count.get_lock():
            self.count.value += 1

    def name(self, place: int) -> object:
        """The photograph at a place of `status`, for messages."""
        return self.splits[place % len(self.splits)].path(place // len(self.splits))


_job: Job  # in a worker
_progress: Progress


def _start(job: Job, progress: Progress) -> None:
    global _job, _progress
    _job, _progress = job, progress
    progress.start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process stops its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when its parent is killed, so that it does not go on writing."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _pack(split: str, name: str, places: np.ndarray) -> None:
    pack_shard(_job, _job.catalogue.split(split), name, places, _progress)


def pack_all(job: Job, workers: int, patience: float = 0) -> None:
    """Write every shard that does not exist yet, in `workers` processes.

    Raises OSError where one cannot be written. Raises InputError with the name of the photograph where a worker has
    died, or has been reading one photograph for more than `patience` seconds (0: no limit).
    """
    shards = list(job.shards())
    missing = [shard for shard in shards if read_summary(job.out / shard[1], shard[2]) is None]
    total, left = (sum(len(places) for *_, places in some) for some in (shards, missing))
    if left < total:
        print(f"{job.out}: {len(shards) - len(missing):,} of {len(shards):,} shards are there already", flush=True)
    if not missing:
        return
    import torch  # noqa: F401  (workers inherit it; photographs.py would import it in each of them)

    progress = Progress(job.catalogue, min(workers, len(missing)))
    with tqdm(total=total, initial=total - left, desc="packing", unit="image", leave=False, disable=None) as bar:
        _pack_in_pool(job, missing, progress, bar, patience)


def _pack_in_pool(job: Job, shards: list, progress: Progress, bar: tqdm, patience: float) -> None:
    processes, message, begun = {}, None, bar.n
    try:
        with ProcessPoolExecutor(progress.workers, initializer=_start, initargs=(job, progress)) as pool:
            try:
                running = {pool.submit(_pack, *shard) for shard in shards}
                while running:
                    processes |= getattr(pool, "_processes", None) or {}
                    done, running = wait(running, timeout=0.5, return_when=FIRST_EXCEPTION)
                    for future in done:
                        future.result()
                    bar.update(begun + progress.count.value - bar.n)
                    seconds, pid, place = next(iter(progress.status.busy()), (0, 0, NOTHING))
                    if 0 < patience < seconds and not message:
                        message = hang(seconds, progress.name(place))
                        os.kill(pid, signal.SIGKILL)
            except BaseException:
                for process in multiprocessing.active_children():  # else they finish their shards, which takes minutes
                    process.terminate()
                raise
    except BrokenProcessPool as error:  # a worker was lost; the pool ends the others by SIGTERM
        codes = {pid: process.exitcode for pid, process in processes.items()}
        lost = {pid: code for pid, code in codes.items() if code not in (None, 0, -signal.SIGTERM)}
        names = [progress.name(place) for *_, place in progress.status.busy(lost)]
        raise InputError(f"{message or death(lost.values(), names)}; the same command goes on") from error
