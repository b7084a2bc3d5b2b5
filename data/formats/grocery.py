"""Grocery Store Dataset (Klasson, Zhang and Kjellström, WACV 2019): train.txt "path, fine label, coarse label".

`classes.csv` names the classes. All files may also lie in a folder `dataset/`.
"""

from collections.abc import Iterator
from pathlib import Path

from common.errors import InputError
from data.catalogue import SPLITS, Catalogue
from data.formats.reading import Format, NumberedSplits, class_number, inside, read_table


def _files(root: Path, *names: str) -> list[Path]:
    folder = root / "dataset" if (root / "dataset" / "train.txt").exists() else root
    return [folder / name for name in names]


def _branches(path: Path) -> dict[int, tuple[str, ...]]:
    """Class number -> its coarse class, if the table has one, and its name."""
    branches = {}
    for source, row in list(read_table(path))[1:]:
        if len(row) < 2:
            raise InputError(f"{source}: expected a class name and its number; mend that line")
        number = class_number(row[1], source)
        if number in branches:
            raise InputError(f"{source}: class {number} is named for the second time; remove one of the lines")
        branches[number] = (*row[2:3], row[0])
    return branches


def _read(root: Path) -> Catalogue:
    (classes,) = _files(root, "classes.csv")
    branches = _branches(classes)

    def entries(path: Path) -> Iterator[tuple[str, int]]:
        for source, row in read_table(path):
            if len(row) != 3:
                raise InputError(f"{source}: expected `path, fine label, coarse label`; mend that line")
            number = class_number(row[1], source)
            if number not in branches:
                raise InputError(f"{source}: label {number} is not in {classes}; mend one of the two")
            yield inside(row[0], source), number

    splits = NumberedSplits(classes.parent)
    for split in SPLITS:
        (path,) = _files(root, f"{split}.txt")
        if path.exists():
            splits.add(split, str(path), entries(path))
    return splits.catalogue(FORMAT.name, branches)


FORMAT = Format(
    "Grocery Store",
    "train.txt and classes.csv (Grocery Store)",
    lambda root: all(path.exists() for path in _files(root, "train.txt", "classes.csv")),
    lambda root: _files(root, "train.txt", "val.txt", "test.txt", "classes.csv"),
    _read,
)
