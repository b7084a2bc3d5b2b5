"""Tables: a line for each photograph, with columns that are found by their names: path, label and, perhaps, split."""

import itertools
import os
import posixpath
import re
from array import array
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from catalogues.catalogue import SPLITS, Catalogue, Strings
from catalogues.formats.columns import Columns, columns_of
from catalogues.formats.reading import (
    Format,
    NumberedSplits,
    Reading,
    class_number,
    inside,
    read_table,
    shown,
)
from catalogues.formats.scanning import beside, same_name
from catalogues.formats.splits import folder_names, split_files, split_named
from catalogues.shards import Shards
from common.errors import Faults, InputError

NOT_A_NAME = re.compile(r"[\0\r\n]")
WHOLE = re.compile(r"^([0-9]+)\.0+$")
EMPTY_CELLS = ("", "nan", "NaN")  # pandas writes a cell without a value so
ENDINGS = (".csv", ".tsv")
UNLISTED = "not in the table"
MOST_TRIED = 100  # photographs that are looked for to know where paths begin


class Entry(NamedTuple):
    """A line of a table: `source` names it in messages. label: text, or None where the cell is empty."""

    source: str
    path: str
    label: str | None
    split: str | None


def entries(
    table: Path, columns: Columns, root: Path, folder: str, faults_of: Callable[[str | None], Faults]
) -> Iterator[Entry]:
    """The lines of a table; what is wrong with one is a fault of its split.

    folder: where the paths begin, below `root`. faults_of: those of a split; None: the line does not say one.
    """
    rows = read_table(table, columns.delimiter)
    next(rows)
    for source, row in rows:
        split = None
        try:
            if len(row) != columns.width:
                raise InputError(f"{source}: {len(row)} cells under {columns.width} columns; mend that line")
            if columns.split is not None:
                split = split_named(row[columns.split])
                if split is None:
                    said = shown(row[columns.split])
                    raise InputError(f"{source}: split {said} is none of train, val, test; mend it")
            path = below(row[columns.path], root, source)
            label = "" if columns.label is None else same_name(row[columns.label])
            if NOT_A_NAME.search(label):
                raise InputError(f"{source}: {shown(label)} is no name of a product; mend that line")
        except InputError as error:
            faults_of(split).add(error)
            continue
        yield Entry(source, f"{folder}/{path}" if folder else path, None if label in EMPTY_CELLS else label, split)


def below(path: str, root: Path, source: str) -> str:
    """The path as one below the catalogue's folder: also where it is absolute, or written as on Windows."""
    if "://" in path:
        raise InputError(f"{source}: {shown(path)} is an address; download the photograph, and give its path")
    path = path.replace("\\", "/")
    top = f"{os.path.abspath(root)}/"
    found = posixpath.normpath(inside(path.removeprefix(top), source))
    return inside("" if found == "." else found, source)


class Table:
    """The photographs of one or several tables, with labels as they are written: numbers, or names."""

    def __init__(self):
        self.names: dict[str | None, int] = {None: -1}  # as they are written -> a number of ours
        self.paths: dict[str, Strings] = {}
        self.labels: dict[str, np.ndarray] = {}
        self.faults: dict[str, Faults] = {}

    def add(self, rows: Iterator[Entry], split: str = "train", source: object = "") -> None:
        """split: of the rows that do not say it themselves. source: names the table in a message."""
        labels, codes = array("i"), array("b")

        def paths() -> Iterator[str]:
            for row in rows:
                labels.append(self.names.setdefault(row.label, len(self.names) - 1))
                codes.append(SPLITS.index(row.split or split))
                yield row.path

        listed, codes = Strings(paths()), np.array(codes, np.int8)
        labels = np.array(labels, np.int64)
        for code in np.unique(codes) if len(codes) else [SPLITS.index(split)]:
            places, name = np.flatnonzero(codes == code), SPLITS[code]
            if name in self.paths:
                raise InputError(f"{source}: photographs of {name} stand in another table too; keep one")
            self.paths[name], self.labels[name] = listed.take(places), labels[places]

    def catalogue(
        self,
        format: str,
        reading: Reading,
        sources: dict[str, Path],
        names_are_ids: bool = False,
        shards: dict[str, Shards] | None = None,
    ) -> Catalogue:
        """Numbers are classes as in AliProducts; where one label of train is no number, all labels are names."""
        for split, faults in self.faults.items():
            if faults.count and split not in self.paths:  # all its lines are faulty
                self.paths[split], self.labels[split] = Strings(), np.empty(0, np.int64)
        if not shards and not any(faults.count for faults in self.faults.values()):
            for path in beside(reading.root, set(itertools.chain(*self.paths.values())), reading.sources):
                reading.leave_out(path, UNLISTED)
        numbers, names, named = self._classes(reading, sources)
        table = np.full(len(self.names), -1, np.int64)  # the last place is that of an empty cell
        for text, number in numbers.items():
            table[self.names[text]] = number
        splits = NumberedSplits(reading, reading.root, names_are_ids, shards)

        def read(split: str, source: Path, faults: Faults) -> None:
            found = table[self.labels[split]].tolist()
            pairs = ((path, None if k < 0 else k) for path, k in zip(self.paths[split], found, strict=True))
            splits.add(split, source, pairs, faults)

        reading.read_splits({split: sources[split] for split in SPLITS if split in self.paths}, read, self.faults)
        catalogue = splits.catalogue(format, {number: (name,) for number, name in names.items()})
        return replace(catalogue, class_ids=catalogue.classes, tree=[]) if named else catalogue

    def _classes(self, reading: Reading, sources: dict[str, Path]) -> tuple[dict[str, int], dict[int, str], bool]:
        """A number for every label, the names of numbers that are no labels themselves, and whether all have a name."""
        texts = [text for text in self.names if text is not None]
        of_train = sorted(texts[place] for place in np.unique(self.labels["train"]) if place >= 0)
        name = {text: WHOLE.sub(r"\1", text) for text in texts}  # 3 and 3.0 are one class
        value = {text: _number(name[text]) for text in texts}
        odd = _no_number(of_train, name, value)
        if odd is None:
            used = set(value.values())
            unused = (number for number in itertools.count() if number not in used)
            strange = {text: next(unused) for text in texts if value[text] is None}
            return value | strange, {number: text for text, number in strange.items()}, False
        if any(value[text] is not None for text in of_train):
            reading.notes.append(f"{sources['train']}: labels are taken for names, since {odd}")
        rank = {each: number for number, each in enumerate(sorted(set(name.values())))}
        return {text: rank[name[text]] for text in texts}, {number: each for each, number in rank.items()}, True


def _number(text: str) -> int | None:
    try:
        return class_number(text, "")
    except InputError:
        return None


def _no_number(texts: list[str], name: dict[str, str], value: dict[str, int | None]) -> str | None:
    """Why these labels are names and no class numbers: one is none, or 012 stands beside 12. None if they are."""
    first: dict[int | None, str] = {}
    for text in texts:
        if value[text] is None:
            return f"{shown(text)} is no number"
        other = first.setdefault(value[text], name[text])
        if other != name[text]:
            return f"{shown(other)} and {shown(name[text])} are one number"
    return None


def read_file(reading: Reading, path: Path) -> Catalogue:
    """The catalogue in one table; without a column of splits, all photographs are for training."""
    columns, table = columns_of(reading.source(path)), Table()
    if columns.label is None:
        raise InputError(f"{path}, line 1: no column of products; name one `label`")
    table.faults = {split: Faults(path) for split in SPLITS}
    table.add(entries(path, columns, reading.root, "", lambda split: table.faults[split or "train"]))
    if "train" not in table.paths:
        table.faults["train"].require_none()
        raise InputError(f"{path}: lists no photographs of the training split; fill it")
    reading.notes += columns.notes
    catalogue = table.catalogue(f"table {path.name}", reading, dict.fromkeys(SPLITS, path))
    _require_some(catalogue, path)
    return replace(catalogue, divided=columns.split is not None)


def _require_some(catalogue: Catalogue, path: Path) -> None:
    """InputError where none of the first photographs exists: then the paths begin at another folder."""
    train = catalogue.splits["train"]
    if not any(os.path.exists(train.path(place)) for place in range(min(MOST_TRIED, len(train)))):
        raise InputError(
            f"{path}: {shown(train.paths[0])} and others do not exist below {catalogue.root}; put the table into the "
            "folder where its paths begin"
        )


def table_in(root: Path) -> Path | None:
    """labels.csv or labels.tsv in a folder, in any case."""
    names = sorted(name for name in os.listdir(root) if name.casefold() in {f"labels{ending}" for ending in ENDINGS})
    return root / names[0] if names else None


def _read_tables(reading: Reading) -> Catalogue:
    """train.csv, val.csv, test.csv: of Products-10K, with names of files in train/ and so on; or others, with paths."""
    root, table, folders = reading.root, Table(), folder_names(reading.root)
    files = split_files(root, ".csv", test_kaggletest="test")
    first = columns_of(files["train"])
    if first.split is not None and len(files) == 1:
        return read_file(reading, files["train"])
    published = first.path_name == "name"
    for split, path in files.items():
        faults = table.faults[split] = Faults(path)
        try:
            columns = columns_of(reading.source(path))
            if columns.label is None and split == "train":
                raise InputError(f"{path}, line 1: expected the columns name,class,group; mend the first line")
            folder = folders[split] if published else _beginning(path, columns, root, folders[split])
            table.add(entries(path, columns, root, folder, lambda _, faults=faults: faults), split, path)
        except InputError as error:
            faults.add(error, 0)
            table.paths[split], table.labels[split] = Strings(), np.empty(0, np.int64)
    sources = {split: files.get(split, files["train"]) for split in SPLITS}
    catalogue = table.catalogue(PRODUCTS_10K.name if published else "tables", reading, sources, published)
    if not published:
        reading.notes += first.notes
        _require_some(catalogue, files["train"])
    return catalogue


def _beginning(path: Path, columns: Columns, root: Path, folder: str) -> str:
    """Where the paths of a table begin: at its own folder, or at that of its split."""
    first = list(itertools.islice(entries(path, columns, root, "", lambda _: Faults(path)), MOST_TRIED))
    below = any((root / folder / entry.path).exists() for entry in first)
    return folder if below and not any((root / entry.path).exists() for entry in first) else ""


FORMAT = Format(
    "table",
    "labels.csv (path,label)",
    lambda root: table_in(root) is not None,
    lambda reading: read_file(reading, table_in(reading.root)),
)
PRODUCTS_10K = Format(
    "Products-10K",
    "train.csv (Products-10K)",
    lambda root: "train" in split_files(root, ".csv", test_kaggletest="test"),
    _read_tables,
)
