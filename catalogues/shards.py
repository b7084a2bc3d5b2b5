"""Photographs that are packed in shards, which are tar files: where each one is, and reading it."""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from io import FileIO
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.errors import out_of_handles


class PackedPhotograph(NamedTuple):
    """A photograph in a shard: `size` bytes from `start` of the file `shard`. Its text names it in messages."""

    shard: str
    start: int
    size: int  # 0: it could not be read when the shard was packed
    image_id: str

    def __str__(self) -> str:
        return f"{self.shard} ({self.image_id})"

    def read(self) -> bytes:
        """The bytes of the photograph. Raises OSError where there are none, or the shard is missing or cut short."""
        if not self.size:
            raise OSError("has no bytes: it was empty, or could not be read when it was packed")
        try:
            file = _opened(self.shard)
        except OSError as error:
            if not out_of_handles(error):
                raise
            _opened.cache_clear()  # which closes the shards that are open
            file = _opened(self.shard)
        content = os.pread(file.fileno(), self.size, self.start)
        if len(content) < self.size:
            raise OSError(f"{self.shard} ends before it; python -m data.pack --verify names what is damaged")
        return content


@lru_cache(maxsize=128)  # a process may open 1024 files, and the loader needs some of them for its tensors
def _opened(shard: str) -> FileIO:
    """The open file. Worker processes may inherit it, since `os.pread` does not move the shared position."""
    return FileIO(shard)


@lru_cache(maxsize=4096)
def read_ahead(shard: str, epoch: int) -> None:
    """Ask the system, once a process and epoch, to read all of `shard` in advance, without a seek per photograph."""
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):  # reading the photograph will raise it again
            os.posix_fadvise(_opened(shard).fileno(), 0, 0, os.POSIX_FADV_WILLNEED)


@dataclass(frozen=True)
class Shards:
    """Where the n photographs of a split lie: size[i] bytes from start[i] of the tar file files[shard[i]].

    files: name below the catalogue's root and bytes of every shard. side: of the square photographs, in pixels; 0 where
    they have sizes of their own.
    fit: how they became square, see `data.fitted`.
    shard int32 (n,), start int64 (n,), size int32 (n,): 0 where a photograph could not be read.
    """

    files: tuple[tuple[str, int], ...]
    side: int
    shard: np.ndarray
    start: np.ndarray
    size: np.ndarray
    fit: str = "squash"

    def photograph(self, root: Path, index: int, image_id: str) -> PackedPhotograph:
        name, _ = self.files[self.shard[index]]
        return PackedPhotograph(os.path.join(root, name), int(self.start[index]), int(self.size[index]), image_id)

    def take(self, places: np.ndarray) -> "Shards":
        """The photographs at these places, in this order."""
        return replace(self, shard=self.shard[places], start=self.start[places], size=self.size[places])

    def with_some_of(self, other: "Shards", places: Sequence[int]) -> "Shards":
        """These photographs, followed by those of `other` at `places`."""
        chosen = np.array(places, np.int64)
        return Shards(
            self.files + other.files,
            self.side,
            np.concatenate([self.shard, other.shard[chosen] + np.int32(len(self.files))]),
            np.concatenate([self.start, other.start[chosen]]),
            np.concatenate([self.size, other.size[chosen]]),
            self.fit,
        )
