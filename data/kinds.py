"""Readers of the catalogues that people have; each turns a folder into a `Catalogue`.

`KINDS` lists (name, recognise, sources, read): whether a folder is one, which files and folders it is read from, and
the reading. A new kind is a line there. `sources` is None where the folder itself is an index.
"""

import csv
import json
import os
import stat
from array import array
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from reprlib import Repr

import numpy as np
from tqdm import tqdm

from common.errors import InputError
from data.catalogue import SPLITS, Catalogue, Split, Strings, stays_below
from data.index import cached, load
from data.photographs import endings

_brief = Repr()
_brief.maxstring = _brief.maxother = 80
shown = _brief.repr  # a value as a message has it: of one that would fill the screen, both ends


def _inside(path: str, source: str) -> str:
    """`path`, unless it would leave the catalogue's folder."""
    if not stays_below(path):
        raise InputError(f"{source}: {shown(path)} does not name a file inside the catalogue; mend that entry")
    return path


def _integer(value: object, source: str) -> int:
    """A class number that may come as an int or as a string of digits."""
    if isinstance(value, str) and len(value) < 20 and value.isascii() and value.isdigit():  # int() takes more: "1_7"
        value = int(value)
    if type(value) is not int or not 0 <= value < 2**31:
        raise InputError(f"{source}: class {shown(value)} is not a number from 0 to {2**31 - 1}; mend that entry")
    return value


def _require_file(path: Path) -> None:
    if not path.is_file():  # a pipe would be waited for
        raise InputError(f"{path}: not an ordinary file; restore it")


class _Numbered:
    """Gathers splits whose classes are numbers with gaps, and gives every class its contiguous label."""

    def __init__(self, root: Path, names_are_ids: bool = False):
        self.root, self.names_are_ids = root, names_are_ids
        self.paths: dict[str, Strings] = {}
        self.numbers: dict[str, np.ndarray | None] = {}  # None: the split's labels are not known
        self.sources: dict[str, str] = {}

    def add(self, split: str, source: str, entries: Iterable[tuple[str, int | None]]) -> None:
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
        """Of three million ids, only those are compared whose hashes are equal."""
        values = np.frombuffer(hashes, np.int64)
        ordered = np.sort(values)
        twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        seen: set[str] = set()
        for place in np.flatnonzero(np.isin(values, twice)) if len(twice) else ():
            image_id = split.image_id(place)
            if image_id in seen:
                raise InputError(f"{source}: lists {shown(image_id)} twice; an id names one photograph, remove one")
            seen.add(image_id)

    def catalogue(self, kind: str, names: dict[int, tuple[str, ...]]) -> Catalogue:
        """The classes are those of the training split, in the order of their numbers.

        `names`: of a class number, the name at the end of those of the nodes above it in the product tree.
        """
        if self.numbers["train"] is None:
            raise InputError(f"{self.sources['train']}: photographs have no class; every training photograph needs one")
        known = np.unique(self.numbers["train"])
        splits = {}
        for split, paths in self.paths.items():
            numbers, labels = self.numbers[split], None
            if numbers is not None:
                labels = np.searchsorted(known, numbers).astype(np.int32)
                unknown = known[np.minimum(labels, len(known) - 1)] != numbers
                if unknown.any():
                    first = int(unknown.argmax())
                    raise InputError(
                        f"{self.sources[split]}: class {numbers[first]} of {shown(paths[first])[1:-1]} has no "
                        f"photograph in {self.sources['train']}; add some, or remove the class"
                    )
            splits[split] = Split(split, self.root, paths, labels, self.names_are_ids)
        ids = [str(number) for number in known]
        branches = [names.get(int(number), (f"{number:05d}",)) for number in known]
        classes = [branch[-1] for branch in branches]
        if len(set(classes)) < len(classes):
            classes = [f"{name} ({number})" for name, number in zip(classes, ids, strict=True)]
        return Catalogue(kind, self.root, classes, ids, splits, [branch[:-1] for branch in branches])


# AliProducts: train.json {"images": [{"image_id": "x.jpg", "class_id": 17}, …]}, photographs in train/00017/x.jpg


def _read_json(path: Path, take: Callable[[dict], object] = lambda entry: entry) -> object:
    """What the file holds, every object of it replaced by what `take` makes of it as it is parsed."""

    def hook(pairs: list[tuple[str, object]]) -> object:
        entry = dict(pairs)
        if len(entry) < len(pairs):
            keys = [key for key, _ in pairs]
            double = next(key for key in keys if keys.count(key) > 1)
            raise InputError(f"{path}: the key {shown(double)} stands twice in one object; remove one of them")
        return take(entry)

    _require_file(path)
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=hook)
    except InputError:
        raise
    except (OSError, ValueError, RecursionError) as error:  # ValueError: malformed JSON and malformed UTF-8
        raise InputError(f"{path}: cannot be read as JSON ({error}); restore the file") from error


def _aliproducts_entries(split: str, path: Path) -> Iterator[tuple[str, int | None]]:
    """(path below the root, class number or None) of every image that the JSON file lists."""
    ids, numbers = [], array("i")

    def take(entry: dict) -> dict | None:
        # Called for every object as it is parsed: three million dicts never exist side by side.
        if "image_id" not in entry:
            return entry
        image_id = entry["image_id"]
        if not isinstance(image_id, str) or "/" in image_id or image_id in (".", ".."):
            raise InputError(f"{path}: image_id {shown(image_id)} is not a file name; mend that entry")
        ids.append(_inside(image_id, str(path)))
        numbers.append(_integer(entry["class_id"], f"{path}, {shown(image_id)}") if "class_id" in entry else -1)
        return None

    content = _read_json(path, take)
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list) or len(images) != len(ids) or any(image is not None for image in images):
        raise InputError(f'{path}: expected {{"images": [{{"image_id": "x.jpg", "class_id": 17}}, …]}}; mend the file')
    for image_id, number in zip(ids, numbers, strict=True):
        yield (f"{split}/{image_id}", None) if number < 0 else (f"{split}/{number:05d}/{image_id}", number)


def _folder_entries(root: Path, split: str) -> Iterator[tuple[str, int]]:
    """A labelled split that only its folders list: val/00017/x.jpg."""
    for folder in _class_folders(root / split):
        number = _integer(folder.name, str(folder))
        for name in _photographs(folder):
            yield f"{split}/{folder.name}/{name}", number


def _product_names(path: Path) -> dict[int, tuple[str, ...]]:
    """Class number -> names from the root down, from a tree of nested objects whose leaves are `"name": class_id`."""
    names = {}
    if path.exists():
        tree = _read_json(path)
        if not isinstance(tree, dict):
            raise InputError(f"{path}: expected nested objects with class numbers as leaves; mend or remove the file")
        left: list[tuple[tuple[str, ...], object]] = [((), tree)]
        while left:  # no function that calls itself: a tree may be deeper than Python lets those go
            branch, node = left.pop()
            if isinstance(node, dict):
                left += [((*branch, name), child) for name, child in reversed(node.items())]
            else:
                names[_integer(node, f"{path}, {shown(branch[-1])}")] = branch
    try:
        os.fsencode("".join(name for branch in names.values() for name in branch))
    except UnicodeEncodeError as error:
        raise InputError(f"{path}: holds a name with half a character, {error.reason}; mend that name") from error
    return names


def _read_aliproducts(kind: str, root: Path) -> Catalogue:
    splits = _Numbered(root, names_are_ids=True)
    for split in SPLITS:
        path = root / f"{split}.json"
        if path.exists():
            splits.add(split, str(path), _aliproducts_entries(split, path))
        elif split == "val" and (root / split).is_dir():
            splits.add(split, str(root / split), _folder_entries(root, split))
    return splits.catalogue(kind, _product_names(root / "product_tree.json"))


# Class folders: train/CLASS/*.jpg, val/CLASS/*.jpg; test/CLASS/*.jpg or, without labels, test/*.jpg


def _class_folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _photographs(folder: Path) -> list[str]:
    """Sorted names of the files in `folder` that end as photographs do."""
    known = endings()
    return sorted(
        entry.name for entry in folder.iterdir() if entry.name.lower().endswith(known) and entry.name[0] != "."
    )


def _photographs_of(folders: list[Path]) -> Iterator[list[str]]:
    """`_photographs` of every folder, in their order: many at once, since a disk or a network answers many at once."""
    with ThreadPoolExecutor(32) as pool:
        bar = dict(desc="folders", unit="folder", delay=2, leave=False, disable=None)
        yield from tqdm(pool.map(_photographs, folders), total=len(folders), **bar)


def _read_class_folders(kind: str, root: Path) -> Catalogue:
    classes = [folder.name for folder in _class_folders(root / "train")]
    label_of = {name: label for label, name in enumerate(classes)}
    splits = {}
    for split in SPLITS:
        folder = root / split
        if not folder.is_dir():
            continue
        paths, labels, folders = [], [], _class_folders(folder)
        for class_folder, photographs in zip(folders, _photographs_of(folders), strict=True):
            if class_folder.name not in label_of:
                raise InputError(
                    f"{class_folder}: class {class_folder.name!r} has no folder in {root / 'train'}; add or remove it"
                )
            if not photographs:
                raise InputError(f"{class_folder}: holds no photographs; add some, or remove the folder")
            paths += [f"{split}/{class_folder.name}/{name}" for name in photographs]
            labels += [label_of[class_folder.name]] * len(photographs)
        if not paths and split == "test":
            paths = [f"{split}/{name}" for name in _photographs(folder)]
        if not paths:
            raise InputError(f"{folder}: holds no photographs in class folders; fill or remove it")
        labels = np.array(labels, np.int32) if labels else None
        splits[split] = Split(split, root, Strings(paths), labels, id_root=f"{split}/")
    return Catalogue(kind, root, classes, classes, splits)


# Grocery Store Dataset (Klasson, Zhang and Kjellström, WACV 2019): train.txt "path, fine label, coarse label"


def _grocery_root(root: Path) -> Path:
    return root / "dataset" if (root / "dataset" / "train.txt").exists() else root


def _read_table(path: Path) -> Iterator[tuple[str, list[str]]]:
    """("file, line 7", cells) of every line that is not empty; cells without surrounding blanks."""
    _require_file(path)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            for number, row in enumerate(csv.reader(file), 1):
                if row:
                    yield f"{path}, line {number}", [cell.strip() for cell in row]
    except InputError:
        raise
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a table ({error}); restore the file") from error


def _read_grocery(kind: str, root: Path) -> Catalogue:
    root = _grocery_root(root)
    names = {}
    for source, row in list(_read_table(root / "classes.csv"))[1:]:
        if len(row) < 2:
            raise InputError(f"{source}: expected a class name and its number; mend that line")
        number = _integer(row[1], source)
        if number in names:
            raise InputError(f"{source}: class {number} is named for the second time; remove one of the lines")
        names[number] = (*row[2:3], row[0])  # the coarse class, where there is one, and its own

    def entries(path: Path) -> Iterator[tuple[str, int]]:
        for source, row in _read_table(path):
            if len(row) != 3:
                raise InputError(f"{source}: expected `path, fine label, coarse label`; mend that line")
            number = _integer(row[1], source)
            if number not in names:
                raise InputError(f"{source}: label {number} is not in {root / 'classes.csv'}; mend one of the two")
            yield _inside(row[0], source), number

    splits = _Numbered(root)
    for split in SPLITS:
        path = root / f"{split}.txt"
        if path.exists():
            splits.add(split, str(path), entries(path))
    return splits.catalogue(kind, names)


# Products-10K (Bai et al., 2020): train.csv "name,class,group", photographs in train/NAME


def _read_products10k(kind: str, root: Path) -> Catalogue:
    def entries(split: str, path: Path) -> Iterator[tuple[str, int | None]]:
        rows = _read_table(path)
        source, header = next(rows, (str(path), []))
        if "name" not in header or ("class" not in header and split == "train"):
            raise InputError(f"{source}: expected the columns name,class,group; mend the first line")
        name, label = header.index("name"), header.index("class") if "class" in header else None
        for source, row in rows:
            if len(row) != len(header):
                raise InputError(f"{source}: {len(row)} cells under {len(header)} columns; mend that line")
            yield f"{split}/{_inside(row[name], source)}", None if label is None else _integer(row[label], source)

    splits = _Numbered(root, names_are_ids=True)
    for split in SPLITS:
        path = root / f"{split}.csv"
        if path.exists():
            splits.add(split, str(path), entries(split, path))
    return splits.catalogue(kind, {})


# Shards, as data.pack writes them: its settings at the start, the index at the end

PACK_SETTINGS, PACK_INDEX, SHARDS = "pack.json", "index", "WebDataset shards"


def _read_shards(kind: str, root: Path) -> Catalogue:
    catalogue = load(root / PACK_INDEX, kind, root, [])
    if catalogue is None or not all(split.shards for split in catalogue.splits.values()):
        raise InputError(
            f"{root}: shards without a whole index, packing has not ended; run the same python -m data.pack again"
        )
    for split in catalogue.splits.values():
        for name, size in split.shards.files:
            try:
                facts = (root / name).stat()
                found = f"{facts.st_size:,} bytes" if stat.S_ISREG(facts.st_mode) else "not an ordinary file"
            except OSError as error:
                found = error.strerror
            if found != f"{size:,} bytes":
                raise InputError(
                    f"{root / name}: {found}, expected a shard of {size:,} bytes; restore it, or remove it and run the "
                    "same python -m data.pack again, which makes what is missing"
                )
    return catalogue


def _files(*names: str) -> Callable[[Path], list[Path]]:
    return lambda root: [root / name for name in names]


def _folders(root: Path, splits: tuple[str, ...] = SPLITS) -> list[Path]:
    there = [root / split for split in splits if (root / split).is_dir()]
    return there + [folder for split in there for folder in _class_folders(split)]


def _aliproducts_sources(root: Path) -> list[Path]:
    files = _files("train.json", "val.json", "test.json", "product_tree.json")(root)
    return files if (root / "val.json").exists() else files + _folders(root, ("val",))


KINDS = [
    ("AliProducts", lambda root: (root / "train.json").exists(), _aliproducts_sources, _read_aliproducts),
    (
        "Grocery Store",
        lambda root: all((_grocery_root(root) / name).exists() for name in ("train.txt", "classes.csv")),
        lambda root: _files("train.txt", "val.txt", "test.txt", "classes.csv")(_grocery_root(root)),
        _read_grocery,
    ),
    (
        "Products-10K",
        lambda root: (root / "train.csv").exists(),
        _files("train.csv", "val.csv", "test.csv"),
        _read_products10k,
    ),
    (
        "class folders",
        lambda root: (root / "train").is_dir() and bool(_class_folders(root / "train")),
        _folders,
        _read_class_folders,
    ),
    (
        SHARDS,
        lambda root: (root / PACK_SETTINGS).exists() or (root / PACK_INDEX / "facts.json").exists(),
        None,
        _read_shards,
    ),
]


def open_catalogue(data: str | Path) -> Catalogue:
    """Open the catalogue at folder `data`, recognised by what lies in it; "demo" draws and opens the demo catalogue.

    Raises InputError, naming file and value, for a folder that is missing or holds no kind of catalogue, and for
    labels that are missing, malformed, or unknown to the training split.
    """
    from data.demo import demo_root  # here, so that `python -m data.demo` is not imported before it is run

    root = demo_root() if str(data) == "demo" else Path(data)
    if not root.is_dir():
        raise InputError(f"--data {data}: no such folder; give a catalogue's folder, or `demo`")
    for kind, recognise, sources, read in KINDS:
        if recognise(root):
            return cached(kind, root, sources, read) if sources else read(kind, root)
    raise InputError(
        f"--data {data}: no catalogue is recognised there; expected train.json (AliProducts), train.txt and "
        "classes.csv (Grocery Store), train.csv (Products-10K), class folders train/CLASS/*.jpg, or pack.json (shards)"
    )
