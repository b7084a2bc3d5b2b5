"""A catalogue of product photographs: what lies in a folder, held in flat arrays.

A catalogue of three million photographs is three million short paths. As Python strings they would take
a gigabyte, and every worker process would copy them page by page, since merely looking at a Python object
writes to its reference count. Here the paths of a split are one byte buffer with offsets and its labels one
int32 array: nothing to count, so worker processes share the memory of the process that opened the catalogue.
"""

import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.errors import InputError
from data.shards import Piece, Shards

SPLITS = ("train", "val", "test")


def stays_below(path: str) -> bool:
    """Whether a path that a file names leads to something below the folder which it is joined to."""
    # A backslash is a letter of a name here; who unpacks the same file elsewhere should not be let down either.
    return bool(path) and path[0] not in "/\\" and "\0" not in path and ".." not in path.replace("\\", "/").split("/")


class Strings(Sequence):
    """An immutable list of strings in one buffer: `buffer` uint8 (total bytes,), `offsets` int64 (n + 1,)."""

    def __init__(self, strings: Iterable[str] = ()):
        buffer, offsets = bytearray(), array("q", [0])
        for string in strings:
            buffer += os.fsencode(string)  # any file name that the system allows survives the way back
            offsets.append(len(buffer))
        self.buffer = np.frombuffer(bytes(buffer), np.uint8)
        self.offsets = np.frombuffer(offsets, np.int64)

    @classmethod
    def of(cls, buffer: np.ndarray, offsets: np.ndarray) -> "Strings":
        """The list that these arrays hold."""
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
    """The photographs of one split: paths below `root`, labels int32 (n,) or None where nobody knows them.

    `names_are_ids`: a photograph's id is its file name (AliProducts); otherwise its path below `id_root`.
    `shards`: where the photographs lie if they are packed; `paths` are then those that they had before.
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

    def path(self, index: int) -> str | Piece:
        """What `read_photograph` reads; as text, what a message calls the photograph.

        A string, since a Path is kept in the interpreter's table of names: worker processes would grow by each.
        """
        if self.shards:
            return self.shards.piece(self.root, index, self.image_id(index))
        return os.path.join(self.root, self.paths[index])

    def image_id(self, index: int) -> str:
        path = self.paths[index]
        return path.rpartition("/")[2] if self.names_are_ids else path.removeprefix(self.id_root)


@dataclass(frozen=True)
class Catalogue:
    """Splits that share one order of classes: label k is `classes[k]` in every split, checkpoint and prediction.

    `class_ids[k]` is what a submission calls class k (AliProducts numbers its classes); else the class name.
    `tree[k]` names the nodes above class k in the product tree, from the root down; () where nobody knows.
    """

    kind: str
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
        """The product tree's levels above the classes, int64 (levels, K): number of the node that each class is in.

        Level 0 is the coarsest. A class whose branch is shorter, or that the tree lacks, is a node of its own below
        it. Raises InputError where there is no tree.
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
        """Raise InputError unless `classes`, written by `source` (a checkpoint), are this catalogue's, in order."""
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
        """One line: kind, classes, and photographs a split with the range of photographs a class."""
        parts = []
        for split in self.splits.values():
            part = f"{split.name} {len(split):,}"
            if split.labels is not None:
                counts = np.bincount(split.labels, minlength=self.num_classes)
                part += f" ({counts.min():,} to {counts.max():,} a class)"
            parts.append(part)
        return f"{self.root} [{self.kind}]: {self.num_classes:,} classes; {', '.join(parts)}"
