"""What a run starts from (ImageNet weights, nothing, or the network of another run), and the settings that follow."""

import argparse
import sys

from common.command_line import Parser, accepted
from common.errors import InputError
from common.processes import world
from training.arguments import add_photographs

INHERITED = ("resize", "crop", "fit", "min_scale", "autoaugment", "cutout")


def starting_settings(args: argparse.Namespace) -> dict:
    """`weights`: imagenet, none or a file; with --init also the sides and the augmentation of its run.

    With --init the weights are those that its network has started from. Without --weights they are ImageNet's; on the
    demo none, if ImageNet's cannot be had.

    Raises InputError for --weights that contradict --init, and for settings in --init that no command line accepts.
    """
    given = getattr(args, "weights", None)
    if not args.init:
        return dict(weights=given or _default_weights(args))
    from models import load_checkpoint  # here: it imports torch, which --help does not need

    settings = load_checkpoint(args.init)["settings"]
    weights = settings.get("weights") or ("none" if args.data == "demo" else "imagenet")  # older ones may not say
    if given not in (None, weights):
        raise InputError(f"--weights {given}: --init {args.init} has weights already; leave one of them out")
    parser = Parser()
    add_photographs(parser, 256, 224)
    settings = accepted(parser, settings, f"--init {args.init}")
    return dict(weights=weights) | {name: settings[name] for name in INHERITED if settings.get(name) is not None}


def _default_weights(args: argparse.Namespace) -> str:
    if args.data != "demo" or args.resume or world().size > 1:  # several processes might not find the same
        return "imagenet"
    from models import require_imagenet

    try:
        require_imagenet(args.arch)
    except InputError as error:
        print(f"note: {error}; training from scratch", file=sys.stderr)
        return "none"
    return "imagenet"
