"""Pictures of what DCL and LIO have learned: the --show of their scripts."""

import argparse
from pathlib import Path

import torch

import models
from common.errors import InputError
from common.pictures import save_picture
from inference.classifier import Classifier
from inference.extents import object_sheet
from inference.regions import destruction_sheet


def is_trained_by(classifier: Classifier, method: str) -> bool:
    """Whether the network has the heads of `method`, a name of `models.HEADS`."""
    return type(classifier.net).__name__ == method


def require_learned_options(classifier: Classifier, method: str, path: Path, args: argparse.Namespace) -> None:
    """Raise InputError where an option of `method` is not the one that the heads of the network have learned."""
    for name, value in (classifier.net.options if is_trained_by(classifier, method) else {}).items():
        if getattr(args, name) != value:
            given = f"--{name} {getattr(args, name)}"
            raise InputError(f"{given}: {path} has learned with {value}; leave --{name} out")


def show_regions(classifier: Classifier, path: Path, args: argparse.Namespace) -> str:
    """Draw photographs, their copies with shuffled regions, and where the network puts the regions, into `args.show`.

    args: those of finetune_dcl.py. A network without DCL's heads gets fresh ones. path: of the checkpoint.

    Returns a line for people.
    """
    net = classifier.net
    if not is_trained_by(classifier, "DCL"):
        torch.manual_seed(args.seed)
        net = models.DCL(classifier.backbone, args.grid, args.adversary)
    page, exact = destruction_sheet(
        net, classifier.catalogue(args.data), args.resize, args.crop, args.reach, args.seed, fit=args.fit
    )
    save_picture(page, args.show)
    return f"{args.show}: {exact:.1%} of the places exact, by {path}"


def show_extents(classifier: Classifier, path: Path, args: argparse.Namespace) -> str:
    """Draw photographs and their object extents, of the network and of their group, into `args.show`.

    args: those of train_lio.py. A network without LIO's heads gets fresh ones. path: of the checkpoint.

    Returns a line for people.
    """
    net = classifier.net
    if not is_trained_by(classifier, "LIO"):
        torch.manual_seed(args.seed)
        net = models.LIO(classifier.backbone, args.grid, args.stage)
    page, count = object_sheet(
        net, classifier.catalogue(args.data), args.resize, args.crop, args.positives + 1, args.fit
    )
    save_picture(page, args.show)
    return f"{args.show}: {count} photographs, the extents of {path}"
