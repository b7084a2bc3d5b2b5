"""What several catalogue formats need: checked values and files, tables, folders, and classes with numbers."""

import csv
from array import array
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from reprlib import Repr
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from common.errors import InputError
from data.catalogue import SPLITS, Catalogue, Split, Strings, stays_below
from data.photographs import endings


class Format(NamedTuple):
    """A catalogue format.

    name: as `Catalogue.format` has it. layout: how an error message describes it. recognise(root): whether the folder
    has this format. sources(root): the files and folders that a catalogue is read from, for the index beside it; None:
    it is read without an index. read(root): the catalogue; raises InputError.
    """

    name: str
    layout: str
    recognise: Callable[[Path], bool]
    sources: Callable[[Path], list[Path]] | None
    read: Callable[[Path], Catalogue]


_brief = Repr()
_brief.maxstring = _brief.maxother = 80
shown = _brief.repr  # a value for a message: both ends of one that would fill the screen


def inside(path: str, source: str) -> str:
    """`path`, unless it leads out of the catalogue's folder."""
    if not stays_below(path):
        raise InputError(f"{source}: {shown(path)} does not name a file inside the catalogue; mend that entry")
    return path


def class_number(value: object, source: str) -> int:
    """A class number, given as an int or as a string of digits."""
    if isinstance(value, str) and len(value) < 20 and value.isascii() and value.isdigit():  # int() takes more: "1_7"
        value = int(value)
    if type(value) is not int or not 0 <= value < 2**31:
        raise InputError(f"{source}: class {shown(value)} is not a number from 0 to {2**31 - 1}; mend that entry")
    return value


def require_file(path: Path) -> None:
    if not path.is_file():  # opening a pipe would wait for ever
        raise InputError(f"{path}: not an ordinary file; restore it")


def read_table(path: Path) -> Iterator[tuple[str, list[str]]]:
    """("FILE, line 7", cells) of every line that is not empty; cells without surrounding blanks."""
    require_file(path)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            for number, row in enumerate(csv.reader(file), 1):
                if row:
                    yield f"{path}, line {number}", [cell.strip() for cell in row]
    except InputError:
        raise
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a table ({error}); restore the file") from error


def subfolders(folder: Path) -> list[Path]:
    """The class folders in `folder`, sorted."""
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def photographs_in(folder: Path) -> list[str]:
    """Sorted names of the files in `folder` that end as photographs do."""
    known = endings()
    return sorted(
        entry.name for entry in folder.iterdir() if entry.name.lower().endswith(known) and entry.name[0] != "."
    )


def photographs_in_each(folders: list[Path]) -> Iterator[list[str]]:
    """`photographs_in` every folder, in order. Threads, since disks and networks answer many requests at once."""
    with ThreadPoolExecutor(32) as pool:
        bar = dict(desc="folders", unit="folder", delay=2, leave=False, disable=None)
        yield from tqdm(pool.map(photographs_in, folders), total=len(folders), **bar)


def split_folders(root: Path, splits: tuple[str, ...] = SPLITS) -> list[Path]:
    """The splits' folders and their class folders: their times of change tell which photographs came and went."""
    existing = [root / split for split in splits if (root / split).is_dir()]
    return existing + [folder for split in existing for folder in subfolders(split)]


class NumberedSplits:
    """Gathers splits whose classes are numbers with gaps, and gives every class its contiguous label."""

    def __init__(self, root: Path, names_are_ids: bool = False):
        self.root, self.names_are_ids = root, names_are_ids
        self.paths: dict[str, Strings] = {}
        self.numbers: dict[str, np.ndarray | None] = {}  # None: the split has no labels
        self.sources: dict[str, str] = {}

    def add(self, split: str, source: str, entries: Iterable[tuple[str, int | None]]) -> None:
        """Add a split with these (path, class number); `source` names it in messages. Raises InputError."""
        numbers, hashes = array("i"), array("q")

        def paths() -> Iterator[str]:
            for path, number in entries:
                if number is not None:
                    numbers.append(number)
                hashes.append(hash(path.rpartition("/")[2] if self.names_are_ids else path))
                yield path

        try:
            self.paths[split] = Strings(paths())
        except UnicodeEncodeError as error:  # half a character, which JSON can write as \ud800
            raise InputError(f"{source}: no file can have the name {shown(error.object)}; mend that entry") from error
        self._refuse_doubles(Split(split, self.root, self.paths[split], None, self.names_are_ids), hashes, source)
        if not len(self.paths[split]):
            raise InputError(f"{source}: lists no photographs; fill it or remove it")
        if len(numbers) not in (0, len(self.paths[split])):
            raise InputError(f"{source}: some photographs have a class and some have none; label all or none of them")
        self.numbers[split] = np.frombuffer(numbers, np.int32) if len(numbers) else None
        self.sources[split] = source

    def _refuse_doubles(self, split: Split, hashes: array, source: str) -> None:
        """InputError for an id that occurs twice. Only ids with equal hashes are compared: there may be millions."""
        values = np.frombuffer(hashes, np.int64)
        ordered = np.sort(values)
        twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        seen: set[str] = set()
        for place in np.flatnonzero(np.isin(values, twice)) if len(twice) else ():
            image_id = split.image_id(place)
            if image_id in seen:
                raise InputError(f"{source}: lists {shown(image_id)} twice; an id names one photograph, remove one")
            seen.add(image_id)

    def catalogue(self, format: str, branches: dict[int, tuple[str, ...]]) -> Catalogue:
        """The catalogue with the classes of the training split, in the order of their numbers.

        branches: for a class number, the names of its nodes in the product tree, from the root to the class itself.
        """
        if self.numbers["train"] is None:
            raise InputError(f"{self.sources['train']}: photographs have no class; every training photograph needs one")
        known = np.unique(self.numbers["train"])
        splits = {
            split: Split(split, self.root, paths, self._labels(split, known), self.names_are_ids)
            for split, paths in self.paths.items()
        }
        ids = [str(number) for number in known]
        found = [branches.get(int(number), (f"{number:05d}",)) for number in known]
        classes = [branch[-1] for branch in found]
        if len(set(classes)) < len(classes):
            classes = [f"{name} ({number})" for name, number in zip(classes, ids, strict=True)]
        return Catalogue(format, self.root, classes, ids, splits, [branch[:-1] for branch in found])

    def _labels(self, split: str, known: np.ndarray) -> np.ndarray | None:
        """The places of a split's class numbers in the sorted numbers `known`, int32 (n,)."""
        numbers = self.numbers[split]
        if numbers is None:
            return None
        labels = np.searchsorted(known, numbers).astype(np.int32)
        unknown = known[np.minimum(labels, len(known) - 1)] != numbers
        if unknown.any():
            first = int(unknown.argmax())
            raise InputError(
                f"{self.sources[split]}: class {numbers[first]} of {shown(self.paths[split][first])[1:-1]} has no "
                f"photograph in {self.sources['train']}; add some, or remove the class"
            )
        return labels
