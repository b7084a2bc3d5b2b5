"""Figures of one seed's predictions: who is right where, what each member adds, how sure they are, what is confused."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from sklearn.calibration import calibration_curve

from predictions.metrics import mean_class_error, top1_error
from predictions.reading import Member, open_members
from predictions.top_k import TopMember
from report_page.results import Seed

PIECE_CELLS = 2 * 10**7  # of all members' rows that are in memory at once
SAMPLE_CELLS = 10**8  # of the photographs that the greedy order is found on: 400 MB
TOP = 5
BINS = 10


@dataclass
class Counted:
    """What the members of one seed say of the n photographs of a labelled split.

    labels: (n,). predicted: by name, (n,) classes. total: (n,) the sum's classes, `confidence` (n,) their mean
    probability. top, top_probability: (n, 5), the sum's likeliest classes. without: by name, (n,) the classes of the
    sum of all others. centre: (n,) the classes of the sum of single-crop predictions, None where some lack them.
    greedy: names in the order in which each lowers the error most, with the sum's error on `sampled` photographs.
    """

    labels: np.ndarray
    classes: list[str]
    predicted: dict[str, np.ndarray]
    total: np.ndarray
    confidence: np.ndarray
    top: np.ndarray
    top_probability: np.ndarray
    without: dict[str, np.ndarray]
    centre: np.ndarray | None
    greedy: list[tuple[str, float]]
    sampled: int

    def error(self, predicted: np.ndarray) -> float:
        """Mean class error, a fraction."""
        return mean_class_error(predicted, self.labels)

    def top1(self, predicted: np.ndarray) -> float:
        return top1_error(predicted, self.labels)

    def disagreement(self) -> np.ndarray:
        """(M, M): the share of photographs that two members give different classes."""
        votes = np.stack(list(self.predicted.values()))
        return (votes[:, None] != votes[None]).mean(2)


def count(seed: Seed) -> Counted | None:
    """Reads every member's predictions once, a few rows at a time; None where there are none, or no labels.

    Raises:
        InputError: the members are about different photographs or classes, or a row is no distribution.
    """
    names, networks = list(seed.members), list(seed.members.values())
    if not names or networks[0].info.labels is None:
        return None
    members = open_members([network.member.path for network in networks])
    (n, classes), labels = members[0].info.shape, np.array(members[0].info.labels)
    alone, without = np.empty((2, len(names), n), np.int64)
    predicted = np.empty(n, np.int64)
    top, top_probability = np.empty((n, min(TOP, classes)), np.int64), np.empty((n, min(TOP, classes)))
    for rows, at in _pieces(members, n, classes):  # (M, m, K)
        total = rows.sum(0, dtype=np.float64)
        alone[:, at] = rows.argmax(2)
        for place, own in enumerate(rows):
            without[place, at] = (total - own).argmax(1)
        predicted[at] = total.argmax(1)
        top[at], top_probability[at] = _likeliest(total / len(names), top.shape[1])
    greedy, sampled = _greedy(members, names, labels)
    return Counted(
        labels,
        members[0].info.class_names,
        dict(zip(names, alone, strict=True)),
        predicted,
        top_probability[:, 0],
        top,
        top_probability,
        dict(zip(names, without, strict=True)) if len(names) > 1 else {},
        sum_of([network.centre for network in networks]),
        greedy,
        sampled,
    )


def _likeliest(rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k largest of each row (m, K), the largest first, and their values: (m, k) each."""
    chosen = np.sort(np.argpartition(-rows, k - 1, axis=1)[:, :k], axis=1)
    values = np.take_along_axis(rows, chosen, 1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(chosen, order, 1), np.take_along_axis(values, order, 1)


def sum_of(members: Sequence[Member | TopMember | None]) -> np.ndarray | None:
    """(n,) the classes of the members' sum; None where one of them is."""
    if any(member is None for member in members):
        return None
    members = open_members([member.path for member in members])
    predicted = np.empty(members[0].info.shape[0], np.int64)
    for rows, at in _pieces(members, *members[0].info.shape):
        predicted[at] = rows.sum(0, dtype=np.float64).argmax(1)
    return predicted


def _pieces(members: Sequence[Member | TopMember], n: int, classes: int) -> Iterator[tuple[np.ndarray, slice]]:
    size = max(1, PIECE_CELLS // (classes * len(members)))
    for start in range(0, n, size):
        stop = min(start + size, n)
        yield np.stack([member.rows(start, stop) for member in members]), slice(start, stop)


def _greedy(
    members: Sequence[Member | TopMember], names: list[str], labels: np.ndarray
) -> tuple[list[tuple[str, float]], int]:
    """Forward selection by mean class error, on photographs spread evenly where all would not fit into memory."""
    n, classes = members[0].info.shape
    size = min(n, max(1, SAMPLE_CELLS // (classes * len(members))))
    places = np.linspace(0, n - 1, size).astype(int)
    rows, labels = np.stack([member.take(places) for member in members]), labels[places]
    total, left, order = np.zeros(rows.shape[1:]), list(range(len(names))), []
    while left:
        errors = [mean_class_error((total + rows[place]).argmax(1), labels) for place in left]
        best = left.pop(int(np.argmin(errors)))
        total += rows[best]
        order.append((names[best], min(errors)))
    return order, size


class Group(NamedTuple):
    """A third of the classes by their training photographs: `classes` (bool, K) with `least` to `most` each."""

    name: str
    classes: np.ndarray
    least: int
    most: int

    def error(self, predicted: np.ndarray, labels: np.ndarray) -> float | None:
        """Mean class error over the group's classes, a fraction; None where none of them has a photograph."""
        mine = self.classes[labels]
        return mean_class_error(predicted[mine], labels[mine]) if mine.any() else None


def by_frequency(train_counts: np.ndarray) -> list[Group]:
    """Head, middle and tail: thirds of the classes, from the most photographed to the least.

    Args:
        train_counts: (K,) training photographs of each class, K ≥ 3.
    """
    thirds = np.array_split(np.argsort(-train_counts, kind="stable"), 3)
    groups = []
    for name, members in zip(("head", "middle", "tail"), thirds, strict=True):
        chosen = np.zeros(len(train_counts), bool)
        chosen[members] = True
        groups.append(Group(name, chosen, int(train_counts[members].min()), int(train_counts[members].max())))
    return groups


class Reliability(NamedTuple):
    """confidence and share right of each bin that holds photographs; the expected calibration error, a fraction."""

    confidence: np.ndarray
    right: np.ndarray
    error: float


def reliability(confidence: np.ndarray, right: np.ndarray) -> Reliability:
    """How often predictions are right that claim to be so with a probability.

    The expected calibration error is the mean distance of the two, bins weighed by their photographs (Guo et al., "On
    Calibration of Modern Neural Networks", ICML 2017, Eq. 3), in ten bins of equal width.

    Args:
        confidence: (n,) probability of the predicted class, from 0 to 1.
        right: (n,) bool.
    """
    confidence = np.clip(confidence, 0, 1)
    share_right, mean_confidence = calibration_curve(right, confidence, n_bins=BINS)
    # as calibration_curve puts them into bins, those on an edge into the lower one
    bins = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], confidence)
    share = np.bincount(bins, minlength=BINS)
    share = share[share > 0] / len(confidence)
    return Reliability(mean_confidence, share_right, float((share * np.abs(share_right - mean_confidence)).sum()))


class Pair(NamedTuple):
    """Two classes that are taken for one another: places of the photographs of `one` taken for `other`, and back."""

    one: int
    other: int
    there: np.ndarray
    back: np.ndarray


def confused_pairs(counted: Counted, limit: int) -> list[Pair]:
    """The pairs of classes that the sum confuses most often, either way round; the most frequent first."""
    wrong = np.flatnonzero(counted.total != counted.labels)
    wrong = wrong[np.argsort(-counted.confidence[wrong], kind="stable")]
    true, told = counted.labels[wrong], counted.total[wrong]
    ends = np.stack([np.minimum(true, told), np.maximum(true, told)])  # (2, wrong)
    pairs, which, counts = np.unique(ends, axis=1, return_inverse=True, return_counts=True)
    found = []
    for place in np.argsort(-counts, kind="stable")[:limit]:
        mine = wrong[which.ravel() == place]
        first = int(np.bincount(counted.labels[mine]).argmax())  # the one that is mistaken more often comes first
        second = int(pairs[0, place] + pairs[1, place] - first)
        is_first = counted.labels[mine] == first
        found.append(Pair(first, second, mine[is_first], mine[~is_first]))
    return found


def worst_mistakes(counted: Counted, limit: int) -> np.ndarray:
    """Places of the wrong photographs that the sum is surest of, the surest first; of each true and told class one."""
    wrong = np.flatnonzero(counted.total != counted.labels)
    wrong = wrong[np.argsort(-counted.confidence[wrong], kind="stable")]
    _, first = np.unique(np.stack([counted.labels[wrong], counted.total[wrong]]), axis=1, return_index=True)
    return wrong[np.sort(first)][:limit]
