"""Statistics of one seed's predictions: errors, what each member adds, calibration, confused classes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from sklearn.calibration import calibration_curve

from predictions.metrics import mean_class_error, top1_error
from predictions.reading import Member, open_members
from predictions.top_k import TopMember
from report_page.results import Seed

BLOCK_CELLS = 2 * 10**7  # probabilities of all members that are in memory at once
SAMPLE_CELLS = 10**8  # of the photographs that the greedy order is found on: 400 MB
TOP = 5
BINS = 10


@dataclass
class EnsembleStatistics:
    """Predicted classes of the members of one seed and of their sum, for the n photographs of a labelled split.

    labels: (n,) true classes. classes: names of the K classes.
    by_member: (n,) classes predicted by each member, by its name.
    predicted: (n,) classes predicted by the sum. confidence: (n,) its mean probability of them.
    top, top_probability: (n, 5) the most probable classes of the sum, in descending order.
    without: (n,) classes predicted by the sum of all other members, by the name of the member left out.
    one_crop: (n,) classes predicted by the sum of single-crop predictions; None where a member lacks them.
    greedy: names in the order in which each lowers the error most, with the error of the sum so far on
        `greedy_photographs` of the photographs.
    """

    labels: np.ndarray
    classes: list[str]
    by_member: dict[str, np.ndarray]
    predicted: np.ndarray
    confidence: np.ndarray
    top: np.ndarray
    top_probability: np.ndarray
    without: dict[str, np.ndarray]
    one_crop: np.ndarray | None
    greedy: list[tuple[str, float]]
    greedy_photographs: int

    def error(self, predicted: np.ndarray) -> float:
        """Mean class error, a fraction."""
        return mean_class_error(predicted, self.labels)

    def top1_error(self, predicted: np.ndarray) -> float:
        return top1_error(predicted, self.labels)

    def best_member(self) -> tuple[str, float]:
        """Name and mean class error of the best single network."""
        errors = {name: self.error(predicted) for name, predicted in self.by_member.items()}
        name = min(errors, key=errors.get)
        return name, errors[name]

    def disagreement(self) -> np.ndarray:
        """(M, M): the share of photographs to which two members give different classes."""
        votes = np.stack(list(self.by_member.values()))
        return (votes[:, None] != votes[None]).mean(2)


def ensemble_statistics(seed: Seed) -> EnsembleStatistics | None:
    """Reads the predictions of every member once, in blocks of rows; None where there are none, or no labels.

    Raises:
        InputError: the members are about different photographs or classes, or a row is no distribution.
    """
    names, networks = list(seed.members), list(seed.members.values())
    if not names or networks[0].info.labels is None:
        return None
    members = open_members([network.ten_crops.path for network in networks])
    (n, classes), labels = members[0].info.shape, np.array(members[0].info.labels)
    alone, without = np.empty((2, len(names), n), np.int64)
    predicted = np.empty(n, np.int64)
    top, top_probability = np.empty((n, min(TOP, classes)), np.int64), np.empty((n, min(TOP, classes)))
    for rows, block in _blocks(members):  # (M, m, K)
        total = rows.sum(0, dtype=np.float64)
        alone[:, block] = rows.argmax(2)
        for number, member_rows in enumerate(rows):
            without[number, block] = (total - member_rows).argmax(1)
        predicted[block] = total.argmax(1)
        top[block], top_probability[block] = _most_probable(total / len(names), top.shape[1])
    greedy, greedy_photographs = _greedy_order(members, names, labels)
    return EnsembleStatistics(
        labels,
        members[0].info.class_names,
        dict(zip(names, alone, strict=True)),
        predicted,
        top_probability[:, 0],
        top,
        top_probability,
        dict(zip(names, without, strict=True)) if len(names) > 1 else {},
        classes_of_sum([network.one_crop for network in networks]),
        greedy,
        greedy_photographs,
    )


def _most_probable(rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Places and values of the k largest of each row (m, K), in descending order: (m, k) each."""
    chosen = np.sort(np.argpartition(-rows, k - 1, axis=1)[:, :k], axis=1)
    values = np.take_along_axis(rows, chosen, 1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(chosen, order, 1), np.take_along_axis(values, order, 1)


def classes_of_sum(members: Sequence[Member | TopMember | None]) -> np.ndarray | None:
    """(n,) the classes predicted by the members' sum; None where a member is None."""
    if any(member is None for member in members):
        return None
    members = open_members([member.path for member in members])
    predicted = np.empty(members[0].info.shape[0], np.int64)
    for rows, block in _blocks(members):
        predicted[block] = rows.sum(0, dtype=np.float64).argmax(1)
    return predicted


def _blocks(members: Sequence[Member | TopMember]) -> Iterator[tuple[np.ndarray, slice]]:
    """Rows (M, m, K) of all members, and which of the n photographs they are about."""
    n, classes = members[0].info.shape
    size = max(1, BLOCK_CELLS // (classes * len(members)))
    for start in range(0, n, size):
        stop = min(start + size, n)
        yield np.stack([member.rows(start, stop) for member in members]), slice(start, stop)


def _greedy_order(
    members: Sequence[Member | TopMember], names: list[str], labels: np.ndarray
) -> tuple[list[tuple[str, float]], int]:
    """Forward selection by mean class error, on photographs spread evenly where not all fit into memory."""
    n, classes = members[0].info.shape
    size = min(n, max(1, SAMPLE_CELLS // (classes * len(members))))
    sample = np.linspace(0, n - 1, size).astype(int)
    rows, labels = np.stack([member.take(sample) for member in members]), labels[sample]
    total, left, order = np.zeros(rows.shape[1:]), list(range(len(names))), []
    while left:
        errors = [mean_class_error((total + rows[place]).argmax(1), labels) for place in left]
        best = left.pop(int(np.argmin(errors)))
        total += rows[best]
        order.append((names[best], min(errors)))
    return order, size


class Reliability(NamedTuple):
    """Mean confidence and share of right predictions of each bin with photographs; the expected calibration error."""

    confidence: np.ndarray
    right: np.ndarray
    error: float


def reliability(confidence: np.ndarray, right: np.ndarray) -> Reliability:
    """Compares the probability of predictions with the share of them that is right.

    The expected calibration error is the mean distance of the two. Each bin counts by its photographs. There are ten
    bins of equal width (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, Eq. 3).

    Args:
        confidence: (n,) probability of the predicted class, from 0 to 1.
        right: (n,) bool.
    """
    confidence = np.clip(confidence, 0, 1)
    share_right, mean_confidence = calibration_curve(right, confidence, n_bins=BINS)
    # the bins of calibration_curve: a value on an edge belongs to the lower one
    bins = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], confidence)
    share = np.bincount(bins, minlength=BINS)
    share = share[share > 0] / len(confidence)
    return Reliability(mean_confidence, share_right, float((share * np.abs(share_right - mean_confidence)).sum()))


def ensemble_reliability(statistics: EnsembleStatistics, seed: Seed) -> dict[str, Reliability]:
    """The reliability of the best member and of the sum, by name."""
    best, _ = statistics.best_member()
    blocks = _blocks([seed.members[best].ten_crops])
    confidence = np.concatenate([rows[0].max(1) for rows, _ in blocks])
    lines = {best: reliability(confidence, statistics.by_member[best] == statistics.labels)}
    if len(statistics.by_member) > 1:
        right = statistics.predicted == statistics.labels
        lines[f"sum of {len(statistics.by_member)}"] = reliability(statistics.confidence, right)
    return lines


class Pair(NamedTuple):
    """Two confused classes: places of photographs of `one` predicted as `other` (`there`), and the reverse (`back`)."""

    one: int
    other: int
    there: np.ndarray
    back: np.ndarray


def confused_pairs(statistics: EnsembleStatistics, limit: int) -> list[Pair]:
    """The pairs of classes that the sum confuses most often, in either direction; the most frequent first."""
    labels, wrong = statistics.labels, _wrong_by_confidence(statistics)
    ends = np.sort(np.stack([labels[wrong], statistics.predicted[wrong]]), axis=0)  # (2, wrong)
    classes, pair_of, counts = np.unique(ends, axis=1, return_inverse=True, return_counts=True)
    pairs = []
    for number in np.argsort(-counts, kind="stable")[:limit]:
        photographs = wrong[pair_of.ravel() == number]
        first = int(np.bincount(labels[photographs]).argmax())  # the class that is mistaken more often
        second = int(classes[:, number].sum() - first)
        is_first = labels[photographs] == first
        pairs.append(Pair(first, second, photographs[is_first], photographs[~is_first]))
    return pairs


def worst_mistakes(statistics: EnsembleStatistics, limit: int) -> np.ndarray:
    """Places of the wrong predictions of the highest probability, one of each true and predicted class."""
    wrong = _wrong_by_confidence(statistics)
    ends = np.stack([statistics.labels[wrong], statistics.predicted[wrong]])
    _, first = np.unique(ends, axis=1, return_index=True)
    return wrong[np.sort(first)][:limit]


def _wrong_by_confidence(statistics: EnsembleStatistics) -> np.ndarray:
    """Places of the wrong predictions of the sum, by descending probability."""
    wrong = np.flatnonzero(statistics.predicted != statistics.labels)
    return wrong[np.argsort(-statistics.confidence[wrong], kind="stable")]
