"""Grocery Store Dataset (Klasson, Zhang and Kjellström, WACV 2019): train.txt "path, fine label, coarse label".

`classes.csv` names the classes. All files may also lie in a folder `dataset/`.
"""

from collections.abc import Iterator
from pathlib import Path

from catalogues.catalogue import Catalogue
from catalogues.formats.reading import Format, NumberedSplits, Reading, class_number, inside, read_table
from catalogues.formats.splits import split_files
from common.errors import Faults, InputError


def _folder(root: Path) -> Path:
    below = root / "dataset"
    return below if below.is_dir() and "train" in split_files(below, ".txt") else root


def _branches(path: Path) -> dict[int, tuple[str, ...]]:
    """Class number -> its coarse class, if the table has one, and its name."""
    branches, faults = {}, Faults(path)
    for source, row in list(read_table(path))[1:]:
        try:
            if len(row) < 2:
                raise InputError(f"{source}: expected a class name and its number; mend that line")
            number = class_number(row[1], source)
            if number in branches:
                raise InputError(f"{source}: class {number} is named for the second time; remove one of the lines")
            branches[number] = (*row[2:3], row[0])
        except InputError as error:
            faults.add(error)
    faults.require_none()
    return branches


def _read(reading: Reading) -> Catalogue:
    folder = _folder(reading.root)
    classes = reading.source(folder / "classes.csv")
    branches = _branches(classes)

    def entries(path: Path, faults: Faults) -> Iterator[tuple[str, int]]:
        for source, row in read_table(path):
            try:
                if len(row) != 3:
                    raise InputError(f"{source}: expected `path, fine label, coarse label`; mend that line")
                entry = inside(row[0], source), class_number(row[1], source)
                if entry[1] not in branches:
                    raise InputError(f"{source}: label {entry[1]} is not in {classes}; mend one of the two")
            except InputError as error:
                faults.add(error)
                continue
            yield entry

    def read(split: str, path: Path, faults: Faults) -> None:
        splits.add(split, path, entries(reading.source(path), faults), faults)

    splits = NumberedSplits(reading, folder)
    reading.source(folder)
    reading.read_splits(split_files(folder, ".txt"), read)
    return splits.catalogue(FORMAT.name, branches)


def _recognise(root: Path) -> bool:
    folder = _folder(root)
    return "train" in split_files(folder, ".txt") and (folder / "classes.csv").exists()


FORMAT = Format("Grocery Store", "train.txt and classes.csv (Grocery Store)", _recognise, _read)
