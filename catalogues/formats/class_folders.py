"""Class folders: train/CLASS/*.jpg, or CLASS/*.jpg without splits; classes may lie in folders of folders.

A class is a folder that holds photographs itself. Its name is its path below the split, such as
Drink/Juice/Tropicana; the folders above it are the product tree. All that lies below a class is its own
(Tropicana/front/1.jpg).
"""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from catalogues.catalogue import Catalogue, Split, Strings
from catalogues.formats.reading import Format, Reading
from catalogues.formats.scanning import EMPTY, Folder, is_empty, is_hidden, look_into, same_name, scan
from catalogues.formats.splits import split_folders, split_named
from common.errors import Faults, InputError

NO_CLASS = "in no class folder"
NO_SPLIT = "beside the splits' folders"
ONE_FOLDER = "folder of classes"


class Tree:
    """The photographs below one folder, each with the name of its class, in the order of classes and names."""

    def __init__(self, top: Path, root: Path, reading: Reading):
        self.top, self.reading = top, reading
        self.prefix = "" if top == root else f"{top.relative_to(root).as_posix()}/"
        self.folders: dict[str, Folder] = scan(top, reading.sources)
        self.photographs: dict[str, list[str]] = {}  # class -> paths below the root
        self.loose: list[str] = []  # paths below the root of what is in no class folder
        self.joined: list[str] = []  # classes with folders inside

    def gather(self, known: set[str] | None = None) -> None:
        """Find the class of every photograph. known: classes of the training split; None: this is that split."""
        left: list[tuple[str, str | None]] = [("", None)]
        while left:
            below, owner = left.pop()
            folder, name = self.folders[below], same_name(below)
            if below and ((known is not None and name in known) or (owner is None and folder.photographs)):
                owner = name
                if folder.folders:
                    self.joined.append(name)
            paths = [self._path(below, photograph) for photograph in folder.photographs]
            if paths:
                (self.loose if owner is None else self.photographs.setdefault(owner, [])).extend(paths)
            self._leave_out(below, folder)
            for child in reversed(folder.folders):
                path = f"{below}/{child}" if below else child
                if is_empty(self.folders, path):
                    self.reading.leave_out(self.prefix + path, EMPTY)
                    self._leave_out_below(path)
                else:
                    left.append((path, owner))

    def _path(self, below: str, name: str) -> str:
        return f"{self.prefix}{below}/{name}" if below else f"{self.prefix}{name}"

    def _leave_out(self, below: str, folder: Folder) -> None:
        for name, reason in folder.left:
            self.reading.leave_out(self._path(below, name), reason)

    def _leave_out_below(self, path: str) -> None:
        """The files in a folder without photographs."""
        left = [path]
        while left:
            folder = self.folders[below := left.pop()]
            self._leave_out(below, folder)
            left += [f"{below}/{name}" for name in folder.folders]


def _read(reading: Reading) -> Catalogue:
    root, splits = reading.root, {}
    classes: list[str] = []

    def read(split: str, folder: Path, _: Faults) -> None:
        tree = Tree(folder, root, reading)
        tree.gather(None if split == "train" else set(classes))
        if split == "train":
            classes[:] = sorted(tree.photographs)
            _note_joined(reading, tree)
        if taken := _split(split, tree, classes, reading):
            splits[split] = taken

    folders = split_folders(root)
    reading.leave_out_others({folder.name for folder in folders.values()}, NO_SPLIT)
    reading.read_splits(folders, read)
    return reading.whole(_catalogue(FORMAT.name, root, classes, splits))


def _split(name: str, tree: Tree, classes: list[str], reading: Reading) -> Split | None:
    """The split in a folder; None where it cannot be used. Without any known class it has no labels."""
    label_of, top = {name: label for label, name in enumerate(classes)}, tree.top
    strange = {name: paths[0] for name, paths in tree.photographs.items() if name not in label_of}
    unlabelled = len(strange) == len(tree.photographs) and (name == "test" or not strange)
    if unlabelled and name != "train":  # Kaggle's test/unknown/*.jpg, or test/*.jpg
        paths = sorted(path for paths in [*tree.photographs.values(), tree.loose] for path in paths)
        if not paths:
            raise InputError(f"{top}: holds no photographs in class folders; fill or remove it")
        if strange:
            reading.notes.append(f"{top}: none of its folders is a class of train, so its photographs have no labels")
        return Split(name, reading.root, Strings(paths), None, id_root=tree.prefix)
    for path in tree.loose:
        reading.leave_out(path, NO_CLASS)
    if not tree.photographs:
        raise InputError(f"{top}: holds no photographs in class folders; fill or remove it")
    ordered = sorted(tree.photographs)
    counts = [len(tree.photographs[each]) for each in ordered]
    labels = np.repeat(np.array([label_of.get(each, 0) for each in ordered], np.int32), counts)
    paths = Strings(path for each in ordered for path in tree.photographs[each])
    split = Split(name, reading.root, paths, labels, id_root=tree.prefix)
    unknown = np.repeat(np.array([each in strange for each in ordered]), counts)
    return reading.known_alone(split, unknown, strange, str(top), "train")


def _note_joined(reading: Reading, tree: Tree) -> None:
    if tree.joined:
        many = f" and {len(tree.joined) - 1:,} others" if len(tree.joined) > 1 else ""
        reading.notes.append(
            f"{tree.top / tree.joined[0]}{many}: holds photographs itself, so all folders inside belong to that class"
        )


def _catalogue(format: str, root: Path, classes: list[str], splits: dict[str, Split]) -> Catalogue:
    tree = [tuple(name.split("/")[:-1]) for name in classes]
    return Catalogue(format, root, classes, classes, splits, tree if any(tree) else [])


def _recognise(root: Path) -> bool:
    train = split_folders(root).get("train")
    return train is not None and bool(look_into(train).folders)


def _read_one_folder(reading: Reading) -> Catalogue:
    tree = Tree(reading.root, reading.root, reading)
    tree.gather()
    classes = sorted(tree.photographs)
    for name in classes:
        *above, _ = name.split("/")
        if named := next((folder for folder in above if split_named(folder)), None):
            raise InputError(
                f"{reading.root / name}: lies in a folder {named}, which is the name of a split, while there is no "
                "training split beside the others; give the folder above it with --data, or rename it"
            )
    split = _split("train", tree, classes, reading)
    _note_joined(reading, tree)
    catalogue = _catalogue(ONE_FOLDER, reading.root, classes, {"train": split})
    return reading.whole(replace(catalogue, divided=False))


def _recognise_one_folder(root: Path) -> bool:
    folders = [name for name in look_into(root).folders if not is_hidden(name)]
    if not folders or all(split_named(name) for name in folders):
        return False
    return any(_holds_photographs(root / name) for name in folders)


def _holds_photographs(top: Path) -> bool:
    """Whether there is a photograph at any depth; looks no further than the first."""
    left, seen = [str(top)], {os.path.realpath(top)}
    while left:
        folder = look_into(path := left.pop())
        if folder.photographs:
            return True
        for child in (os.path.join(path, name) for name in folder.folders):
            if (place := os.path.realpath(child)) not in seen:
                seen.add(place)
                left.append(child)
    return False


FORMAT = Format("class folders", "class folders train/CLASS/*.jpg", _recognise, _read)
ONE = Format(ONE_FOLDER, "folders CLASS/*.jpg", _recognise_one_folder, _read_one_folder)
