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
def atomic_write(path: str | Path, mode: str = "wb") -> Iterator[IO]:
    """A file that takes its name only when the body has ended well; until then an older file keeps its place.

    It is written beside the target (same folder, created if needed) under a hidden temporary name, which no
    `*.npy` matches, flushed to the disk and renamed. A failure or an interrupt removes it; what a process that was
    killed has left is removed by the next that writes the same file.

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
    """Remove the temporary files of `target` that belong to no process any more."""
    for path in target.parent.glob(f".{escape(target.name)}.*.tmp"):
        with suppress(OSError), open(path, "rb") as file:
            if lock(file):
                path.unlink()


@contextmanager
def temporary_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A folder in `parent` whose name begins with `prefix`, for what takes another name when it is whole.

    It is removed at the end; what a process that was killed has left of this prefix, at the beginning. Raises OSError.
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


def flush_folder(folder: Path) -> None:
    """Returns once the disk has the names in `folder`, too; not every file system can tell."""
    with suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


# Locks. A process forked from the holder inherits the open file, and with it the lock, and a loader's worker lives on
# for seconds when the process that made it is killed: so workers close what is locked.

_locked: set[IO] = set()
_held: dict[Path, IO] = {}


def lock(file: IO) -> bool:
    """Lock an open file for this process, until it is closed or the process ends, however it ends.

    Returns False where another process has it, True also on a network disk that has no locks.
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
        with suppress(OSError, ValueError):  # what the worker's copy of the file may still have to write goes nowhere
            nothing = os.open(os.devnull, os.O_RDWR)
            os.dup2(nothing, file.fileno(), inheritable=False)
            os.close(nothing)
    _locked.clear()
    _held.clear()


os.register_at_fork(after_in_child=_leave_locks_to_parent)


def hold_folder(folder: str | Path) -> None:
    """Make `folder` this process's own, until it ends or lets go of it.

    Raises InputError that names the process which has it, and where it runs.
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
        file.close()  # its holder has removed it between our opening and our lock
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    _held[folder] = file


def release_folder(folder: str | Path) -> None:
    """Let others have `folder`, if this process holds it."""
    file = _held.pop(Path(folder).resolve(), None)
    if file:
        with suppress(OSError):
            os.unlink(file.name)
        file.close()


def release_folders() -> None:
    """As `release_folder`, of all that this process holds."""
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
        file.close()  # another process has taken it for litter before it was locked


def _concerns(error: BaseException | None, paths: set[Path]) -> bool:
    """Whether the error is about writing to these paths, not the affair of a body that also reads."""
    if not isinstance(error, OSError):
        return False
    if error.filename is None:  # as in every write to an open file
        return error.errno in DISK_FAILURES
    return str(error.filename) in map(str, paths)
