"""What every training script sets up before it trains: settings, network, loaders; and says aloud."""

import argparse
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from common.command_line import accepted, number, numbers, parse
from common.device import Compute, add_compute_arguments, add_worker_arguments
from common.errors import InputError, one_line
from common.processes import world
from data import (
    Catalogue,
    EpochBatches,
    Split,
    StreamBatches,
    TrainTransform,
    balanced_subset,
    eval_loader,
    excluded_places,
    train_loader,
)
from models import create_model
from models.checkpoint import load_checkpoint, network_of
from training.checkpoints import require_resumable
from training.parallel import require_share
from training.run_folder import claim, require_no_run

FIXED = (
    "arch",
    "data",
    "balanced",
    "batch_size",
    "seed",
    "resize",
    "crop",
    "min_scale",
    "autoaugment",
    "cutout",
    "ema",
    "grid",
    "adversary",
    "stage",
    "positives",
    "loss",
    "extra",
    "exclude",
    "stream",
)
# Of this machine or this call, not of the run:
NOT_A_SETTING = ("resume", "overwrite", "device", "workers", "worker_timeout", "out", "show", "export_plain")


def add_training_arguments(
    parser: argparse.ArgumentParser, out: str, resize: int = 256, crop: int = 224, finetunes: bool = False
) -> None:
    """The arguments that all training scripts share.

    `out` says in words what --out is by default. `finetunes`: the script always starts from the network of --init,
    whose arch and, unless told otherwise, catalogue it takes.
    """
    add = parser.add_argument
    if finetunes:
        add("--init", metavar="CHECKPOINT", help="the trained network to start from: best.pt of a run")
        add("--data", type=catalogue_path, help="folder of a catalogue, or `demo` (default: that of --init)")
    else:
        add("--data", type=catalogue_path, default="demo", help="folder of a catalogue, or `demo` (default: demo)")
        add("--init", metavar="CHECKPOINT", help="start from the network of this checkpoint: same arch, same classes")
        add("--weights", default="imagenet", help="imagenet, none, or FILE (torch or safetensors); not with --init")
    add("--exclude", metavar="FILE", help="leave out the photographs that this table of data.duplicates marks")
    add("--out", help=f"folder of the run (default: {out})")
    add("--resume", action="store_true", help="go on with the run in --out exactly where it stopped")
    add("--overwrite", action="store_true", help="throw away what lies in --out")

    group = parser.add_argument_group("optimisation")
    add = group.add_argument
    add("--epochs", type=number(int, 1), metavar="N", help="(default: the recipe's, printed at the start)")
    add("--batch-size", type=number(int, 2), default=64, metavar="N", help="photographs a step (default: 64)")
    add("--accumulate", type=number(int, 1), default=1, metavar="N", help="work a batch in N pieces, to save memory")
    add("--sync-bn", action="store_true", help="batch statistics over all processes of torchrun")
    add("--lr", type=number(float, 0, above=True), metavar="RATE", help="learning rate of SGD (default: the recipe's)")
    add("--decay-at", type=numbers, metavar="E,E", help="epochs after which the rate is multiplied by --decay")
    add("--decay", type=number(float, 0, 1), default=0.1, metavar="F", help="(default: 0.1)")
    add("--warmup", type=number(float, 0), default=0.0, metavar="EPOCHS", help="linear rise of the rate at the start")
    add("--momentum", type=number(float, 0, 0.999), default=0.9, metavar="M", help="of SGD (default: 0.9)")
    add("--weight-decay", type=number(float, 0), default=1e-4, metavar="W", help="(default: 0.0001)")
    add(
        "--ema",
        type=number(float, 0, 0.99999),
        default=0.0,
        metavar="D",
        help="average the weights with decay D, 0.999 say",
    )
    add(
        "--drop-connect",
        type=number(float, 0, 0.9),
        default=0.2,
        metavar="P",
        help="EfficientNets: stochastic depth (default: 0.2)",
    )
    add("--seed", type=number(int, 0, 2**31), default=0, metavar="S", help="of everything random (default: 0)")

    group = parser.add_argument_group("photographs")
    add = group.add_argument
    side = number(int, 32, 4096)
    add("--resize", type=side, default=resize, help=f"photographs are squashed to this side (default: {resize})")
    add("--crop", type=side, default=crop, help=f"side of what the network sees (default: {crop})")
    add(
        "--min-scale",
        type=number(float, 0, 1, above=True),
        default=0.08,
        help="least share of the area in a random crop",
    )
    add("--autoaugment", action=argparse.BooleanOptionalAction, default=True, help="ImageNet's policy (default: on)")
    add(
        "--cutout",
        type=number(float, 0, 1),
        default=0.25,
        help="side of Cutout's hole as a share of the crop's; 0: none",
    )
    add_worker_arguments(add)
    add(
        "--stream",
        type=number(int, 0),
        default=0,
        metavar="N",
        help="of packed catalogues: read N shards at a time, one after another, for slow disks (default: 0, all)",
    )
    add("--compile", action="store_true", help="torch.compile: minutes before the first step; meant for GPUs")
    add("--save-every", type=number(float, 0, above=True), default=10.0, metavar="MINUTES", help="besides every epoch")
    add(
        "--skip-nonfinite",
        type=number(int, 0),
        default=0,
        metavar="N",
        help="leave out up to N batches whose loss or gradient is no finite number (default: 0, stop at the first)",
    )
    add_compute_arguments(parser)


def catalogue_path(text: str) -> str:
    """An argparse type: `demo`, or a folder as an absolute path, which a checkpoint can remember."""
    return text if text == "demo" else os.path.abspath(text)


def training_settings(
    parser: argparse.ArgumentParser, recipe: Callable[[argparse.Namespace], dict]
) -> tuple[argparse.Namespace, dict | None]:
    """The settings of a run and, with --resume, the checkpoint it goes on from.

    On the command line beats the resumed run's settings, which beat `recipe(args)`, which beats the defaults.
    `recipe` must give `out`. Raises InputError where the run's folder and the command line do not fit together.
    """
    checkpoint, kept = None, {}
    restarted = world().restarts > 0  # by torchrun, with the same command, after a process had died

    def defaults(args: argparse.Namespace) -> dict:
        nonlocal checkpoint, kept
        chosen = recipe(args)
        last = Path(args.out or chosen["out"]) / "last.pt"
        if args.resume or (restarted and last.exists()):
            claim(last.parent)
            checkpoint = load_checkpoint(last)
            require_own_run(args.out or chosen["out"], checkpoint)
            kept = settings_of(parser, checkpoint, last)
            chosen |= {name: value for name, value in kept.items() if value is not None}
        return chosen

    args = parse(parser, defaults)
    require_place(args.out)
    if args.crop > args.resize:
        raise InputError(f"--crop {args.crop} is larger than --resize {args.resize}; make the crop smaller")
    if checkpoint:
        for name in FIXED:
            if name in kept and getattr(args, name, None) != kept[name]:
                flag = "--" + name.replace("_", "-")
                raise InputError(
                    f"{flag} {getattr(args, name)}: the run in {args.out} has {kept[name]}; "
                    f"leave {flag} out, or start another run with another --out"
                )
        if missing := [name for name in ("data", "epochs", "lr", "decay_at") if getattr(args, name) is None]:
            raise InputError(f"{args.out}/last.pt: does not tell --{missing[0].replace('_', '-')}; give it")
        if checkpoint["epoch"] >= args.epochs:
            if world().first:
                print(f"{args.out}: all {args.epochs} epochs are done; raise --epochs to go on")
            sys.exit(0)
    else:
        claim(Path(args.out))
        require_no_run(Path(args.out), args.overwrite)
    return args, checkpoint


def require_place(out: str) -> None:
    """Raise InputError where the folder `out` neither is one nor can be made."""
    try:
        near = next(place for place in (Path(out).absolute(), *Path(out).absolute().parents) if os.path.lexists(place))
    except ValueError:
        near = None
    if near is None or not near.is_dir():
        raise InputError(f"--out {out}: {near} is no folder; choose another place")
    if not os.access(near, os.W_OK | os.X_OK) or len(os.fsencode(Path(out).name)) > 255:
        raise InputError(f"--out {out}: cannot be made in {near}; choose another place")


def settings_of(parser: argparse.ArgumentParser, checkpoint: dict, source: str | Path) -> dict:
    """What a checkpoint remembers of the settings, as far as they are ones of this script that it would accept."""
    kept = accepted(parser, checkpoint["settings"], source, but=NOT_A_SETTING)
    return kept | {"arch": checkpoint["arch"]}


def require_own_run(out: str, checkpoint: dict) -> None:
    """Raise InputError where another script made the run in `out`: its networks have other heads."""
    script, own = checkpoint.get("script", "train.py"), Path(sys.argv[0]).name
    if script != own:
        raise InputError(
            f"--resume: the run in {out} is one of {script}; "
            f"go on with python {script} --resume --out {shlex.quote(out)}"
        )


def kept_settings(args: argparse.Namespace) -> dict:
    """What a checkpoint remembers of the settings."""
    return {name: value for name, value in vars(args).items() if name not in NOT_A_SETTING}


def starting_network(
    args: argparse.Namespace,
    catalogue: Catalogue,
    resume: dict | None,
    heads: Callable[[nn.Module], nn.Module] = lambda net: net,
) -> nn.Module:
    """The network to train: of the resumed run, of --init, of a weight file, or fresh from the seed.

    `heads` puts a method's fresh heads around it; those of --init are kept where they are of the same kind and options.
    """
    torch.manual_seed(args.seed)
    state = None
    if resume:
        catalogue.require_classes(resume["classes"], f"{args.out}/last.pt")
        net = create_model(args.arch, catalogue.num_classes)
    elif args.init:
        state = load_checkpoint(args.init)
        if state["arch"] != args.arch:
            raise InputError(
                f"--init {args.init} holds a {state['arch']}, not a {args.arch}; add --arch {state['arch']}"
            )
        catalogue.require_classes(state["classes"], f"--init {args.init}")
        net = network_of(state, args.init)
    else:
        net = create_model(args.arch, catalogue.num_classes, args.weights)
    if hasattr(net, "drop_connect"):
        net.drop_connect = args.drop_connect
    whole = heads(net)
    kept = (state or {}).get("heads")
    if kept and (kept["kind"], kept["options"]) == (type(whole).__name__, getattr(whole, "options", None)):
        whole.load_state_dict(network_of(state, args.init, heads=True).state_dict())
    if resume:
        require_resumable(resume, whole, args.ema > 0, getattr(args, "head_rate", 1.0), f"{args.out}/last.pt")
    return whole


def training_indices(args: argparse.Namespace, catalogue: Catalogue) -> np.ndarray:
    """Places of the training photographs: all but those of --exclude, or --balanced of each class."""
    split = catalogue.split("train")
    places = np.arange(len(split))
    if args.exclude:
        places = np.delete(places, excluded_places(split, args.exclude))
        if not len(places):
            raise InputError(f"--exclude {args.exclude}: leaves no photograph to train on; mark fewer")
    return places[balanced_subset(split.labels[places], args.balanced, args.seed)] if args.balanced else places


def loaders(
    args: argparse.Namespace,
    catalogue: Catalogue,
    compute: Compute,
    sampler: Callable | None = None,
) -> tuple[DataLoader, DataLoader | None]:
    """Augmented training batches, and the validation split where it exists and has labels.

    `sampler(indices, labels, batch_size, seed=…)` makes the batches, if not plain ones.
    """
    transform = TrainTransform(args.resize, args.crop, args.min_scale, args.autoaugment)
    split, indices = catalogue.split("train"), training_indices(args, catalogue)
    if args.stream:
        require_stream(args, split, plain=sampler is None)
        batches = StreamBatches(indices, split.shards.shard, args.batch_size, args.stream, args.seed)
    elif sampler:
        batches = sampler(indices, split.labels, args.batch_size, seed=args.seed)
    else:
        batches = EpochBatches(indices, args.batch_size, args.seed)
    if split.shards and split.shards.side < args.resize:
        side = split.shards.side
        print(f"note: photographs packed at {side} pixels are enlarged to --resize {args.resize}", file=sys.stderr)
    pin, patience = compute.device.type == "cuda", args.worker_timeout
    require_share(args.batch_size, len(batches.indices) // len(batches), batches.group)
    train = train_loader(split, batches, transform, args.workers, args.seed, pin, world().rank, world().size, patience)
    val = catalogue.splits.get("val")
    if val is None or val.labels is None:
        if world().first:
            print("no labelled val split: the newest checkpoint counts as the best", file=sys.stderr)
        return train, None
    batch_size, places = -(-2 * args.batch_size // world().size), world().share(len(val))
    return train, eval_loader(val, args.resize, batch_size, args.workers, pin, places, patience)


def require_stream(args: argparse.Namespace, split: Split, plain: bool) -> None:
    """Raise InputError where --stream cannot be: without shards, or where batches are drawn from all of them."""
    if not split.shards:
        raise InputError(
            f"--stream {args.stream}: {args.data} is not packed; pack it with python -m data.pack, or leave it out"
        )
    if args.balanced:
        raise InputError(
            f"--stream {args.stream}: --balanced {args.balanced} takes a few photographs from all shards; "
            "leave --stream out, or give --balanced 0"
        )
    if not plain:
        raise InputError(
            f"--stream {args.stream}: {Path(sys.argv[0]).name} draws photographs by their class, wherever they lie; "
            "leave it out"
        )


def announce(args: argparse.Namespace, catalogue: Catalogue, net: nn.Module, compute: Compute, recipe: dict) -> None:
    """Say what is about to happen, with every setting that a recipe chose, so that nothing is hidden."""
    if not world().first:
        return
    parameters = sum(p.numel() for p in net.parameters()) / 1e6
    start = (
        f"from {args.init}" if args.init else "from scratch" if args.weights == "none" else f"weights {args.weights}"
    )
    print(f"catalogue  {one_line(catalogue.describe())}")
    print(f"network    {args.arch}, {parameters:.1f} M parameters, {one_line(start)}")
    print(f"device     {compute.describe()}" + (f", {world().size} processes" if world().size > 1 else ""))
    print(f"recipe     {' '.join(flag(name, getattr(args, name)) for name in recipe if name != 'out')}")
    print(f"run        {one_line(args.out)}", flush=True)


def flag(name: str, value: object) -> str:
    """A setting as one would type it."""
    name = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    if isinstance(value, list):
        value = ",".join(f"{v:g}" for v in value) or "none"
    return f"--{name} {value}"
