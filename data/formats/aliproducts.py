"""AliProducts: train.json {"images": [{"image_id": "x.jpg", "class_id": 17}, …]}, photographs in train/00017/x.jpg.

`val.json` and `test.json` are alike; test photographs have no class and lie in test/. Without `val.json` the folders
val/00017/ are the validation split. `product_tree.json`: nested objects whose leaves are `"name": class_id`.
"""

import json
import os
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

from common.errors import InputError
from data.catalogue import SPLITS, Catalogue
from data.formats.reading import (
    Format,
    NumberedSplits,
    class_number,
    inside,
    photographs_in,
    require_file,
    shown,
    split_folders,
    subfolders,
)


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


def _entries(split: str, path: Path) -> Iterator[tuple[str, int | None]]:
    """(path below the root, class number or None) of every image that the JSON file lists."""
    ids, numbers = [], array("i")

    def take(entry: dict) -> dict | None:
        # Called for every object as it is parsed: three million dicts never exist at the same time.
        if "image_id" not in entry:
            return entry
        image_id = entry["image_id"]
        if not isinstance(image_id, str) or "/" in image_id or image_id in (".", ".."):
            raise InputError(f"{path}: image_id {shown(image_id)} is not a file name; mend that entry")
        ids.append(inside(image_id, str(path)))
        numbers.append(class_number(entry["class_id"], f"{path}, {shown(image_id)}") if "class_id" in entry else -1)
        return None

    content = _read_json(path, take)
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list) or len(images) != len(ids) or any(image is not None for image in images):
        raise InputError(f'{path}: expected {{"images": [{{"image_id": "x.jpg", "class_id": 17}}, …]}}; mend the file')
    for image_id, number in zip(ids, numbers, strict=True):
        yield (f"{split}/{image_id}", None) if number < 0 else (f"{split}/{number:05d}/{image_id}", number)


def _folder_entries(root: Path, split: str) -> Iterator[tuple[str, int]]:
    """(path below the root, class number) of a split without a JSON file: val/00017/x.jpg."""
    for folder in subfolders(root / split):
        number = class_number(folder.name, str(folder))
        for name in photographs_in(folder):
            yield f"{split}/{folder.name}/{name}", number


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


def _sources(root: Path) -> list[Path]:
    files = [root / name for name in ("train.json", "val.json", "test.json", "product_tree.json")]
    return files if (root / "val.json").exists() else files + split_folders(root, ("val",))


def _read(root: Path) -> Catalogue:
    splits = NumberedSplits(root, names_are_ids=True)
    for split in SPLITS:
        path = root / f"{split}.json"
        if path.exists():
            splits.add(split, str(path), _entries(split, path))
        elif split == "val" and (root / split).is_dir():
            splits.add(split, str(root / split), _folder_entries(root, split))
    return splits.catalogue(FORMAT.name, _branches(root / "product_tree.json"))


FORMAT = Format("AliProducts", "train.json (AliProducts)", lambda root: (root / "train.json").exists(), _sources, _read)
