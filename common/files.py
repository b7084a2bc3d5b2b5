"""Files that appear whole or not at all, and folders that one process at a time works in."""

import errno
import fcntl
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import IO

from common.errors import InputError

DISK_FAILURES = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}  # full, over quota, too large, broken
LOCK = ".lock"


@contextmanager
def atomic_write(path: str | Path, mode: str = "wb", name: str | Path | None = None) -> Iterator[IO]:
    """A file that takes its name only when the body has ended well; until then an older file keeps its place.

    It is written beside the target under a hidden temporary name, which no `*.npy` matches. At the end it is flushed to
    the disk and renamed. A failure or an interrupt removes it. When the process is killed the temporary file stays; the
    next process that writes the same file removes it.

    Args:
        path: where the file ends up. A link is followed to the file it names. The folder is created if needed.
        mode: "wb", or "w" for UTF-8 text.
        name: what an error message calls the file (default: path).

    Raises:
        InputError: the file cannot be written (no permission, full disk, a folder or device of that name).
    """
    target = Path(path).resolve()
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with named_failures(name or path, temporary):
            prepare_place(path)
            remove_litter(target)
            with _create(temporary, mode) as file:
                yield file
                flush_to_disk(file)
                os.replace(temporary, target)
            flush_folder(target.parent)
    finally:
        with suppress(OSError):
            temporary.unlink()


def remove_litter(target: Path) -> None:
    """Remove the temporary files of `target` whose processes have ended."""
    for path in target.parent.glob(f".{escape(target.name)}.*.tmp"):
        with suppress(OSError), open(path, "rb") as file:
            if lock(file):
                path.unlink()


@contextmanager
def temporary_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A folder in `parent` whose name begins with `prefix`, for files that are moved elsewhere when they are whole.

    It is removed at the end. Folders of this prefix that killed processes have left are removed at the beginning.
    Raises OSError.
    """
    for old in parent.glob(f"{escape(prefix)}*"):
        with suppress(OSError), open(old / LOCK) as file:
            if lock(file):
                shutil.rmtree(old, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=parent) as name, open(Path(name, LOCK), "w") as file:
        lock(file)
        yield Path(name)


@contextmanager
def named_failures(path: str | Path, temporary: Path) -> Iterator[None]:
    """Turn a failure to write `temporary`, or to rename it to `path`, into an InputError that names `path`."""
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
    """Create the folder of a file to be written; InputError where something else than a file has its name."""
    target = Path(path).resolve()
    if target.exists() and not target.is_file():  # a rename would replace even /dev/null
        raise InputError(f"{path}: not an ordinary file; choose another name for the output")
    target.parent.mkdir(parents=True, exist_ok=True)


def flush_to_disk(file: IO) -> None:
    """Return when the disk, not only the operating system, has what was written so far."""
    file.flush()
    os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Return when the disk has the names in `folder`, too; some file systems cannot tell."""
    with suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


# Locks. A forked process inherits the open file, and with it the lock. A loader's worker outlives a killed parent by
# seconds, and would keep the lock as long. So each forked process closes the locked files.

_locked: set[IO] = set()
_held: dict[Path, IO] = {}


def lock(file: IO) -> bool:
    """Lock an open file for this process, until it is closed or the process ends, even if it is killed.

    Returns False where another process has locked it. Returns True on a network disk that has no locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    _locked.difference_update([other for other in _locked if other.closed])
    _locked.add(file)
    return True


def _leave_locks_to_parent() -> None:
    for file in _locked:
        with suppress(OSError, ValueError):  # the copy may have buffered bytes: they go to the null device
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, file.fileno(), inheritable=False)
            os.close(null)
    _locked.clear()
    _held.clear()


os.register_at_fork(after_in_child=_leave_locks_to_parent)


def hold_folder(folder: str | Path) -> None:
    """Lock `folder` for this process, until it ends or calls `release_folder`.

    Raises InputError where another process has locked it; the message names that process and its machine.
    """
    folder = Path(folder).resolve()
    if folder in _held:
        return
    path = folder / LOCK
    while True:
        with named_failures(path, path):
            file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 (it stays open)
        file.seek(0)
        if not lock(file):
            owner = file.read().strip() or "another process"
            file.close()
            raise InputError(
                f"{folder}: {owner} is at work there; wait for it, stop it, or choose another folder with --out"
            )
        if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
            break
        file.close()  # between our opening and our lock, its owner has removed it
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    _held[folder] = file


def release_folder(folder: str | Path) -> None:
    """Unlock `folder`, if this process has locked it."""
    file = _held.pop(Path(folder).resolve(), None)
    if file:
        with suppress(OSError):
            os.unlink(file.name)
        file.close()


def release_folders() -> None:
    """Unlock all folders that this process has locked."""
    for folder in list(_held):
        release_folder(folder)


def _create(path: Path, mode: str) -> IO:
    """A new file, locked."""
    exclusive = mode.replace("w", "x")
    # File names that are not UTF-8 reach Python as surrogates; written this way they come out as they were.
    text = {} if "b" in mode else dict(encoding="utf-8", errors="surrogateescape", newline="")
    while True:
        file = open(path, exclusive, **text)  # noqa: SIM115 (the caller closes it)
        if lock(file) and path.exists():
            return file
        file.close()  # before it was locked, another process has removed it as litter


def _concerns(error: BaseException | None, paths: set[Path]) -> bool:
    """Whether the error is about writing to these paths; the body may also read, and fail at that."""
    if not isinstance(error, OSError):
        return False
    if error.filename is None:  # as in every write to an open file
        return error.errno in DISK_FAILURES
    return str(error.filename) in map(str, paths)
