"""Finetune a trained backbone by destruction and construction learning: the report's section 2.

    python finetune_dcl.py --init runs/resnet50-balanced/best.pt                # -> runs/resnet50-dcl
    python finetune_dcl.py --init runs/resnet50-balanced/best.pt --gamma 0.01   # for rigid products
    python finetune_dcl.py --resume --out runs/resnet50-dcl                     # go on where it stopped
    python finetune_dcl.py --show out.png                                       # draw the regions of the newest run
    python predict.py runs/resnet50-dcl/best.pt                                 # test it with ten crops

From a photograph and a copy with shuffled regions the network learns three things: the class of both, which of them is
destructed, and where each region belongs (Chen et al., CVPR 2019). The checkpoint keeps the heads of the last two.
"""

from __future__ import annotations

import argparse
import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import data
import inference
import losses
import models
import recipes
import training
from common.command_line import Parser, number, parse, run, typed
from common.errors import InputError
from common.lazy import LazyModule
from common.processes import world

if TYPE_CHECKING:
    from torch import Tensor

torch = LazyModule("torch")  # imported when it is first used: --help needs none

PIECE = 8 * 448**2  # pixels that go through the network at once; their copies go with them


def step(
    model: models.DCL, batch: data.Batch, grid: int, reach: float, beta: float, gamma: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """DCL's loss over [intact; destructed]: the batch (B, 3, H, W), and its copy with shuffled regions."""
    copy, source = data.shuffle_regions(batch.images, grid, reach, batch.generators)  # (B, 3, H, W), (B, N²)
    destructed = torch.arange(2 * len(copy), device=copy.device) >= len(copy)  # (2B,)
    order = torch.arange(grid**2, device=copy.device).expand_as(source)  # where regions lie when nothing has moved
    law_target = (torch.cat([order, source]) - grid**2 // 2) / grid**2  # (2B, N²)

    logits, swap_logits, law = model(torch.cat([batch.images, copy]))  # (2B, K), (2B, 2K), (2B, N²)
    loss = losses.dcl_loss(logits, swap_logits, law, batch.target.repeat(2), destructed, law_target, beta, gamma)
    right = logits[: len(copy)].argmax(1) == batch.target
    return loss, {"top1": right.float().mean(), "law": torch.nn.functional.l1_loss(law, law_target)}


def recipe(args: argparse.Namespace) -> dict:
    """The settings of the report's step 2, or the demo's, for the network of --init."""
    if args.resume:
        if not args.out:
            raise InputError("--resume: name the folder of the run, --out runs/resnet50-dcl")
        return {}  # those of the run
    if not args.init:
        raise InputError("--init is missing: DCL goes on from a trained network, --init runs/resnet50-balanced/best.pt")
    state = models.load_checkpoint(args.init)
    arch, args.data = state["arch"], args.data or state["settings"]["data"]
    start = training.starting_settings(args)
    chosen = recipes.recipe("dcl", arch, args.data, start["weights"], args.epochs)
    # Twice the sides that the network is used to, as in the report: 512 and 448. The demo's recipe has its own.
    sides = dict(resize=2 * start["resize"], crop=2 * start["crop"] // args.grid * args.grid)
    sides |= {name: chosen[name] for name in sides if name in chosen}
    batch = args.batch_size if typed("--batch-size") else chosen["batch_size"]
    crop = args.crop if typed("--crop") else sides["crop"]
    chosen["accumulate"] = math.ceil(batch * crop**2 / world().size / PIECE)
    return chosen | start | sides | dict(data=args.data, arch=arch, out=recipes.run_folder(arch, "-dcl"))


def arguments() -> Parser:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("--grid", type=number(int, 2, 64), default=7, metavar="N", help="regions in a row and in a column (default: 7)")
    add("--reach", type=number(float, 0), default=2.0, help="a region moves by less than twice this (default: 2)")
    classes = "of the adversary: 2k, intact and destructed of each class; 2, intact and destructed (default: 2k)"
    add("--adversary", choices=models.ADVERSARIES, default="2k", help=classes)
    add("--beta", type=number(float, 0), default=1.0, help="weight of the adversarial loss (default: 1)")
    add("--gamma", type=number(float, 0), default=1.0, help="weight of the construction loss (default: 1)")
    add("--balanced", type=number(int, 0), metavar="N", help="train on N photographs a class (default: 30); 0: all")
    add("--show", type=Path, metavar="FILE", help="draw photographs and the places of their regions; no training")
    add("--export-plain", type=Path, metavar="FILE", help="write a checkpoint without the heads; no training")
    training.add_training_arguments(parser, "runs/ARCH-dcl", resize=512, crop=448, finetunes=True, head_rate=10.0)
    return parser


def require_grid(args: argparse.Namespace) -> None:
    if rest := args.crop % args.grid:
        near = f"{args.crop - rest} or {args.crop - rest + args.grid}"
        raise InputError(f"--grid {args.grid} does not divide --crop {args.crop}; take --crop {near}")


def show(parser: Parser, asked: argparse.Namespace, path: Path) -> None:
    """--show: draw the regions of the network at `path`; settings are those of its DCL run, or the recipe's."""
    classifier = inference.Classifier.load(path, "cpu", "float32")
    catalogue = asked.data or classifier.settings["data"]
    of_run = training.settings_of(parser, dict(settings=classifier.settings, arch=classifier.arch), path)
    of_recipe = recipes.recipe("dcl", classifier.arch, catalogue, classifier.settings.get("weights", "imagenet"))
    chosen = of_recipe | of_run if inference.is_trained_by(classifier, "DCL") else of_run | of_recipe
    args = parse(parser, lambda _: chosen | dict(data=catalogue))
    inference.require_learned_options(classifier, "DCL", path, args)
    require_grid(args)
    print(inference.show_regions(classifier, path, args))


def export_plain(path: Path, out: Path) -> None:
    """--export-plain: write the checkpoint at `path` without its heads."""
    state = models.load_checkpoint(path)
    if not state["heads"]:
        raise InputError(f"{path}: has no heads, it is plain already; copy it")
    models.save_checkpoint(out, models.without_heads(state))
    print(f"{out}: {state['arch']} without heads, of {path}")


def main() -> None:
    parser = arguments()
    asked = parser.parse_args()
    if asked.show or asked.export_plain:
        path = inference.checkpoint_to_show(asked, "dcl", "best.pt")
        if asked.export_plain:
            export_plain(path, asked.export_plain)
        if asked.show:
            show(parser, asked, path)
        return
    args, resume = training.training_settings(parser, recipe)
    require_grid(args)
    method = partial(step, grid=args.grid, reach=args.reach, beta=args.beta, gamma=args.gamma)
    heads = partial(models.DCL, grid=args.grid, adversary=args.adversary)
    training.train(args, resume, lambda *_: method, heads)


if __name__ == "__main__":
    run(main)
