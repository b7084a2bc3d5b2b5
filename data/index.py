"""A catalogue read once: its arrays beside it in `.index/`, for as long as the files it was read from stay as they are.

Reading three million entries takes seconds and three quarters of a gigabyte; opening the index takes neither, since its
arrays are mapped into memory and read where they are used.
"""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np

from data.catalogue import Catalogue, Split, Strings
from data.shards import Shards

VERSION = 2
SMALLEST = 20_000  # photographs: fewer are read in no time
FOLDER = ".index"


def stamps(root: Path, sources: Iterable[Path]) -> list[list]:
    """[name below root, bytes, time of change] of every source; [name, None, None] of one that does not exist."""
    result = []
    for path in sources:
        try:
            facts = path.stat()
            size = None if path.is_dir() else facts.st_size  # of a folder, the time tells what came and went
            result.append([str(path.relative_to(root)), size, facts.st_mtime_ns])
        except OSError:
            result.append([str(path.relative_to(root)), None, None])
    return result


def cached(kind: str, root: Path, sources: Callable[[Path], Iterable[Path]], read: Callable) -> Catalogue:
    """`read(kind, root)`, or the index of it that an earlier call left, if no source has changed since.

    A catalogue of fewer than SMALLEST photographs has no index, nor has one in a folder that cannot be written to.
    """
    folder, now = root / FOLDER, stamps(root, sources(root))
    catalogue = load(folder, kind, root, now)
    if catalogue is None:
        catalogue = read(kind, root)
        if sum(map(len, catalogue.splits.values())) >= SMALLEST and now == stamps(root, sources(root)):
            try:
                save(folder, catalogue, root, now)
            except OSError as error:
                print(f"note: {root} takes no index ({error.strerror}); it is read anew each time", file=sys.stderr)
    return catalogue


def save(folder: Path, catalogue: Catalogue, root: Path, now: list) -> None:
    """Write the index of the catalogue in `root`, whose sources have the stamps `now`.

    Written beside and renamed, so that no reader ever sees a part of it. Raises OSError.
    """
    facts = {
        "version": VERSION,
        "kind": catalogue.kind,
        "sources": now,
        "below": str(catalogue.root.relative_to(root)),
        "classes": catalogue.classes,
        "class_ids": catalogue.class_ids,
        "tree": catalogue.tree,
        "splits": {},
    }
    with tempfile.TemporaryDirectory(prefix=".index-", dir=root) as temporary:
        made = Path(temporary, "index")
        made.mkdir()
        for name, split in catalogue.splits.items():
            arrays = {"buffer": split.paths.buffer, "offsets": split.paths.offsets, "labels": split.labels}
            packed = split.shards and [split.shards.files, split.shards.side]
            if packed:
                arrays |= {part: getattr(split.shards, part) for part in ("shard", "start", "size")}
            for part, array in arrays.items():
                if array is not None:
                    np.save(made / f"{name}.{part}.npy", array, allow_pickle=False)
            facts["splits"][name] = [split.labels is not None, split.names_are_ids, split.id_root, packed]
        (made / "facts.json").write_text(json.dumps(facts), encoding="utf-8", errors="surrogateescape")
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # another process was first: its index is as good
            os.rename(made, folder)


def load(folder: Path, kind: str, root: Path, now: list) -> Catalogue | None:
    """What `save` has written; None where that is missing, damaged, or of sources with other stamps than `now`."""
    try:
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8", errors="surrogateescape"))
        if (facts["version"], facts["kind"], facts["sources"]) != (VERSION, kind, now):
            return None
        splits, below = {}, root / facts["below"]
        for name, (labelled, names_are_ids, id_root, packed) in facts["splits"].items():
            arrays = partial(_arrays, folder, name)
            labels = arrays("labels")[0] if labelled else None
            shards = (
                Shards(tuple(map(tuple, packed[0])), packed[1], *arrays("shard", "start", "size")) if packed else None
            )
            paths = Strings.of(*arrays("buffer", "offsets"))
            splits[name] = Split(name, below, paths, labels, names_are_ids, id_root, shards)
        tree = [tuple(branch) for branch in facts["tree"]]
        return Catalogue(kind, below, facts["classes"], facts["class_ids"], splits, tree)
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError):  # none there, damaged, an older one
        return None


def _arrays(folder: Path, split: str, *parts: str) -> list[np.ndarray]:
    return [np.load(folder / f"{split}.{part}.npy", mmap_mode="r", allow_pickle=False) for part in parts]
