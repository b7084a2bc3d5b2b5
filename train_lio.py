"""Train a backbone by look-into-object: the report's section 3.

    python train_lio.py --arch resnet50                                              # demo catalogue
    python train_lio.py --arch resnet50 --balanced 30 --init runs/resnet50/best.pt   # in place of the report's step 1b
    python train_lio.py --arch resnet50 --data /path/to/catalogue                    # from ImageNet weights
    python train_lio.py --resume --out runs/resnet50-lio                             # go on where it stopped
    python train_lio.py --show out.png                                               # draw the newest run's extents

A batch holds groups of photographs of one product. A region that resembles regions of the others belongs to the
object. Inside it, the network learns where each region lies, seen from one of them (Zhou et al., CVPR 2020).
The heads that learn this stay in last.pt, for --resume. The network in best.pt is an ordinary one.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import data
import inference
import losses
import models
import recipes
import training
from common.command_line import Parser, number, parse, run
from common.lazy import LazyModule

if TYPE_CHECKING:
    from torch import Tensor

torch = LazyModule("torch")  # imported when it is first used: --help needs none


def step(
    model: models.LIO, batch: data.Batch, group: int, alpha: float, beta: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """LIO's loss of groups of P + 1 photographs of a class, (G·(P+1), 3, H, W), the members of a group adjacent."""
    logits, features, extent, context = model(batch.images)  # (B, K), (B, C, N, N), (B, N, N), (B, C//2, N, N)
    classification = torch.nn.functional.cross_entropy(logits, batch.target)
    object_extent = losses.object_extent_loss(features, extent, group)
    spatial_context = losses.spatial_context_loss(context, extent, model.predictor)
    loss = classification + alpha * object_extent + beta * spatial_context
    right = (logits.argmax(1) == batch.target).float().mean()
    return loss, {"top1": right, "extent": object_extent, "context": spatial_context}


def recipe(args: argparse.Namespace) -> dict:
    """The settings of the report's step 3, or the demo's."""
    name = "lio from a network" if args.init else "lio"
    start = training.starting_settings(args)
    chosen = recipes.recipe(name, args.arch, args.data, start["weights"], args.epochs)
    return chosen | start | dict(out=recipes.run_folder(args.arch, "-lio"))


def arguments() -> Parser:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("--arch", default="resnet50", help=", ".join(models.ARCHS) + ", timm:NAME (default: resnet50)")
    others = "other photographs of its class beside each (default: 3)"
    add("--positives", type=number(int, 1, 64), default=3, metavar="P", help=others)
    weight = number(float, 0)
    add("--extent", type=weight, default=0.1, metavar="W", help="weight of the object-extent loss (default: 0.1)")
    add("--context", type=weight, default=0.1, metavar="W", help="weight of the spatial-context loss (default: 0.1)")
    add("--grid", type=number(int, 2, 64), default=7, metavar="N", help="regions in a row and in a column (default: 7)")
    stage = "3: the last feature map (default); 2: the one before it, twice as fine"
    add("--stage", type=int, choices=models.STAGES, default=3, help=stage)
    add("--balanced", type=number(int, 0), default=0, metavar="N", help="train on N photographs a class; 0: all")
    add("--show", type=Path, metavar="FILE", help="draw photographs and their extents; no training")
    training.add_training_arguments(parser, "runs/ARCH-lio")
    return parser


def show(parser: Parser, asked: argparse.Namespace) -> None:
    """--show: draw the extents of a network, by the settings of its run."""
    path = inference.checkpoint_to_show(asked, "lio", "last.pt")
    classifier = inference.Classifier.load(path, "cpu", "float32")
    kept = classifier.settings
    of_run = training.settings_of(parser, dict(settings=kept, arch=classifier.arch), path)
    of_recipe = recipes.recipe("lio", classifier.arch, kept["data"], kept.get("weights", "imagenet"))
    args = parse(parser, lambda _: of_recipe | of_run)
    inference.require_learned_options(classifier, "LIO", path, args)
    print(inference.show_extents(classifier, path, args))


def main() -> None:
    parser = arguments()
    asked = parser.parse_args()
    if asked.show:
        return show(parser, asked)
    args, resume = training.training_settings(parser, recipe)
    method = partial(step, group=args.positives + 1, alpha=args.extent, beta=args.context)
    heads = partial(models.LIO, grid=args.grid, stage=args.stage)
    sampler = partial(data.GroupBatches, positives=args.positives)
    training.train(args, resume, lambda *_: method, heads, sampler)


if __name__ == "__main__":
    run(main)
