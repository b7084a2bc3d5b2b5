"""The catalogue of a run: opened once, with a validation split, and with what a user should know of it."""

import argparse
import os
import sys

import numpy as np

from catalogues import Catalogue, open_catalogue, with_extra_labels
from catalogues.copies import LARGEST, exact_copies
from common.command_line import typed
from common.errors import InputError, one_line
from common.processes import gathered, join, world
from data import are_of, hold_back, with_held_back

SHARE = 0.1  # of a catalogue that is not split at all
LATER_SPLIT = (
    "{0}: has a validation split, while {1} has held photographs back, which would be trained on; move that split "
    "away, or begin without {1}"
)


def training_catalogue(args: argparse.Namespace, resume: dict | None) -> tuple[Catalogue, np.ndarray | None]:
    """The catalogue of --data, with --extra; and then the weight of each training photograph, float32 (n,), else None.

    Raises InputError for a catalogue that cannot be used, and for arguments that have no use with it.
    """
    catalogue = _with_validation(args, resume)
    extra = getattr(args, "extra", None)
    return with_extra_labels(catalogue, extra) if extra else (catalogue, None)


def _with_validation(args: argparse.Namespace, resume: dict | None) -> Catalogue:
    """Where there is no validation split, it is made of the photographs that the resumed run has held back, else of
    those of --init, else of --val-share of each class.
    """
    before, source = (resume, f"{args.out}/last.pt") if resume else (_init(args), f"--init {args.init}")
    ids, settings = (before["held_back"], before["settings"]) if before else ([], {})
    args.ignore_unknown_classes |= bool(settings.get("ignore_unknown_classes"))
    catalogue = open_catalogue(args.data, args.ignore_unknown_classes)
    if world().first:
        catalogue.print_notes(left_out=False)  # the line `catalogue` says that
        if not resume and not args.exclude:
            note_copies(catalogue)
    share = args.val_share if args.val_share is not None else SHARE * (not catalogue.divided)
    same = bool(resume) or _is_same(settings.get("data"), args.data)
    if ids and not same and not are_of(catalogue, ids):
        ids = []  # of another catalogue
    if not resume:
        _require_use(args, catalogue, ids, share, share != settings.get("val_share"), source)
    elif ids and "val" in catalogue.splits:
        raise InputError(LATER_SPLIT.format(args.data, source))
    if "val" in catalogue.splits or (not ids and not share):
        return catalogue
    if before and not same and not ids:
        known = f"{source} was trained on {settings.get('data')}"
        _note(f"{known}; where that has photographs that are held back here, the error is too low")
    return _held_back(catalogue, ids, share, source, args, same)


def _is_same(one: str | None, other: str) -> bool:
    """Whether two values of --data are one catalogue."""
    return one == other or (one is not None and os.path.realpath(one) == os.path.realpath(other))


def _require_use(
    args: argparse.Namespace, catalogue: Catalogue, ids: list[str], share: float, other: bool, source: str
) -> None:
    """Raise InputError where --val-share or --val-seed has no use, or where what was held back would be trained on.

    ids: what the run of --init has held back. other: whether its share is not `share`.
    """
    if "val" in catalogue.splits:
        if ids:
            raise InputError(LATER_SPLIT.format(args.data, source))
        if typed("--val-share") and share:
            raise InputError(f"--val-share {share}: {args.data} has a validation split; leave it out")
    elif ids and typed("--val-share") and other:
        raise InputError(f"--val-share {share}: {source} has held photographs back already; leave it out")
    if args.val_seed and (ids or not share or "val" in catalogue.splits):
        raise InputError(f"--val-seed {args.val_seed}: no photographs are drawn for validation; leave it out")


def _held_back(
    catalogue: Catalogue, ids: list[str], share: float, source: str, args: argparse.Namespace, same: bool
) -> Catalogue:
    """The catalogue with the photographs `ids` of `source` held back, or with a share of each class.

    same: whether `source` was trained on this catalogue. What it was trained on cannot be held back.
    """
    if same and not ids:
        if typed("--val-share"):
            raise InputError(f"--val-share {share}: {source} was trained on all of {args.data}; leave one of them out")
        _note(f"{source} was trained on all of {args.data}, so no photographs are held back for validation")
        return catalogue
    if ids:
        return with_held_back(catalogue, ids, source)
    if world().size == 1:
        return hold_back(catalogue, share or SHARE, args.val_seed)
    join()  # the first process looks for near-duplicates; the others take its answer
    ids = list(hold_back(catalogue, share or SHARE, args.val_seed).held_back) if world().first else []
    return with_held_back(catalogue, gathered(ids)[0], "--val-share")


def _note(message: str) -> None:
    if world().first:
        print(one_line(f"note: {message}"), file=sys.stderr)


def note_copies(catalogue: Catalogue) -> None:
    """Print a note of the validation and test photographs whose files also stand in train: errors are too low."""
    if sum(map(len, catalogue.splits.values())) > LARGEST:
        return _note(
            f"among more than {LARGEST:,} photographs, copies of ones in train are not looked for in val and test; "
            "python -m data.duplicates does"
        )
    train = catalogue.splits["train"]
    for name, copies in exact_copies(catalogue).items():
        if copies:
            copy, original = catalogue.splits[name].image_id(copies[0][0]), train.image_id(copies[0][1])
            count = f"{len(copies):,} of {len(catalogue.splits[name]):,} photographs of {name}"
            message = f"{count} are exact copies of ones in train ({copy} of {original}), so its error is too low; "
            _note(f"{message}python -m data.duplicates lists them for --exclude")


def _init(args: argparse.Namespace) -> dict | None:
    from models import load_checkpoint

    return load_checkpoint(args.init) if args.init else None
