"""The weighted sum of the members' probabilities, a few rows at a time on all cores, and what it proves.

Float16 is what takes the time: numpy widens one number at a time. A compiled kernel widens and adds eight in one go; it
takes a second to load, so that small ensembles are added by numpy alone, to the same bits.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import NamedTuple, TypeVar

import numpy as np

from common.errors import InputError
from predictions.format import SUM_TOLERANCE
from predictions.reading import Member
from predictions.top_k import Kept, TopMember

FEW_CELLS = 5 * 10**7  # numpy takes half a second for as many, about what loading the kernel takes
ONE = 0x3C00  # the bits of 1 in float16; those of larger, negative and other numbers are larger
MARGIN = 1e-12  # of the sum of the weights: what float64 loses in adding a hundred members is a hundredth of it
T, U = TypeVar("T"), TypeVar("U")
_thread = threading.local()  # .buffer: what a thread reads rows into


def read_weights(text: str | None, count: int) -> np.ndarray:
    """One weight per member, (count,) float64, the largest 1.

    Weights of 24 bits times probabilities of 11 are exact in float64, and so is nearly every sum of them: neither
    the order of the members nor a common factor of the weights decides which class wins a tie.
    """
    try:
        weights = np.array([1.0] * count if text is None else [float(weight) for weight in text.split(",")])
    except ValueError:
        raise InputError(f"--weights {text}: expected numbers with commas between, such as 1,1,2") from None
    if len(weights) != count:
        raise InputError(f"--weights {text}: {len(weights)} weights for {count} members; give one for each")
    if not np.isfinite(weights).all() or weights.min() < 0 or weights.max() == 0:
        raise InputError(f"--weights {text}: expected finite numbers, none negative and not all of them 0")
    return (weights / weights.max()).astype(np.float32).astype(np.float64)


class Sums(NamedTuple):
    """Of m photographs: the estimated sum over the members and what follows.

    total: (m, K) float64, exact where all members hold all classes.
    alone: (members, m), the class that each member predicts.
    predicted: (m,), the class of the largest total, the first of equal ones.
    certain: (m,) bool, whether members that held all classes would predict the same.
    """

    total: np.ndarray
    alone: np.ndarray
    predicted: np.ndarray
    certain: np.ndarray


def add_members(
    members: Sequence[Member | TopMember], weights: np.ndarray, start: int, stop: int, kernel: Callable | None = None
) -> Sums:
    """Adds the members' probabilities of photographs start to stop − 1; `kernel`: of `load_kernel`, for float16.

    A class c that a member m left out has at most u_m = `Kept.bound`. With S_m the classes that it kept,
        L(c) = Σ w_m p_m(c) [c ∈ S_m]  and  U(c) = L(c) + Σ w_m u_m [c ∉ S_m]
    enclose the full sum, so that the winner is certain where its L is above the U of every other class.
    """
    total = np.zeros((stop - start, members[0].info.shape[1]))  # (m, K)
    alone = np.empty((len(members), stop - start), dtype=np.int32)
    tops: list[tuple[float, Kept]] = []
    for place, (member, weight) in enumerate(zip(members, weights, strict=True)):
        if isinstance(member, TopMember):
            kept = member.kept(start, stop)
            tops.append((weight, kept))
            alone[place] = kept.indices[:, 0]
        else:
            alone[place] = _add_dense(member, weight, start, stop, total, kernel)
    if not tops:
        return Sums(total, alone, total.argmax(axis=1), np.ones(len(total), bool))

    row = np.arange(len(total))
    upper = total.copy()
    for weight, kept in tops:
        at = row[:, None], kept.indices
        total[at] += weight * (kept.probabilities - kept.share[:, None])
        upper[at] += weight * (kept.probabilities - kept.bound[:, None])
    total += sum(weight * kept.share for weight, kept in tops)[:, None]
    upper += sum(weight * kept.bound for weight, kept in tops)[:, None]
    winner = total.argmax(axis=1)
    lower = upper[row, winner]  # L of the winner: its U without what was granted where it was left out
    for weight, kept in tops:
        lower -= weight * kept.bound * ~(kept.indices == winner[:, None]).any(axis=1)
    upper[row, winner] = -np.inf
    return Sums(total, alone, winner, lower > upper.max(axis=1) + MARGIN * weights.sum())


def _add_dense(
    member: Member, weight: float, start: int, stop: int, total: np.ndarray, kernel: Callable | None
) -> np.ndarray:
    """Adds weight · p to `total` (m, K), every row checked; the class that the member predicts, (m,)."""
    size = total.size * member.dtype.itemsize
    if len(getattr(_thread, "buffer", b"")) < size:
        _thread.buffer = bytearray(size)
    stored = member.stored(start, stop, _thread.buffer)
    if kernel and stored.dtype == np.float16 and stored.dtype.isnative:
        bits = stored.view(np.uint16)
        label = bits.argmax(axis=1)  # from 0 to 1 bits are ordered as what they stand for
        if bits[np.arange(len(bits)), label].max() <= ONE:
            sums = np.empty(len(bits), np.float32)
            kernel(bits, weight, total, sums)
            # What is as near to the tolerance as these sums are inexact is for numpy to judge.
            if not (np.abs(sums - 1) <= 0.9 * SUM_TOLERANCE).all():
                member.checked(stored, start)
            return label
    rows = member.checked(stored, start)  # (m, K) float32
    total += np.multiply(rows, weight, dtype=np.float64)
    return rows.argmax(axis=1)


@cache
def load_kernel() -> Callable[[np.ndarray, float, np.ndarray, np.ndarray], None]:
    """kernel(bits, weight, total, sums) adds weight · p to total (m, K) float64, the bits (m, K) being those of p in
    float16, and writes the sums of its rows (m,) float32. Threads may run it side by side."""
    from llvmlite import ir
    from numba import njit, types
    from numba.extending import intrinsic

    @intrinsic
    def widened(typing, bits):
        def generate(context, builder, signature, arguments):
            return builder.fpext(builder.bitcast(arguments[0], ir.HalfType()), ir.FloatType())

        return types.float32(types.uint16), generate

    def add(bits, weight, total, sums):
        for row in range(len(bits)):
            mass = np.float32(0)
            for label in range(bits.shape[1]):
                p = widened(bits[row, label])
                total[row, label] += weight * p
                mass += p
            sums[row] = mass

    # reassoc: the sum of a row in several lanes. A cell of the total has one addition, and nothing to exchange it with.
    compiled = {"nogil": True, "fastmath": {"reassoc"}}
    signature = "void(uint16[:,::1], float64, float64[:,::1], float32[::1])"
    try:
        return njit(signature, cache=True, **compiled)(add)
    except (OSError, RuntimeError):  # no folder where numba may keep what it compiled, or no room
        return njit(signature, **compiled)(add)


def kernel_for(members: Sequence[Member | TopMember]) -> Callable | None:
    """The kernel where there is so much float16 that loading it pays."""
    half = sum(isinstance(member, Member) and member.dtype == np.float16 for member in members)
    n, classes = members[0].info.shape
    return load_kernel() if half * n * classes > FEW_CELLS else None


def in_order(function: Callable[[T], U], items: Iterable[T]) -> Iterator[tuple[T, U]]:
    """Every item with the result of `function`, in order, as many at work at once as there are cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = min(16, cores)  # more only wait for the memory
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque = deque()
        try:
            for item in items:
                waiting.append((item, pool.submit(function, item)))
                if len(waiting) > threads:  # results that nobody takes yet fill the memory
                    done, future = waiting.popleft()
                    yield done, future.result()
            for done, future in waiting:
                yield done, future.result()
        finally:
            for _, future in waiting:
                future.cancel()
