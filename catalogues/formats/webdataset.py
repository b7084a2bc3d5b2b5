"""Anybody's WebDataset shards: tar files whose members KEY.jpg, KEY.cls, KEY.json, KEY.txt are one sample.

`data.pack` writes shards with an index of its own; these have none, so it is made once from the headers of the tars.
They lie in the catalogue's folder, or in folders named as splits. A name such as train-000001.tar, imagenet-val-07.tar
or val/0001.tar says which split a shard is of.
"""

import json
import os
import re
import tarfile
from array import array
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from catalogues.catalogue import SPLITS, Catalogue
from catalogues.formats.columns import LABELS
from catalogues.formats.reading import Format, Reading, inside, shown
from catalogues.formats.scanning import HIDDEN, NO_ENDING, is_hidden, same_name
from catalogues.formats.splits import split_folders, split_named
from catalogues.formats.tables import EMPTY_CELLS, NOT_A_NAME, Entry, Table
from catalogues.picture_formats import endings
from catalogues.shards import Shards
from common.errors import Faults, InputError

LABEL_ENDINGS = ("cls", "json", "txt")  # the first that a sample has says its class
LONGEST_LABEL = 2**20  # bytes
LARGEST = 2**30  # bytes of a photograph, as in data.photographs
FIRST_TARS, FIRST_MEMBERS = 5, 64  # what is looked at to know that tars are shards
BESIDE = "beside the shards"
SEVERAL_DOTS = "with several dots in the name"  # the key ends at the first one


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


def samples(path: Path, faults: Faults, leave_out: Callable[[str, str], None]) -> Iterator[Sample]:
    """The photographs of one shard, with their labels; a sample's members follow each other.

    leave_out: is called with the name of a member that is not taken, and the reason.
    """
    known = {ending[1:] for ending in endings()}
    with tarfile.open(path, "r:") as tar:
        for key, members in groupby(_members(tar, leave_out), lambda member: _parts(member.name)[0]):
            photograph, labels, others = None, {}, []
            for member in members:
                ending = _parts(member.name)[1]
                if ending in LABEL_ENDINGS and member.size > LONGEST_LABEL:
                    faults.add(f"{path}, {shown(member.name)}: {member.size:,} bytes are more than any label has")
                elif ending in LABEL_ENDINGS:
                    labels[ending] = tar.extractfile(member).read()
                    others.append((member.name, "a label without a photograph"))
                elif ending not in known:
                    leave_out(member.name, _unknown(ending))
                elif member.size > LARGEST:
                    faults.add(f"{path}, {shown(member.name)}: {member.size:,} bytes are more than any photograph has")
                elif photograph:
                    leave_out(member.name, "a second photograph of one sample")
                else:
                    photograph = member.offset_data, member.size
            if not photograph:
                for other in others:
                    leave_out(*other)
                continue
            try:
                yield Sample(key, *photograph, _label(labels, f"{path}, {shown(key)}"))
            except InputError as error:
                faults.add(error)
        _require_end(path, tar.offset, faults)


def _unknown(ending: str) -> str:
    """Why a member with this ending is left out."""
    return SEVERAL_DOTS if "." in ending else f".{ending}" if ending else NO_ENDING


def _members(tar: tarfile.TarFile, leave_out: Callable[[str, str], None]) -> Iterator[tarfile.TarInfo]:
    """The files in a tar; folders in it need no word."""
    for member in tar:
        tar.members = []  # tarfile would keep all of them
        if any(map(is_hidden, filter(None, member.name.removeprefix("./").split("/")))):
            leave_out(member.name, HIDDEN)
        elif member.isfile() and not member.issparse():
            yield member
        elif not member.isdir():
            leave_out(member.name, "links and other members that hold no bytes")


def _require_end(path: Path, end: int, faults: Faults) -> None:
    """A fault unless zeros alone follow: tarfile takes a damaged header, and a file that was cut, for the end."""
    with open(path, "rb") as file:
        file.seek(end)
        block = file.read(tarfile.BLOCKSIZE)
        if len(block) < tarfile.BLOCKSIZE or block.strip(b"\0"):
            faults.add(f"{path}: is cut or damaged at byte {end:,}; restore it", 0)
            return
        while block := file.read(2**20):
            if block.strip(b"\0"):
                faults.add(f"{path}: goes on behind its end at byte {end:,}, as two tars in one file; part them", 0)
                return


def _label(labels: dict[str, bytes], source: str) -> str | None:
    """The class that the members beside a photograph name, None if there are none; InputError if it is no name."""
    for ending in LABEL_ENDINGS:
        if ending not in labels:
            continue
        try:
            text = labels[ending].decode("utf-8-sig").strip()
            if ending == "json":
                fields = json.loads(text)
                found = next((fields[name] for name in LABELS if name in fields), None)
                if not isinstance(found, str | int | float | None):
                    raise ValueError(f"{shown(found)} is no label")
                text = "" if found is None else str(found).strip()
            os.fsencode(text)  # JSON can write half a character as \ud800
        except (ValueError, AttributeError, TypeError, RecursionError) as error:
            raise InputError(f"{source}.{ending}: cannot be read ({error}); mend that member") from error
        if NOT_A_NAME.search(text):
            raise InputError(f"{source}.{ending}: {shown(text)} is no name of a product; mend that member")
        if text not in EMPTY_CELLS:
            return same_name(text)
    return None


def _split_of(path: Path, root: Path) -> str | None:
    """The split that the name of a shard's folder says, or its own."""
    for word in [*path.relative_to(root).parts[:-1], *re.split(r"[-_.0-9]+", path.stem)]:
        if split := split_named(word):
            return split
    return None


def tars_in(root: Path) -> list[Path]:
    """The tar files in a folder, and in the folders of splits in it, sorted."""
    folders = [root, *split_folders(root).values()]
    found = (folder / name for folder in folders for name in os.listdir(folder) if name.lower().endswith(".tar"))
    return sorted(path for path in found if path.is_file() and not is_hidden(path.name))


def are_shards(root: Path) -> bool:
    """Whether one of the first tar files in a folder is a shard; those of train come first, since they have labels."""
    tars = sorted(tars_in(root), key=lambda path: _split_of(path, root) not in (None, "train"))
    return any(map(is_shard, tars[:FIRST_TARS]))


def is_shard(path: Path) -> bool:
    """Whether there is a photograph among the first members of a tar, and a label of the same key beside it."""
    known, keys = {ending[1:] for ending in endings()}, {}
    try:
        with tarfile.open(path, "r:") as tar:
            for count, member in enumerate(_members(tar, lambda *_: None)):
                key, ending = _parts(member.name)
                keys.setdefault(key, set()).add("photograph" if ending in known else ending)
                if count >= FIRST_MEMBERS:
                    break
    except (tarfile.TarError, OSError, ValueError):
        pass  # what has been seen counts: the reader says where a shard is cut
    return any("photograph" in found and found & set(LABEL_ENDINGS) for found in keys.values())


def _read(reading: Reading) -> Catalogue:
    root, table, tars = reading.root, Table(), tars_in(reading.root)
    named = {path: _split_of(path, root) for path in tars}
    divided = any(named.values())
    for folder in split_folders(root).values():
        reading.source(folder)
        if mine := {path.name for path in tars if path.parent == folder}:
            reading.leave_out_others(mine, BESIDE, folder.name)
    reading.leave_out_others({*(path.relative_to(root).parts[0] for path in tars)}, BESIDE)
    unnamed = [path for path in tars if not named[path]]
    if divided and unnamed:
        count = "1 shard" if len(unnamed) == 1 else f"{len(unnamed):,} shards"
        reading.notes.append(f"{root}: {count} without a split in the name, such as {unnamed[0].name}, taken for train")
    extents: dict[str, tuple[array, array, array]] = {}
    files: dict[str, list[Path]] = {}
    for split in SPLITS:
        mine = [path for path in tars if (named[path] or "train") == split]
        if mine:
            faults = table.faults[split] = Faults(f"{root}, shards of {split}")
            files[split], extents[split] = mine, (array("i"), array("q"), array("q"))
            table.add(_entries(reading, mine, root, *extents[split], faults), split)
    if "train" not in files:
        raise InputError(f"{root}: no shard is of the training split; add some, such as train-0000.tar")
    packed = {split: _shards(root, files[split], *extents[split]) for split in files}
    sources = {split: f"{root}, shards of {split}" for split in SPLITS}
    catalogue = table.catalogue(FORMAT.name, reading, sources, shards=packed)
    return replace(catalogue, divided=divided)


def _shards(root: Path, files: list[Path], shard: array, start: array, size: array) -> Shards:
    names = tuple((path.relative_to(root).as_posix(), path.stat().st_size) for path in files)
    return Shards(names, 0, np.array(shard, np.int32), np.array(start, np.int64), np.array(size, np.int32))


def _entries(
    reading: Reading, tars: list[Path], root: Path, shard: array, start: array, size: array, faults: Faults
) -> Iterator[Entry]:
    for number, path in enumerate(tqdm(tars, desc="shards", unit="shard", delay=2, leave=False, disable=None)):
        below = path.relative_to(root).as_posix()

        def leave_out(name: str, reason: str, below: str = below) -> None:
            reading.leave_out(f"{below}/{name}", reason)

        try:
            for sample in samples(reading.source(path), faults, leave_out):
                try:
                    place = inside(f"{below}/{sample.key}", str(path))
                except InputError as error:
                    faults.add(error)
                    continue
                shard.append(number)
                start.append(sample.start)
                size.append(sample.size)
                yield Entry(str(path), place, sample.label, None)
        except (tarfile.TarError, OSError) as error:
            faults.add(f"{path}: cannot be read as a shard ({error}); restore it", 0)


FORMAT = Format(
    "WebDataset",
    "*.tar (WebDataset)",
    are_shards,
    _read,
)
