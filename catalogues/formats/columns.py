"""The columns of a table, found by their names in the first line."""

import csv
from pathlib import Path
from typing import NamedTuple

from catalogues.formats.reading import require_file, shown
from common.errors import InputError

# Names of columns in lower case with underscores, the likeliest first.
PATHS = ("path", "filepath", "file_path", "image_path", "img_path", "file", "filename", "file_name", "image")
PATHS += ("image_file", "image_name", "image_id", "img", "photo", "photograph", "picture", "name", "url", "id")
LABELS = ("label", "class", "class_name", "category", "product", "product_name", "sku", "class_id", "label_id")
LABELS += ("product_id", "category_id", "target", "name")
DIVISIONS = ("split", "set", "subset", "partition")
DELIMITERS = ",;\t"


class Columns(NamedTuple):
    """Places of the columns in a table; None for one that it has not."""

    path: int
    path_name: str
    label: int | None
    split: int | None
    delimiter: str
    width: int
    notes: list[str]


def columns_of(table: Path) -> Columns:
    """The columns of a table. Raises InputError for one without a column of paths."""
    require_file(table)
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            line = file.readline(10**6).strip("\r\n")
    except (OSError, ValueError) as error:
        raise InputError(f"{table}: cannot be read as a table ({error}); save it as CSV in UTF-8") from error
    for delimiter in (_sniffed(line), *DELIMITERS):
        header = _cells(line, delimiter)
        names = [cell.casefold().replace(" ", "_").replace("-", "_") for cell in header]
        path = _first(names, PATHS)
        if path is not None:
            label, split = _first(names, LABELS, path), _first(names, DIVISIONS, path)
            unused = [header[place] for place in range(len(header)) if place not in (path, label, split)]
            unused = list(filter(None, unused))  # pandas gives its index no name
            notes = [f"{table}: columns without use here: {', '.join(unused)}"] if unused else []
            return Columns(path, names[path], label, split, delimiter, len(header), notes)
    raise InputError(
        f"{table}, line 1: no column of photographs in {shown(line)}; name one `path`, and one with products `label`"
    )


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error:  # a cell beyond csv's limit
        return []


def _sniffed(line: str) -> str:
    try:
        return csv.Sniffer().sniff(line, DELIMITERS).delimiter
    except csv.Error:  # a line of one column has none
        return ","


def _first(names: list[str], wanted: tuple[str, ...], but: int | None = None) -> int | None:
    return next((names.index(name) for name in wanted if name in names and names.index(name) != but), None)
