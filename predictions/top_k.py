"""The k most probable classes of every photograph: a prediction file of 50,030 classes in 1/200 of the room.

`NAME.npz` is what numpy.savez writes: `indices` (n, k) unsigned, `probabilities` (n, k) in descending order, ties by
the lower class, and `rest` (n,) float32, never less than the sum of all other probabilities of the photograph.
"""

import struct
import zipfile
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from common.errors import InputError
from predictions.format import AGAIN, SUM_TOLERANCE, PredictionInfo, read_header, read_items, reading

UNPACK = "unpack it with numpy.load and save it with numpy.savez"


class Kept(NamedTuple):
    """indices int64 (m, k), probabilities float32 (m, k) and rest float32 (m,) of m photographs; K classes in all."""

    indices: np.ndarray
    probabilities: np.ndarray
    rest: np.ndarray
    classes: int

    @property
    def bound(self) -> np.ndarray:
        """(m,) float64: no class that was left out is more probable; it had the rest alone, and was behind the last."""
        return np.minimum(self.rest, self.probabilities[:, -1]).astype(np.float64)

    @property
    def share(self) -> np.ndarray:
        """(m,) float64: what each class that was left out is estimated at, the rest being spread evenly."""
        return np.minimum(self.rest / np.float64(self.classes - self.indices.shape[1]), self.bound)

    def dense(self) -> np.ndarray:
        """The estimate of all classes: (m, K) float32."""
        rows = np.repeat(self.share[:, None].astype(np.float32), self.classes, axis=1)
        np.put_along_axis(rows, self.indices, self.probabilities, axis=1)
        return rows


def record_dtype(classes: int, k: int, dtype: np.dtype) -> np.dtype:
    """One photograph of such a file."""
    index = "<u2" if classes <= 2**16 else "<u4"
    return np.dtype([("indices", index, (k,)), ("probabilities", dtype, (k,)), ("rest", "<f4")])


def keep_top(rows: np.ndarray, k: int) -> np.ndarray:
    """The k most probable classes of each row, ties by the lower class.

    Args:
        rows: (m, K) float16 or float32, as a full file would store them, none negative.
        k: 1 … K − 1.

    Returns:
        (m,) of `record_dtype`.
    """
    classes = rows.shape[1]
    # The bits of a positive float32 are ordered as it is, and the class below them settles ties; + 0 mends a −0.
    bits = (rows + np.zeros((), rows.dtype)).astype(np.float32).view(np.uint32).astype(np.uint64)
    keys = bits << np.uint64(32) | np.arange(classes - 1, -1, -1, dtype=np.uint64)
    top = np.sort(np.partition(keys, classes - k, axis=1)[:, classes - k :], axis=1)[:, ::-1]  # (m, k)
    indices = classes - 1 - (top & np.uint64(2**32 - 1)).astype(np.int64)
    others = rows.astype(np.float64)
    np.put_along_axis(others, indices, 0, axis=1)
    # K additions in float64 err by K · 2⁻⁵³ at most, relatively; then the next float32 that is not below.
    rest = others.sum(axis=1) * (1 + classes * 2.0**-52)
    above = rest.astype(np.float32)
    above = np.where(above < rest, np.nextafter(above, np.float32(np.inf)), above)
    records = np.empty(len(rows), record_dtype(classes, k, rows.dtype))
    records["indices"], records["rest"] = indices, above
    records["probabilities"] = np.take_along_axis(rows, indices, axis=1)
    return records


class TopMember:
    """A prediction file of the k most probable classes that is read a few rows at a time; made by `open_member`.

    Attributes:
        path: the file.
        info: what its JSON says.
    """

    def __init__(self, path: Path, info: PredictionInfo, columns: dict[str, tuple[np.dtype, int]]):
        self.path, self.info = path, info
        self._columns = columns  # by its name, type and place in the file of each array

    def kept(self, start: int, stop: int) -> Kept:
        """Photographs start to stop − 1, 0 ≤ start < stop ≤ n, checked: InputError where one is no such row."""

        def read(name: str, items: int) -> np.ndarray:
            dtype, offset = self._columns[name]
            return read_items(self.path, dtype, (stop - start) * items, offset + start * items * dtype.itemsize)

        k = self.info.top_k
        arrays = read("indices", k).reshape(-1, k), read("probabilities", k).reshape(-1, k), read("rest", 1)
        return self._checked(*arrays, self.info.image_ids[start:stop])

    def rows(self, start: int, stop: int) -> np.ndarray:
        """As `Member.rows`, (stop − start, K) float32, with the rest spread evenly over the classes left out."""
        return self.kept(start, stop).dense()

    def take(self, places: np.ndarray) -> np.ndarray:
        """As `rows`, of the photographs at these places (m,) in any order: (m, K) float32."""
        n, k = self.info.shape[0], self.info.top_k
        arrays = []
        with reading(self.path):
            for name, shape in {"indices": (n, k), "probabilities": (n, k), "rest": (n,)}.items():
                dtype, offset = self._columns[name]
                arrays.append(np.memmap(self.path, dtype, "r", offset, shape)[places])
        return self._checked(*arrays, [self.info.image_ids[place] for place in places]).dense()

    def _checked(self, indices: np.ndarray, probabilities: np.ndarray, rest: np.ndarray, image_ids: list[str]) -> Kept:
        classes = self.info.shape[1]
        with np.errstate(over="ignore", invalid="ignore"):  # a NaN is in none of these orders
            kept = Kept(indices.astype(np.int64), probabilities.astype(np.float32), rest.astype(np.float32), classes)
            sums = kept.probabilities.sum(axis=1) + kept.rest
            good = {
                f"a class of {classes} or more": (kept.indices < classes).all(axis=1),
                "a class twice": (np.diff(np.sort(kept.indices, axis=1), axis=1) > 0).all(axis=1),
                "a negative probability or one that is not a finite number": (kept.probabilities[:, -1] >= 0)
                & (kept.rest >= 0)
                & np.isfinite(sums),
                "probabilities that do not descend": (np.diff(kept.probabilities, axis=1) <= 0).all(axis=1),
                "probabilities and a rest with a sum other than 1": np.abs(sums - 1) <= SUM_TOLERANCE,
            }
        for fault, fits in good.items():
            if not fits.all():
                raise InputError(f"{self.path}: photograph {image_ids[int(fits.argmin())]!r} has {fault}; {AGAIN}")
        return kept


def open_top_member(path: Path, info: PredictionInfo) -> TopMember:
    """`NAME.npz` of which `info` tells; InputError where it is missing, damaged or something else."""
    (n, classes), k = info.shape, info.top_k
    if k >= classes:
        raise InputError(f"{path}: its JSON tells of top_k {k} of {classes} classes; {AGAIN}")
    expected = {"indices": ((n, k), "u"), "probabilities": ((n, k), "f"), "rest": ((n,), "f")}
    with reading(path), open(path, "rb") as file:
        places = _places(file, path)
        if places.keys() != expected.keys():
            raise InputError(f"{path}: holds {', '.join(sorted(places)):.200}; expected {', '.join(expected)}; {AGAIN}")
        columns = {}
        for name, (shape, kind) in expected.items():
            start, size = places[name]
            file.seek(start)
            found, dtype = read_header(file, path)
            if found != shape:
                raise InputError(f"{path}: {name} has shape {found}, but its JSON tells of {shape}; {AGAIN}")
            if dtype.kind != kind or dtype.itemsize > 4:
                wanted = "float16 or float32" if kind == "f" else "uint16 or uint32"
                raise InputError(f"{path}: {name} holds {dtype}, expected {wanted}; {AGAIN}")
            if file.tell() + dtype.itemsize * int(np.prod(shape)) != start + size:
                raise InputError(f"{path}: {name} is cut off or damaged; {AGAIN}")
            columns[name] = dtype, file.tell()
    return TopMember(path, info, columns)


def _places(file: IO[bytes], path: Path) -> dict[str, tuple[int, int]]:
    """Where the arrays of a zip file begin, and their size: by name, in bytes."""
    places = {}
    try:
        for entry in zipfile.ZipFile(file).infolist():
            if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
                raise InputError(f"{path}: is compressed, but is read a few rows at a time; {UNPACK}")
            # What stands before the bytes themselves is as long as its own header says, not the directory at the end.
            file.seek(entry.header_offset)
            header = file.read(30)
            name_length, extra_length = struct.unpack("<HH", header[26:])
            start = entry.header_offset + 30 + name_length + extra_length
            if header[:4] != b"PK\3\4" or start + entry.file_size > path.stat().st_size:
                raise zipfile.BadZipFile
            name = entry.filename.removesuffix(".npy")
            if name in places:
                raise InputError(f"{path}: holds {name} twice; {AGAIN}")
            places[name] = start, entry.file_size
    except (InputError, OSError):
        raise
    except Exception as error:  # zipfile's reader fails in as many ways as a file can be damaged
        raise InputError(f"{path}: not a numpy .npz file, or a damaged one; {AGAIN}") from error
    return places
