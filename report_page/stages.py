"""Errors of each backbone after each step, and of the ensembles, over the seeds."""

from collections.abc import Sequence
from typing import NamedTuple

from models import ARCHS
from report_page.results import STEPS, NetworkPredictions, Seed
from report_page.statistics import EnsembleStatistics, classes_of_sum


class Stage(NamedTuple):
    """One backbone after one step: errors as fractions, one for each seed that trained it.

    top1, mean_class: its errors. before: mean class error of the network that the step started from.
    control: mean class error of plain training in the step's place. one_crop: its mean class error with one crop.
    The last three hold None for a seed that lacks the network.
    """

    arch: str
    step: str
    top1: list[float]
    mean_class: list[float]
    before: list[float | None]
    control: list[float | None]
    one_crop: list[float | None]

    def change(self, reference: str) -> list[float]:
        """Mean class error minus that of `before`, `control` or `one_crop`, for the seeds that have both."""
        others = getattr(self, reference)
        return [error - other for error, other in zip(self.mean_class, others, strict=True) if other is not None]


def stages(seeds: Sequence[Seed]) -> list[Stage]:
    """Every backbone after every step, in the report's order; predictions without labels are left out."""
    archs = {network.arch for seed in seeds for network in seed.networks().values()}
    archs = sorted(archs, key=lambda arch: (ARCHS.index(arch) if arch in ARCHS else len(ARCHS), arch))
    return [
        _stage(arch, step.key, step.start, trained)
        for step in STEPS
        for arch in archs
        if (trained := [seed for seed in seeds if (network := seed.find(arch, step.key)) and network.has_errors])
    ]


def _stage(arch: str, step: str, start: str | None, seeds: Sequence[Seed]) -> Stage:
    networks = [seed.find(arch, step) for seed in seeds]
    return Stage(
        arch,
        step,
        [network.info.top1_error for network in networks],
        [network.info.mean_class_error for network in networks],
        [_error(seed.find(arch, start)) if start else None for seed in seeds],
        [_error(seed.find(arch, step, control=True)) for seed in seeds],
        [network.one_crop and network.one_crop.info.mean_class_error for network in networks],
    )


def _error(network: NetworkPredictions | None) -> float | None:
    return network and network.info.mean_class_error


class EnsembleErrors(NamedTuple):
    """Errors of one seed's sum, as fractions: `best` of its best member, `one_crop` of the sum of single crops."""

    top1: float
    mean_class: float
    best: float
    one_crop: float | None


def ensembles(
    seeds: Sequence[Seed], statistics: Sequence[EnsembleStatistics | None]
) -> dict[str, list[EnsembleErrors]]:
    """The errors of sums, one for each seed that has the members; by a label such as "sum of 4".

    Each seed gives the sum of all its members, and the sum of those that all seeds have.
    """
    known = [(seed, numbers) for seed, numbers in zip(seeds, statistics, strict=True) if numbers is not None]
    in_all = [name for name in (known[0][0].members if known else []) if all(name in seed.members for seed, _ in known)]
    by_names: dict[tuple[str, ...], list[EnsembleErrors]] = {}
    for seed, numbers in known:
        for names in dict.fromkeys([tuple(seed.members), tuple(in_all)]):
            if len(names) > 1:
                by_names.setdefault(names, []).append(_ensemble_errors(seed, numbers, names))
    labelled = {}
    for names, errors in by_names.items():
        label = f"sum of {len(names)}"
        labelled[label if label not in labelled else f"{label}: {', '.join(names)}"] = errors
    return labelled


def _ensemble_errors(seed: Seed, statistics: EnsembleStatistics, names: tuple[str, ...]) -> EnsembleErrors:
    predicted, one_crop = statistics.predicted, statistics.one_crop
    if names != tuple(seed.members):
        predicted = classes_of_sum([seed.members[name].ten_crops for name in names])
        one_crop = classes_of_sum([seed.members[name].one_crop for name in names])
    best = min(statistics.error(statistics.by_member[name]) for name in names)
    return EnsembleErrors(
        statistics.top1_error(predicted),
        statistics.error(predicted),
        best,
        None if one_crop is None else statistics.error(one_crop),
    )
