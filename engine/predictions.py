"""Prediction files: the probabilities of one network for the photographs of one split.

`NAME.npy` holds them, (n, K) in numpy's own format; `NAME.json` beside it says what they are about, a key a line:
the fields of `PredictionInfo`. Neither ever exists half-written, and the JSON comes last: a reader needs both.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from engine.files import atomic_write, flush_to_disk
from engine.metrics import mean_class_error, top1_error
from errors import InputError

FORMAT = 1
AGAIN = "make it again with predict.py"
SUM_TOLERANCE = 1e-2  # float16 rounds a row of 50,030 probabilities by 50,030 · 2⁻²⁵ + 2⁻¹¹ = 2e-3 at most
SAME_IN_ALL = ("split", "class_names", "class_ids", "image_ids", "labels")  # what members of one ensemble share


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

    @property
    def shape(self) -> tuple[int, int]:
        """(n, K) of the probabilities."""
        return len(self.image_ids), len(self.class_names)


# ------------------------------------------------------------------------------------------------- writing


class PredictionWriter:
    """Takes the probabilities of a split piece by piece, in the order of `info.image_ids`."""

    def __init__(self, path: Path, file: IO[bytes], info: PredictionInfo, dtype: np.dtype):
        self.path, self.info = path, info
        self._file, self._dtype = file, dtype
        self._predicted: list[np.ndarray] = []
        self._written = 0
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": info.shape}
        np.lib.format.write_array_header_1_0(file, header)

    def append(self, rows: np.ndarray) -> None:
        """Writes the probabilities of the next m photographs.

        Args:
            rows: (m, K) of any float type, each row with sum 1.

        Raises:
            InputError: a row is not a distribution, as when the network has diverged.
        """
        images, classes = self.info.shape
        if rows.shape[1:] != (classes,) or self._written + len(rows) > images:
            raise ValueError(f"{self.path}: rows {rows.shape} after {self._written} do not fit into {self.info.shape}")
        _check_rows(rows, self.info.image_ids[self._written : self._written + len(rows)], self.path)
        stored = np.ascontiguousarray(rows, dtype=self._dtype)
        # Not through a memory map: on a full disk that ends in a bus error, a plain write in an exception.
        self._file.write(stored.data)
        self._predicted.append(stored.argmax(axis=1))
        self._written += len(rows)

    def finish(self) -> None:
        """Checks that every photograph has its row and enters the errors of what was stored into `info`."""
        if self._written != len(self.info.image_ids):
            raise ValueError(f"{self.path}: {self._written} rows written, {len(self.info.image_ids)} announced")
        if self.info.labels is not None:
            predicted = np.concatenate(self._predicted)
            self.info.top1_error = top1_error(predicted, self.info.labels)
            self.info.mean_class_error = mean_class_error(predicted, self.info.labels)


@contextmanager
def write_predictions(path: str | Path, info: PredictionInfo, dtype: str = "float16") -> Iterator[PredictionWriter]:
    """A writer whose `append` fills a prediction file; file and JSON appear together when the body has ended well.

    Args:
        path: `NAME.npy`; `NAME.json` goes beside it.
        info: what the probabilities are about; `unreadable` may still grow, the two errors are filled in at the end.
        dtype: "float16", "float32" or "float64".

    Raises:
        InputError: the name does not end in .npy, a file cannot be written, `info` contradicts itself.
    """
    path = Path(path)
    description = _json_path(path)
    _check_info({"format": FORMAT, **asdict(info)}, path)
    with atomic_write(description, "w") as json_file, atomic_write(path) as file:
        writer = PredictionWriter(path, file, info, np.dtype(dtype).newbyteorder("<"))
        yield writer
        writer.finish()
        json_file.write(_to_json(info))
        flush_to_disk(json_file)
        flush_to_disk(file)
        # From here until the new JSON is in place a reader finds none, rather than the one of the older file.
        description.unlink(missing_ok=True)


def _to_json(info: PredictionInfo) -> str:
    """A key a line, the long lists last: `head -c 500` shows what a file is."""
    items = sorted({"format": FORMAT, **asdict(info)}.items(), key=lambda item: isinstance(item[1], list))
    return "{\n" + ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in items) + "\n}\n"


# ------------------------------------------------------------------------------------------------- reading


class Member:
    """A prediction file that is read a few rows at a time; made by `open_member`.

    Attributes:
        path: the file.
        info: what its JSON says.
    """

    def __init__(self, path: Path, info: PredictionInfo, dtype: np.dtype, offset: int):
        self.path, self.info = path, info
        self._dtype, self._offset = dtype, offset

    def rows(self, start: int, stop: int) -> np.ndarray:
        """The probabilities of photographs start to stop − 1, read from the disk by a plain read of just these.

        A memory map would count every row ever read as resident until the system needs the room.

        Args:
            start, stop: 0 ≤ start < stop ≤ n.

        Returns:
            (stop − start, K) float32.

        Raises:
            InputError: a row is not a distribution, or the file has changed since it was opened.
        """
        classes = self.info.shape[1]
        offset = self._offset + start * classes * self._dtype.itemsize
        with _reading(self.path):
            values = np.fromfile(self.path, self._dtype, (stop - start) * classes, offset=offset)
        if len(values) != (stop - start) * classes:
            raise InputError(f"{self.path}: became shorter while it was read; start again when it is complete")
        return self._checked(values.reshape(-1, classes), self.info.image_ids[start:stop])

    def take(self, places: np.ndarray) -> np.ndarray:
        """As `rows`, of the photographs at these places (m,) in any order: (m, K) float32."""
        with _reading(self.path):
            stored = np.memmap(self.path, self._dtype, "r", self._offset, self.info.shape)
        return self._checked(stored[places], [self.info.image_ids[place] for place in places])

    def _checked(self, values: np.ndarray, image_ids: list[str]) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore"):  # the check names what does not fit into float32
            rows = values.astype(np.float32)  # (m, K)
        _check_rows(rows, image_ids, self.path)
        return rows


def open_member(path: str | Path) -> Member:
    """Reads the header and the JSON of a prediction file and checks one against the other.

    Args:
        path: `NAME.npy` with float16, float32 or float64 of either byte order; never unpickled.

    Raises:
        InputError: a file is missing, cut off or not what its name says.
    """
    path = Path(path)
    description = _json_path(path)
    with _reading(path), open(path, "rb") as file:
        shape, dtype = _read_header(file, path)
        offset, size = file.tell(), path.stat().st_size
    info = _read_info(description)
    if shape != info.shape:
        raise InputError(f"{path}: shape {shape}, but its JSON tells of {info.shape} (image_ids, class_names); {AGAIN}")
    expected = offset + shape[0] * shape[1] * dtype.itemsize
    if size != expected:
        raise InputError(f"{path}: {size} bytes long instead of {expected}: cut off or damaged; {AGAIN}")
    return Member(path, info, dtype, offset)


def open_members(paths: Sequence[str | Path]) -> list[Member]:
    """Opens the prediction files of one ensemble and makes sure that they are about the same photographs and classes.

    All share the lists of the first, so that memory does not grow with their number.

    Args:
        paths: one prediction file or more.

    Raises:
        InputError: as `open_member`; a file is given twice; a file differs from the first in one of `SAME_IN_ALL`.
    """
    members: list[Member] = []
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


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; run predict.py first, it writes NAME.npy and NAME.json") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a prediction file") from error


def _json_path(path: Path) -> Path:
    if path.suffix != ".npy":
        raise InputError(f"{path}: expected the name of a prediction file, NAME.npy")
    return path.with_suffix(".json")


def _read_header(file: IO[bytes], path: Path) -> tuple[tuple[int, ...], np.dtype]:
    try:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, fortran_order, dtype = read(file)
    except Exception as error:  # a header is Python source, and a damaged one fails in any way that source can
        raise InputError(f"{path}: not a numpy .npy file, or a damaged one; {AGAIN}") from error
    if dtype.hasobject:
        raise InputError(f"{path}: holds pickled Python objects, which are never loaded; {AGAIN}")
    if dtype.kind != "f" or dtype.itemsize not in (2, 4, 8):
        raise InputError(f"{path}: holds {dtype}, expected float16, float32 or float64; {AGAIN}")
    if fortran_order:
        raise InputError(f"{path}: stored class by class (Fortran order); save it with numpy.ascontiguousarray first")
    return shape, dtype


def _read_info(path: Path) -> PredictionInfo:
    with _reading(path):
        raw = path.read_bytes()
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error}); {AGAIN}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected an object with the keys format, split, image_ids, …; {AGAIN}")
    _check_info(content, path)
    return PredictionInfo(**{key.name: content[key.name] for key in fields(PredictionInfo) if key.name in content})


def _check_same(member: Member, first: Member) -> None:
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


# ------------------------------------------------------------------------------------------------ checking


def _check_rows(rows: np.ndarray, image_ids: list[str], path: Path) -> None:
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


def _list_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _optional(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or check(value)


EXPECTED = {
    "format": (lambda value: value == FORMAT, f"{FORMAT} (a newer file needs a newer version of this project)"),
    "split": (_text, "a string"),
    "arch": (_text, "a string"),
    "labels": (_optional(_list_of(_index)), "a list of class indices or null"),
    "image_ids": (_list_of(_text), "a list of strings"),
    "class_names": (_list_of(_text), "a list of strings"),
    "class_ids": (_optional(_list_of(lambda value: _text(value) or _index(value))), "a list of ids or null"),
    "checkpoint": (_optional(_text), "a string or null"),
    "crop": (_optional(_count), "a number of pixels or null"),
    "crops": (_optional(_count), "a positive integer or null"),
    "unreadable": (_list_of(_text), "a list of strings"),
    "members": (_optional(_list_of(_text)), "a list of strings or null"),
    "weights": (_optional(_list_of(_fraction)), "a list of numbers from 0 to 1 or null"),
    "top1_error": (_optional(_fraction), "a fraction or null"),
    "mean_class_error": (_optional(_fraction), "a fraction or null"),
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
    for key, length in {"labels": images, "class_ids": classes}.items():
        if content.get(key) is not None and len(content[key]) != length:
            raise InputError(f"{path}: key {key!r} has {len(content[key])} entries instead of {length}; {AGAIN}")
    if content["labels"] is not None and max(content["labels"]) >= classes:
        raise InputError(f"{path}: key 'labels' names class {max(content['labels'])} of only {classes}; {AGAIN}")
