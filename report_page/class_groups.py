"""Head, middle and tail: thirds of the classes by their number of training photographs, and their errors."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from predictions.metrics import mean_class_error
from report_page.results import Seed
from report_page.statistics import classes_of_sum

TRAINED_ON = ("whole set", "plain training", "balanced")


class ClassGroup(NamedTuple):
    """A third of the classes: `classes` (bool, K), which have from `least` to `most` training photographs each."""

    name: str
    classes: np.ndarray
    least: int
    most: int

    def error(self, predicted: np.ndarray, labels: np.ndarray) -> float | None:
        """Mean class error over the group's classes, a fraction; None where none of them has a photograph."""
        of_group = self.classes[labels]
        return mean_class_error(predicted[of_group], labels[of_group]) if of_group.any() else None


def by_frequency(train_counts: np.ndarray) -> list[ClassGroup]:
    """Head, middle and tail: thirds of the classes, from the most training photographs to the least.

    Args:
        train_counts: (K,) training photographs of each class, K ≥ 3.
    """
    thirds = np.array_split(np.argsort(-train_counts, kind="stable"), 3)
    groups = []
    for name, members in zip(("head", "middle", "tail"), thirds, strict=True):
        chosen = np.zeros(len(train_counts), bool)
        chosen[members] = True
        groups.append(ClassGroup(name, chosen, int(train_counts[members].min()), int(train_counts[members].max())))
    return groups


class GroupErrors(NamedTuple):
    """Errors of one seed: `by_arch[arch][trained on]` is a list of mean class errors, one for each of `groups`."""

    groups: list[ClassGroup]
    by_arch: dict[str, dict[str, list[float | None]]]


def group_errors(seed: Seed, labels: np.ndarray, train_counts: np.ndarray) -> GroupErrors:
    """Errors of every backbone before and after balanced finetuning, and of plain training in its place."""
    groups = by_frequency(train_counts)
    by_arch: dict[str, dict[str, list[float | None]]] = {}
    for arch in seed.base:
        networks = (seed.find(arch, "base"), seed.find(arch, "balanced", control=True), seed.find(arch, "balanced"))
        for trained_on, network in zip(TRAINED_ON, networks, strict=True):
            if network is not None and network.info.labels is not None:
                predicted = classes_of_sum([network.ten_crops])
                by_arch.setdefault(arch, {})[trained_on] = [group.error(predicted, labels) for group in groups]
    return GroupErrors(groups, by_arch)


def errors_of(by_seed: Sequence[GroupErrors], arch: str, trained_on: str) -> list[list[float | None]]:
    """The errors of one backbone's networks: a list a seed that has one, an error a group."""
    found = (seed.by_arch.get(arch, {}).get(trained_on) for seed in by_seed)
    return [errors for errors in found if errors is not None]
