"""Photographs that lie in tar files: where each is, and reading it from there."""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from io import FileIO
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Piece(NamedTuple):
    """A photograph inside a shard: `size` bytes from `start` of the file `shard`; as text, what a message may say."""

    shard: str
    start: int
    size: int  # 0: it has no bytes, it could not be read when the shard was packed
    image_id: str

    def __str__(self) -> str:
        return f"{self.shard} ({self.image_id})"

    def read(self) -> bytes:
        """The photograph's file. Raises OSError for one that has none and for a shard that is missing or cut short."""
        if not self.size:
            raise OSError("could not be read when it was packed; unreadable.txt beside the shard says why")
        content = os.pread(_opened(self.shard).fileno(), self.size, self.start)
        if len(content) < self.size:
            raise OSError(f"{self.shard} ends before it; python -m data.pack --verify names what is damaged")
        return content


@lru_cache(maxsize=128)  # a process may open 1024 files, and the loader needs some of them for its tensors
def _opened(shard: str) -> FileIO:
    """Worker processes may read from what they inherit: `os.pread` moves no position that they would share."""
    return FileIO(shard)


@lru_cache(maxsize=4096)
def read_ahead(shard: str, epoch: int) -> None:
    """Tell the system, once a process and epoch, that all of `shard` is about to be read, so that it fetches it in one
    go where it would otherwise seek for every photograph."""
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):  # reading will say what is wrong
            os.posix_fadvise(_opened(shard).fileno(), 0, 0, os.POSIX_FADV_WILLNEED)


@dataclass(frozen=True)
class Shards:
    """Where the n photographs of a split lie: size[i] bytes from start[i] of the tar file files[shard[i]].

    files: name below the catalogue's root and bytes of every shard; `side`: of the square photographs, in pixels;
    shard int32 (n,), start int64 (n,), size int32 (n,), 0 where a photograph has no bytes.
    """

    files: tuple[tuple[str, int], ...]
    side: int
    shard: np.ndarray
    start: np.ndarray
    size: np.ndarray

    def piece(self, root: Path, index: int, image_id: str) -> Piece:
        name, _ = self.files[self.shard[index]]
        return Piece(os.path.join(root, name), int(self.start[index]), int(self.size[index]), image_id)

    def with_some_of(self, other: "Shards", places: Sequence[int]) -> "Shards":
        """These photographs, and behind them those of `other` at `places`."""
        chosen = np.array(places, np.int64)
        return Shards(
            self.files + other.files,
            self.side,
            np.concatenate([self.shard, other.shard[chosen] + np.int32(len(self.files))]),
            np.concatenate([self.start, other.start[chosen]]),
            np.concatenate([self.size, other.size[chosen]]),
        )
