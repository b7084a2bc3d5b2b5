"""Worker processes, and which photograph each one reads, so that a message about a lost worker can name it."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np

from common.errors import InputError

NOTHING = -1  # the place of a worker that reads no photograph now
REMEDIES = {
    signal.SIGKILL: "memory may have run out: give fewer --workers",
    signal.SIGBUS: "shared memory may be full: give fewer --workers, or make /dev/shm larger",
}


class WorkerStatus:
    """A table in shared memory: the process of each worker, the photograph that it reads, and since when."""

    def __init__(self, workers: int):
        self._rows = multiprocessing.RawArray("q", 3 * workers)  # process id, place, nanoseconds

    def note(self, worker: int, place: int) -> None:
        """Note that this process is worker number `worker` and begins with the photograph at `place` (or NOTHING)."""
        self._rows[3 * worker : 3 * worker + 3] = [os.getpid(), place, time.monotonic_ns()]

    def busy(self, processes: Collection[int] | None = None) -> list[tuple[float, int, int]]:
        """(seconds, process id, place) of every worker that reads a photograph, longest first.

        processes: only workers with these process ids; None: all.
        """
        now, rows = time.monotonic_ns(), np.array(self._rows).reshape(-1, 3)
        return sorted(
            (
                ((now - since) / 1e9, int(pid), int(place))
                for pid, place, since in rows
                if pid and place != NOTHING and (processes is None or pid in processes)
            ),
            reverse=True,
        )


def death(exitcodes: Iterable[int | None], names: Iterable[object]) -> str:
    """The error message for workers that ended with these exit codes while they read these photographs."""
    cause = next((signal.Signals(-code) for code in exitcodes if code and code < 0), None)
    where = ", ".join(map(str, names)) or "nothing that it reads"
    how = f"died of {cause.name}" if cause else "died"
    return f"a process that reads photographs {how} at {where}; {REMEDIES.get(cause, 'mend or remove what it was at')}"


def hang(seconds: float, name: object) -> str:
    """The error message for a worker that has been reading one photograph for so many seconds."""
    return (
        f"a process that reads photographs hangs at {name} for {seconds:.0f} s; mend or remove what it is at, or give "
        "a larger --worker-timeout"
    )


def in_processes(function: Callable, items: Iterable, workers: int | None, chunk: int) -> Iterator:
    """`function` of every item, in order, in `workers` processes (None: one a core), `chunk` items at a time.

    Raises InputError if a worker is killed, where multiprocessing.Pool would wait for ever.
    """
    try:
        with ProcessPoolExecutor(workers) as pool:
            yield from pool.map(function, items, chunksize=chunk)
    except BrokenProcessPool as error:
        raise InputError(
            "a worker process was killed, memory may have run out; run the same command again, with fewer --workers"
        ) from error
