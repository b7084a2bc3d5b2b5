"""Train one backbone: the report's section 1, on the whole set and on a balanced one; the losses of sections 4 and 6.

    python train.py --arch resnet50                                              # demo catalogue
    python train.py --arch seresnext50 --balanced 30                             # 30 photographs a class
    python train.py --arch resnet50 --balanced 30 --init runs/resnet50/best.pt   # the report's step 1b
    python train.py --arch resnet50 --balanced 30 --init runs/resnet50-balanced/best.pt --loss accuracy   # step 4
    python train.py --arch resnet50 --data /path/to/catalogue                    # the report's settings
    python train.py --arch efficientnet-lite0 --probe                            # frozen features, a linear classifier
    python train.py --resume --out runs/resnet50                                 # go on where it stopped

The best checkpoint (lowest validation mean class error) is runs/NAME/best.pt, the newest runs/NAME/last.pt.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING

import data
import inference
import losses
import models
import recipes
import training
from common.command_line import Parser, number, numbers, run, typed
from common.errors import InputError
from common.lazy import LazyModule

if TYPE_CHECKING:
    from torch import Tensor, nn

    from catalogues import Catalogue

torch = LazyModule("torch")  # imported when it is first used: --help needs none

# The loss, the optimisation and the augmentation of a training, which a probe does not have.
NOT_OF_A_PROBE = ("--loss", "--label-smoothing", "--teacher", "--extra-weighted", "--epochs", "--batch-size", "--lr")
NOT_OF_A_PROBE += ("--accumulate", "--sync-bn", "--schedule", "--decay-at", "--decay", "--warmup", "--head-rate")
NOT_OF_A_PROBE += ("--layer-decay", "--momentum", "--weight-decay", "--ema", "--drop-connect", "--min-scale")
NOT_OF_A_PROBE += ("--autoaugment", "--no-autoaugment", "--cutout", "--stream", "--compile", "--skip-nonfinite")


def step(
    model: nn.Module,
    batch: data.Batch,
    criterion: losses.Criterion | None = None,
    weights: Tensor | None = None,
    teacher: inference.Teacher | None = None,
    mix: float = 0.5,
    temperature: float = 2.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch (B, 3, H, W), and the share of it that is predicted right.

    criterion: the loss (default: cross entropy); weights (n,): of each training photograph, float32.
    teacher: gives probabilities (B, K); with it the loss is (1 − mix) · criterion + mix · distillation.
    """
    criterion = criterion or losses.choose_loss("cross-entropy")
    outputs = model(batch.images)  # logits (B, K); of an angular classifier with |x| (B,)
    logits = outputs[0] if isinstance(outputs, tuple) else outputs
    weight = None if weights is None else weights[batch.index].to(logits.device)  # (B,)
    loss = criterion(outputs, batch.target, weight, batch.progress)
    if teacher:
        loss = (1 - mix) * loss + mix * losses.distillation_loss(logits, teacher(batch), temperature, weight)
    return loss, {"top1": (logits.argmax(1) == batch.target).float().mean()}


def recipe(args: argparse.Namespace) -> dict:
    """The settings of the report's step 1, 1b or 4, or the demo's."""
    name = "base" if not args.init else "accuracy" if args.loss == "accuracy" else "balanced"
    balanced = "-balanced" if args.balanced else ""
    kind = "-probe" if args.probe else balanced if args.loss == "cross-entropy" else f"-{args.loss}"
    start = training.starting_settings(args)
    chosen = recipes.recipe("probe" if args.probe else name, args.arch, args.data, start["weights"], args.epochs)
    return chosen | start | dict(out=recipes.run_folder(args.arch, kind))


def arguments() -> Parser:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("--arch", default="resnet50", help=", ".join(models.ARCHS) + ", timm:NAME (default: resnet50)")
    add("--balanced", type=number(int, 0), default=0, metavar="N", help="train on N photographs a class; 0: all")
    add("--extra", metavar="FILE", help="train on photographs of the test split too, labelled by tricks.pseudo_label")
    add("--extra-weighted", action="store_true", help="weigh each of these by the probability of its label")

    add = parser.add_argument_group("loss").add_argument
    add("--loss", choices=losses.LOSSES, default="cross-entropy", help="(default: cross-entropy)")
    add("--label-smoothing", type=number(float, 0, 1), default=0.0, metavar="E", help="of cross-entropy (default: 0)")
    add("--focal-gamma", type=number(float, 0), default=2.0, metavar="G", help="of focal (default: 2)")
    add("--margin", type=number(int, 1, 20), default=4, metavar="M", help="of asoftmax: m of the angle (default: 4)")
    add("--level-weights", type=numbers, default=[0.5], metavar="W,W", help="of hierarchy, coarsest first (0.5 each)")
    add("--t1", type=number(float, 0, 1), default=0.8, help="of bitempered: bounded below 1 (default: 0.8)")
    add("--t2", type=number(float, 1, 10), default=1.2, help="of bitempered: heavy tails above 1 (default: 1.2)")
    add("--teacher", metavar="A,B", help="distil the mean of these checkpoints, or NAME.npy/.npz of the training split")
    add("--mix", type=number(float, 0, 1), default=0.5, metavar="W", help="weight of the distillation (default: 0.5)")
    temperature = "temperature of the teacher's and the student's softmax in the distillation (default: 2)"
    add("--temperature", type=number(float, 0, above=True), default=2.0, metavar="T", help=temperature)
    out = "runs/ARCH; with --balanced runs/ARCH-balanced; with another loss runs/ARCH-LOSS; of a probe runs/ARCH-probe"
    training.add_training_arguments(parser, out=out)
    add = parser.add_argument_group("classifier").add_argument
    epochs = "before all else N epochs of the classifier alone, by cross entropy on cached features (default: 0)"
    add("--head-epochs", type=number(int, 0, 10_000), default=0, metavar="N", help=epochs)
    add("--probe", action="store_true", help="train nothing but the classifier: a usable network in a minute")
    return parser


def criterion_of(args: argparse.Namespace, catalogue: Catalogue, device: torch.device) -> losses.Criterion:
    """The loss of --loss with its arguments."""
    names = ("label_smoothing", "focal_gamma", "margin", "t1", "t2")
    levels, weights = None, args.level_weights
    if args.loss == "hierarchy":
        levels = torch.from_numpy(catalogue.levels()).to(device)  # (L, K)
        weights = weights * len(levels) if len(weights) == 1 else weights
        if len(weights) != len(levels):
            raise InputError(f"--level-weights: {len(weights)} weights for {len(levels)} levels; give one for each")
    options = {name: getattr(args, name) for name in names}
    return losses.choose_loss(args.loss, **options, levels=levels, level_weights=weights)


def require_plain_head(args: argparse.Namespace) -> None:
    """Raise InputError for what --probe and --head-epochs, cross entropy on frozen features, have no use for."""
    if args.head_epochs and args.loss == "asoftmax":
        raise InputError("--loss asoftmax: its classifier knows angles alone; give --head-epochs 0")
    if args.probe and (idle := [flag for flag in NOT_OF_A_PROBE if typed(flag)]):
        raise InputError(f"--probe: has no use for {idle[0]}; leave it out (--head-epochs N trains it for longer)")
    if args.probe and not args.head_epochs:
        raise InputError("--head-epochs 0: leaves --probe nothing to train; give at least 1")


def main() -> None:
    args, resume = training.training_settings(arguments(), recipe)
    require_plain_head(args)
    catalogue, weights = training.training_catalogue(args, resume)

    def make_step(catalogue, compute):
        return partial(
            step,
            criterion=criterion_of(args, catalogue, compute.device),
            weights=torch.from_numpy(weights) if args.extra_weighted and args.extra else None,
            teacher=args.teacher and inference.open_teacher(args.teacher, catalogue, compute, args.temperature),
            mix=args.mix,
            temperature=args.temperature,
        )

    heads = models.Angular if args.loss == "asoftmax" else lambda net: net
    training.train(args, resume, make_step, heads, catalogue=catalogue)


if __name__ == "__main__":
    run(main)
