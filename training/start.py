"""`train`: from settings to a trained network. It makes the network and the loaders, and runs the training loop."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from catalogues import Catalogue, Split, excluded_places
from common.device import Compute, choose_compute, default_workers
from common.errors import InputError, one_line
from common.processes import world
from data import EpochBatches, StreamBatches, TrainTransform, balanced_subset, eval_loader, train_loader
from models import create_model
from models.backbone import require_side
from models.checkpoint import load_checkpoint, network_of
from training.catalogue import training_catalogue
from training.checkpoints import require_resumable
from training.head import learn_head
from training.loop import Step, Trainer
from training.parallel import require_share
from training.settings import flag

# What the line `recipe` shows.
RECIPE = ("weights", "probe", "epochs", "head_epochs", "lr", "schedule", "decay_at", "warmup", "head_rate")
RECIPE += ("layer_decay", "batch_size", "accumulate", "balanced", "positives", "stage", "grid", "resize", "crop", "fit")
RECIPE += ("min_scale", "autoaugment", "cutout", "drop_connect")


def train(
    args: argparse.Namespace,
    resume: dict | None,
    make_step: Callable[[Catalogue, Compute], Step],
    heads: Callable[[nn.Module], nn.Module] = lambda net: net,
    sampler: Callable | None = None,
    catalogue: Catalogue | None = None,
) -> None:
    """Train a network by a method until `args.epochs` epochs are done.

    args, resume: what `training_settings` returns.
    make_step: `make_step(catalogue, compute)` returns the method's step, see `Trainer`.
    heads: `heads(net)` puts the method's new heads around the backbone (default: no heads).
    sampler: makes the batches, see `loaders` (default: shuffled photographs).
    catalogue: the catalogue to train on (default: that of --data).
    """
    catalogue = catalogue or training_catalogue(args, resume)[0]
    net = starting_network(args, catalogue, resume, heads)
    require_side(net, args.crop)
    compute = choose_compute(net, args.device, args.precision, args.memory_format)
    train_batches, val_batches = loaders(args, catalogue, compute, sampler)
    step = None if getattr(args, "probe", False) else make_step(catalogue, compute)
    first = head_stage(args, catalogue, compute) if getattr(args, "head_epochs", 0) else None
    announce(args, catalogue, net, compute)
    Trainer(args, net, catalogue, compute, resume).fit(step, train_batches, val_batches, first)


def starting_network(
    args: argparse.Namespace,
    catalogue: Catalogue,
    resume: dict | None,
    heads: Callable[[nn.Module], nn.Module] = lambda net: net,
) -> nn.Module:
    """Make the network to train: from the resumed run, from --init, from a weight file, or from the seed.

    heads: see `train`. They take the weights of the heads in --init if kind and options are the same.

    Raises InputError if the checkpoint does not fit the arch, the classes or the optimizer of this run.
    """
    torch.manual_seed(args.seed)
    state = None
    if resume:
        catalogue.require_classes(resume["classes"], f"{args.out}/last.pt")
        net = create_model(args.arch, catalogue.num_classes)
        net.weights_from = f"from {args.out}/last.pt"
    elif args.init:
        state = load_checkpoint(args.init)
        if state["arch"] != args.arch:
            raise InputError(
                f"--init {args.init} holds a {state['arch']}, not a {args.arch}; add --arch {state['arch']}"
            )
        catalogue.require_classes(state["classes"], f"--init {args.init}")
        net = network_of(state, args.init)
        net.weights_from = f"from {args.init}"
    else:
        net = create_model(args.arch, catalogue.num_classes, args.weights)
    if hasattr(net, "drop_connect"):
        net.drop_connect = args.drop_connect
    whole = heads(net)
    if state and _same_heads(state["heads"], whole):
        whole.load_state_dict(network_of(state, args.init, heads=True).state_dict())
    if resume:
        rates = args.head_rate, args.layer_decay
        require_resumable(resume, whole, args.ema > 0, rates, f"{args.out}/last.pt")
    return whole


def _same_heads(heads: dict | None, net: nn.Module) -> bool:
    """Whether the heads of a checkpoint have the kind and options of the heads around `net`."""
    return heads is not None and heads["kind"] == type(net).__name__ and heads["options"] == net.options


def training_indices(args: argparse.Namespace, catalogue: Catalogue) -> np.ndarray:
    """The places of the training photographs in their split, without --exclude; --balanced takes N of each class."""
    split = catalogue.split("train")
    places = np.arange(len(split))
    if args.exclude:
        places = np.delete(places, excluded_places(split, args.exclude, catalogue.held_back))
        if not len(places):
            raise InputError(f"--exclude {args.exclude}: leaves no photograph to train on; mark fewer")
    return places[balanced_subset(split.labels[places], args.balanced, args.seed)] if args.balanced else places


def loaders(
    args: argparse.Namespace, catalogue: Catalogue, compute: Compute, sampler: Callable | None = None
) -> tuple[DataLoader, DataLoader | None]:
    """The loader of augmented training batches, and that of the validation split, or None if it has no labels.

    sampler: `sampler(indices, labels, batch_size, seed=…)` makes the batches (default: shuffled photographs).
    """
    split, batches = catalogue.split("train"), _training_batches(args, catalogue, sampler)
    catalogue.require_fit(args.fit, "the command")
    if split.shards and 0 < split.shards.side < args.resize:
        side = split.shards.side
        print(f"note: photographs packed at {side} pixels are enlarged to --resize {args.resize}", file=sys.stderr)
    if not getattr(args, "probe", False):  # the classifier alone needs no batch statistics
        require_two(args, catalogue, len(batches.indices) * batches.group)
        require_share(args.batch_size, len(batches.indices) // len(batches), batches.group)
    transform = TrainTransform(args.resize, args.crop, args.min_scale, args.autoaugment, args.fit)
    workers = default_workers() if args.workers is None else args.workers
    pin, patience = compute.device.type == "cuda", args.worker_timeout
    train = train_loader(split, batches, transform, workers, args.seed, pin, world().rank, world().size, patience)
    val = catalogue.splits.get("val")
    if val is None or val.labels is None:
        if world().first:
            more = "" if val else "; --val-share 0.1 holds a part of train back"
            print(f"note: no labelled val split, so the newest checkpoint counts as the best{more}", file=sys.stderr)
        return train, None
    batch_size, places = -(-2 * args.batch_size // world().size), world().share(len(val))
    return train, eval_loader(val, args.resize, batch_size, workers, pin, places, patience, args.fit)


def require_two(args: argparse.Namespace, catalogue: Catalogue, photographs: int) -> None:
    """Raise InputError if only one photograph is left to train on, and no copies fill its batch."""
    if photographs > 1:
        return
    names = [f"--{name}" for name in ("exclude", "balanced") if getattr(args, name)]
    remedy = f"leave {' and '.join(names)} out, or add photographs" if names else "add photographs"
    raise InputError(
        f"{catalogue.root}: only one photograph to train on, and batch normalisation needs two in a batch; {remedy}"
    )


def head_stage(args: argparse.Namespace, catalogue: Catalogue, compute: Compute) -> Callable[[Trainer, list], None]:
    """`learn_head` on the training photographs of --head-epochs."""
    split, places = catalogue.split("train"), training_indices(args, catalogue)
    share = places[world().share(len(places))].tolist()
    workers, pin = default_workers() if args.workers is None else args.workers, compute.device.type == "cuda"
    loader = eval_loader(split, args.resize, 32, workers, pin, share, args.worker_timeout, args.fit)
    return lambda trainer, stop: learn_head(trainer, loader, places, stop)


def _training_batches(args: argparse.Namespace, catalogue: Catalogue, sampler: Callable | None):
    """The sampler of the training batches: of --stream, of the method, or of shuffled photographs."""
    split, indices = catalogue.split("train"), training_indices(args, catalogue)
    if args.stream:
        require_stream(args, split, plain=sampler is None)
        return StreamBatches(indices, split.shards.shard, args.batch_size, args.stream, args.seed)
    if sampler:
        return sampler(indices, split.labels, args.batch_size, seed=args.seed)
    return EpochBatches(indices, args.batch_size, args.seed)


def require_stream(args: argparse.Namespace, split: Split, plain: bool) -> None:
    """Raise InputError if the catalogue has no shards, or if the batches need photographs from all shards."""
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
            f"--stream {args.stream}: {Path(sys.argv[0]).name} draws photographs by their class, from all shards; "
            "leave it out"
        )


def announce(args: argparse.Namespace, catalogue: Catalogue, net: nn.Module, compute: Compute) -> None:
    """Print what is about to be trained, and the settings as one types them."""
    if not world().first:
        return
    parameters = sum(p.numel() for p in net.parameters()) / 1e6
    print(f"catalogue  {one_line(catalogue.describe())}")
    print(f"network    {args.arch}, {parameters:.1f} M parameters, {one_line(net.backbone.weights_from)}")
    print(f"device     {compute.describe()}" + (f", {world().size} processes" if world().size > 1 else ""))
    print(f"recipe     {' '.join(flag(name, getattr(args, name)) for name in recipe_names(args))}")
    print(f"run        {one_line(args.out)}", flush=True)


def recipe_names(args: argparse.Namespace) -> list[str]:
    """The settings that recipes choose, without those that change nothing in this run."""
    idle = {name: not getattr(args, name, 0) for name in ("balanced", "head_epochs", "probe")}
    idle |= {
        "weights": args.init,
        "decay_at": args.schedule == "cosine",
        "schedule": args.schedule == "manual",
        "warmup": not args.warmup,
        "head_rate": args.head_rate == 1,
        "layer_decay": args.layer_decay == 1,
        "accumulate": args.accumulate == 1,
        "fit": args.fit == "squash",
        "drop_connect": not args.arch.startswith("efficientnet"),
    }
    if getattr(args, "probe", False):
        idle |= dict.fromkeys(("epochs", "lr", "decay_at", "warmup", "batch_size", "min_scale", "autoaugment"), True)
        idle |= dict.fromkeys(("cutout", "drop_connect", "head_rate"), True)
    return [name for name in RECIPE if getattr(args, name, None) is not None and not idle.get(name)]
