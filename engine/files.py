"""Files that appear whole or not at all."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from errors import InputError

DISK_FAILURES = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}  # full, over quota, too large, broken


@contextmanager
def atomic_write(path: str | Path, mode: str = "wb") -> Iterator[IO]:
    """A file that takes its name only when the body has ended well; until then an older file keeps its place.

    It is written beside the target (same folder, created if needed) under a hidden temporary name, which no
    `*.npy` matches, flushed to the disk and renamed. A failure or an interrupt removes it.

    Args:
        path: where the file ends up. A link is followed to the file it names.
        mode: "wb", or "w" for UTF-8 text.

    Raises:
        InputError: the file cannot be written (no permission, full disk, a folder or device of that name).
    """
    target = Path(path).resolve()
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with named_failures(path, temporary):
            prepare_place(path)
            with _create(temporary, mode) as file:
                yield file
                flush_to_disk(file)
            os.replace(temporary, target)
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def named_failures(path: str | Path, temporary: Path) -> Iterator[None]:
    """Turns a failure to write `temporary`, or to make `path` of it, into an InputError that names `path`."""
    target = Path(path).resolve()
    try:
        yield
    except (OSError, RuntimeError) as error:
        # torch.save turns a failed write into a RuntimeError whose context it is.
        cause = error if isinstance(error, OSError) else error.__context__
        if not _concerns(cause, {temporary, target, *target.parents}):
            raise
        raise InputError(f"{path}: cannot be written ({cause.strerror}); choose another place or make room") from error


def prepare_place(path: str | Path) -> None:
    """Creates the folder of a file to be; raises InputError where something else than a file has its name."""
    target = Path(path).resolve()
    if target.exists() and not target.is_file():  # a rename would replace even /dev/null
        raise InputError(f"{path}: not an ordinary file; choose another name for the output")
    target.parent.mkdir(parents=True, exist_ok=True)


def flush_to_disk(file: IO) -> None:
    """Returns once the disk, not only the operating system, has what was written so far."""
    file.flush()
    os.fsync(file.fileno())


def _create(path: Path, mode: str) -> IO:
    exclusive = mode.replace("w", "x")
    if "b" in mode:
        return open(path, exclusive)
    # File names that are not UTF-8 reach Python as surrogates; written this way they come out as they were.
    return open(path, exclusive, encoding="utf-8", errors="surrogateescape", newline="")


def _concerns(error: BaseException | None, paths: set[Path]) -> bool:
    """Whether the error is about writing to these paths, not the affair of a body that also reads."""
    if not isinstance(error, OSError):
        return False
    if error.filename is None:  # as in every write to an open file
        return error.errno in DISK_FAILURES
    return str(error.filename) in map(str, paths)
