"""A catalogue packed into WebDataset shards: tar files of photographs that are squashed already.

    python -m data.pack --data DIR --size 256 --out shards     # stopped or killed, the same command goes on
    python -m data.pack --verify shards                        # names shards that are damaged or missing
    python train.py --data shards                              # a catalogue like any other

Training first squashes a photograph to --resize pixels. Packed at that size, a catalogue loses nothing but JPEG's
rounding; its photographs are decoded faster, and a disk or network holds a few large files instead of millions of
small ones. The shards of the training split hold its photographs in random order, so that each is a fair
sample of the catalogue (`train.py --stream`); those of the other splits keep their order.

A sample is KEY.jpg, KEY.cls (its label, where one is known) and KEY.json ({"id": …, "class": …}); KEY is the
photograph's place in its split, a row of a prediction file. The same catalogue and settings give the same bytes.
"""

import argparse
import hashlib
import io
import json
import multiprocessing
import operator
import os
import shutil
import signal
import sys
import tarfile
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from common.command_line import run
from common.errors import InputError, one_line
from common.files import hold_folder, release_folder
from common.flags import Parser, add_worker_timeout, number
from data import index
from data.catalogue import Catalogue, Split
from data.kinds import PACK_INDEX, PACK_SETTINGS, SHARDS, open_catalogue
from data.photographs import UnreadablePhotograph, read_squashed
from data.shards import Shards
from data.workers import NOTHING, WorkerStatus, death, hang

VERSION = 2  # of the layout and the pixels of shards: others are not gone on with
SETTINGS = ("size", "quality", "per_shard", "seed")
SUMS, UNREADABLE = "SHA256SUMS", "unreadable.txt"


class Job(NamedTuple):
    """What is packed, where and how: the same for all shards."""

    catalogue: Catalogue
    out: Path
    size: int
    quality: int
    per_shard: int
    seed: int

    def shards(self) -> Iterator[tuple[str, str, np.ndarray]]:
        """Split, name, and the places of the photographs in it, int64, of every shard."""
        for split, photographs in self.catalogue.splits.items():
            order = packing_order(split, len(photographs), self.seed)
            for place, start in enumerate(range(0, len(order), self.per_shard)):
                yield split, f"{split}-{place:06d}.tar", order[start : start + self.per_shard]


def packing_order(split: str, n: int, seed: int) -> np.ndarray:
    """Places of a split's n photographs in the order in which they are packed, int64 (n,)."""
    if split != "train":
        return np.arange(n)
    # Words of its own: the order of an epoch must not be that of the shards, nor a balanced subset lie in the first.
    return np.random.default_rng([seed, *b"pack"]).permutation(n)


def fingerprint(catalogue: Catalogue) -> str:
    """SHA-256 of all that the catalogue lists, wherever it lies."""
    digest = hashlib.sha256(json.dumps([catalogue.classes, catalogue.class_ids, catalogue.tree]).encode())
    for name, split in catalogue.splits.items():
        digest.update(json.dumps([name, len(split), split.names_are_ids, split.id_root]).encode())
        for array in (split.paths.buffer, split.paths.offsets, split.labels):
            digest.update(b"none" if array is None else np.ascontiguousarray(array))
    return digest.hexdigest()


@contextmanager
def written(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes its name when the body has ended well; what is half-written until then, `tidy` removes."""
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "w+b") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def sidecar(tar: Path) -> Path:
    """Where the facts of a shard are kept until all are there: written after it, they say that it is whole."""
    return tar.with_suffix(".json")


def finished(tar: Path, places: np.ndarray) -> dict | None:
    """The facts of the shard of the photographs at `places`, if it has been packed to its end and is still there."""
    try:
        facts = json.loads(sidecar(tar).read_text())
        size, pieces = tar.stat().st_size, list(zip(facts["start"], facts["size"], strict=True))
        whole = size == facts["bytes"] and len(pieces) == len(places) and isinstance(facts["sha256"], str)
        whole &= all(
            0 <= operator.index(start) <= size - n and operator.index(n) in range(2**31) for start, n in pieces
        )
        whole &= {place for place, _ in facts["unreadable"]} <= set(places.tolist())
        return facts if whole else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # none there, or damaged: it is packed again
        return None


def pack_shard(job: Job, split: Split, name: str, places: np.ndarray, progress: "Progress | None" = None) -> None:
    """Write the shard `name` of the photographs at `places`, and its facts."""
    starts, sizes, unreadable = [], [], []
    with written(job.out / name) as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for place in places.tolist():
                if progress:
                    progress.begin(split, place)
                starts.append(tar.offset + tarfile.BLOCKSIZE)  # a member's header is one block in this format
                try:
                    content = jpeg(job, split.path(place))
                    add_sample(tar, job.catalogue, split, place, content)
                    sizes.append(len(content))
                except UnreadablePhotograph as error:
                    unreadable.append([place, str(error)])
                    sizes.append(0)
                if progress:
                    progress.end()
        file.seek(0)
        facts = {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "bytes": file.tell()}
    with written(sidecar(job.out / name)) as file:
        file.write(json.dumps(facts | {"start": starts, "size": sizes, "unreadable": unreadable}).encode())


def jpeg(job: Job, path) -> bytes:
    """The photograph at `path`, squashed, as a JPEG whose colours have as many pixels as its brightness."""
    content = io.BytesIO()
    Image.fromarray(read_squashed(path, job.size)).save(content, "jpeg", quality=job.quality, subsampling=0)
    return content.getvalue()


def add_sample(tar: tarfile.TarFile, catalogue: Catalogue, split: Split, place: int, content: bytes) -> None:
    about, members = {"id": split.image_id(place)}, {"jpg": content}
    if split.labels is not None:
        label = int(split.labels[place])
        about["class"] = catalogue.classes[label]
        members["cls"] = b"%d" % label
    members["json"] = json.dumps(about).encode()
    for ending, data in members.items():
        member = tarfile.TarInfo(f"{place:09d}.{ending}")  # of no time and no owner
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))


# Worker processes: what they share is handed over once, when they start


class Progress:
    """How many photographs the workers have packed, and which one each is at."""

    def __init__(self, catalogue: Catalogue, workers: int):
        self.splits, self.status = list(catalogue.splits.values()), WorkerStatus(workers)
        self.count, self._begun = multiprocessing.Value("q", 0), multiprocessing.Value("q", 0)
        self._worker = 0

    def start(self) -> None:
        """Take a number for this process."""
        with self._begun.get_lock():
            self._worker = self._begun.value
            self._begun.value += 1

    def begin(self, split: Split, place: int) -> None:
        number = [each.name for each in self.splits].index(split.name)
        self.status.note(self._worker, len(self.splits) * place + number)

    def end(self) -> None:
        self.status.note(self._worker, NOTHING)
        with self.count.get_lock():
            self.count.value += 1

    def name(self, place: int) -> object:
        """What a place in `status` is called."""
        return self.splits[place % len(self.splits)].path(place // len(self.splits))


_job: Job
_progress: Progress


def _start(job: Job, progress: Progress) -> None:
    global _job, _progress
    _job, _progress = job, progress
    progress.start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started them stops them
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """If that one is killed, they must not stay and write."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _pack(split: str, name: str, places: np.ndarray) -> None:
    pack_shard(_job, _job.catalogue.split(split), name, places, _progress)


def pack_all(job: Job, workers: int, patience: float = 0) -> None:
    """Write every shard that is not there yet.

    Raises OSError where one cannot be written, and InputError, naming the photograph, where a worker has died, or has
    been for more than `patience` seconds (0: any number) at one.
    """
    shards = list(job.shards())
    missing = [shard for shard in shards if finished(job.out / shard[1], shard[2]) is None]
    total, left = (sum(len(places) for *_, places in some) for some in (shards, missing))
    if left < total:
        print(f"{job.out}: {len(shards) - len(missing):,} of {len(shards):,} shards are there already", flush=True)
    if not missing:
        return
    workers = min(workers, len(missing))
    progress, processes, hangs = Progress(job.catalogue, workers), {}, None
    bar = tqdm(total=total, initial=total - left, desc="packing", unit="image", leave=False, disable=None)
    try:
        with bar, ProcessPoolExecutor(workers, initializer=_start, initargs=(job, progress)) as pool:
            try:
                running = {pool.submit(_pack, *shard) for shard in missing}
                while running:
                    processes |= getattr(pool, "_processes", None) or {}
                    done, running = wait(running, timeout=0.5, return_when=FIRST_EXCEPTION)
                    for future in done:
                        future.result()
                    bar.update(total - left + progress.count.value - bar.n)
                    seconds, pid, place = next(iter(progress.status.of()), (0, 0, NOTHING))
                    if 0 < patience < seconds and not hangs:
                        hangs = hang(seconds, progress.name(place))
                        os.kill(pid, signal.SIGKILL)
            except BaseException:
                for process in multiprocessing.active_children():  # what they have in hand may take them minutes
                    process.terminate()
                raise
    except BrokenProcessPool as error:  # one was lost; the pool ends the others by SIGTERM
        codes = {pid: process.exitcode for pid, process in processes.items()}
        lost = {pid: code for pid, code in codes.items() if code not in (None, 0, -signal.SIGTERM)}
        names = [progress.name(place) for *_, place in progress.status.of(lost)]
        raise InputError(f"{hangs or death(lost.values(), names)}; the same command goes on") from error


def finish(job: Job) -> tuple[int, int]:
    """Write the sums, the unreadable ones and, last, the index of shards that are all there.

    Returns how many bytes the shards have and how many photographs could not be read.
    """
    sums, unreadable, splits = [], [], {}
    for name, split in job.catalogue.splits.items():
        files, n = [], len(split)
        places = Shards((), job.size, np.empty(n, np.int32), np.empty(n, np.int64), np.empty(n, np.int32))
        for _, tar, inside in (shard for shard in job.shards() if shard[0] == name):
            facts = finished(job.out / tar, inside)
            places.shard[inside], places.start[inside], places.size[inside] = len(files), facts["start"], facts["size"]
            files.append((tar, facts["bytes"]))
            sums.append(f"{facts['sha256']}  {tar}\n")
            unreadable += [
                f"{one_line(split.path(place))}\t{one_line(reason)}\n" for place, reason in facts["unreadable"]
            ]
        shards = replace(places, files=tuple(files))
        splits[name] = replace(split, root=job.out, shards=shards)
    with written(job.out / UNREADABLE) as file:
        file.write("".join(unreadable).encode())
    with written(job.out / SUMS) as file:
        file.write("".join(sums).encode())
    index.save(job.out / PACK_INDEX, replace(job.catalogue, kind=SHARDS, root=job.out, splits=splits), job.out, [])
    return sum(size for split in splits.values() for _, size in split.shards.files), len(unreadable)


def claim(job: Job) -> None:
    """Make the folder --out, or see that it is one that this very command has begun; InputError where it is not."""
    settings = {"version": VERSION, "catalogue": fingerprint(job.catalogue)}
    settings |= {name: getattr(job, name) for name in SETTINGS}
    root, out = job.catalogue.root.resolve(), job.out.resolve()
    if out == root or root in out.parents:
        raise InputError(f"--out {job.out}: lies in the catalogue {job.catalogue.root}; choose a folder outside")
    if job.out.exists() and not job.out.is_dir():
        raise InputError(f"--out {job.out}: is a file; choose a new folder")
    path = job.out / PACK_SETTINGS
    if job.out.exists():
        hold_folder(job.out)
    if path.exists():
        try:
            found = dict(json.loads(path.read_text()))
        except (ValueError, TypeError):
            found = {}
        for name in SETTINGS:
            if name in found and found[name] != settings[name]:
                flag = "--" + name.replace("_", "-")
                raise InputError(
                    f"{flag} {settings[name]}: {job.out} was packed with {found[name]}; give {flag} {found[name]}, "
                    "another --out, or remove the folder"
                )
        if found != settings:
            raise InputError(
                f"--out {job.out}: was packed from another catalogue than {job.catalogue.root} is now, or by another "
                "version; give another --out, or remove the folder"
            )
    else:
        job.out.mkdir(parents=True, exist_ok=True)
        hold_folder(job.out)
        if any(not entry.name.startswith(".") for entry in job.out.iterdir()):
            raise InputError(f"--out {job.out}: holds other files; choose a new folder, or empty it")
        with written(path) as file:
            file.write(json.dumps(settings).encode())


def tidy(out: Path) -> None:
    """Remove what a process that was stopped has left half-written."""
    for path in out.glob(".*.tmp"):
        path.unlink(missing_ok=True)
    for path in out.glob(".index-*"):
        shutil.rmtree(path, ignore_errors=True)


def pack(job: Job, workers: int, patience: float = 0) -> None:
    before = signal.signal(signal.SIGTERM, lambda signum, _: sys.exit(128 + signum))
    try:
        claim(job)
        tidy(job.out)
        try:
            pack_all(job, workers, patience)
            size, unreadable = finish(job)
        finally:
            tidy(job.out)
    except (KeyboardInterrupt, SystemExit):
        print(f"\nstopped; the same command goes on, whole shards in {job.out} are kept", file=sys.stderr)
        raise
    except OSError as error:
        raise InputError(
            f"--out {job.out}: cannot be written ({error.strerror}); make room or mend it, and run the same command "
            "again: it goes on where it stopped"
        ) from error
    finally:
        release_folder(job.out)
        signal.signal(signal.SIGTERM, before)
    photographs, shards = sum(map(len, job.catalogue.splits.values())), sum(1 for _ in job.shards())
    print(f"{job.out}: {photographs:,} photographs in {shards:,} shards, {size / 1e6:,.1f} MB", end="")
    print(f"; {unreadable:,} unreadable, listed in {job.out / UNREADABLE}" if unreadable else "")


def verify(out: Path) -> None:
    """Compare every shard with its sum; InputError that names the damaged and missing ones."""
    try:
        lines = (out / SUMS).read_text().splitlines()
        sums = [(name, digest) for digest, name in (line.split("  ") for line in lines)]
        if any("/" in name for name, _ in sums):
            raise ValueError("a name that leads elsewhere")
    except FileNotFoundError as error:
        raise InputError(f"{out / SUMS}: missing; packing has not ended, run the same command again") from error
    except ValueError as error:
        raise InputError(f"{out / SUMS}: no list of SHA-256 sums; run the command that packed {out} again") from error
    bad = []
    for name, digest in tqdm(sums, desc="verifying", unit="shard", leave=False, disable=None):
        try:
            with open(out / name, "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    bad.append(f"{name} is damaged")
        except OSError as error:
            bad.append(f"{name} cannot be read ({error.strerror})")
    if bad:
        raise InputError(f"{out}: {', '.join(bad)}; remove damaged ones and run the command that packed them again")
    print(f"{out}: all {len(sums):,} shards are as they were packed")


def arguments() -> argparse.Namespace:
    parser = Parser(prog="python -m data.pack", description=__doc__)
    add, many = parser.add_argument, 10**6
    add("--data", help="folder of a catalogue, or `demo`")
    add("--out", type=Path, help="folder of the shards, a new one or one that this command has begun")
    add("--size", type=number(int, 1, 4096), default=256, help="side in pixels: --resize of training (default: 256)")
    add("--quality", type=number(int, 1, 100), default=95, help="of the JPEGs (default: 95)")
    add("--per-shard", type=number(int, 1, many), default=10_000, metavar="N", help="photographs (default: 10,000)")
    add("--seed", type=number(int, 0, 2**31), default=0, metavar="S", help="of the training split's order (default: 0)")
    add("--workers", type=number(int, 1, 1024), default=os.cpu_count(), metavar="N", help="(default: one a core)")
    add_worker_timeout(add)
    add("--verify", type=Path, metavar="DIR", help="check the shards there against their sums; no packing")
    args = parser.parse_args()
    if not args.verify and not (args.data and args.out):
        parser.error("give --data and --out, or --verify")
    return args


def main() -> None:
    args = arguments()
    if args.verify:
        return verify(args.verify)
    job = Job(open_catalogue(args.data), args.out, *(getattr(args, name) for name in SETTINGS))
    pack(job, args.workers, args.worker_timeout)


if __name__ == "__main__":
    run(main)
