"""A validation split for a catalogue that has none: photographs held back from training.

It is stratified by class. Near-duplicates, such as two frames of one film, stay on one side: in the other split they
would be known already.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from catalogues.catalogue import Catalogue, Strings
from common.errors import InputError, one_line
from common.processes import world
from data.duplicates import find_clusters

MOST_MISSING = 0.1  # share of the photographs that were held back: if more are gone, it is another catalogue


def hold_back(catalogue: Catalogue, share: float, seed: int = 0, workers: int | None = None) -> Catalogue:
    """The catalogue with about this share of each training class as its validation split.

    share: 0 … 0.5. workers: processes that look for near-duplicates; None: one a core.
    """
    train = catalogue.split("train")
    clusters, _ = find_clusters([train], workers=workers)
    places = held_back_places(train.labels, clusters, share, seed)
    if not len(places):
        raise InputError(
            f"{catalogue.root}: no class has two different photographs, so none can be held back for validation; add "
            "some, or give --val-share 0"
        )
    return _divided(catalogue, places)


def are_of(catalogue: Catalogue, ids: Sequence[str]) -> bool:
    """Whether at least nine tenths of these photographs are in the training split."""
    return len(set(ids)) - len(_places_of(catalogue, ids)) <= MOST_MISSING * len(set(ids))


def with_held_back(catalogue: Catalogue, ids: Sequence[str], source: object) -> Catalogue:
    """The catalogue with the photographs of these ids as its validation split. source: where the ids come from."""
    wanted, places = set(ids), _places_of(catalogue, ids)
    missing = len(wanted) - len(places)
    if missing > MOST_MISSING * len(wanted):
        raise InputError(
            f"{source}: {missing:,} of the {len(wanted):,} photographs that it held back for validation are not in "
            f"{catalogue.root}; give the catalogue it was trained on (--data)"
        )
    if missing and world().first:
        note = f"note: {missing:,} of the {len(wanted):,} photographs that {source} held back for validation are gone"
        print(one_line(note), file=sys.stderr)
    return _divided(catalogue, np.array(places))


def _places_of(catalogue: Catalogue, ids: Sequence[str]) -> list[int]:
    """Where the photographs of these ids are in the training split, as far as they are."""
    train, wanted = catalogue.split("train"), set(ids)
    return [place for place in range(len(train)) if train.image_id(place) in wanted]


def _divided(catalogue: Catalogue, places: np.ndarray) -> Catalogue:
    train = catalogue.split("train")
    val = train.take(places, "val")
    splits = {"train": train.take(np.delete(np.arange(len(train)), places), "train"), "val": val}
    held_back = Strings(val.image_id(place) for place in range(len(val)))
    broken = {name: fault for name, fault in catalogue.broken.items() if name != "val"}
    return replace(catalogue, splits=catalogue.splits | splits, held_back=held_back, broken=broken)


def held_back_places(labels: np.ndarray, clusters: list[list[int]], share: float, seed: int) -> np.ndarray:
    """Sorted places (m,) of about `share` of each class's photographs; a cluster goes as a whole.

    labels: (n,). A class of two photographs and more gives at least one and keeps at least one, unless all of them are
    near-duplicates of each other.
    """
    count = np.bincount(labels)
    wanted = np.where(count < 2, 0, np.clip(np.rint(share * count), 1, np.maximum(count - 1, 1)))
    alone = np.ones(len(labels), bool)
    alone[[place for cluster in clusters for place in cluster]] = False
    units = [*clusters, *([place] for place in np.flatnonzero(alone).tolist())]
    shuffled = [units[number] for number in np.random.default_rng(seed).permutation(len(units))]
    label_of, wanted, keep_one = labels.tolist(), wanted.tolist(), (count - 1).tolist()  # lists are faster one by one
    taken, chosen = [0] * len(count), []

    def take(unit: list[int], most: list[int]) -> None:
        """Hold the photographs of the unit back, unless one of their classes would give more than `most`."""
        members = Counter(label_of[place] for place in unit)
        if all(taken[label] + number <= most[label] for label, number in members.items()):
            for label, number in members.items():
                taken[label] += number
            chosen.extend(unit)

    for unit in shuffled:
        take(unit, wanted)
    for unit in sorted(shuffled, key=len):  # a class whose clusters are all too large gives a small one
        if any(not taken[label_of[place]] and wanted[label_of[place]] for place in unit):
            take(unit, keep_one)
    return np.sort(np.array(chosen, np.int64))
