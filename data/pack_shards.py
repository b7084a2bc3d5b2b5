"""One shard of `data.pack`: which photographs are in it, writing it, and the summary that says it is whole."""

import hashlib
import io
import json
import operator
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from PIL import Image

from catalogues.catalogue import Catalogue, Split
from data.photographs import UnreadablePhotograph, read_squashed


class Job(NamedTuple):
    """What is packed, where and how: the same for all shards."""

    catalogue: Catalogue
    out: Path
    size: int  # pixels
    quality: int
    per_shard: int
    seed: int
    fit: str = "squash"

    def shards(self) -> Iterator[tuple[str, str, np.ndarray]]:
        """(split, name of the file, places of its photographs int64 (m,)) of every shard."""
        for split, photographs in self.catalogue.splits.items():
            order = packing_order(split, len(photographs), self.seed)
            for number, start in enumerate(range(0, len(order), self.per_shard)):
                yield split, f"{split}-{number:06d}.tar", order[start : start + self.per_shard]


def packing_order(split: str, n: int, seed: int) -> np.ndarray:
    """Places of a split's n photographs in the order in which they are packed, int64 (n,)."""
    if split != "train":
        return np.arange(n)
    # A random stream of its own: equal to an epoch's order, a balanced subset would lie in the first shards.
    return np.random.default_rng([seed, *b"pack"]).permutation(n)


@contextmanager
def written(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes its name when the body has ended well; `tidy` removes half-written ones."""
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "w+b") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def summary_path(tar: Path) -> Path:
    """Where a shard's summary is until all shards exist. It is written after the shard, so the shard is whole."""
    return tar.with_suffix(".json")


def read_summary(tar: Path, places: np.ndarray) -> dict | None:
    """The summary of the shard with the photographs at `places`; None if the shard must be packed (again)."""
    try:
        summary = json.loads(summary_path(tar).read_text())
        size, extents = tar.stat().st_size, list(zip(summary["start"], summary["size"], strict=True))
        whole = size == summary["bytes"] and len(extents) == len(places) and isinstance(summary["sha256"], str)
        whole &= all(
            0 <= operator.index(start) <= size - n and operator.index(n) in range(2**31) for start, n in extents
        )
        whole &= {place for place, _ in summary["unreadable"]} <= set(places.tolist())
        return summary if whole else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # missing or damaged
        return None


def pack_shard(job: Job, split: Split, name: str, places: np.ndarray, progress=None) -> None:
    """Write the shard `name` of the photographs at `places`, and its summary.

    progress: a `pack_workers.Progress` that is told of every photograph, or None.
    """
    starts, sizes, unreadable = [], [], []
    with written(job.out / name) as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for place in places.tolist():
                if progress:
                    progress.begin(split, place)
                starts.append(tar.offset + tarfile.BLOCKSIZE)  # in this format a member's header is one block
                try:
                    content = jpeg(job, split.path(place))
                    add_sample(tar, job.catalogue, split, place, content)
                    sizes.append(len(content))
                except UnreadablePhotograph as error:
                    unreadable.append([place, str(error)])
                    sizes.append(0)
                if progress:
                    progress.end()
        file.seek(0)
        summary = {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "bytes": file.tell()}
    with written(summary_path(job.out / name)) as file:
        file.write(json.dumps(summary | {"start": starts, "size": sizes, "unreadable": unreadable}).encode())


def jpeg(job: Job, path) -> bytes:
    """The photograph at `path`, squashed, as a JPEG without chroma subsampling."""
    content = io.BytesIO()
    Image.fromarray(read_squashed(path, job.size, job.fit)).save(content, "jpeg", quality=job.quality, subsampling=0)
    return content.getvalue()


def add_sample(tar: tarfile.TarFile, catalogue: Catalogue, split: Split, place: int, content: bytes) -> None:
    """Add the JPEG `content` of the photograph at `place`, its label and its JSON."""
    about, members = {"id": split.image_id(place)}, {"jpg": content}
    if split.labels is not None:
        label = int(split.labels[place])
        about["class"] = catalogue.classes[label]
        members["cls"] = b"%d" % label
    members["json"] = json.dumps(about).encode()
    for ending, data in members.items():
        member = tarfile.TarInfo(f"{place:09d}.{ending}")  # without time and owner
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
