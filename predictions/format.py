"""What a prediction file promises: the JSON that says what it is about, and rows that are distributions."""

import json
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import IO, Any

import numpy as np

from common.errors import InputError

FORMAT = 1
AGAIN = "make it again with predict.py"
SUM_TOLERANCE = 1e-2  # float16 rounds a row of 50,030 probabilities by 50,030 · 2⁻²⁵ + 2⁻¹¹ = 2e-3 at most


@dataclass
class PredictionInfo:
    """What a prediction file is about; a field that has a default here may be missing in the JSON.

    Args:
        split: name of the split, such as "val".
        arch: name of the network, "ensemble" for a sum of several.
        labels: n class indices, or None where the split has none.
        image_ids: n ids, one a row of the probabilities.
        class_names: K names, one a column.
        class_ids: K ids as the catalogue's own files write them, where these differ from the names.
        checkpoint: hash of the weights.
        crop: side of a crop in pixels.
        crops: number of crops that were averaged.
        unreadable: ids of the photographs that could not be opened.
        members, weights: of an ensemble, the files that were added and their weights, the largest 1.
        top1_error, mean_class_error: fractions; filled in by `write_predictions` where labels exist.
        top_k: of `NAME.npz`, how many classes of each photograph it holds.
    """

    split: str
    arch: str
    labels: list[int] | None
    image_ids: list[str]
    class_names: list[str]
    class_ids: list[str | int] | None = None
    checkpoint: str | None = None
    crop: int | None = None
    crops: int | None = None
    unreadable: list[str] = field(default_factory=list)
    members: list[str] | None = None
    weights: list[float] | None = None
    top1_error: float | None = None
    mean_class_error: float | None = None
    top_k: int | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(n, K) of the probabilities."""
        return len(self.image_ids), len(self.class_names)


def json_path(path: Path) -> Path:
    if path.suffix not in (".npy", ".npz"):
        raise InputError(f"{path}: expected the name of a prediction file, NAME.npy or NAME.npz")
    return path.with_suffix(".json")


@contextmanager
def reading(path: Path) -> Iterator[None]:
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
    with reading(path):
        raw = path.read_bytes()
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error}); {AGAIN}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected an object with the keys format, split, image_ids, …; {AGAIN}")
    _check_info(content, path)
    return PredictionInfo(**{key.name: content[key.name] for key in fields(PredictionInfo) if key.name in content})


def read_header(file: IO[bytes], path: Path) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of the array whose header the file stands at; it then stands at the first item."""
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

    `buffer`: where to put them, at least as large; what the system has to give out anew takes longer than reading.
    """
    items = np.empty(count, dtype) if buffer is None else np.frombuffer(buffer, dtype, count)
    left = memoryview(items.view(np.uint8))
    with reading(path), open(path, "rb", buffering=0) as file:
        file.seek(offset)
        while left:
            read = file.readinto(left)
            if not read:
                raise InputError(f"{path}: became shorter while it was read; start again when it is complete")
            left = left[read:]
    return items


def check_rows(rows: np.ndarray, image_ids: list[str], path: Path) -> None:
    """Refuses, by the id of its photograph, the first row of (m, K) that is not a distribution."""
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


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _count(value: Any) -> bool:
    return type(value) is int and value > 0


def _index(value: Any) -> bool:
    return type(value) is int and value >= 0


def _fraction(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1


def _texts(value: Any) -> bool:
    try:
        os.fsencode("".join(value))  # not half a character, which JSON can write as \ud800, but a table cannot
        return isinstance(value, list)
    except (TypeError, UnicodeEncodeError):
        return False


def _ids(value: Any) -> bool:
    return _list_of(lambda one: _text(one) or _index(one))(value) and _texts(list(map(str, value)))


def _list_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _optional(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or check(value)


EXPECTED = {
    "format": (lambda value: value == FORMAT, f"{FORMAT} (a newer file needs a newer version of this project)"),
    "split": (_text, "a string"),
    "arch": (_text, "a string"),
    "labels": (_optional(_list_of(_index)), "a list of class indices or null"),
    "image_ids": (_texts, "a list of strings"),
    "class_names": (_texts, "a list of strings"),
    "class_ids": (_optional(_ids), "a list of ids or null"),
    "checkpoint": (_optional(_text), "a string or null"),
    "crop": (_optional(_count), "a number of pixels or null"),
    "crops": (_optional(_count), "a positive integer or null"),
    "unreadable": (_texts, "a list of strings"),
    "members": (_optional(_texts), "a list of strings or null"),
    "weights": (_optional(_list_of(_fraction)), "a list of numbers from 0 to 1 or null"),
    "top1_error": (_optional(_fraction), "a fraction or null"),
    "mean_class_error": (_optional(_fraction), "a fraction or null"),
    "top_k": (_optional(_count), "a positive integer or null"),
}
OPTIONAL = {key.name for key in fields(PredictionInfo) if (key.default, key.default_factory) != (MISSING, MISSING)}


def _check_info(content: dict[str, Any], path: Path) -> None:
    """Refuses, by its key, what is missing, of the wrong type or in contradiction to the rest."""
    for key, (check, expected) in EXPECTED.items():
        if key not in content and key not in OPTIONAL:
            raise InputError(f"{path}: key {key!r} is missing, expected {expected}; {AGAIN}")
        if key in content and not check(content[key]):
            raise InputError(f"{path}: key {key!r} is not {expected}; {AGAIN}")
    images, classes = len(content["image_ids"]), len(content["class_names"])
    for key, length in {"image_ids": images, "class_names": classes}.items():
        if not length:
            raise InputError(f"{path}: key {key!r} is an empty list; {AGAIN}")
    if len(set(content["image_ids"])) < images:
        double, _ = Counter(content["image_ids"]).most_common(1)[0]
        raise InputError(f"{path}: key 'image_ids' names {double!r} twice; {AGAIN}")
    for key, length in {"labels": images, "class_ids": classes}.items():
        if content.get(key) is not None and len(content[key]) != length:
            raise InputError(f"{path}: key {key!r} has {len(content[key])} entries instead of {length}; {AGAIN}")
    if content["labels"] is not None and max(content["labels"]) >= classes:
        raise InputError(f"{path}: key 'labels' names class {max(content['labels'])} of only {classes}; {AGAIN}")
