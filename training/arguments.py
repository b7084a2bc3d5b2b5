"""The arguments that all training scripts share."""

import argparse
import os

from common.flags import FITS, add_compute_arguments, add_ignore_unknown, add_worker_arguments, number, numbers

SCHEDULES = ("manual", "cosine")
SIDE = number(int, 32, 4096)  # pixels


def add_training_arguments(
    parser: argparse.ArgumentParser,
    out: str,
    resize: int = 256,
    crop: int = 224,
    finetunes: bool = False,
    head_rate: float = 1.0,
) -> None:
    """Add the arguments that all training scripts share.

    out: the text that describes the default of --out.
    resize, crop: the defaults of --resize and --crop, in pixels. head_rate: the default of --head-rate.
    finetunes: whether the script always starts from the network of --init and takes arch and catalogue from it.
    """
    _add_start(parser, out, finetunes)
    _add_optimisation(parser, head_rate)
    add_photographs(parser, resize, crop)
    _add_running(parser)
    add_compute_arguments(parser)


def _add_start(parser: argparse.ArgumentParser, out: str, finetunes: bool) -> None:
    add = parser.add_argument
    if finetunes:
        add("--init", metavar="CHECKPOINT", help="the trained network to start from: best.pt of a run")
        add("--data", type=catalogue_path, help="folder or table of a catalogue, or `demo` (default: that of --init)")
    else:
        add("--data", type=catalogue_path, default="demo", help="folder or table of a catalogue (default: demo)")
        add("--init", metavar="CHECKPOINT", help="start from this checkpoint; it has the same arch and classes")
        start = "imagenet (default; on the demo only if they can be had at once), none, or FILE; not with --init"
        add("--weights", help=start)
    share = "hold back this share of a catalogue without a val split for validation (default: 0.1 of one that is not "
    share += "split at all, else 0)"
    add("--val-share", type=number(float, 0, 0.5), metavar="F", help=share)
    seed = "seed of the draw of --val-share (default: 0)"
    add("--val-seed", type=number(int, 0, 2**31), default=0, metavar="S", help=seed)
    add_ignore_unknown(add)
    add("--exclude", metavar="FILE", help="leave out the photographs that this table (of data.duplicates) marks")
    add("--out", help=f"folder of the run (default: {out})")
    add("--resume", action="store_true", help="go on with the run in --out exactly where it stopped")
    add("--overwrite", action="store_true", help="delete the run in --out and start a new one")


def _add_optimisation(parser: argparse.ArgumentParser, head_rate: float) -> None:
    add = parser.add_argument_group("optimisation").add_argument
    epochs = "the recipe's schedule is scaled to them (default: the recipe's)"
    add("--epochs", type=number(int, 1), metavar="N", help=epochs)
    add("--batch-size", type=number(int, 2), default=64, metavar="N", help="photographs in a step (default: 64)")
    add("--accumulate", type=number(int, 1), default=1, metavar="N", help="compute a batch in N pieces to save memory")
    add("--sync-bn", action="store_true", help="batch norm over the photographs of all processes of torchrun")
    add("--lr", type=number(float, 0, above=True), metavar="RATE", help="learning rate of SGD (default: the recipe's)")
    add("--decay-at", type=numbers, metavar="E,E", help="epochs after which the rate is multiplied by --decay")
    add("--decay", type=number(float, 0, 1), default=0.1, metavar="F", help="factor of --decay-at (default: 0.1)")
    schedule = "manual: --decay-at, as in the report (default); cosine: half a wave down to zero"
    add("--schedule", choices=SCHEDULES, default="manual", help=schedule)
    warmup = "raise the rate linearly at the start (default: 0)"
    add("--warmup", type=number(float, 0), default=0.0, metavar="EPOCHS", help=warmup)
    rate = f"learning rate of classifier and heads, in units of the backbone's (default: {head_rate:g})"
    add("--head-rate", type=number(float, 0), default=head_rate, metavar="F", help=rate)
    layers = "learning rate of each stage of the backbone, in units of the next stage's (default: 1)"
    add("--layer-decay", type=number(float, 0, 1, above=True), default=1.0, metavar="F", help=layers)
    add("--momentum", type=number(float, 0, 0.999), default=0.9, metavar="M", help="momentum of SGD (default: 0.9)")
    add("--weight-decay", type=number(float, 0), default=1e-4, metavar="W", help="of SGD (default: 0.0001)")
    average = "validate and predict with a moving average of the weights of this decay, e.g. 0.999 (default: 0, none)"
    add("--ema", type=number(float, 0, 0.99999), default=0.0, metavar="D", help=average)
    drop = "rate of stochastic depth in EfficientNets (default: 0.2)"
    add("--drop-connect", type=number(float, 0, 0.9), default=0.2, metavar="P", help=drop)
    add("--seed", type=number(int, 0, 2**31), default=0, metavar="S", help="of all random draws (default: 0)")


def add_photographs(parser: argparse.ArgumentParser, resize: int, crop: int) -> None:
    """Add the arguments of what the network gets to see."""
    add = parser.add_argument_group("photographs").add_argument
    side = dict(type=SIDE, metavar="PIXELS")
    fit = "photographs that are not square: squash, pad (show all of it) or crop (the middle) (default: squash)"
    add("--fit", choices=FITS, default="squash", help=fit)
    add("--resize", **side, default=resize, help=f"squash photographs to squares of this side (default: {resize})")
    add("--crop", **side, default=crop, help=f"side of the network's input (default: {crop})")
    share, area = number(float, 0, 1, above=True), "smallest share of the area in a random crop (default: 0.08)"
    add("--min-scale", type=share, default=0.08, metavar="SHARE", help=area)
    policy = "AutoAugment with ImageNet's policy (default: on)"
    add("--autoaugment", action=argparse.BooleanOptionalAction, default=True, help=policy)
    hole = "side of Cutout's hole as a share of the crop's side (default: 0.25); 0: no hole"
    add("--cutout", type=number(float, 0, 1), default=0.25, metavar="SHARE", help=hole)
    add_worker_arguments(add)
    stream = "for packed catalogues on slow disks: read N whole shards at a time (default: 0, all shards)"
    add("--stream", type=number(int, 0), default=0, metavar="N", help=stream)


def _add_running(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("running").add_argument
    add("--compile", action="store_true", help="use torch.compile, for GPUs: the first step takes minutes")
    every = "save this often, and after every epoch (default: 10)"
    add("--save-every", type=number(float, 0, above=True), default=10.0, metavar="MINUTES", help=every)
    skip = "leave out up to N batches whose loss or gradient is not finite (default: 0: stop at the first)"
    add("--skip-nonfinite", type=number(int, 0), default=0, metavar="N", help=skip)


def catalogue_path(text: str) -> str:
    """An argparse type: `demo`, or a folder or file as an absolute path, which a checkpoint can name from anywhere."""
    return text if text == "demo" else os.path.abspath(text)
