"""Part files: the rows of a prediction on the way to its file, `.NAME.npy.parts/part-START` for NAME.npy.

A part holds the rows of whole batches, from photograph START on. It is a zip file of two entries: `rows` and
`about.json`. The zip file's checksums tell whether it is damaged. `about.json` says what made the rows, how many there
are, and which photographs could not be read. A part takes its name when it is whole (`files.atomic_write`).
"""

import json
import os
import shutil
import sys
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

import msgspec
import numpy as np

from common.errors import InputError
from common.files import atomic_write, lock, named_failures

CHUNK_BYTES = 2 * 2**20  # of rows that are read at once


class About(msgspec.Struct):
    """What `about.json` says."""

    made_with: dict  # see `predictions.fingerprint`
    rows: int
    unreadable: list[str]  # ids of photographs


class Unusable(Exception):
    """A part that this run cannot use; the message is the reason."""


class Part(NamedTuple):
    """A part file: photographs start to stop − 1."""

    path: Path
    start: int
    stop: int
    unreadable: list[str]

    def chunks(self, row: np.dtype) -> Iterator[np.ndarray]:
        """Its rows, (m,) of type `row`, some at a time; InputError where it is damaged."""
        size = max(1, CHUNK_BYTES // row.itemsize) * row.itemsize
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open("rows") as entry:
                while data := entry.read(size):
                    yield np.frombuffer(data, row)
        except (zipfile.BadZipFile, KeyError, ValueError) as error:
            raise InputError(f"{self.path}: is damaged; run the same command again to make it anew") from error


class NewPart:
    """A part that is being written; see `PartFolder.new_part`."""

    def __init__(self, entry: IO[bytes]):
        self._entry = entry
        self.bytes = self.rows = 0
        self.unreadable: list[str] = []

    def append(self, rows: np.ndarray, unreadable: Sequence[str]) -> None:
        """Write the rows of a batch. Where that fails midway, `rows` counts those before: the part is then unusable."""
        self._entry.write(rows.reshape(-1).view(np.uint8).data)
        self.bytes += rows.nbytes
        self.rows += len(rows)
        self.unreadable += unreadable


class PartFolder:
    """The folder of the parts of a prediction file.

    path: the prediction file. row: the type of a row. made_with: its fingerprint; parts with another are not used.
    """

    def __init__(self, path: Path, row: np.dtype, made_with: dict):
        target = path.resolve()
        self.path, self.folder = path, target.with_name(f".{target.name}.parts")
        self.row, self.made_with = row, made_with

    @contextmanager
    def locked(self, ranges: Sequence[range]) -> Iterator[None]:
        """Keep other processes from these ranges of photographs.

        Raises InputError where another process writes one of them.
        """
        with ExitStack() as stack:
            for rows in ranges:
                self._lock(rows, stack)
            yield

    def _lock(self, rows: range, stack: ExitStack) -> None:
        busy = InputError(f"{self.path}: another process is writing it; wait for it, or choose another --out")
        path = self.folder / f"lock-{rows.start}-{rows.stop}"
        with named_failures(self.path, path):
            self.folder.mkdir(exist_ok=True)
            file = stack.enter_context(open(path, "ab"))  # noqa: SIM115 (the stack closes it)
        if not lock(file):
            raise busy
        if not path.exists() or not os.path.samestat(path.stat(), os.fstat(file.fileno())):
            raise busy  # between our opening and our lock, its owner has finished and removed the folder
        for other in self.folder.glob("lock-*"):  # of runs with another number of processes
            start, stop = map(int, other.name.split("-")[1:])
            if other != path and start < rows.stop and rows.start < stop and _is_held(other):
                raise busy

    def usable(self, rows: range, check: bool) -> list[Part]:
        """The adjacent parts from the start of `rows` on. check: read them whole, to find damaged ones."""
        parts, start = [], rows.start
        with suppress(FileNotFoundError):
            while start < rows.stop:
                path = self.folder / f"part-{start}"
                try:
                    part = self._read(path, start, check)
                    if part.stop > rows.stop:
                        raise Unusable(f"it ends at photograph {part.stop}, not at {rows.stop}")
                except Unusable as reason:
                    print(f"note: {path}, left by an interrupted run, is made anew: {reason}", file=sys.stderr)
                    break
                parts.append(part)
                start = part.stop
        return parts

    def remove_others(self, rows: range, parts: Sequence[Part]) -> None:
        """Remove what begins within `rows` and is none of these parts."""
        kept = {part.path for part in parts}
        for path in self.folder.glob("part-*"):
            if path not in kept and int(path.name.removeprefix("part-")) in rows:
                path.unlink()

    def _read(self, path: Path, start: int, check: bool) -> Part:
        """Raises Unusable, or FileNotFoundError where there is none."""
        try:
            with zipfile.ZipFile(path) as archive:
                about = msgspec.convert(json.loads(archive.read("about.json")), About)
                size = archive.getinfo("rows").file_size
                if size != about.rows * self.row.itemsize or about.rows < 1 or (check and archive.testzip()):
                    raise zipfile.BadZipFile
        except FileNotFoundError:
            raise
        except Exception as error:  # zipfile, json and msgspec fail in many ways at damaged or foreign content
            raise Unusable("it is damaged") from error
        for key, value in self.made_with.items():
            if about.made_with.get(key) != value:
                raise Unusable(f"it has {key} {about.made_with.get(key)!r}, not {value!r}")
        return Part(path, start, start + about.rows, about.unreadable)

    @contextmanager
    def new_part(self, start: int) -> Iterator[NewPart]:
        """A part for photographs from `start` on, which appears when the body has ended well."""
        with atomic_write(self.folder / f"part-{start}", name=self.path) as file, zipfile.ZipFile(file, "w") as archive:
            with archive.open("rows", "w", force_zip64=True) as entry:
                part = NewPart(entry)
                yield part
            about = About(self.made_with, part.rows, part.unreadable)
            archive.writestr("about.json", json.dumps(msgspec.structs.asdict(about)))

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _is_held(path: Path) -> bool:
    with suppress(FileNotFoundError), open(path, "ab") as file:
        return not lock(file)
    return False
