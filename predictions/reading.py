"""Open prediction files (see `predictions`) and read them a few rows at a time."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import InputError
from predictions.format import (
    AGAIN,
    PredictionInfo,
    check_rows,
    json_path,
    read_header,
    read_info,
    read_items,
    reading,
)
from predictions.top_k import TopMember, open_top_member

SAME_IN_ALL = ("split", "class_names", "class_ids", "image_ids", "labels")  # equal in all members of an ensemble


class Member:
    """An open prediction file of all classes, read a few rows at a time; made by `open_member`.

    Attributes:
        path: the file.
        info: what its JSON says.
    """

    def __init__(self, path: Path, info: PredictionInfo, dtype: np.dtype, offset: int):
        self.path, self.info = path, info
        self.dtype, self._offset = dtype, offset

    def rows(self, start: int, stop: int) -> np.ndarray:
        """The probabilities of photographs start to stop − 1.

        Plain reads, no memory map: of a map, every row ever read counts as used memory until the system needs it.

        Args:
            start, stop: 0 ≤ start < stop ≤ n.

        Returns:
            (stop − start, K) float32.

        Raises:
            InputError: a row is not a distribution, or the file has changed since it was opened.
        """
        return self.checked(self.stored(start, stop), start)

    def stored(self, start: int, stop: int, buffer: bytearray | None = None) -> np.ndarray:
        """As `rows`, but unchecked and in the file's own type, (stop − start, K). buffer: see `read_items`."""
        cells, size = (stop - start) * self.info.shape[1], self.info.shape[1] * self.dtype.itemsize
        items = read_items(self.path, self.dtype, cells, self._offset + start * size, buffer)
        return items.reshape(stop - start, -1)

    def take(self, places: np.ndarray) -> np.ndarray:
        """As `rows`, of the photographs at these places (m,) in any order: (m, K) float32."""
        with reading(self.path):
            stored = np.memmap(self.path, self.dtype, "r", self._offset, self.info.shape)
        return self._float32(stored[places], [self.info.image_ids[place] for place in places])

    def checked(self, stored: np.ndarray, start: int) -> np.ndarray:
        """Rows of `stored`, which begin at photograph `start`, as `rows` gives them."""
        return self._float32(stored, self.info.image_ids[start : start + len(stored)])

    def _float32(self, stored: np.ndarray, image_ids: list[str]) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore"):  # check_rows refuses what does not fit into float32
            rows = stored.astype(np.float32)  # (m, K)
        check_rows(rows, image_ids, self.path)
        return rows


def open_member(path: str | Path) -> Member | TopMember:
    """Open a prediction file: read its header and its JSON, and check one against the other.

    Args:
        path: `NAME.npy` with float16, float32 or float64 of either byte order, or `NAME.npz` as `predict.py --top-k`
            writes it; never unpickled.

    Raises:
        InputError: a file is missing, cut off or not what its name says.
    """
    path = Path(path)
    description = json_path(path)
    with reading(path):
        path.stat()
    info = read_info(description)
    if (path.suffix == ".npz") != (info.top_k is not None):
        raise InputError(f"{path}: its JSON tells of top_k {info.top_k}: it is about another file; {AGAIN}")
    if path.suffix == ".npz":
        return open_top_member(path, info)
    with reading(path), open(path, "rb") as file:
        shape, dtype = read_header(file, path)
        offset, size = file.tell(), path.stat().st_size
    if dtype.kind != "f" or dtype.itemsize not in (2, 4, 8):
        raise InputError(f"{path}: holds {dtype}, expected float16, float32 or float64; {AGAIN}")
    if shape != info.shape:
        raise InputError(f"{path}: shape {shape}, but its JSON tells of {info.shape} (image_ids, class_names); {AGAIN}")
    expected = offset + shape[0] * shape[1] * dtype.itemsize
    if size != expected:
        raise InputError(f"{path}: {size} bytes long instead of {expected}: cut off or damaged; {AGAIN}")
    return Member(path, info, dtype, offset)


def open_members(paths: Sequence[str | Path]) -> list[Member | TopMember]:
    """Open the prediction files of one ensemble; they must have the same photographs and classes.

    All get the lists of the first one, so that memory does not grow with the number of files.

    Args:
        paths: one prediction file or more.

    Raises:
        InputError: as `open_member`; a file is given twice; a file differs from the first in one of `SAME_IN_ALL`.
    """
    members: list[Member | TopMember] = []
    seen: set[Path] = set()
    for path in paths:
        if Path(path).resolve() in seen:
            raise InputError(f"{path}: given twice; name each file once and use --weights to count one for more")
        seen.add(Path(path).resolve())
        member = open_member(path)
        if members:
            _check_same(member, members[0])
            member.info = replace(member.info, **{key: getattr(members[0].info, key) for key in SAME_IN_ALL})
        members.append(member)
    return members


def _check_same(member: Member | TopMember, first: Member | TopMember) -> None:
    for key in SAME_IN_ALL:
        ours, theirs = getattr(member.info, key), getattr(first.info, key)
        if ours != theirs:
            raise InputError(
                f"{member.path}: {key} {_difference(ours, theirs)} in {first.path}; "
                "an ensemble needs the same photographs and classes: run predict.py with the same --data and split"
            )


def _difference(ours: Any, theirs: Any) -> str:
    if not isinstance(ours, list) or not isinstance(theirs, list):
        return f"{_brief(ours)} instead of {_brief(theirs)}"
    if len(ours) != len(theirs):
        return f"count {len(ours)} instead of {len(theirs)}"
    place = next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
    return f"at place {place} {ours[place]!r} instead of {theirs[place]!r}"


def _brief(value: Any) -> str:
    return f"a list of {len(value)}" if isinstance(value, list) else repr(value)
