"""Worker processes: which photograph each one reads, for messages that name it, and what they need of the system."""

import math
import mmap
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress

import numpy as np

from common.errors import InputError

with suppress(ImportError):  # not on Windows
    import resource

NOTHING = -1  # the place of a worker that reads no photograph now
REMEDIES = {
    signal.SIGKILL: "memory may have run out: give fewer --workers",
    signal.SIGBUS: "shared memory may be full: give --workers 0, or make /dev/shm larger (docker's --shm-size)",
}
MORE_HANDLES = "raise the limit with ulimit -n, or give --workers 0"
# File handles: those that a worker costs its parent, by multiprocessing; the two of a batch in shared memory; and what
# a script needs beside them, for photographs, checkpoints and logs.
WORKER_HANDLES, BATCH_HANDLES, OTHER_HANDLES = 4, 2, 16


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


def hang(seconds: float, name: object | None) -> str:
    """The error message for a worker that has been reading one photograph for so many seconds; None: none is read."""
    if name is None:
        return (
            f"no batch has come from the processes that read photographs for {seconds:.0f} s, and none of them is "
            "reading; give --workers 0, or a larger --worker-timeout"
        )
    return (
        f"a process that reads photographs hangs at {name} for {seconds:.0f} s; mend or remove what it is at, or give "
        "a larger --worker-timeout"
    )


def free_handles(needed: int) -> float:
    """File handles that this process can still open. A soft limit that leaves fewer than `needed` is raised first."""
    try:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        opened = len(os.listdir("/proc/self/fd"))
    except (NameError, OSError):  # not Linux
        return math.inf
    soft, hard = (math.inf if limit == resource.RLIM_INFINITY else limit for limit in limits)
    if opened + needed > soft and soft < hard:
        soft = min(hard, 2 * (opened + needed))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, limits[1]))
    return soft - opened


def semaphore_bytes(workers: int) -> int:
    """What the queues of a loader with so many workers take of shared memory: a page for each semaphore."""
    return mmap.PAGESIZE * (8 + 3 * workers)


def lacking_for(workers: int) -> str:
    """The error message if the system has too little to start so many workers, else ""."""
    if cause := lacking_room(semaphore_bytes(workers)):
        return f"--workers {workers}: {cause}; give --workers 0, or make it larger (docker's --shm-size)"
    needed = WORKER_HANDLES * workers + OTHER_HANDLES
    if (left := free_handles(needed)) >= needed:
        return ""
    return f"--workers {workers}: this needs {needed} file handles, and {left} are left; {MORE_HANDLES}"


def cause_not_to_share(workers: int, batch_bytes: int, processes: int = 1) -> str:
    """Why the batches of so many workers cannot go through shared memory, in words; "" where they can.

    Each worker makes two batches in advance, and one more is in use. processes: on this machine, with as many workers.
    """
    batches = 2 * workers + 1
    if cause := lacking_room(processes * (batches * batch_bytes + semaphore_bytes(workers))):
        return cause
    needed = WORKER_HANDLES * workers + BATCH_HANDLES * batches + OTHER_HANDLES
    if (left := free_handles(needed)) < needed:
        return f"they need {needed} file handles for shared memory, and {left} are left (ulimit -n)"
    return ""


def lacking_room(needed: int) -> str:
    """Why so many bytes do not go into shared memory, in words; "" where they do, or where the system does not say."""
    try:
        status = os.statvfs("/dev/shm")
    except (AttributeError, OSError):
        return ""
    room = status.f_bavail * status.f_frsize
    return f"they need {needed / 1e6:.3g} MB of shared memory, and /dev/shm has {room / 1e6:.3g} MB" * (needed > room)


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
