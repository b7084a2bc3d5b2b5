"""Train a bilateral-branch network: one of the tricks that did not work for the report (section 6).

    python -m tricks.bbn --arch resnet50                             # demo catalogue, whole, unbalanced set
    python -m tricks.bbn --arch resnet50 --init runs/resnet50/best.pt
    python -m tricks.bbn --resume --out runs/resnet50-bbn            # go on where it stopped

One branch is trained on photographs as often as the catalogue has them, the other on rare classes most often. The
weight of the loss moves from the first branch to the second (Zhou et al., CVPR 2020). The checkpoint keeps both.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import data
import models
import recipes
import training
from common.command_line import Parser, number, run
from common.lazy import LazyModule

if TYPE_CHECKING:
    from torch import Tensor

torch = LazyModule("torch")  # imported when it is first used: --help needs none


def step(model: models.BBN, batch: data.Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """BBN's loss of pairs (2B, 3, H, W): a photograph of the uniform sampler, then one of the reversed sampler."""
    alpha = 1 - batch.progress**2  # 1 − (t/T)²: from the conventional to the re-balancing branch
    logits = model(batch.images[0::2], batch.images[1::2], alpha)  # (B, K)
    uniform, reverse = batch.target[0::2], batch.target[1::2]
    cross_entropy = torch.nn.functional.cross_entropy
    loss = alpha * cross_entropy(logits, uniform) + (1 - alpha) * cross_entropy(logits, reverse)
    predicted = logits.argmax(1)
    right = alpha * (predicted == uniform).float() + (1 - alpha) * (predicted == reverse).float()
    return loss, {"top1": right.mean()}


def recipe(args: argparse.Namespace) -> dict:
    """The settings of the report's steps 1 and 1b, or the demo's."""
    name = "bbn from a network" if args.init else "bbn"
    start = training.starting_settings(args)
    chosen = recipes.recipe(name, args.arch, args.data, start["weights"], args.epochs)
    return chosen | start | dict(out=recipes.run_folder(args.arch, "-bbn"))


def arguments() -> Parser:
    parser = Parser(prog="python -m tricks.bbn", description=__doc__)
    add = parser.add_argument
    add("--arch", default="resnet50", help=", ".join(models.ARCHS) + " (default: resnet50)")
    add("--balanced", type=number(int, 0), default=0, metavar="N", help="train on N photographs a class; 0: all")
    training.add_training_arguments(parser, "runs/ARCH-bbn")
    return parser


def main() -> None:
    args, resume = training.training_settings(arguments(), recipe)
    training.train(args, resume, lambda *_: step, models.BBN, data.ReversedPairs)


if __name__ == "__main__":
    run(main)
