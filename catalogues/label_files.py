"""Files that change the training split: labels for more photographs, and photographs to leave out."""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from catalogues.catalogue import Catalogue, Split, Strings
from common.errors import InputError

LABEL_COLUMNS = ["id", "class", "probability"]  # what tricks/pseudo_label.py writes
EXCLUDE_COLUMNS = ["cluster", "split", "id", "class", "exclude"]  # what data.duplicates writes
OLDER_COLUMNS = ["cluster", "id", "class", "exclude"]  # what it wrote of the training split alone


def _rows(path: str | Path, columns: list[str], older: list[str] | None = None) -> Iterator[tuple[str, list[str]]]:
    """("FILE, line 7", cells) of every line below the header `columns`, or `older`."""
    try:
        with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            rows = csv.reader(file)
            header = next(rows, None)
            if header is None or header not in (columns, older):
                raise InputError(f"{path}: expected the first line {','.join(columns)}; give a file that has it")
            for number, row in enumerate(rows, 2):
                if len(row) != len(header):
                    raise InputError(f"{path}, line {number}: expected {','.join(header)}; mend that line")
                yield f"{path}, line {number}", row
    except (OSError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error}); give a file with {','.join(columns)}") from error


def _places(split: Split) -> dict[str, int]:
    return {split.image_id(place): place for place in range(len(split))}


def with_extra_labels(catalogue: Catalogue, path: str | Path) -> tuple[Catalogue, np.ndarray]:
    """The catalogue with labelled photographs of the test split added to its training split.

    path: a table id,class,probability as tricks/pseudo_label.py writes it; classes are named as in a submission.

    Returns the catalogue and a weight for every training photograph, float32 (n,): the probability for an added
    photograph, 1 for all others. Raises InputError for an id that the test split does not have or that occurs twice,
    an unknown class, and a probability outside 0 … 1.
    """
    train, test = catalogue.split("train"), catalogue.split("test")
    places, label_of = _places(test), {name: label for label, name in enumerate(map(str, catalogue.class_ids))}
    chosen: dict[int, tuple[int, float]] = {}
    for source, (image_id, name, probability) in _rows(path, LABEL_COLUMNS):
        if image_id not in places:
            raise InputError(f"{source}: {image_id!r} is no photograph of {test.root}'s test split; mend that line")
        if places[image_id] in chosen:
            raise InputError(f"{source}: {image_id!r} is labelled for the second time; remove one of the lines")
        if name not in label_of:
            raise InputError(f"{source}: {name!r} is no class of {catalogue.root}; mend that line")
        try:
            weight = float(probability)
        except ValueError:
            weight = np.nan
        if not 0 < weight <= 1:
            raise InputError(f"{source}: {probability!r} is no probability above 0 and up to 1; mend that line")
        chosen[places[image_id]] = label_of[name], weight
    labels, weights = zip(*chosen.values(), strict=True) if chosen else ((), ())
    extended = replace(
        train,
        paths=train.paths + Strings(test.paths[place] for place in chosen),
        labels=np.concatenate([train.labels, np.array(labels, np.int32)]),
        shards=train.shards and train.shards.with_some_of(test.shards, list(chosen)),
    )
    weights = np.concatenate([np.ones(len(train), np.float32), np.array(weights, np.float32)])
    return replace(catalogue, splits=catalogue.splits | {"train": extended}), weights


def excluded_places(split: Split, path: str | Path, elsewhere: Iterable[str] = ()) -> np.ndarray:
    """Sorted places in the split of its photographs that a table of data.duplicates marks with 1, int64 (m,).

    elsewhere: ids that the table may have, too: of photographs that are held back for validation.

    Raises InputError for an id that the split does not have, and for a mark other than 0 and 1.
    """
    places, chosen, elsewhere = _places(split), set(), set(elsewhere)
    for source, (_, *of_split, image_id, _, mark) in _rows(path, EXCLUDE_COLUMNS, OLDER_COLUMNS):
        if of_split not in ([], [split.name]) or image_id in elsewhere:
            continue
        if image_id not in places:
            raise InputError(f"{source}: {image_id!r} is no photograph of the {split.name} split; mend that line")
        if mark not in ("0", "1"):
            raise InputError(f"{source}: exclude is {mark!r}, expected 0 or 1; mend that line")
        if mark == "1":
            chosen.add(places[image_id])
    return np.array(sorted(chosen), np.int64)
