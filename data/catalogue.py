"""A catalogue of product photographs in flat arrays.

Three million paths as Python strings would take a gigabyte. Every worker process would copy them page by page, since
reading a Python object writes to its reference count. Here the paths of a split are one byte buffer with offsets, and
its labels are one int32 array. Worker processes share this memory with the process that opened the catalogue.
"""

import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.errors import InputError
from data.shards import PackedPhotograph, Shards

SPLITS = ("train", "val", "test")


def stays_below(path: str) -> bool:
    """Whether a path stays below the folder that it will be joined to."""
    # On this system a backslash is part of a name. On Windows it separates folders, so it is checked, too.
    return bool(path) and path[0] not in "/\\" and "\0" not in path and ".." not in path.replace("\\", "/").split("/")


class Strings(Sequence):
    """An immutable list of n strings: `buffer` uint8 (total bytes,), `offsets` int64 (n + 1,)."""

    def __init__(self, strings: Iterable[str] = ()):
        buffer, offsets = bytearray(), array("q", [0])
        for string in strings:
            buffer += os.fsencode(string)  # also for file names that are not UTF-8
            offsets.append(len(buffer))
        self.buffer = np.frombuffer(bytes(buffer), np.uint8)
        self.offsets = np.frombuffer(offsets, np.int64)

    @classmethod
    def of(cls, buffer: np.ndarray, offsets: np.ndarray) -> "Strings":
        """The list in these arrays."""
        strings = cls()
        strings.buffer, strings.offsets = buffer, offsets
        return strings

    def __add__(self, other: "Strings") -> "Strings":
        offsets = np.concatenate([self.offsets, other.offsets[1:] + self.offsets[-1]])
        return Strings.of(np.concatenate([self.buffer, other.buffer]), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> str:
        if not -len(self) <= index < len(self):
            raise IndexError(f"string {index} of {len(self)}")
        index %= len(self)
        return os.fsdecode(self.buffer[self.offsets[index] : self.offsets[index + 1]].tobytes())

    def __iter__(self) -> Iterator[str]:
        return (self[index] for index in range(len(self)))


@dataclass(frozen=True)
class Split:
    """The n photographs of one split: paths below `root`, labels int32 (n,), or None for a split without labels.

    names_are_ids: a photograph's id is its file name (AliProducts); otherwise its path below `id_root`.
    shards: where the photographs are if they are packed; `paths` are then the original ones.
    """

    name: str
    root: Path
    paths: Strings
    labels: np.ndarray | None
    names_are_ids: bool = False
    id_root: str = ""
    shards: Shards | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def path(self, index: int) -> str | PackedPhotograph:
        """What `read_photograph` takes; its text is the photograph's name in a message.

        Not a Path: Python interns the parts of every Path, so worker processes would grow.
        """
        if self.shards:
            return self.shards.photograph(self.root, index, self.image_id(index))
        return os.path.join(self.root, self.paths[index])

    def image_id(self, index: int) -> str:
        path = self.paths[index]
        return path.rpartition("/")[2] if self.names_are_ids else path.removeprefix(self.id_root)


@dataclass(frozen=True)
class Catalogue:
    """Splits that share one order of classes: label k is `classes[k]` in every split, checkpoint and prediction.

    format: name of the catalogue format. class_ids[k]: class k in a submission (a number in AliProducts), else its
    name. tree[k]: names of the nodes above class k in the product tree, from the root down; () where it has none.
    """

    format: str
    root: Path
    classes: list[str]
    class_ids: list[str]
    splits: dict[str, Split]
    tree: list[tuple[str, ...]] = field(default_factory=list)

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def split(self, name: str) -> Split:
        """The split called `name`; InputError where the catalogue has none."""
        if name not in self.splits:
            raise InputError(f"{self.root} has no {name} split (it has: {', '.join(self.splits)})")
        return self.splits[name]

    def levels(self) -> np.ndarray:
        """The levels of the product tree above the classes, int64 (levels, K): each class's node at each level.

        Level 0 is the coarsest. Below the end of its branch a class is a node of its own. Raises InputError for a
        catalogue without a tree.
        """
        depth = max(map(len, self.tree), default=0)
        if not depth:
            raise InputError(
                f"{self.root}: the catalogue has no product tree; add product_tree.json (AliProducts) or the coarse "
                "columns of classes.csv (Grocery Store), or leave out what needs it"
            )
        levels = np.empty((depth, self.num_classes), np.int64)
        for level in range(depth):
            nodes: dict[object, int] = {}
            for k, branch in enumerate(self.tree):
                node = branch[: level + 1] if len(branch) > level else k
                levels[level, k] = nodes.setdefault(node, len(nodes))
        return levels

    def require_classes(self, classes: Sequence[str], source: str) -> None:
        """Raise InputError unless `classes` of `source` (a checkpoint) are this catalogue's, in the same order."""
        if list(classes) == self.classes:
            return
        if len(classes) != len(self.classes):
            what = f"{len(classes)} classes, {self.root} has {len(self.classes)}"
        else:
            k = next(k for k, (a, b) in enumerate(zip(classes, self.classes, strict=True)) if a != b)
            what = f"class {k} is {classes[k]!r}, in {self.root} it is {self.classes[k]!r}"
        raise InputError(
            f"{source} was trained on other classes: {what}; give the catalogue it was trained on (--data)"
        )

    def describe(self) -> str:
        """One line: format, number of classes, photographs of each split, smallest and largest class."""
        parts = []
        for split in self.splits.values():
            part = f"{split.name} {len(split):,}"
            if split.labels is not None:
                counts = np.bincount(split.labels, minlength=self.num_classes)
                part += f" ({counts.min():,} to {counts.max():,} a class)"
            parts.append(part)
        return f"{self.root} [{self.format}]: {self.num_classes:,} classes; {', '.join(parts)}"
