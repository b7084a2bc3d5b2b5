"""The weighted sum of the members' probabilities, a few rows at a time on all cores.

Reading float16 takes most of the time: numpy converts one number at a time to float32. A compiled kernel converts and
adds eight at once, to the same bits. Loading it takes a second, so small ensembles are added by numpy alone.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import NamedTuple, TypeVar

import numpy as np
from tqdm import tqdm

from common.errors import InputError
from predictions.format import SUM_TOLERANCE
from predictions.reading import Member
from predictions.top_k import TopClasses, TopMember

PIECE_BYTES = 12 * 2**20  # for all arrays of one piece of rows together: what stays in the cache of a core
CELL_BYTES = 8 + 8 + 4 + 8  # a cell of the sum, of what is added, of the member's rows, and as read from the disk
FEW_CELLS = 5 * 10**7  # numpy takes half a second for as many, about as long as loading the kernel
ONE = 0x3C00  # the bits of 1 in float16; larger and negative numbers, infinity and NaN have larger bits
MARGIN = 1e-12  # of the sum of the weights; float64 loses a hundredth of it in adding a hundred members
T, U = TypeVar("T"), TypeVar("U")
_thread = threading.local()  # .buffer: the memory that a thread reads rows into


def read_weights(text: str | None, count: int) -> np.ndarray:
    """The weights of --weights, (count,) float64, the largest 1; None: all 1.

    They are rounded to 24 bits. Their products with probabilities of 11 bits are exact in float64, and so is nearly
    every sum. So neither the order of the members nor a common factor of the weights decides a tie.

    Raises InputError where the text is not one weight for each of `count` members.
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
    """The sum over the members for m photographs, and the predicted classes.

    total: (m, K) float64, exact where all members hold all classes, else an estimate.
    alone: (members, m), the class that each member predicts.
    predicted: (m,), the class of the largest total, the first of equal ones.
    certain: (m,) bool, whether the sum of full files is proven to predict the same class.
    """

    total: np.ndarray
    alone: np.ndarray
    predicted: np.ndarray
    certain: np.ndarray


def ensemble_sums(members: Sequence[Member | TopMember], weights: np.ndarray) -> Iterator[tuple[tuple[int, int], Sums]]:
    """The weighted sums of all photographs, piece by piece: (start, stop), and the `Sums` of start to stop − 1.

    members: of `open_members`. weights: (members,) float64.
    """
    add = partial(add_members, members, weights, kernel=kernel_for(members))
    yield from in_order(lambda piece: add(*piece), pieces(*members[0].info.shape))


def pieces(images: int, classes: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows, start to stop − 1, whose arrays stay within `PIECE_BYTES`."""
    size = max(1, PIECE_BYTES // (CELL_BYTES * classes))
    starts = range(0, images, size)
    for start in tqdm(starts, unit="piece", disable=None, delay=2):  # None: no bar unless stderr is a terminal
        yield start, min(start + size, images)


def add_members(
    members: Sequence[Member | TopMember], weights: np.ndarray, start: int, stop: int, kernel: Callable | None = None
) -> Sums:
    """Add the members' probabilities of photographs start to stop − 1. kernel: that of `load_kernel`, for float16.

    A class c that is not in the file of member m has at most u_m = `TopClasses.bound`. With S_m the classes in it,
        L(c) = Σ w_m p_m(c) [c ∈ S_m]  and  U(c) = L(c) + Σ w_m u_m [c ∉ S_m]
    enclose the full sum. The predicted class is certain where its L is above the U of every other class.
    """
    total = np.zeros((stop - start, members[0].info.shape[1]))  # (m, K)
    alone = np.empty((len(members), stop - start), dtype=np.int32)
    tops: list[tuple[float, TopClasses]] = []
    for place, (member, weight) in enumerate(zip(members, weights, strict=True)):
        if isinstance(member, TopMember):
            top = member.top(start, stop)
            tops.append((weight, top))
            alone[place] = top.indices[:, 0]
        else:
            alone[place] = _add_dense(member, weight, start, stop, total, kernel)
    if not tops:
        return Sums(total, alone, total.argmax(axis=1), np.ones(len(total), bool))

    winner, certain = _add_tops(tops, total, MARGIN * weights.sum())
    return Sums(total, alone, winner, certain)


def _add_tops(
    tops: Sequence[tuple[float, TopClasses]], total: np.ndarray, margin: float
) -> tuple[np.ndarray, np.ndarray]:
    """Add the estimates of top-k members, with their weights, to the sum of the full ones.

    total: (m, K), changed in place. Returns the predicted class (m,), and whether it is certain (m,) bool.
    """
    row = np.arange(len(total))
    upper = total.copy()  # U of each class
    for weight, top in tops:
        at = row[:, None], top.indices
        total[at] += weight * (top.probabilities - top.share[:, None])
        upper[at] += weight * (top.probabilities - top.bound[:, None])
    total += sum(weight * top.share for weight, top in tops)[:, None]
    upper += sum(weight * top.bound for weight, top in tops)[:, None]
    winner = total.argmax(axis=1)
    lower = upper[row, winner]  # becomes L of the winner: U without the bounds of the members that do not hold it
    for weight, top in tops:
        lower -= weight * top.bound * ~(top.indices == winner[:, None]).any(axis=1)
    upper[row, winner] = -np.inf
    return winner, lower > upper.max(axis=1) + margin


def _add_dense(
    member: Member, weight: float, start: int, stop: int, total: np.ndarray, kernel: Callable | None
) -> np.ndarray:
    """Check the rows p of a member and add weight · p to `total` (m, K); the class that the member predicts, (m,)."""
    size = total.size * member.dtype.itemsize
    if len(getattr(_thread, "buffer", b"")) < size:
        _thread.buffer = bytearray(size)
    stored = member.stored(start, stop, _thread.buffer)
    if kernel and stored.dtype == np.float16 and stored.dtype.isnative:
        bits = stored.view(np.uint16)
        label = bits.argmax(axis=1)  # from 0 to 1 the bits have the order of the numbers
        if bits[np.arange(len(bits)), label].max() <= ONE:
            sums = np.empty(len(bits), np.float32)
            kernel(bits, weight, total, sums)
            # These sums are inexact: near the tolerance numpy decides.
            if not (np.abs(sums - 1) <= 0.9 * SUM_TOLERANCE).all():
                member.checked(stored, start)
            return label
    rows = member.checked(stored, start)  # (m, K) float32
    total += np.multiply(rows, weight, dtype=np.float64)
    return rows.argmax(axis=1)


@cache
def load_kernel() -> Callable[[np.ndarray, float, np.ndarray, np.ndarray], None]:
    """A compiled function kernel(bits, weight, total, sums), which several threads can run at once.

    It reads p (m, K) as the bits of float16, adds weight · p to total (m, K) float64, and writes the sum of each row of
    p to sums (m,) float32.
    """
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

    # reassoc: the sum of a row may be added in another order, eight at a time. A cell of the total has one addition.
    compiled = {"nogil": True, "fastmath": {"reassoc"}}
    signature = "void(uint16[:,::1], float64, float64[:,::1], float32[::1])"
    try:
        return njit(signature, cache=True, **compiled)(add)
    except (OSError, RuntimeError):  # numba has no folder for its cache, or the disk is full
        return njit(signature, **compiled)(add)


def kernel_for(members: Sequence[Member | TopMember]) -> Callable | None:
    """The kernel, where there is so much float16 that loading it pays; else None."""
    half = sum(isinstance(member, Member) and member.dtype == np.float16 for member in members)
    n, classes = members[0].info.shape
    return load_kernel() if half * n * classes > FEW_CELLS else None


def in_order(function: Callable[[T], U], items: Iterable[T]) -> Iterator[tuple[T, U]]:
    """Each item with the result of `function`, in order; as many threads work at once as there are cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = min(16, cores)  # more would only wait for the memory
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque = deque()
        try:
            for item in items:
                waiting.append((item, pool.submit(function, item)))
                if len(waiting) > threads:  # results that wait fill the memory
                    done, future = waiting.popleft()
                    yield done, future.result()
            for done, future in waiting:
                yield done, future.result()
        finally:
            for _, future in waiting:
                future.cancel()
