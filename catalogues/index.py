"""The index of a catalogue: its arrays in `.index/`, valid until a file that the catalogue was read from changes.

Reading three million entries takes seconds and three quarters of a gigabyte. The arrays of an index are mapped into
memory instead and checked in less than a tenth of a second.
"""

import json
import os
import shutil
import stat
import sys
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np

from catalogues.catalogue import SPLITS, Catalogue, Split, Strings, stays_below
from catalogues.picture_formats import endings
from catalogues.shards import Shards
from common.files import temporary_folder
from common.flags import FITS

VERSION = 3
SMALLEST = 20_000  # photographs: smaller catalogues are read fast enough without an index
FOLDER = ".index"
CHUNK = 2**18  # bytes of paths that are checked at once: they fit into the cache of a core


class Sources:
    """The files and folders that a catalogue is read from, as they were before they were read."""

    def __init__(self, root: Path):
        self.root = root
        self.stamps = {".": listing(root)}

    def note(self, path: str | Path) -> None:
        """Remember the state of a file or folder below the root; call it before reading. It may be missing."""
        name = os.path.relpath(path, self.root)
        if name != ".":
            self.stamps[name] = stamp(path)

    def unchanged(self) -> bool:
        return stamps(self.root, self.stamps) == self.stamps


def stamp(path: str | Path) -> list:
    """[bytes, time of change] of a file, [None, time] of a folder, [None, None] of what does not exist."""
    try:
        status = os.stat(path)
    except OSError:
        return [None, None]
    # A folder's time changes when a file comes or goes.
    return [None if stat.S_ISDIR(status.st_mode) else status.st_size, status.st_mtime_ns]


def listing(root: Path) -> list[str]:
    """The names in the catalogue's own folder; its time changes whenever an index is written."""
    return sorted(name for name in os.listdir(root) if not name.startswith(FOLDER))


def stamps(root: Path, names: Iterable[str]) -> dict[str, list]:
    """What `Sources` remembers of these files and folders, as they are now."""
    return {name: listing(root) if name == "." else stamp(os.path.join(root, name)) for name in names}


def cached(format: str, root: Path, read: Callable[[Path, Sources], Catalogue]) -> Catalogue:
    """`read(root, sources)`, or the index of an earlier call if no source has changed since.

    There is no index for fewer than SMALLEST photographs, nor in a folder that cannot be written to.
    """
    folder = root / FOLDER
    catalogue = load(folder, format, root)
    if catalogue is None:
        catalogue = read(root, sources := Sources(root))
        if sum(map(len, catalogue.splits.values())) >= SMALLEST and sources.unchanged():
            try:
                save(folder, format, catalogue, root, sources.stamps)
            except OSError as error:
                print(f"note: {root} takes no index ({error.strerror}); it is read anew each time", file=sys.stderr)
    return catalogue


def save(folder: Path, kind: str, catalogue: Catalogue, root: Path, now: dict[str, list]) -> None:
    """Write the index of the catalogue in `root`, which was read as `kind` and whose sources have the stamps `now`.

    It is written under another name and renamed, so that nobody reads half an index. Raises OSError.
    """
    header = {
        "version": VERSION,
        "kind": kind,
        "endings": endings(),  # an index made when fewer were known lacks some photographs
        "format": catalogue.format,
        "sources": now,
        "below": str(catalogue.root.relative_to(root)),
        "classes": catalogue.classes,
        "class_ids": catalogue.class_ids,
        "tree": catalogue.tree,
        "broken": catalogue.broken,
        "notes": catalogue.notes,
        "divided": catalogue.divided,
        "splits": {},
    }
    with temporary_folder(root, ".index-") as temporary:
        made = temporary / "index"
        made.mkdir()
        for name, split in catalogue.splits.items():
            arrays = {"buffer": split.paths.buffer, "offsets": split.paths.offsets, "labels": split.labels}
            packed = split.shards and [split.shards.files, split.shards.side, split.shards.fit]
            if packed:
                arrays |= {key: getattr(split.shards, key) for key in ("shard", "start", "size")}
            for key, array in arrays.items():
                if array is not None:
                    np.save(made / f"{name}.{key}.npy", array, allow_pickle=False)
            header["splits"][name] = [split.labels is not None, split.names_are_ids, split.id_root, packed]
        for key in ("buffer", "offsets") if len(catalogue.left_out) else ():
            np.save(made / f"left_out.{key}.npy", getattr(catalogue.left_out, key), allow_pickle=False)
        (made / "facts.json").write_text(json.dumps(header), encoding="utf-8", errors="surrogateescape")
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # another process was faster: its index is as good
            os.rename(made, folder)


def load(folder: Path, kind: str, root: Path) -> Catalogue | None:
    """The catalogue that `save` has written; None for an index that is missing, damaged or out of date.

    It is out of date where a source has changed. An index may come from a stranger together with a catalogue, so one
    whose paths lead out of `root` is damaged, too.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy warns of odd headers
            return _loaded(folder, kind, root)
    except Exception:  # numpy parses headers as Python source: damage can raise anything
        return None


def _loaded(folder: Path, kind: str, root: Path) -> Catalogue:
    _require((folder / "facts.json").is_file())  # opening a pipe would wait for ever
    header = json.loads((folder / "facts.json").read_text(encoding="utf-8", errors="surrogateescape"))
    _require(header["version"] == VERSION or (header["version"] == 2 and header["sources"] == []))  # 2: older shards
    header = {"format": kind, "broken": {}, "notes": [], "divided": True} | header
    sources = header["sources"] or {}
    _require(header["kind"] == kind and type(sources) is dict and all(map(stays_below, sources)))
    _require(not sources or (header["endings"] == list(endings()) and stamps(root, sources) == sources))
    classes, class_ids, tree = header["classes"], header["class_ids"], header["tree"]
    _require(_texts(classes) and _texts(class_ids) and 0 < len(classes) == len(class_ids))
    _require(tree == [] or (len(tree) == len(classes) and all(map(_texts, tree))))
    _require(stays_below(header["below"]) and "train" in header["splits"] and header["splits"].keys() <= set(SPLITS))
    splits, below = {}, root / header["below"]
    for name, description in header["splits"].items():
        split = partial(_split, folder, name, below, *description)
        _check(split(), len(classes))
        splits[name] = split()  # mapped again, which frees the pages that the check has read
    _require(len({split.shards is None for split in splits.values()}) == 1)
    broken, notes = header["broken"], header["notes"]
    _require(_texts(list(broken)) and _texts(list(broken.values())) and broken.keys() <= set(SPLITS) - splits.keys())
    _require(type(header["format"]) is str and _texts(notes) and type(header["divided"]) is bool)
    more = dict(left_out=_left_out(folder), broken=broken, notes=notes, divided=header["divided"])
    return Catalogue(header["format"], below, classes, class_ids, splits, list(map(tuple, tree)), **more)


def _split(
    folder: Path, name: str, below: Path, labelled: bool, names_are_ids: bool, id_root: str, packed: list | None
) -> Split:
    arrays, shards = partial(_arrays, folder, name), None
    if packed:
        files, side, *fit = packed  # older ones have no fit
        extents = arrays(shard=np.int32, start=np.int64, size=np.int32)
        shards = Shards(tuple(map(tuple, files)), side, *extents, *fit)
    labels = arrays(labels=np.int32)[0] if labelled else None
    paths = Strings.of(*arrays(buffer=np.uint8, offsets=np.int64))
    return Split(name, below, paths, labels, names_are_ids, id_root, shards)


def _left_out(folder: Path) -> Strings:
    if not (folder / "left_out.offsets.npy").exists():
        return Strings()
    lines = Strings.of(*_arrays(folder, "left_out", buffer=np.uint8, offsets=np.int64))
    _require(lines.offsets[0] == 0 and lines.offsets[-1] == len(lines.buffer))
    _require((lines.offsets[:-1] <= lines.offsets[1:]).all())
    return lines


def _arrays(folder: Path, split: str, **types: type) -> list[np.ndarray]:
    arrays = []
    for key, dtype in types.items():
        path = folder / f"{split}.{key}.npy"
        _require(path.is_file())
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        _require(array.dtype == dtype and array.ndim == 1 and len(array) > 0)
        arrays.append(array)
    return arrays


def _require(valid: bool) -> None:
    if not valid:
        raise ValueError("not what `save` writes")


def _texts(value: object) -> bool:
    """Whether `value` is a list of strings that can be file names."""
    if type(value) is not list or not all(type(text) is str for text in value):
        return False
    os.fsencode("".join(value))
    return True


def _check(split: Split, classes: int) -> None:
    _require(type(split.names_are_ids) is bool and type(split.id_root) is str)
    _require(split.name != "train" or split.labels is not None)
    _check_paths(split.paths)
    if split.labels is not None:
        _require(len(split.labels) == len(split) and split.labels.min() >= 0 and split.labels.max() < classes)
    if split.shards:
        _check_shards(split.shards, len(split))


def _check_paths(paths: Strings) -> None:
    """ValueError for paths that are empty or not below the root. Three million take a few hundredths of a second."""
    buffer, offsets = paths.buffer, paths.offsets
    _require(len(paths) > 0 and offsets[0] == 0 and offsets[-1] == len(buffer))
    _require((offsets[:-1] < offsets[1:]).all())
    _require(not np.isin(buffer[offsets[:-1]], tuple(b"/\\")).any())
    found = [np.empty(0, np.int64)]
    for start in range(0, len(buffer), CHUNK):
        chunk = np.asarray(buffer[start : start + CHUNK + 1])  # chunks overlap by one byte, so every pair is in one
        _require(chunk.min() > 0)  # the system ends a name at a NUL, Python does not
        for odd in (0, 1):  # two dots from an even byte, or from an odd one
            pairs = chunk[odd : odd + (len(chunk) - odd) // 2 * 2].view(np.uint16)
            dots = pairs == 0x2E2E
            if dots.any():
                found.append(start + odd + 2 * np.flatnonzero(dots))
    # The few paths with two dots, such as "a..jpg", are checked as a whole.
    for place in np.unique(np.searchsorted(offsets, np.concatenate(found), "right") - 1):
        _require(stays_below(paths[int(place)]))


def _check_shards(shards: Shards, n: int) -> None:
    for name, size in shards.files:
        _require(stays_below(name) and type(size) is int and 0 <= size < 2**63)
    _require(type(shards.side) is int and shards.fit in FITS)
    _require(len(shards.shard) == len(shards.start) == len(shards.size) == n)
    _require(shards.shard.min() >= 0 and shards.shard.max() < len(shards.files))
    _require(shards.start.min() >= 0 and shards.size.min() >= 0)
    sizes = np.array([size for _, size in shards.files], np.int64)
    _require((shards.start <= sizes[shards.shard] - shards.size).all())  # a sum could overflow
