"""Files of the k most probable classes of each photograph: with k = 100 of 50,030 classes 1/200 of a full file.

`NAME.npz` is a file as numpy.savez writes it. `indices` (n, k) are unsigned. `probabilities` (n, k) descend; of equal
ones the lower class is first. `rest` (n,) float32 is the sum of all other probabilities of the photograph, rounded up.
"""

import struct
import zipfile
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from common.errors import InputError
from predictions.format import AGAIN, SUM_TOLERANCE, PredictionInfo, read_header, read_items, reading

UNPACK = "unpack it with numpy.load and save it with numpy.savez"


class TopClasses(NamedTuple):
    """The k most probable classes of m photographs.

    indices: (m, k) int64.
    probabilities: (m, k) float32, descending.
    rest: (m,) float32, at least the sum of the probabilities of the other classes.
    classes: K, the number of all classes.
    """

    indices: np.ndarray
    probabilities: np.ndarray
    rest: np.ndarray
    classes: int

    @property
    def bound(self) -> np.ndarray:
        """(m,) float64: no other class is more probable than the rest, nor than the last of the k."""
        return np.minimum(self.rest, self.probabilities[:, -1]).astype(np.float64)

    @property
    def share(self) -> np.ndarray:
        """(m,) float64: the estimate for each other class, an even share of the rest."""
        return np.minimum(self.rest / np.float64(self.classes - self.indices.shape[1]), self.bound)

    def dense(self) -> np.ndarray:
        """The estimate of all classes: (m, K) float32."""
        rows = np.repeat(self.share[:, None].astype(np.float32), self.classes, axis=1)
        np.put_along_axis(rows, self.indices, self.probabilities, axis=1)
        return rows


def record_dtype(classes: int, k: int, dtype: np.dtype) -> np.dtype:
    """The type of one photograph's record: k indices, k probabilities in `dtype`, the rest."""
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
    # The bits of positive float32 have the order of the numbers; the class in the lower bits decides ties. −0 + 0 = 0.
    bits = (rows + np.zeros((), rows.dtype)).astype(np.float32).view(np.uint32).astype(np.uint64)
    keys = bits << np.uint64(32) | np.arange(classes - 1, -1, -1, dtype=np.uint64)
    top = np.sort(np.partition(keys, classes - k, axis=1)[:, classes - k :], axis=1)[:, ::-1]  # (m, k)
    indices = classes - 1 - (top & np.uint64(2**32 - 1)).astype(np.int64)
    others = rows.astype(np.float64)
    np.put_along_axis(others, indices, 0, axis=1)
    # K additions in float64 have a relative error of K · 2⁻⁵³ at most; then the next float32 that is not below.
    rest = others.sum(axis=1) * (1 + classes * 2.0**-52)
    above = rest.astype(np.float32)
    above = np.where(above < rest, np.nextafter(above, np.float32(np.inf)), above)
    records = np.empty(len(rows), record_dtype(classes, k, rows.dtype))
    records["indices"], records["rest"] = indices, above
    records["probabilities"] = np.take_along_axis(rows, indices, axis=1)
    return records


class TopMember:
    """An open file of the k most probable classes, read a few rows at a time; made by `open_member`.

    Attributes:
        path: the file.
        info: what its JSON says.
    """

    def __init__(self, path: Path, info: PredictionInfo, columns: dict[str, tuple[np.dtype, int]]):
        self.path, self.info = path, info
        self._columns = columns  # by its name, the type of each array and its offset in the file

    def top(self, start: int, stop: int) -> TopClasses:
        """Photographs start to stop − 1, 0 ≤ start < stop ≤ n; InputError where a row is impossible."""

        def read(name: str, items: int) -> np.ndarray:
            dtype, offset = self._columns[name]
            return read_items(self.path, dtype, (stop - start) * items, offset + start * items * dtype.itemsize)

        k = self.info.top_k
        arrays = read("indices", k).reshape(-1, k), read("probabilities", k).reshape(-1, k), read("rest", 1)
        return self._checked(*arrays, self.info.image_ids[start:stop])

    def rows(self, start: int, stop: int) -> np.ndarray:
        """As `Member.rows`, (stop − start, K) float32, with the rest spread evenly over the other classes."""
        return self.top(start, stop).dense()

    def take(self, places: np.ndarray) -> np.ndarray:
        """As `rows`, of the photographs at these places (m,) in any order: (m, K) float32."""
        n, k = self.info.shape[0], self.info.top_k
        arrays = []
        with reading(self.path):
            for name, shape in {"indices": (n, k), "probabilities": (n, k), "rest": (n,)}.items():
                dtype, offset = self._columns[name]
                arrays.append(np.memmap(self.path, dtype, "r", offset, shape)[places])
        return self._checked(*arrays, [self.info.image_ids[place] for place in places]).dense()

    def _checked(
        self, indices: np.ndarray, probabilities: np.ndarray, rest: np.ndarray, image_ids: list[str]
    ) -> TopClasses:
        classes = self.info.shape[1]
        with np.errstate(over="ignore", invalid="ignore"):  # every comparison with NaN is false
            top = TopClasses(
                indices.astype(np.int64), probabilities.astype(np.float32), rest.astype(np.float32), classes
            )
            sums = top.probabilities.sum(axis=1) + top.rest
            good = {
                f"a class of {classes} or more": (top.indices < classes).all(axis=1),
                "a class twice": (np.diff(np.sort(top.indices, axis=1), axis=1) > 0).all(axis=1),
                "a negative probability or one that is not a finite number": (top.probabilities[:, -1] >= 0)
                & (top.rest >= 0)
                & np.isfinite(sums),
                "probabilities that do not descend": (np.diff(top.probabilities, axis=1) <= 0).all(axis=1),
                "probabilities and a rest with a sum other than 1": np.abs(sums - 1) <= SUM_TOLERANCE,
            }
        for fault, fits in good.items():
            if not fits.all():
                raise InputError(f"{self.path}: photograph {image_ids[int(fits.argmin())]!r} has {fault}; {AGAIN}")
        return top


def open_top_member(path: Path, info: PredictionInfo) -> TopMember:
    """Open the file `NAME.npz` that `info` describes; InputError where it is missing, damaged or something else."""
    (n, classes), k = info.shape, info.top_k
    if k >= classes:
        raise InputError(f"{path}: its JSON tells of top_k {k} of {classes} classes; {AGAIN}")
    expected = {"indices": ((n, k), "u"), "probabilities": ((n, k), "f"), "rest": ((n,), "f")}
    with reading(path), open(path, "rb") as file:
        places = _arrays(file, path)
        if places.keys() != expected.keys():
            raise InputError(f"{path}: holds {', '.join(sorted(places)):.200}; expected {', '.join(expected)}; {AGAIN}")
        columns = {}
        for name, (shape, kind) in expected.items():
            start, size = places[name]
            file.seek(start)
            stored, dtype = read_header(file, path)
            if stored != shape:
                raise InputError(f"{path}: {name} has shape {stored}, but its JSON tells of {shape}; {AGAIN}")
            if dtype.kind != kind or dtype.itemsize > 4:
                wanted = "float16 or float32" if kind == "f" else "uint16 or uint32"
                raise InputError(f"{path}: {name} holds {dtype}, expected {wanted}; {AGAIN}")
            if file.tell() + dtype.itemsize * int(np.prod(shape)) != start + size:
                raise InputError(f"{path}: {name} is cut off or damaged; {AGAIN}")
            columns[name] = dtype, file.tell()
    return TopMember(path, info, columns)


def _arrays(file: IO[bytes], path: Path) -> dict[str, tuple[int, int]]:
    """By its name, where each array of a zip file begins and how long it is, in bytes."""
    places = {}
    try:
        for entry in zipfile.ZipFile(file).infolist():
            if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
                raise InputError(f"{path}: is compressed, but is read a few rows at a time; {UNPACK}")
            # Only the header before the array says how long that header is, not the directory at the end of the file.
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
