"""The format of prediction files: the JSON that describes one, its numpy headers, rows that are distributions."""

import json
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from common.errors import InputError
from common.flags import FITS
from common.schema import Count, Fraction, Index, converted, described

FORMAT = 1
AGAIN = "make it again with predict.py"
SUM_TOLERANCE = 1e-2  # float16 rounds a row of 50,030 probabilities by 50,030 · 2⁻²⁵ + 2⁻¹¹ = 2e-3 at most
Strings = list[str]


@dataclass
class PredictionInfo:
    """What a prediction file is about; a field that has a default here may be missing in the JSON.

    Args:
        split: name of the split, such as "val".
        arch: name of the network, "ensemble" for a sum of several.
        labels: n class indices, or None where the split has none.
        image_ids: n ids, one a row of the probabilities.
        class_names: K names, one a column.
        class_ids: K ids as the catalogue's files write them, where these differ from the names.
        checkpoint: hash of the weights.
        crop: side of a crop in pixels.
        fit: how photographs that are not square became square.
        crops: number of crops that were averaged.
        unreadable: ids of the photographs that could not be opened.
        members, weights: of an ensemble, the files that were added and their weights, the largest 1.
        top1_error, mean_class_error: fractions; filled in by `write_predictions` where labels exist.
        top_k: of `NAME.npz`, how many classes of each photograph it holds.
    """

    split: described(str, "a string")
    arch: described(str, "a string")
    labels: described(list[Index] | None, "a list of class indices or null")
    image_ids: described(Strings, "a list of strings")
    class_names: described(Strings, "a list of strings")
    class_ids: described(list[str | Index] | None, "a list of ids or null") = None
    checkpoint: described(str | None, "a string or null") = None
    crop: described(Count | None, "a number of pixels or null") = None
    fit: described(Literal[FITS] | None, f"one of {', '.join(FITS)} or null") = None
    crops: described(Count | None, "a positive integer or null") = None
    unreadable: described(Strings, "a list of strings") = field(default_factory=list)
    members: described(Strings | None, "a list of strings or null") = None
    weights: described(list[Fraction] | None, "a list of numbers from 0 to 1 or null") = None
    top1_error: described(Fraction | None, "a fraction or null") = None
    mean_class_error: described(Fraction | None, "a fraction or null") = None
    top_k: described(Count | None, "a positive integer or null") = None

    @property
    def shape(self) -> tuple[int, int]:
        """(n, K) of the probabilities."""
        return len(self.image_ids), len(self.class_names)


@dataclass
class Versioned:
    """The key that every JSON of a prediction has besides those of `PredictionInfo`."""

    format: described(Literal[FORMAT], f"{FORMAT} (a newer file needs a newer version of this project)")


def json_path(path: Path) -> Path:
    """Where the JSON of a prediction file lies."""
    if path.suffix not in (".npy", ".npz"):
        raise InputError(f"{path}: expected the name of a prediction file, NAME.npy or NAME.npz")
    return path.with_suffix(".json")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns a failure to read `path` into an InputError that names it."""
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise InputError(f"{path}: cannot be read (not an ordinary file); expected a prediction file")
        yield
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; run predict.py first, it writes NAME.npy and NAME.json") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a prediction file") from error


def to_json(info: PredictionInfo) -> str:
    """A key a line, the long lists last: `head -c 500` shows what a file is."""
    items = sorted({"format": FORMAT, **asdict(info)}.items(), key=lambda item: isinstance(item[1], list))
    return "{\n" + ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in items) + "\n}\n"


def read_info(path: Path) -> PredictionInfo:
    """The JSON of a prediction file; InputError, by its key, for what is missing, wrong or contradictory."""
    with reading(path):
        raw = path.read_bytes()
    try:
        content = json.loads(raw)  # not msgspec's parser: ids that are no UTF-8 stand as half characters, \udc80
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error}); {AGAIN}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected an object with the keys format, split, image_ids, …; {AGAIN}")
    converted(content, Versioned, path, AGAIN)
    info = converted(content, PredictionInfo, path, AGAIN)
    _check_names(info, path)
    _check_lengths(info, path)
    return info


def _check_names(info: PredictionInfo, path: Path) -> None:
    """Refuse names with half a character, which JSON can write as \\ud800, but no file name or table can hold."""
    for key in ("image_ids", "class_names", "class_ids", "unreadable", "members"):
        try:
            os.fsencode("".join(map(str, getattr(info, key) or ())))
        except UnicodeEncodeError as error:
            kind = "ids or null" if key == "class_ids" else "strings"
            raise InputError(
                f"{path}: key {key!r} is not a list of {kind}, each of whole characters; {AGAIN}"
            ) from error


def _check_lengths(info: PredictionInfo, path: Path) -> None:
    images, classes = info.shape
    for key, length in {"image_ids": images, "class_names": classes}.items():
        if not length:
            raise InputError(f"{path}: key {key!r} is an empty list; {AGAIN}")
    if len(set(info.image_ids)) < images:
        double, _ = Counter(info.image_ids).most_common(1)[0]
        raise InputError(f"{path}: key 'image_ids' names {double!r} twice; {AGAIN}")
    for key, length in {"labels": images, "class_ids": classes}.items():
        values = getattr(info, key)
        if values is not None and len(values) != length:
            raise InputError(f"{path}: key {key!r} has {len(values)} entries instead of {length}; {AGAIN}")
    if info.labels is not None and max(info.labels) >= classes:
        raise InputError(f"{path}: key 'labels' names class {max(info.labels)} of only {classes}; {AGAIN}")


def read_header(file: IO[bytes], path: Path) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of the array whose header is next in the file; then the first item is next."""
    try:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of numpy and of Python's parser: the header is read or it is not
            shape, fortran_order, dtype = read(file)
    except Exception as error:  # a header is Python source, and a damaged one fails in any way that source can
        raise InputError(f"{path}: not a numpy {path.suffix} file, or a damaged one; {AGAIN}") from error
    if dtype.hasobject:
        raise InputError(f"{path}: holds pickled Python objects, which are never loaded; {AGAIN}")
    if fortran_order:
        raise InputError(f"{path}: stored class by class (Fortran order); save it with numpy.ascontiguousarray first")
    return shape, dtype


def read_items(path: Path, dtype: np.dtype, count: int, offset: int, buffer: bytearray | None = None) -> np.ndarray:
    """`count` items from `offset` bytes on, by a plain read; InputError where the file ends before.

    buffer: where to put them, at least as large. New memory from the system takes longer than the reading.
    """
    items = np.empty(count, dtype) if buffer is None else np.frombuffer(buffer, dtype, count)
    left = memoryview(items.view(np.uint8))
    with reading(path), open(path, "rb", buffering=0) as file:
        file.seek(offset)
        while left:
            size = file.readinto(left)
            if not size:
                raise InputError(f"{path}: became shorter while it was read; start again when it is complete")
            left = left[size:]
    return items


def check_rows(rows: np.ndarray, image_ids: Strings, path: Any) -> None:
    """Refuse, by the id of its photograph, the first row of (m, K) that is not a distribution."""
    with np.errstate(over="ignore", invalid="ignore"):
        sums = rows.sum(axis=1, dtype=np.promote_types(rows.dtype, np.float32))
        good = (np.abs(sums - 1) <= SUM_TOLERANCE) & (rows.min(axis=1) >= 0)  # a NaN fails both
    if good.all():
        return
    bad = int(good.argmin())
    if not np.isfinite(rows[bad]).all():
        fault = "a probability that is not a finite number"
    elif rows[bad].min() < 0:
        fault = f"a negative probability ({rows[bad].min():.3g})"
    else:
        fault = f"probabilities with sum {sums[bad]:.4g} instead of 1"
    raise InputError(f"{path}: photograph {image_ids[bad]!r} has {fault}; check the network, then run predict.py again")
