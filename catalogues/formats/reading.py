"""What several catalogue formats need: checked values and files, tables, and classes with numbers."""

import csv
import os
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from reprlib import Repr
from typing import NamedTuple

import numpy as np

from catalogues.catalogue import Catalogue, Split, Strings, stays_below
from catalogues.index import Sources, listing
from catalogues.shards import Shards
from common.errors import Faults, InputError


class Format(NamedTuple):
    """A catalogue format.

    name: as `Catalogue.format` has it. layout: how an error message describes it. recognise(root): whether the folder
    has this format. read(reading): the catalogue; raises InputError. indexed: whether an index is kept beside it.
    """

    name: str
    layout: str
    recognise: Callable[[Path], bool]
    read: Callable[["Reading"], Catalogue]
    indexed: bool = True


class Reading:
    """A catalogue that is being read: where it is, what it is read from, what is wrong with it and what is left out.

    ignore_unknown: photographs of classes that the training split lacks are left out; otherwise they are a fault.
    """

    def __init__(self, root: Path, sources: Sources, ignore_unknown: bool = False):
        self.root, self.sources, self.ignore_unknown = root, sources, ignore_unknown
        self.left_out: list[str] = []
        self.broken: dict[str, str] = {}
        self.notes: list[str] = []
        self.unknown = Faults(root)  # classes of val that train lacks

    def source(self, path: Path) -> Path:
        """The path of a file that is about to be read, or looked for: a change of it makes the index old."""
        self.sources.note(path)
        return path

    def leave_out(self, path: str, reason: str) -> None:
        """path: below the root."""
        self.left_out.append(f"{path}\t{reason}")

    def leave_out_others(self, taken: set[str], reason: str, folder: str = "") -> None:
        """Note what lies in the catalogue's own folder, or in this one of it, and is not `taken`."""
        for name in listing(self.root / folder):
            if name not in taken:
                self.leave_out(f"{folder}/{name}" if folder else name, reason)

    def whole(self, catalogue: Catalogue) -> Catalogue:
        """The catalogue, with all that was noted while it was read. Raises InputError for unknown classes in val."""
        self.unknown.require_none()
        left_out = Strings(sorted(self.left_out))
        return replace(catalogue, left_out=left_out, broken=self.broken, notes=self.notes)

    def known_alone(
        self, split: Split, unknown: np.ndarray, strange: dict[str, str], source: str, train: str
    ) -> Split | None:
        """The photographs of a split whose class the training split has; None where the split cannot be used.

        unknown: bool (n,), which photographs are of other classes. strange: each of these classes with one photograph
        of it. `whole` raises InputError for such classes in the validation split.
        """
        if not strange:
            return split
        if self.ignore_unknown:
            for place in np.flatnonzero(unknown):
                self.leave_out(split.paths[place], UNKNOWN)
            if not unknown.all():
                return split.take(np.flatnonzero(~unknown), split.name)
            self.broken[split.name] = f"{source}: no photograph is of a class that {train} has; add some"
            return None
        faults = self.unknown if split.name == "val" else Faults(source)
        for name, path in sorted(strange.items()):
            faults.add(
                f"{source}: class {shown(name)[1:-1]} of {shown(path)[1:-1]} has no photograph in {train}; add some, "
                "remove the class, or leave it out with --ignore-unknown-classes"
            )
        self.broken[split.name] = faults.first()
        return None

    def read_splits(
        self,
        splits: dict[str, Path],
        read: Callable[[str, Path, Faults], None],
        found: dict[str, Faults] | None = None,
    ) -> None:
        """`read(split, place, faults)` for every split. What is wrong with val or test cannot stop a training.

        found: faults that are known already.
        Raises InputError, or InputErrors, for the faults of the training split.
        """
        for split, place in splits.items():
            faults = (found or {}).get(split) or Faults(place)
            try:
                read(split, place, faults)
                faults.require_none()
            except InputError as error:
                if split == "train":
                    raise
                self.broken[split] = faults.first() if faults.count else str(error)


UNKNOWN = "of classes that are not in train"

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


def read_table(path: Path, delimiter: str = ",") -> Iterator[tuple[str, list[str]]]:
    """("FILE, line 7", cells) of every line that is not empty; cells without surrounding blanks."""
    require_file(path)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file, delimiter=delimiter, strict=True)  # so that a quote without an end is an error
            start = 1  # of a row: a cell in quotes may be of several lines
            for row in rows:
                if row:
                    yield f"{path}, line {start}", [cell.strip() for cell in row]
                start = rows.line_num + 1
    except InputError:
        raise
    except csv.Error as error:
        raise InputError(f"{path}, line {start}: cannot be read as a table ({error}); mend that line") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a table ({error}); save it as CSV in UTF-8") from error


class NumberedSplits:
    """Gathers splits whose classes are numbers with gaps, and gives every class its contiguous label."""

    def __init__(
        self, reading: Reading, root: Path, names_are_ids: bool = False, shards: dict[str, Shards] | None = None
    ):
        self.reading, self.root, self.names_are_ids, self.shards = reading, root, names_are_ids, shards or {}
        self.paths: dict[str, Strings] = {}
        self.numbers: dict[str, np.ndarray | None] = {}  # None: the split has no labels
        self.sources: dict[str, str] = {}

    def add(self, split: str, source: object, entries: Iterable[tuple[str, int | None]], faults: Faults) -> None:
        """Add a split with these (path, class number); `source` names it in messages. Raises InputError."""
        numbers, hashes = array("i"), array("q")
        without: list[str] = []  # the first path without a class

        def paths() -> Iterator[str]:
            for path, number in entries:
                try:
                    os.fsencode(path)
                except UnicodeEncodeError:  # half a character, which JSON can write as \\ud800
                    faults.add(f"{source}: no file can have the name {shown(path)}; mend that entry")
                    continue
                if number is not None:
                    numbers.append(number)
                elif not without:
                    without.append(path)
                hashes.append(hash(path.rpartition("/")[2] if self.names_are_ids else path))
                yield path

        listed = Strings(paths())
        self._note_doubles(Split(split, self.root, listed, None, self.names_are_ids), hashes, source, faults)
        if not len(listed) and not faults.count:
            faults.add(f"{source}: lists no photographs; fill it or remove it", 0)
        if len(numbers) not in (0, len(listed)):
            which = f"some have none, such as {shown(without[0])}"
            faults.add(f"{source}: some photographs have a class and {which}; label all or none of them", 0)
        if split == "train" and not len(numbers) and len(listed):
            faults.add(f"{source}: photographs have no class; every training photograph needs one", 0)
        faults.require_none()
        self.paths[split], self.sources[split] = listed, str(source)
        self.numbers[split] = np.frombuffer(numbers, np.int32) if len(numbers) else None

    def _note_doubles(self, split: Split, hashes: array, source: object, faults: Faults) -> None:
        """A fault for an id that occurs twice. Only ids with equal hashes are compared: there may be millions."""
        values = np.frombuffer(hashes, np.int64)
        ordered = np.sort(values)
        twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        seen: set[str] = set()
        for place in np.flatnonzero(np.isin(values, twice)) if len(twice) else ():
            image_id = split.image_id(place)
            if image_id in seen:
                faults.add(f"{source}: lists {shown(image_id)} twice; an id names one photograph, remove one")
            seen.add(image_id)

    def catalogue(self, format: str, branches: dict[int, tuple[str, ...]]) -> Catalogue:
        """The catalogue with the classes of the training split, in the order of their numbers.

        branches: for a class number, the names of its nodes in the product tree, from the root to the class itself.
        """
        known, splits = np.unique(self.numbers["train"]), {}
        for split in self.paths:
            taken = self._split(split, known, lambda number: str(branches.get(number, (number,))[-1]))
            if taken:
                splits[split] = taken
        ids = [str(number) for number in known]
        found = [branches.get(int(number), (f"{number:05d}",)) for number in known]
        classes = [branch[-1] for branch in found]
        if len(set(classes)) < len(classes):
            classes = [f"{name} ({number})" for name, number in zip(classes, ids, strict=True)]
        return self.reading.whole(Catalogue(format, self.root, classes, ids, splits, [branch[:-1] for branch in found]))

    def _split(self, name: str, known: np.ndarray, class_name: Callable[[int], str]) -> Split | None:
        """The split with labels, which are places in the sorted numbers `known`; None where it cannot be used."""
        split = Split(name, self.root, self.paths[name], None, self.names_are_ids, shards=self.shards.get(name))
        numbers = self.numbers[name]
        if numbers is None:
            return split
        labels = np.searchsorted(known, numbers).astype(np.int32)
        unknown = known[np.minimum(labels, len(known) - 1)] != numbers
        first = {int(numbers[place]): int(place) for place in np.flatnonzero(unknown)[::-1]} if unknown.any() else {}
        strange = {class_name(number): self.paths[name][place] for number, place in first.items()}
        split = replace(split, labels=labels)
        return self.reading.known_alone(split, unknown, strange, self.sources[name], self.sources["train"])
