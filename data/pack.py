"""A catalogue packed into WebDataset shards: tar files of photographs that are squashed already.

    python -m data.pack --data DIR --size 256 --out shards     # stopped or killed, the same command goes on
    python -m data.pack --verify shards                        # names shards that are damaged or missing
    python train.py --data shards                              # a catalogue like any other

Training first squashes a photograph to --resize pixels. A catalogue that is packed at that size loses only what JPEG
rounds. Its photographs are decoded faster, and a disk or network has a few large files instead of millions of small
ones. The training split is packed in random order, so every shard is a fair sample of the catalogue (`train.py
--stream`). The other splits keep their order.

A sample is KEY.jpg, KEY.cls (its label, where it has one) and KEY.json ({"id": …, "class": …}). KEY is the
photograph's place in its split, which is its row in a prediction file. The same catalogue and settings give the same
bytes.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from catalogues import index
from catalogues.catalogue import Catalogue, Strings
from catalogues.formats import open_catalogue
from catalogues.formats.shards import FORMAT, PACK_INDEX, PACK_SETTINGS
from catalogues.shards import Shards
from common.command_line import run
from common.errors import InputError, one_line
from common.files import hold_folder, release_folder
from common.flags import FITS, Parser, add_ignore_unknown, add_worker_timeout, number
from data.pack_shards import Job, read_summary, written
from data.pack_workers import pack_all

VERSION = 3  # of the shards' layout and pixels: shards of another version cannot be completed
SETTINGS = ("size", "quality", "per_shard", "seed", "fit")
SUMS, UNREADABLE = "SHA256SUMS", "unreadable.txt"


def fingerprint(catalogue: Catalogue) -> str:
    """SHA-256 of everything that the catalogue lists, without its folder."""
    digest = hashlib.sha256(json.dumps([catalogue.classes, catalogue.class_ids, catalogue.tree]).encode())
    for name, split in catalogue.splits.items():
        digest.update(json.dumps([name, len(split), split.names_are_ids, split.id_root]).encode())
        for array in (split.paths.buffer, split.paths.offsets, split.labels):
            digest.update(b"none" if array is None else np.ascontiguousarray(array))
    return digest.hexdigest()


def finish(job: Job) -> tuple[int, int]:
    """Write the sums, the list of unreadable photographs and, last, the index; all shards must exist.

    Returns the bytes of all shards and the number of unreadable photographs.
    """
    sums, unreadable, splits = [], [], {}
    for name, split in job.catalogue.splits.items():
        files, n = [], len(split)
        places = np.empty(n, np.int32), np.empty(n, np.int64), np.empty(n, np.int32)
        extents = Shards((), job.size, *places, job.fit)
        for _, tar, places in (shard for shard in job.shards() if shard[0] == name):
            summary = read_summary(job.out / tar, places)
            extents.shard[places] = len(files)
            extents.start[places], extents.size[places] = summary["start"], summary["size"]
            files.append((tar, summary["bytes"]))
            sums.append(f"{summary['sha256']}  {tar}\n")
            unreadable += [
                f"{one_line(split.path(place))}\t{one_line(reason)}\n" for place, reason in summary["unreadable"]
            ]
        splits[name] = replace(split, root=job.out, shards=replace(extents, files=tuple(files)))
    for name, lines in ((UNREADABLE, unreadable), (SUMS, sums)):
        with written(job.out / name) as file:
            file.write("".join(lines).encode())
    packed = replace(job.catalogue, format=FORMAT.name, root=job.out, splits=splits)
    packed = replace(packed, left_out=Strings(), broken={}, notes=[])  # what lies in the shards is all there is
    index.save(job.out / PACK_INDEX, FORMAT.name, packed, job.out, {})
    return sum(size for split in splits.values() for _, size in split.shards.files), len(unreadable)


def claim(job: Job) -> None:
    """Make the folder --out, or check that this very command has begun it; InputError if not."""
    root, out = job.catalogue.root.resolve(), job.out.resolve()
    if out == root or root in out.parents:
        raise InputError(f"--out {job.out}: lies in the catalogue {job.catalogue.root}; choose a folder outside")
    if job.out.exists() and not job.out.is_dir():
        raise InputError(f"--out {job.out}: is a file; choose a new folder")
    settings = {"version": VERSION, "catalogue": fingerprint(job.catalogue)}
    settings |= {name: getattr(job, name) for name in SETTINGS}
    job.out.mkdir(parents=True, exist_ok=True)
    hold_folder(job.out)
    if (path := job.out / PACK_SETTINGS).exists():
        return _require_same(job, path, settings)
    if any(not entry.name.startswith(".") for entry in job.out.iterdir()):
        raise InputError(f"--out {job.out}: holds other files; choose a new folder, or empty it")
    with written(path) as file:
        file.write(json.dumps(settings).encode())


def _require_same(job: Job, path: Path, settings: dict) -> None:
    """InputError unless the file at `path` has these settings."""
    try:
        found = {"fit": "squash"} | dict(json.loads(path.read_text()))  # older ones do not say
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


def tidy(out: Path) -> None:
    """Remove half-written files of a process that was stopped."""
    for path in out.glob(".*.tmp"):
        path.unlink(missing_ok=True)
    for path in out.glob(".index-*"):
        shutil.rmtree(path, ignore_errors=True)


def pack(job: Job, workers: int, patience: float = 0) -> None:
    """Pack a whole catalogue, or what is missing of it; see `pack_all`. Raises InputError."""
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
    """Compare every shard with its SHA-256 sum; InputError names the damaged and missing ones."""
    try:
        lines = (out / SUMS).read_text().splitlines()
        sums = [(name, digest) for digest, name in (line.split("  ") for line in lines)]
        if any("/" in name for name, _ in sums):
            raise ValueError("a name in another folder")
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
    add("--data", help="folder or table of a catalogue, or `demo`")
    add_ignore_unknown(add)
    add("--out", type=Path, help="folder for the shards: a new one, or one that this command has begun")
    add("--size", type=number(int, 1, 4096), default=256, help="side in pixels: --resize of training (default: 256)")
    add("--fit", choices=FITS, default="squash", help="of photographs that are not square (default: squash)")
    add("--quality", type=number(int, 1, 100), default=95, help="of the JPEGs (default: 95)")
    add(
        "--per-shard",
        type=number(int, 1, many),
        default=10_000,
        metavar="N",
        help="(default: 10,000 photographs)",
    )
    add(
        "--seed",
        type=number(int, 0, 2**31),
        default=0,
        metavar="S",
        help="for the training split's order (default: 0)",
    )
    add("--workers", type=number(int, 1, 1024), default=os.cpu_count(), metavar="N", help="(default: one a core)")
    add_worker_timeout(add)
    add("--verify", type=Path, metavar="DIR", help="only check the shards in DIR against their sums")
    args = parser.parse_args()
    if not args.verify and not (args.data and args.out):
        parser.error("give --data and --out, or --verify")
    return args


def main() -> None:
    args = arguments()
    if args.verify:
        return verify(args.verify)
    catalogue = open_catalogue(args.data, args.ignore_unknown_classes)
    catalogue.print_notes()
    job = Job(catalogue, args.out, *(getattr(args, name) for name in SETTINGS))
    pack(job, args.workers, args.worker_timeout)


if __name__ == "__main__":
    run(main, tool=True)
