"""Anybody's WebDataset shards: tar files whose members KEY.jpg, KEY.cls, KEY.json, KEY.txt are one sample.

`data.pack` writes shards with an index of its own; these have none, so it is made once from the headers of the tars.
A name such as train-000001.tar, imagenet-val-07.tar or val/0001.tar says which split a shard is of.
"""

import json
import os
import re
import tarfile
from array import array
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from catalogues.catalogue import SPLITS, Catalogue
from catalogues.formats.reading import Format, Reading, shown
from catalogues.formats.scanning import is_hidden, same_name
from catalogues.formats.splits import split_named
from catalogues.formats.tables import LABELS, Entry, Table
from catalogues.picture_formats import endings
from catalogues.shards import Shards
from common.errors import Faults, InputError

LABEL_ENDINGS = ("cls", "json", "txt")  # the first that a sample has says its class
LONGEST_LABEL = 2**20  # bytes
LARGEST = 2**30  # bytes of a photograph, as in data.photographs
FIRST_MEMBERS = 64  # members of a tar that tell whether it is a shard


class Sample(NamedTuple):
    """A photograph in a shard: its id, where its bytes are, and its label as it is written."""

    key: str
    start: int
    size: int
    label: str | None


def _parts(name: str) -> tuple[str, str]:
    """KEY and ending, as the webdataset library splits a name: at the first dot after the last slash."""
    folder, slash, file = name.rpartition("/")
    stem, _, ending = file.partition(".")
    return folder + slash + stem, ending.lower()


def samples(path: Path, faults: Faults) -> Iterator[Sample]:
    """The photographs of one shard, with their labels; a sample's members follow each other."""
    known = {ending[1:] for ending in endings()}
    key, photograph, labels = None, None, {}
    with tarfile.open(path, "r:") as tar:
        for member in [*_members(tar), None]:
            name, ending = _parts(member.name) if member else (None, "")
            if name != key:
                if photograph:
                    yield Sample(key, *photograph, _label(labels, f"{path}, {shown(key)}", faults))
                key, photograph, labels = name, None, {}
            if ending in known and member.size > LARGEST:
                faults.add(f"{path}, {shown(member.name)}: {member.size:,} bytes are more than any photograph has")
            elif ending in known and photograph is None:
                photograph = member.offset_data, member.size
            elif ending in LABEL_ENDINGS and member.size <= LONGEST_LABEL:
                labels[ending] = tar.extractfile(member).read()


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for member in tar:
        if member.isfile():
            yield member
        tar.members = []  # tarfile would keep all of them


def _label(labels: dict[str, bytes], source: str, faults: Faults) -> str | None:
    """The class that the members beside a photograph name; None if there are none."""
    for ending in LABEL_ENDINGS:
        if ending not in labels:
            continue
        try:
            text = labels[ending].decode("utf-8").strip()
            if ending == "json":
                fields = json.loads(text)
                found = next((fields[name] for name in LABELS if name in fields), None)
                text = "" if found is None else str(found)
        except (ValueError, AttributeError, TypeError, RecursionError) as error:
            faults.add(f"{source}.{ending}: cannot be read ({error}); mend that member")
            return None
        if "\0" in text or not _is_text(text):
            faults.add(f"{source}.{ending}: {shown(text)} is no name of a product; mend that member")
            return None
        if text:
            return same_name(text)
    return None


def _is_text(text: str) -> bool:
    """Whether a file can hold it: JSON can write half a character as \\ud800."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def _split_of(path: Path, root: Path) -> str | None:
    """The split that a shard's name, or that of its folder, says."""
    for word in [*re.split(r"[-_.0-9]+", path.stem), *path.relative_to(root).parts[:-1]]:
        if split := split_named(word):
            return split
    return None


def tars_in(root: Path) -> list[Path]:
    """The tar files in a folder and in the folders in it, sorted."""
    found = (path for pattern in ("*.tar", "*/*.tar") for path in root.glob(pattern) if path.is_file())
    return sorted(path for path in found if not any(is_hidden(part) for part in path.relative_to(root).parts))


def is_shard(path: Path) -> bool:
    """Whether the first members of a tar are samples: photographs with a label of the same key, if any, beside them."""
    known = {ending[1:] for ending in endings()}
    keys: dict[str, set[str]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for count, member in enumerate(_members(tar)):
                key, ending = _parts(member.name)
                keys.setdefault(key, set()).add("photograph" if ending in known else ending)
                if count >= FIRST_MEMBERS:
                    break
    except (tarfile.TarError, OSError, ValueError):
        return False
    return any("photograph" in found and found & set(LABEL_ENDINGS) for found in keys.values())


def _read(reading: Reading) -> Catalogue:
    root, faults, table = reading.root, Faults(reading.root), Table()
    tars = tars_in(root)
    named = {path: _split_of(path, root) for path in tars}
    divided = len(set(named.values()) - {None}) > 0
    extents: dict[str, tuple[array, array, array]] = {}
    files: dict[str, list[Path]] = {}
    for split in SPLITS:
        mine = [path for path in tars if (named[path] or "train") == split]
        if mine:
            for folder in {path.parent for path in mine}:
                reading.source(folder)
            files[split], extents[split] = mine, (array("i"), array("q"), array("q"))
            table.add(_entries(reading, mine, root, *extents[split], faults), split)
    faults.require_none()
    if not len(table.paths.get("train", ())):
        raise InputError(f"{root}: the shards hold no photographs with classes for training; add some")
    packed = {split: _shards(root, files[split], *extents[split]) for split in table.paths}
    catalogue = table.catalogue(FORMAT.name, reading, dict.fromkeys(SPLITS, root), shards=packed)
    return replace(catalogue, divided=divided)


def _shards(root: Path, files: list[Path], shard: array, start: array, size: array) -> Shards:
    names = tuple((path.relative_to(root).as_posix(), path.stat().st_size) for path in files)
    return Shards(names, 0, np.array(shard, np.int32), np.array(start, np.int64), np.array(size, np.int32))


def _entries(
    reading: Reading, tars: list[Path], root: Path, shard: array, start: array, size: array, faults: Faults
) -> Iterator[Entry]:
    for number, path in enumerate(tqdm(tars, desc="shards", unit="shard", delay=2, leave=False, disable=None)):
        try:
            for sample in samples(reading.source(path), faults):
                shard.append(number)
                start.append(sample.start)
                size.append(sample.size)
                below = path.relative_to(root).as_posix()
                yield Entry(str(path), f"{below}/{sample.key}", sample.label, None)
        except (tarfile.TarError, OSError) as error:
            faults.add(f"{path}: cannot be read as a shard ({error}); restore it", 0)


FORMAT = Format(
    "WebDataset",
    "*.tar (WebDataset)",
    lambda root: any(map(is_shard, tars_in(root)[:1])),
    _read,
)
