"""Exact copies: photographs of val or test whose files, byte for byte, also stand in train."""

import hashlib
import os
import stat
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from catalogues.catalogue import Catalogue, Split
from catalogues.shards import PackedPhotograph

LARGEST = 500_000  # photographs of a catalogue in which a training looks for copies
START = 4096  # bytes: most files of one size differ in these already


def exact_copies(catalogue: Catalogue) -> dict[str, list[tuple[int, int]]]:
    """For val and test: (place in the split, place in train) of every exact copy, each with one original.

    Files of equal size are compared by their beginning, those that begin alike by the SHA-256 of their content.
    """
    train, found = catalogue.splits["train"], {}
    with ThreadPoolExecutor(32) as pool:  # disks and networks answer many requests at once
        for name in ("val", "test"):
            if name in catalogue.splits:
                found[name] = _copies(catalogue.splits[name], train, pool)
    return found


def _copies(split: Split, train: Split, pool: ThreadPoolExecutor) -> list[tuple[int, int]]:
    here, there = range(len(split)), range(len(train))
    for key_of in (_size, _start, _digest):
        keys, keys_of_train = (_keys(each, places, key_of, pool) for each, places in ((split, here), (train, there)))
        shared = keys.keys() & keys_of_train.keys() - {None}
        here = [place for key in shared for place in keys[key]]
        there = [place for key in shared for place in keys_of_train[key]]
    return sorted((place, keys_of_train[key][0]) for key in shared for place in keys[key])


def _keys(split: Split, places: Iterable[int], key_of: Callable, pool: ThreadPoolExecutor) -> dict[object, list[int]]:
    """The places that have each key."""
    keys: dict[object, list[int]] = {}
    for place, key in zip(places, pool.map(lambda place: _tried(key_of, split.path(place)), places), strict=True):
        keys.setdefault(key, []).append(place)
    return keys


def _tried(key_of: Callable, path: str | PackedPhotograph) -> object:
    """None for a file that cannot be read: it is nobody's copy."""
    try:
        return key_of(path)
    except (OSError, ValueError):
        return None


def _size(path: str | PackedPhotograph) -> int | None:
    if isinstance(path, PackedPhotograph):
        return path.size or None
    status = os.stat(path)
    return status.st_size or None if stat.S_ISREG(status.st_mode) else None  # opening a pipe would wait for ever


def _start(path: str | PackedPhotograph) -> bytes:
    if isinstance(path, PackedPhotograph):
        return path.read()[:START]
    with open(path, "rb", buffering=0) as file:
        return file.read(START)


def _digest(path: str | PackedPhotograph) -> bytes:
    if isinstance(path, PackedPhotograph):
        return hashlib.sha256(path.read()).digest()
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
