"""What worker processes are at, so that one which dies or hangs can be named with its photograph."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np

from common.errors import InputError

NOTHING = -1  # the place of the photograph that a worker is at, between two
REMEDIES = {
    signal.SIGKILL: "memory may have run out: give fewer --workers",
    signal.SIGBUS: "shared memory may be full: give fewer --workers, or make /dev/shm larger",
}


class WorkerStatus:
    """A table, shared by processes, of what each of so many workers is at."""

    def __init__(self, workers: int):
        self._rows = multiprocessing.RawArray("q", 3 * workers)  # of each, its process, a place, since when

    def note(self, worker: int, place: int) -> None:
        """This process is worker number `worker`, and begins with the photograph at `place`, or has NOTHING to do."""
        self._rows[3 * worker : 3 * worker + 3] = [os.getpid(), place, time.monotonic_ns()]

    def of(self, processes: Collection[int] | None = None) -> list[tuple[float, int, int]]:
        """(seconds, process, place) of workers that are at a photograph, of these processes or all, longest first."""
        now, rows = time.monotonic_ns(), np.array(self._rows).reshape(-1, 3)
        busy = [((now - since) / 1e9, int(pid), int(place)) for pid, place, since in rows if pid and place != NOTHING]
        return sorted((each for each in busy if processes is None or each[1] in processes), reverse=True)


def death(exitcodes: Iterable[int | None], names: Iterable[object]) -> str:
    """What to say of workers that ended like this while they were at the photographs of these names."""
    cause = next((signal.Signals(-code) for code in exitcodes if code and code < 0), None)
    where = ", ".join(map(str, names)) or "nothing that it reads"
    how = f"died of {cause.name}" if cause else "died"
    return f"a process that reads photographs {how} at {where}; {REMEDIES.get(cause, 'mend or remove what it was at')}"


def hang(seconds: float, name: object) -> str:
    """What to say of a worker that has been at one photograph for so long."""
    return (
        f"a process that reads photographs hangs at {name} for {seconds:.0f} s; mend or remove what it is at, or give "
        "a larger --worker-timeout"
    )


def in_processes(function: Callable, items: Iterable, workers: int | None, chunk: int) -> Iterator:
    """`function` of every item, in order, in so many processes (None: one a core), each given `chunk` items at a time.

    Raises InputError where one is killed; multiprocessing.Pool would wait for ever.
    """
    try:
        with ProcessPoolExecutor(workers) as pool:
            yield from pool.map(function, items, chunksize=chunk)
    except BrokenProcessPool as error:
        raise InputError(
            "a worker process was killed, memory may have run out; run the same command again, with fewer --workers"
        ) from error
