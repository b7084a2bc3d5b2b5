"""AliProducts: train.json {"images": [{"image_id": "x.jpg", "class_id": 17}, …]}, photographs in train/00017/x.jpg.

`val.json` and `test.json` are alike; test photographs have no class and lie in test/. Without `val.json` the folders
val/00017/ are the validation split. `product_tree.json`: nested objects whose leaves are `"name": class_id`.
"""

import json
import os
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

from catalogues.catalogue import Catalogue
from catalogues.formats.class_folders import NO_CLASS, Tree
from catalogues.formats.reading import Format, NumberedSplits, Reading, class_number, inside, require_file, shown
from catalogues.formats.splits import folder_names, split_files
from common.errors import Faults, InputError


def _read_json(path: Path, take: Callable[[dict], object] = lambda entry: entry) -> object:
    """The content of the file; every object is replaced by `take(object)` as it is parsed."""

    def hook(pairs: list[tuple[str, object]]) -> object:
        entry = dict(pairs)
        if len(entry) < len(pairs):
            keys = [key for key, _ in pairs]
            double = next(key for key in keys if keys.count(key) > 1)
            raise InputError(f"{path}: the key {shown(double)} stands twice in one object; remove one of them")
        return take(entry)

    require_file(path)
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=hook)
    except InputError:
        raise
    except (OSError, ValueError, RecursionError) as error:  # ValueError: malformed JSON and malformed UTF-8
        raise InputError(f"{path}: cannot be read as JSON ({error}); restore the file") from error


def _entries(folder: str, path: Path, faults: Faults) -> Iterator[tuple[str, int | None]]:
    """(path below the root, class number or None) of every image that the JSON file lists."""
    ids, numbers = [], array("i")

    def take(entry: dict) -> dict | None:
        # Called for every object as it is parsed: three million dicts never exist at the same time.
        if "image_id" not in entry:
            return entry
        image_id = entry["image_id"]
        try:
            if not isinstance(image_id, str) or "/" in image_id or image_id in (".", ".."):
                raise InputError(f"{path}: image_id {shown(image_id)} is not a file name; mend that entry")
            inside(image_id, str(path))
            number = class_number(entry["class_id"], f"{path}, {shown(image_id)}") if "class_id" in entry else -1
        except InputError as error:
            faults.add(error)
            image_id, number = "?", -1  # the training stops after all entries are checked
        ids.append(image_id)
        numbers.append(number)
        return None

    content = _read_json(path, take)
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list) or len(images) != len(ids) or any(image is not None for image in images):
        raise InputError(f'{path}: expected {{"images": [{{"image_id": "x.jpg", "class_id": 17}}, …]}}; mend the file')
    for image_id, number in zip(ids, numbers, strict=True) if not faults.count else ():
        yield (f"{folder}/{image_id}", None) if number < 0 else (f"{folder}/{number:05d}/{image_id}", number)


def _folder_entries(folder: Path, reading: Reading, faults: Faults) -> Iterator[tuple[str, int]]:
    """(path below the root, class number) of a split without a JSON file: val/00017/x.jpg."""
    tree = Tree(folder, reading.root, reading)
    tree.gather()
    for path in tree.loose:
        reading.leave_out(path, NO_CLASS)
    for name, paths in tree.photographs.items():
        try:
            number = class_number(name, str(folder / name))
            yield from ((path, number) for path in paths)
        except InputError as error:
            faults.add(error)


def _branches(path: Path) -> dict[int, tuple[str, ...]]:
    """Class number -> names from the root of the product tree down to the class."""
    branches = {}
    if path.exists():
        tree = _read_json(path)
        if not isinstance(tree, dict):
            raise InputError(f"{path}: expected nested objects with class numbers as leaves; mend or remove the file")
        left: list[tuple[tuple[str, ...], object]] = [((), tree)]
        while left:  # not recursive: a tree may be deeper than Python's recursion limit
            branch, node = left.pop()
            if isinstance(node, dict):
                left += [((*branch, name), child) for name, child in reversed(node.items())]
            else:
                branches[class_number(node, f"{path}, {shown(branch[-1])}")] = branch
    try:
        os.fsencode("".join(name for branch in branches.values() for name in branch))
    except UnicodeEncodeError as error:
        raise InputError(f"{path}: holds a name with half a character, {error.reason}; mend that name") from error
    return branches


def _read(reading: Reading) -> Catalogue:
    root, splits = reading.root, NumberedSplits(reading, reading.root, names_are_ids=True)
    files, names = split_files(root, ".json"), folder_names(root)
    if "val" not in files and (root / names["val"]).is_dir():
        files["val"] = root / names["val"]

    def read(split: str, place: Path, faults: Faults) -> None:
        if place.is_dir():
            entries = _folder_entries(place, reading, faults)
        else:
            entries = _entries(names[split], reading.source(place), faults)
        splits.add(split, place, entries, faults)

    reading.read_splits(files, read)
    return splits.catalogue(FORMAT.name, _branches(reading.source(root / "product_tree.json")))


FORMAT = Format("AliProducts", "train.json (AliProducts)", lambda root: "train" in split_files(root, ".json"), _read)
