"""Write a prediction file: rows go to part files first (`predictions.parts`), which are joined when all are there.

Several processes can each write a range of the rows, in one folder of parts; `join_predictions` then makes the file.
"""

import hashlib
import io
import json
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

import numpy as np

from common.errors import InputError
from common.files import atomic_write, flush_to_disk, named_failures, prepare_place
from predictions.format import PredictionInfo, check_rows, json_path, to_json
from predictions.metrics import mean_class_error, top1_error
from predictions.parts import NewPart, Part, PartFolder
from predictions.top_k import keep_top, record_dtype

PART_BYTES = 64 * 2**20  # a part is ended when it has as many


def fingerprint(info: PredictionInfo, **settings) -> dict:
    """What decides the rows of a prediction, for `write_predictions`: equal fingerprints, equal rows."""
    lists = json.dumps([info.image_ids, info.class_names, info.class_ids, info.labels])
    digest = hashlib.sha256(lists.encode()).hexdigest()[:16]
    known = {key: getattr(info, key) for key in ("checkpoint", "split", "arch", "crop", "crops")}
    return known | {"catalogue": digest} | settings


class PredictionWriter:
    """Takes the probabilities of a split, or of a range of it, batch by batch in the order of `info.image_ids`.

    Attributes:
        next: place in the split of the photograph whose row is the next to append.
    """

    def __init__(self, info: PredictionInfo, rows: range, start: int, parts: PartFolder, save_every: float):
        self.info, self.rows, self.next = info, rows, start
        self._parts, self._save_every = parts, save_every
        self._part: NewPart | None = None
        self._stack = ExitStack()  # holds the part that is being written
        self._saved = time.monotonic()

    def append(self, rows: np.ndarray, unreadable: Sequence[str] = ()) -> None:
        """Write the probabilities of the next m photographs.

        Args:
            rows: (m, K) of any float type, each row with sum 1.
            unreadable: ids of those of them that could not be opened.

        Raises:
            InputError: a row is not a distribution, as when the network has diverged.
        """
        path, stop, classes = self._parts.path, self.next + len(rows), self.info.shape[1]
        if rows.shape[1:] != (classes,) or stop > self.rows.stop:
            raise ValueError(f"{path}: rows {rows.shape} from {self.next} on do not fit into {self.info.shape}")
        check_rows(rows, self.info.image_ids[self.next : stop], path)
        stored = np.ascontiguousarray(rows, dtype=_cell(self._parts.row))
        if self._part is None:
            self._part = self._stack.enter_context(self._parts.new_part(self.next))
        with named_failures(path, self._parts.folder):
            try:
                self._part.append(keep_top(stored, self.info.top_k) if self.info.top_k else stored, unreadable)
            except BaseException as error:  # it may hold half a batch
                self.drop(error)
                raise
        self.next = stop
        if self._part.bytes >= PART_BYTES or time.monotonic() - self._saved >= self._save_every:
            self.save()

    def save(self) -> None:
        """Bring the rows so far to the disk, as a part."""
        self._part = None
        self._stack.close()
        self._saved = time.monotonic()

    def drop(self, error: BaseException) -> None:
        """Give up the part that is being written."""
        self._part = None
        with suppress(OSError, InputError):
            self._stack.__exit__(type(error), error, error.__traceback__)


@contextmanager
def write_predictions(
    path: str | Path,
    info: PredictionInfo,
    dtype: str = "float16",
    rows: range | None = None,
    made_with: dict | None = None,
    save_every: float = 60.0,
) -> Iterator[PredictionWriter]:
    """A prediction file that appears, with its JSON, when all rows were appended and the body has ended well.

    Until then older files of that name keep their places. Memory: one batch, and at the end 4 MB. Disk: the parts take
    as much as the file; while they are joined, both are there.

    Args:
        path: `NAME.npy`, or `NAME.npz` where `info.top_k` says how many classes of a photograph to keep.
        info: gets the errors where labels are known, and the unreadable photographs.
        dtype: "float16", "float32", or for `NAME.npy` "float64".
        rows: what this process alone writes; `join_predictions` then makes the file. The default is the whole file.
        made_with: a `fingerprint`; the parts then survive any end of the process, and the same call goes on at
            `writer.next`. Parts of another fingerprint are removed. Without it a failure leaves nothing behind.
        save_every: seconds after which a part is ended; it is also ended at 64 MB, and when the body ends.

    Raises:
        InputError: the file cannot be written, its name is wrong, or another process writes it.
    """
    span = range(len(info.image_ids)) if rows is None else rows
    parts = _part_folder(Path(path), info, dtype, made_with)
    with parts.locked([span]):
        written = parts.usable(span, check=True) if made_with else []
        parts.remove_others(span, written)
        writer = PredictionWriter(info, span, written[-1].stop if written else span.start, parts, save_every)
        with _saved(writer) if made_with else _removed(writer, parts):
            yield writer
            writer.save()
            if writer.next != span.stop:
                raise ValueError(f"{path}: rows up to {writer.next} written, up to {span.stop} announced")
            if rows is None:
                _finish(parts, info)


@contextmanager
def _saved(writer: PredictionWriter) -> Iterator[None]:
    """When the body fails, end the part that is being written."""
    try:
        yield
    except BaseException:
        with suppress(OSError, InputError):  # a full disk: the older parts hold fewer rows
            writer.save()
        raise


@contextmanager
def _removed(writer: PredictionWriter, parts: PartFolder) -> Iterator[None]:
    """When the body fails, remove all parts."""
    try:
        yield
    except BaseException as error:
        writer.drop(error)
        parts.remove()
        raise


def join_predictions(
    path: str | Path,
    info: PredictionInfo,
    parts: Sequence[range],
    dtype: str = "float16",
    made_with: dict | None = None,
) -> None:
    """Make the prediction file of what several processes have written, byte for byte as one alone would have.

    Args:
        path, info, dtype, made_with: as they had them.
        parts: their `rows`, adjacent and in order.

    Raises:
        InputError: the rows of a process are not complete.
    """
    folder = _part_folder(Path(path), info, dtype, made_with)
    with folder.locked(parts):
        for rows in parts:
            written = folder.usable(rows, check=False)
            done = written[-1].stop - rows.start if written else 0
            if done != len(rows):
                raise InputError(
                    f"{path}: {done} of {len(rows)} rows from photograph {rows.start} on; run the same command again "
                    "to complete it"
                )
        _finish(folder, info)


def _part_folder(path: Path, info: PredictionInfo, dtype: str, made_with: dict | None) -> PartFolder:
    _check_place(path, info)
    stored = np.dtype(dtype).newbyteorder("<")
    row = record_dtype(info.shape[1], info.top_k, stored) if info.top_k else np.dtype((stored, (info.shape[1],)))
    return PartFolder(path, row, (made_with or {}) | {"dtype": dtype, "top_k": info.top_k})


def _check_place(path: Path, info: PredictionInfo) -> None:
    """Refuse a name that cannot become the file of `info`, and create its folder."""
    description, (suffix, other) = json_path(path), (".npz", ".npy") if info.top_k else (".npy", ".npz")
    if path.suffix != suffix:
        raise InputError(
            f"{path}: expected a name that ends in {suffix}; .npz holds the top k classes, .npy all of them"
        )
    if info.top_k and not 1 <= info.top_k < info.shape[1]:
        raise InputError(f"--top-k {info.top_k}: expected 1 to {info.shape[1] - 1}, fewer than the classes")
    if path.with_suffix(other).exists():
        raise InputError(
            f"{path.with_suffix(other)}: lies there already and needs {description.name} too; move both away, or "
            "choose another --out"
        )
    for place in (path, description):
        with named_failures(place, place.resolve()):
            prepare_place(place)


def _finish(folder: PartFolder, info: PredictionInfo) -> None:
    """Join the parts to the file, and enter the errors of what is stored into `info`."""
    parts = folder.usable(range(len(info.image_ids)), check=False)  # the checksums are compared while they are read
    info.unreadable = list(dict.fromkeys([*info.unreadable, *(image for part in parts for image in part.unreadable)]))
    description = json_path(folder.path)
    with atomic_write(description, "w") as json_file, atomic_write(folder.path) as file:
        predicted = _write_top_k(file, folder.row, parts) if info.top_k else _write_all(file, folder.row, parts)
        if info.labels is not None:
            info.top1_error = top1_error(predicted, info.labels)
            info.mean_class_error = mean_class_error(predicted, info.labels)
        json_file.write(to_json(info))
        for written in (json_file, file):
            flush_to_disk(written)
        # From here until the new JSON is in place a reader finds none, rather than that of the older file.
        description.unlink(missing_ok=True)
    folder.remove()


def _write_all(file: IO[bytes], row: np.dtype, parts: Sequence[Part]) -> np.ndarray:
    """Write the rows of n photographs as a .npy file; the class that each predicts, (n,)."""
    file.write(_header(_cell(row), (parts[-1].stop, *row.shape)))
    predicted = []
    for part in parts:
        for rows in part.chunks(row):  # (m, K)
            file.write(rows.reshape(-1).view(np.uint8).data)
            predicted.append(rows.argmax(axis=1))
    return np.concatenate(predicted)


def _write_top_k(file: IO[bytes], row: np.dtype, parts: Sequence[Part]) -> np.ndarray:
    """Write the records of n photographs as an uncompressed .npz, an array a field; the predicted classes, (n,)."""
    predicted = []
    with zipfile.ZipFile(file, "w") as archive:
        for name in row.names:
            # A ZipInfo of this age, numpy's choice too, keeps the clock out of the file.
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as column:
                column.write(_header(row[name].base, (parts[-1].stop, *row[name].shape)))
                for part in parts:
                    for records in part.chunks(row):  # (m,)
                        column.write(np.ascontiguousarray(records[name]).tobytes())
                        if name == "indices":
                            predicted.append(records[name][:, 0])
    return np.concatenate(predicted)


def _cell(row: np.dtype) -> np.dtype:
    """The type of a probability in a row."""
    return row["probabilities"].base if row.names else row.base


def _header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """What stands before the items of a .npy file."""
    header = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, described)
    return header.getvalue()
