"""Finetune a trained backbone by destruction and construction learning: the report's section 2.

    python finetune_dcl.py --init runs/resnet50-balanced/best.pt                # -> runs/resnet50-dcl
    python finetune_dcl.py --init runs/resnet50-balanced/best.pt --gamma 0.01   # for rigid products
    python finetune_dcl.py --resume --out runs/resnet50-dcl                     # go on where it stopped
    python finetune_dcl.py --show out.png                                       # look at the newest run's regions
    python predict.py runs/resnet50-dcl/best.pt                                 # test it with ten crops

A photograph and a copy with shuffled regions teach the network: the class of both, which of them is destructed, and
where each region belongs (Chen et al., CVPR 2019). The checkpoint holds the heads that learn the last two.
"""

import argparse
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import l1_loss

from common.command_line import Parser, number, parse, run
from common.device import choose_compute
from common.errors import InputError
from data import Batch, open_catalogue, shuffle_regions
from inference.method_sheets import destruction_sheet
from inference.sheets import checkpoint_to_show, save_picture
from losses import dcl_loss
from models import ADVERSARIES, DCL
from models.checkpoint import load_checkpoint, network_of, save_checkpoint, without_heads
from training.loop import Trainer
from training.setup import add_training_arguments, announce, loaders, settings_of, starting_network, training_settings

# The rate is that of the DCL authors' release, 0.0008 for a batch of 16, in proportion to ours (Goyal et al. 2017).
REPORT = dict(balanced=30, epochs=8, lr=0.0016, decay_at=[4, 6], batch_size=32)
# The demo's networks know its drawings at 48 pixels and cannot go far from there at once: 56, where the feature map has
# 2 × 2 places, one a region.
DEMO = dict(balanced=30, epochs=10, lr=0.02, decay_at=[7, 9], batch_size=32, resize=64, crop=56, grid=2)
DEMO |= dict(min_scale=0.5, autoaugment=False, cutout=0.25, drop_connect=0.0)


def step(model: DCL, batch: Batch, grid: int, reach: float, beta: float, gamma: float) -> tuple[Tensor, dict]:
    """DCL's loss over [intact; destructed], the batch (B, 3, H, W) and its copy with shuffled regions, at once."""
    copy, source = shuffle_regions(batch.images, grid, reach, batch.generators)  # (B, 3, H, W), (B, N²)
    destructed = torch.arange(2 * len(copy), device=copy.device) >= len(copy)  # (2B,)
    order = torch.arange(grid**2, device=copy.device).expand_as(source)  # where regions lie when nothing has moved
    law_target = (torch.cat([order, source]) - grid**2 // 2) / grid**2  # (2B, N²)

    logits, swap_logits, law = model(torch.cat([batch.images, copy]))  # (2B, K), (2B, 2K), (2B, N²)
    loss = dcl_loss(logits, swap_logits, law, batch.target.repeat(2), destructed, law_target, beta, gamma)
    right = logits[: len(copy)].argmax(1) == batch.target
    return loss, {"top1": right.float().mean(), "law": l1_loss(law, law_target)}


def recipe(args: argparse.Namespace) -> dict:
    """The settings of the report's step, or the demo's own, for the network of --init."""
    if args.resume:
        if not args.out:
            raise InputError("--resume goes nowhere: name the run, --out runs/resnet50-dcl")
        return {}  # the run has its own
    if not args.init:
        raise InputError("--init is missing: DCL goes on from a trained network, --init runs/resnet50-balanced/best.pt")
    state = load_checkpoint(args.init)
    data = args.data or state["settings"]["data"]
    return settings(data) | dict(data=data, arch=state["arch"], out=f"runs/{state['arch']}-dcl")


def settings(data: str) -> dict:
    return DEMO if data == "demo" else REPORT


def arguments() -> Parser:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("--grid", type=number(int, 2, 64), default=7, metavar="N", help="regions in a row and in a column (default: 7)")
    add("--reach", type=number(float, 0), default=2.0, help="a region moves by less than twice this (default: 2)")
    add("--adversary", choices=ADVERSARIES, default="2k", help="tell 2K classes, or 2: intact and destructed")
    add("--beta", type=number(float, 0), default=1.0, help="weight of the adversary's loss (default: 1)")
    add("--gamma", type=number(float, 0), default=1.0, help="weight of the places' loss (default: 1)")
    add("--head-rate", type=number(float, 0), default=10.0, help="of the heads, in the backbone's (default: 10)")
    add("--balanced", type=number(int, 0), metavar="N", help="train on N photographs a class (default: 30); 0: all")
    add("--show", type=Path, metavar="FILE", help="draw photographs and the places of their regions; no training")
    add("--export-plain", type=Path, metavar="FILE", help="write a checkpoint without the heads; no training")
    add_training_arguments(parser, "runs/ARCH-dcl", resize=512, crop=448, finetunes=True)
    return parser


def require_grid(args: argparse.Namespace) -> None:
    if rest := args.crop % args.grid:
        near = f"{args.crop - rest} or {args.crop - rest + args.grid}"
        raise InputError(f"--grid {args.grid} does not divide --crop {args.crop}; take --crop {near}")


def look(parser: Parser, asked: argparse.Namespace) -> None:
    """--show and --export-plain: of the network of --init, of the run in --out, or of the newest run there is."""
    path = checkpoint_to_show(asked, "dcl", "best.pt")
    state = load_checkpoint(path)
    if asked.export_plain:
        if not state["heads"]:
            raise InputError(f"{path}: has no heads, it is plain already; copy it")
        save_checkpoint(asked.export_plain, without_heads(state))
        print(f"{asked.export_plain}: {state['arch']} without heads, of {path}")
    if asked.show:
        data = asked.data or state["settings"]["data"]
        kept, heads = settings_of(parser, state, path), state["heads"]
        trained = heads is not None and heads["kind"] == "DCL"
        args = parse(parser, lambda _: kept | settings(data) | (kept if trained else {}) | dict(data=data))
        if trained and args.grid != (grid := heads["options"]["grid"]):
            raise InputError(f"--grid {args.grid}: {path} has learned a grid of {grid}; leave --grid out")
        require_grid(args)
        torch.manual_seed(args.seed)
        net = network_of(state, path, heads=trained)
        net = net if trained else DCL(net, args.grid, args.adversary)
        catalogue = open_catalogue(args.data)
        page, exact = destruction_sheet(net, catalogue, args.resize, args.crop, args.reach, args.seed)
        save_picture(page, args.show)
        print(f"{args.show}: {exact:.1%} of the places exact, by {path}")


def main() -> None:
    parser = arguments()
    asked = parser.parse_args()
    if asked.show or asked.export_plain:
        return look(parser, asked)
    args, resume = training_settings(parser, recipe)
    require_grid(args)
    catalogue = open_catalogue(args.data)
    net = starting_network(args, catalogue, resume, partial(DCL, grid=args.grid, adversary=args.adversary))
    compute = choose_compute(net, args.device, args.precision, args.memory_format)
    train, val = loaders(args, catalogue, compute)
    announce(args, catalogue, net, compute, settings(args.data))
    method = partial(step, grid=args.grid, reach=args.reach, beta=args.beta, gamma=args.gamma)
    Trainer(args, net, catalogue, compute, resume, args.head_rate).fit(method, train, val)


if __name__ == "__main__":
    run(main)
