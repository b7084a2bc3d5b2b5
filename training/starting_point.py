"""What a run starts from, ImageNet weights, nothing or another run's network, and the settings that follow from it."""

import argparse
import sys

from common.command_line import Parser, accepted
from common.errors import InputError
from common.processes import world
from training.arguments import add_photographs

SECONDS = 5.0  # to wait for a server of weights, where training from scratch is as welcome
INHERITED = ("resize", "crop", "min_scale", "autoaugment", "cutout")


def starting_weights(args: argparse.Namespace) -> str:
    """--weights, or its default: of the network in --init; imagenet; on the demo none where they cannot be had.

    Raises InputError where --weights is not what the network in --init has started from.
    """
    if args.init:
        weights = init_settings(args).get("weights") or ("none" if args.data == "demo" else "imagenet")
        if getattr(args, "weights", None) not in (None, weights):
            raise InputError(f"--weights {args.weights}: --init {args.init} has weights already; leave one of them out")
        return weights
    if args.weights:
        return args.weights
    if args.data != "demo" or args.resume or world().size > 1:  # several processes might not find the same
        return "imagenet"
    from models import require_imagenet

    try:
        require_imagenet(args.arch, SECONDS)
    except InputError as error:
        print(f"note: {error}; training from scratch", file=sys.stderr)
        return "none"
    return "imagenet"


def inherited_settings(args: argparse.Namespace) -> dict:
    """Sides and augmentation of the run that trained the network in --init; empty without it.

    Raises InputError for values that the command line would not accept.
    """
    if not args.init:
        return {}
    parser = Parser()
    add_photographs(parser, 256, 224)
    settings = accepted(parser, init_settings(args), f"--init {args.init}")
    return {name: settings[name] for name in INHERITED if settings.get(name) is not None}


def init_settings(args: argparse.Namespace) -> dict:
    """The settings in the checkpoint of --init."""
    from models import load_checkpoint  # here: it imports torch, which --help does not need

    return load_checkpoint(args.init)["settings"]
