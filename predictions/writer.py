"""Writing prediction files: rows are appended to a hidden partial beside the file, which takes its place when whole.

A partial that may be gone on with has a JSON beside it, `.NAME.npy.partial.json`, which vouches for its first rows:
what they were made with (`fingerprint`), the class that each predicts, and which photographs could not be read. Several
processes may each write a range of rows, `.NAME.npy.partial-START-STOP`; `join_predictions` makes the file of them.
"""

import glob
import hashlib
import io
import json
import os
import secrets
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

import numpy as np

from common.errors import InputError
from common.files import atomic_write, flush_folder, flush_to_disk, lock, named_failures, prepare_place, remove_litter
from predictions.format import PredictionInfo, check_rows, json_path, to_json
from predictions.metrics import mean_class_error, top1_error
from predictions.top_k import keep_top, record_dtype

CHUNK_BYTES = 16 * 2**20


def fingerprint(info: PredictionInfo, **settings) -> dict:
    """What decides the rows of a prediction, for `write_predictions`: equal fingerprints, equal rows."""
    lists = json.dumps([info.image_ids, info.class_names, info.class_ids, info.labels])
    digest = hashlib.sha256(lists.encode()).hexdigest()[:16]
    known = {key: getattr(info, key) for key in ("checkpoint", "split", "arch", "crop", "crops")}
    return known | {"catalogue": digest} | settings


class Partial:
    """The rows of a prediction file on their way to it: a header and records of `row` in a hidden file.

    Attributes:
        predicted: the class that each row so far predicts, in pieces (m,).
        unreadable: ids of photographs.
        done: number of rows.
        stored: type of a probability.
    """

    def __init__(self, path: Path, row: np.dtype, header: bytes, made_with: dict | None):
        self.path, self.sidecar = path, path.with_name(f"{path.name}.json")
        self.row, self.made_with = row, made_with
        self.predicted: list[np.ndarray] = []
        self.unreadable: list[str] = []
        self._header = header
        self.stored = row["probabilities"].base if row.names else row.base
        self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0)
        try:
            self._lock()
            if made_with:
                self._go_on()
            self.cut()
        except BaseException:
            self._file.close()
            raise

    @property
    def done(self) -> int:
        return sum(map(len, self.predicted))

    def append(self, records: np.ndarray, predicted: np.ndarray, unreadable: Sequence[str]) -> None:
        # Not through a memory map: on a full disk that ends in a bus error, a plain write in an exception.
        _write(self._file, records.reshape(-1).view(np.uint8).data)
        self.predicted.append(predicted)
        self.unreadable += unreadable

    def save(self) -> None:
        """Brings the rows so far to the disk, then what vouches for them."""
        flush_to_disk(self._file)
        state = {
            "made_with": self.made_with,
            "unreadable": self.unreadable,
            "predicted": [int(label) for labels in self.predicted for label in labels],
        }
        with atomic_write(self.sidecar, "w") as file:
            json.dump(state, file)

    def cut(self) -> None:
        """Leaves the header and the rows that are done, to go on behind them."""
        self._file.truncate(len(self._header) + self.done * self.row.itemsize)
        if not self.done:
            self._file.seek(0)
            _write(self._file, self._header)
        self._file.seek(0, os.SEEK_END)

    def chunks(self) -> Iterator[np.ndarray]:
        """The rows that are done, some at a time."""
        self._file.seek(len(self._header))
        size, left = max(1, CHUNK_BYTES // self.row.itemsize), self.done
        while left:
            yield np.fromfile(self._file, self.row, min(size, left))
            left -= min(size, left)

    def extend(self, others: Sequence["Partial"]) -> None:
        """Appends the rows of others to the file, and flushes it; what vouches for it stays as it was."""
        self._file.seek(0, os.SEEK_END)
        for other in others:
            for chunk in other.chunks():
                _write(self._file, chunk.reshape(-1).view(np.uint8).data)
        flush_to_disk(self._file)

    def close(self) -> None:
        self._file.close()

    def remove(self) -> None:
        self._file.close()
        remove_litter(self.sidecar)
        for path in (self.path, self.sidecar):
            path.unlink(missing_ok=True)

    def _lock(self) -> None:
        busy = InputError(f"{self.path}: another process is writing it; wait for it, or choose another --out")
        if not lock(self._file):
            raise busy
        if not self.path.exists() or not os.path.samestat(self.path.stat(), os.fstat(self._file.fileno())):
            raise busy  # it became the finished file between our opening and our lock

    def _go_on(self) -> None:
        try:
            state = json.loads(self.sidecar.read_bytes())
            made_with, predicted = state["made_with"], np.array(state["predicted"], np.int64)
            unreadable = [str(image) for image in state["unreadable"]]
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError):
            return self._start_anew("its JSON is damaged")
        other = [key for key in self.made_with if made_with.get(key) != self.made_with[key]]
        if other:
            key = other[0]
            return self._start_anew(f"it has {key} {made_with.get(key)!r}, not {self.made_with[key]!r}")
        if os.fstat(self._file.fileno()).st_size < len(self._header) + len(predicted) * self.row.itemsize:
            return self._start_anew("it is cut off")
        self.predicted, self.unreadable = [predicted], unreadable

    def _start_anew(self, reason: str) -> None:
        print(f"note: {self.path}, left by an interrupted run, is started anew: {reason}", file=sys.stderr)


class PredictionWriter:
    """Takes the probabilities of a split, or of a range of it, piece by piece in the order of `info.image_ids`."""

    def __init__(self, path: Path, info: PredictionInfo, rows: range, partial: Partial, save_every: float):
        self.path, self.info, self.rows = path, info, rows
        self._partial, self._save_every = partial, save_every
        self._saved = time.monotonic()

    @property
    def next(self) -> int:
        """Place in the split of the photograph whose row is the next to append."""
        return self.rows.start + self._partial.done

    def append(self, rows: np.ndarray, unreadable: Sequence[str] = ()) -> None:
        """Writes the probabilities of the next m photographs.

        Args:
            rows: (m, K) of any float type, each row with sum 1.
            unreadable: ids of those of them that could not be opened.

        Raises:
            InputError: a row is not a distribution, as when the network has diverged.
        """
        place, classes = self.next, self.info.shape[1]
        if rows.shape[1:] != (classes,) or place + len(rows) > self.rows.stop:
            raise ValueError(f"{self.path}: rows {rows.shape} from {place} on do not fit into {self.info.shape}")
        check_rows(rows, self.info.image_ids[place : place + len(rows)], self.path)
        stored = np.ascontiguousarray(rows, dtype=self._partial.stored)
        records = keep_top(stored, self.info.top_k) if self.info.top_k else stored
        self._partial.append(records, stored.argmax(axis=1), unreadable)
        if self._partial.made_with and time.monotonic() - self._saved >= self._save_every:
            self._partial.save()
            self._saved = time.monotonic()


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

    Until then older files of that name keep their places. Without `made_with` a failure leaves nothing behind.

    Args:
        path: `NAME.npy`, or `NAME.npz` where `info.top_k` says how many classes of a photograph to keep.
        info: gets the errors where labels are known, and the unreadable photographs.
        dtype: "float16", "float32", or for `NAME.npy` "float64".
        rows: what this process alone writes; `join_predictions` then makes the file. The default is the whole file.
        made_with: a `fingerprint`; what was appended then survives any end of the process, and the same call goes on
            at `writer.next`. What a partial of another fingerprint holds is dropped.
        save_every: seconds between two times that the rows so far are brought to the disk, with `made_with`.

    Raises:
        InputError: the file cannot be written, its name is wrong, or another process writes it.
    """
    path = Path(path)
    _check_place(path, info)
    span = range(len(info.image_ids)) if rows is None else rows
    with _partial(path, info, dtype, rows, made_with) as partial:
        writer = PredictionWriter(path, info, span, partial, save_every)
        yield writer
        if writer.next != span.stop:
            raise ValueError(f"{path}: rows up to {writer.next} written, up to {span.stop} announced")
        if rows is None:
            _finish(path, info, [partial])
        else:
            partial.save()


def join_predictions(
    path: str | Path,
    info: PredictionInfo,
    parts: Sequence[range],
    dtype: str = "float16",
    made_with: dict | None = None,
) -> None:
    """The prediction file of what several processes have written, byte for byte as one alone would have.

    Args:
        path, info, dtype, made_with: as they had them.
        parts: their `rows`, adjacent and in order.

    Raises:
        InputError: a part is not complete.
    """
    path = Path(path)
    _check_place(path, info)
    with ExitStack() as stack:
        partials = [stack.enter_context(_partial(path, info, dtype, rows, made_with)) for rows in parts]
        for rows, partial in zip(parts, partials, strict=True):
            if partial.done != len(rows):
                raise InputError(
                    f"{partial.path}: {partial.done} of {len(rows)} rows; run the same command again to complete it"
                )
        _finish(path, info, partials)


@contextmanager
def _partial(
    path: Path, info: PredictionInfo, dtype: str, rows: range | None, made_with: dict | None
) -> Iterator[Partial]:
    """The partial of these rows; when the body fails, all of it that can be saved is, or it is removed."""
    target = path.resolve()
    stored = np.dtype(dtype).newbyteorder("<")
    if info.top_k:
        row, header = record_dtype(info.shape[1], info.top_k, stored), b""
    else:
        row = np.dtype((stored, (info.shape[1],)))
        header = _header(stored, info.shape) if rows is None or rows.start == 0 else b""
    if made_with is None:
        remove_litter(target)
        place = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    else:
        place = target.with_name(f".{target.name}.partial" + ("" if rows is None else f"-{rows.start}-{rows.stop}"))
        made_with = made_with | {"dtype": dtype, "top_k": info.top_k}
    with named_failures(path, place):
        partial = Partial(place, row, header, made_with)
        try:
            yield partial
        except BaseException:
            if made_with:
                with suppress(OSError, InputError):  # on a full disk: the older sidecar vouches for fewer rows
                    partial.cut()
                    partial.save()
            raise
        finally:
            partial.close()
            if made_with is None:
                partial.remove()


def _finish(path: Path, info: PredictionInfo, partials: list[Partial]) -> None:
    """Makes the file of its parts and enters the errors of what is stored into `info`."""
    info.unreadable = list(dict.fromkeys([*info.unreadable, *(image for p in partials for image in p.unreadable)]))
    if info.labels is not None:
        predicted = np.concatenate([labels for partial in partials for labels in partial.predicted])
        info.top1_error = top1_error(predicted, info.labels)
        info.mean_class_error = mean_class_error(predicted, info.labels)
    description, target = json_path(path), path.resolve()
    with atomic_write(description, "w") as json_file:
        json_file.write(to_json(info))
        flush_to_disk(json_file)
        if info.top_k:
            with atomic_write(path) as file:
                _write_columns(file, partials, len(info.image_ids))
                flush_to_disk(file)
                description.unlink(missing_ok=True)
        else:
            partials[0].extend(partials[1:])
            # From here until the new JSON is in place a reader finds none, rather than the one of the older file.
            description.unlink(missing_ok=True)
            os.replace(partials[0].path, target)
    flush_folder(target.parent)
    for partial in partials:
        partial.remove()
    for path in target.parent.glob(f".{glob.escape(target.name)}.partial*"):  # of another number of processes
        path.unlink(missing_ok=True)


def _check_place(path: Path, info: PredictionInfo) -> None:
    """Refuses a name that cannot become the file of `info`, and creates its folder."""
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


def _header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """What stands before the items of a .npy file."""
    header = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, described)
    return header.getvalue()


def _write_columns(file: IO[bytes], partials: list[Partial], n: int) -> None:
    """The records of n photographs as an uncompressed .npz, an array a field."""
    row = partials[0].row
    with zipfile.ZipFile(file, "w") as archive:
        for name in row.names:
            # A ZipInfo of this age, numpy's choice too, keeps the clock out of the file.
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as column:
                column.write(_header(row[name].base, (n, *row[name].shape)))
                for partial in partials:
                    for chunk in partial.chunks():
                        column.write(np.ascontiguousarray(chunk[name]).tobytes())


def _write(file: IO[bytes], items: bytes | memoryview) -> None:
    """All of it, to the operating system: an unbuffered file may take less at a time."""
    left = memoryview(items).cast("B")
    while left:
        left = left[file.write(left) :]
