"""The catalogue of a run: opened once, with a validation split, and with what a user should know of it."""

import argparse
import sys

import numpy as np

from catalogues import Catalogue, open_catalogue, with_extra_labels
from catalogues.copies import LARGEST, exact_copies
from common.command_line import typed
from common.errors import InputError, one_line
from common.processes import gathered, join, world
from data import hold_back, with_held_back

SHARE = 0.1  # of a catalogue that is not split at all


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
    asked = typed("--val-share") and not resume and args.val_share != settings.get("val_share")
    if "val" in catalogue.splits:
        if ids:
            raise InputError(
                f"{args.data}: has a validation split now, while {source} has held photographs back, which would be "
                "trained on; move that split away, or begin without them"
            )
        if asked and args.val_share:
            raise InputError(f"--val-share {args.val_share}: {args.data} has a validation split; leave it out")
        return catalogue
    if ids:
        if asked:
            raise InputError(f"--val-share {args.val_share}: {source} has held photographs back already; leave it out")
        return with_held_back(catalogue, ids, source)
    share = args.val_share if args.val_share is not None else SHARE * (not catalogue.divided)
    return _held_back(catalogue, share, args) if share else catalogue


def note_copies(catalogue: Catalogue) -> None:
    """Print a note of the validation and test photographs whose files also stand in train: errors are too low."""
    if sum(map(len, catalogue.splits.values())) > LARGEST:
        return
    train = catalogue.splits["train"]
    for name, copies in exact_copies(catalogue).items():
        if copies:
            copy, original = catalogue.splits[name].image_id(copies[0][0]), train.image_id(copies[0][1])
            count = f"{len(copies):,} of {len(catalogue.splits[name]):,} photographs of {name}"
            message = f"{count} are exact copies of ones in train ({copy} of {original}), so its error is too low; "
            print(one_line(f"note: {message}python -m data.duplicates lists them for --exclude"), file=sys.stderr)


def _init(args: argparse.Namespace) -> dict | None:
    from models import load_checkpoint

    return load_checkpoint(args.init) if args.init else None


def _held_back(catalogue: Catalogue, share: float, args: argparse.Namespace) -> Catalogue:
    """The first process looks for near-duplicates; the others take its answer."""
    if world().size == 1:
        return hold_back(catalogue, share, args.val_seed)
    join()
    ids = list(hold_back(catalogue, share, args.val_seed).held_back) if world().first else []
    return with_held_back(catalogue, gathered(ids)[0], "--val-share")
