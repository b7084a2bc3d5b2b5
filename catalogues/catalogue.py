"""A catalogue of product photographs in flat arrays.

Three million paths as Python strings would take a gigabyte. Every worker process would copy them page by page, since
reading a Python object writes to its reference count. Here the paths of a split are one byte buffer with offsets, and
its labels are one int32 array. Worker processes share this memory with the process that opened the catalogue.
"""

import os
import sys
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from catalogues.shards import PackedPhotograph, Shards
from common.errors import InputError, one_line

SPLITS = ("train", "val", "test")
MOST_REASONS = 5  # why files are left out, in the line that describes a catalogue


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

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Strings)
            and np.array_equal(self.offsets, other.offsets)
            and np.array_equal(self.buffer, other.buffer)
        )

    __hash__ = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def take(self, places: np.ndarray) -> "Strings":
        """The strings at these places, in this order."""
        starts, lengths = self.offsets[places], self.offsets[places + 1] - self.offsets[places]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        where = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        return Strings.of(self.buffer[where], offsets)

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

    def take(self, places: np.ndarray, name: str) -> "Split":
        """The photographs at these places as the split `name`; their ids stay the same."""
        labels, shards = self.labels, self.shards
        return replace(
            self,
            name=name,
            paths=self.paths.take(places),
            labels=None if labels is None else labels[places],
            shards=shards and shards.take(places),
        )


@dataclass(frozen=True)
class Catalogue:
    """Splits that share one order of classes: label k is `classes[k]` in every split, checkpoint and prediction.

    format: name of the catalogue format. class_ids[k]: class k in a submission (a number in AliProducts), else its
    name. tree[k]: names of the nodes above class k in the product tree, from the root down; () where it has none.
    left_out: "PATH\tREASON" of every file and folder below `root` that is not taken. broken: what is wrong with a split
    that is there and cannot be used. notes: what else a user should know. divided: whether the catalogue itself says
    which photographs are for training; where it does not, all are in `train`. held_back: ids of the photographs that
    make the validation split of a catalogue without one; see `data.held_back`.
    """

    format: str
    root: Path
    classes: list[str]
    class_ids: list[str]
    splits: dict[str, Split]
    tree: list[tuple[str, ...]] = field(default_factory=list)
    left_out: Strings = field(default_factory=Strings)
    broken: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    divided: bool = True
    held_back: Strings = field(default_factory=Strings)

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def split(self, name: str) -> Split:
        """The split called `name`; InputError where the catalogue has none, or a broken one."""
        if name in self.broken:
            raise InputError(self.broken[name])
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

    def require_fit(self, fit: str, source: object) -> None:
        """Raise InputError if photographs were packed into squares in another way than `fit` of `source`."""
        for split in self.splits.values():
            if split.shards and split.shards.side and split.shards.fit != fit:
                raise InputError(
                    f"{self.root}: was packed with --fit {split.shards.fit}, {source} has --fit {fit}; train with "
                    f"--fit {split.shards.fit}, pack it again with --fit {fit}, or take the catalogue itself"
                )

    def describe(self) -> str:
        """One line: format, number of classes, photographs of each split, sizes of classes, what is left out."""
        parts = []
        for split in self.splits.values():
            part = f"{split.name} {len(split):,}"
            if split.name == "val" and len(self.held_back):
                part += " held back from train"
            if split.labels is not None:
                counts = np.bincount(split.labels, minlength=self.num_classes)
                fewest, most = f"{counts.min():,}", f"{counts.max():,}"
                part += f" ({fewest} a class)" if fewest == most else f" ({fewest} to {most} a class)"
            parts.append(part)
        left = f"; {self.describe_left_out()}" if len(self.left_out) else ""
        return f"{self.root} [{self.format}]: {self.num_classes:,} classes; {', '.join(parts)}{left}"

    def print_notes(self, left_out: bool = True) -> None:
        """Print on stderr what a user should know: what is left out, and what is wrong with a split."""
        faults = [f"{fault}; going on without {split}" for split, fault in self.broken.items()]
        left = [f"{self.root}: {self.describe_left_out()}"] if left_out and len(self.left_out) else []
        for note in self.notes + faults + left:
            print(one_line(f"note: {note}"), file=sys.stderr)

    def describe_left_out(self) -> str:
        """How many files and folders are left out, and why."""
        return describe_left_out(Counter(line.rpartition("\t")[2] for line in self.left_out))


def describe_left_out(reasons: Counter) -> str:
    """The counts of these reasons, the commonest first: "43 left out: 20 .txt, 23 in no class folder"."""
    told = reasons.most_common(MOST_REASONS)
    others = reasons.total() - sum(count for _, count in told)
    parts = [f"{count:,} {reason}" for reason, count in told] + ([f"{others:,} others"] if others else [])
    return f"{reasons.total():,} left out: {', '.join(parts)}"
