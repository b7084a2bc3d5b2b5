"""Train a backbone to look into the object: the report's section 3.

    python train_lio.py --arch resnet50                                              # demo catalogue
    python train_lio.py --arch resnet50 --balanced 30 --init runs/resnet50/best.pt   # in place of the report's step 1b
    python train_lio.py --arch resnet50 --data /path/to/catalogue                    # from ImageNet weights
    python train_lio.py --resume --out runs/resnet50-lio                             # go on where it stopped
    python train_lio.py --show out.png                                               # look at the newest run's extents

Photographs of a product share the product and little else. So what of one is found in the others is the object, and
within it one region tells where another lies (Zhou et al., CVPR 2020). A batch holds groups of photographs of a class.
The heads that learn this stay in last.pt, for --resume; the network in best.pt is an ordinary one.
"""

import argparse
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from common.command_line import Parser, number, parse, run
from common.device import choose_compute
from common.errors import InputError
from data import Batch, GroupBatches, open_catalogue
from inference.method_sheets import object_sheet
from inference.sheets import checkpoint_to_show, save_picture
from losses import object_extent_loss, spatial_context_loss
from models import ARCHS, LIO, STAGES
from models.checkpoint import load_checkpoint, network_of
from training.loop import Trainer
from training.setup import add_training_arguments, announce, loaders, settings_of, starting_network, training_settings

# The rates of train.py. An epoch visits every photograph as an anchor and three more: a quarter of the epochs.
BASE = dict(epochs=3, lr=0.02, decay_at=[1.5, 2.25], batch_size=64)
FINETUNE = dict(epochs=2, lr=0.005, decay_at=[1, 1.5], batch_size=64)
# Maps of 4 × 4 places, one a region, of the demo's small drawings. Pairs instead of groups of four: with 32 classes the
# fewer of them a batch holds, the worse it stands for the catalogue, which costs more than a third positive gives.
DEMO = dict(weights="none", resize=72, crop=64, stage=2, grid=4, min_scale=0.5, autoaugment=False, cutout=0.25)
DEMO |= dict(batch_size=64, positives=1, drop_connect=0.0)
DEMO_BASE = DEMO | dict(epochs=6, lr=0.1, decay_at=[4, 5.4], warmup=0.3)
DEMO_FINETUNE = DEMO | dict(epochs=4, lr=0.07, decay_at=[2.6, 3.4])
DEMO_EFFICIENTNET = dict(lr=0.02)  # at 0.1 its first epochs diverge


def step(model: LIO, batch: Batch, group: int, alpha: float, beta: float) -> tuple[Tensor, dict]:
    """LIO's loss of groups of P + 1 photographs of a class, (G·(P+1), 3, H, W), the members of a group adjacent."""
    logits, features, extent, context = model(batch.images)  # (B, K), (B, C, N, N), (B, N, N), (B, C//2, N, N)
    classification = cross_entropy(logits, batch.target)
    object_extent = object_extent_loss(features, extent, group)
    spatial_context = spatial_context_loss(context, extent, model.predictor)
    loss = classification + alpha * object_extent + beta * spatial_context
    right = (logits.argmax(1) == batch.target).float().mean()
    return loss, {"top1": right, "extent": object_extent, "context": spatial_context}


def recipe(args: argparse.Namespace) -> dict:
    """The settings of the report's step, or the demo's own; a network from scratch needs the longer of the two."""
    if args.data == "demo":
        chosen = DEMO_FINETUNE if args.init else DEMO_BASE
        if args.arch.startswith("efficientnet"):
            chosen = chosen | DEMO_EFFICIENTNET
    else:
        chosen = FINETUNE if args.init else BASE
    return chosen | dict(out=f"runs/{args.arch}-lio")


def arguments() -> Parser:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("--arch", default="resnet50", help=", ".join(ARCHS) + " (default: resnet50)")
    add(
        "--positives",
        type=number(int, 1, 64),
        default=3,
        metavar="P",
        help="others of its class beside each (default: 3)",
    )
    add("--extent", type=number(float, 0), default=0.1, metavar="W", help="weight of the extent's loss (default: 0.1)")
    add(
        "--context", type=number(float, 0), default=0.1, metavar="W", help="weight of the context's loss (default: 0.1)"
    )
    add("--grid", type=number(int, 2, 64), default=7, metavar="N", help="regions in a row and in a column (default: 7)")
    add("--stage", type=int, choices=STAGES, default=3, help="3: the last feature map (default); 2: a finer one")
    add(
        "--head-rate",
        type=number(float, 0),
        default=1.0,
        help="of heads and classifier, in the backbone's (default: 1)",
    )
    add("--balanced", type=number(int, 0), default=0, metavar="N", help="train on N photographs a class; 0: all")
    add("--show", type=Path, metavar="FILE", help="draw photographs and their extents; no training")
    add_training_arguments(parser, "runs/ARCH-lio")
    return parser


def look(parser: Parser, asked: argparse.Namespace) -> None:
    """--show: of the network of --init, of the run in --out, or of the newest run there is."""
    path = checkpoint_to_show(asked, "lio", "last.pt")
    state = load_checkpoint(path)
    trained = state["heads"] is not None and state["heads"]["kind"] == "LIO"
    args = parse(parser, lambda _: recipe(asked) | settings_of(parser, state, path))
    kept = state["heads"]["options"] if trained else {}  # grid and stage
    if wrong := [name for name in kept if getattr(args, name) != kept[name]]:
        raise InputError(f"--{wrong[0]}: {path} has learned with {kept[wrong[0]]}; leave --{wrong[0]} out")
    torch.manual_seed(args.seed)
    net = network_of(state, path, heads=trained)
    net = net if trained else LIO(net, args.grid, args.stage)
    page, count = object_sheet(net, open_catalogue(args.data), args.resize, args.crop, args.positives + 1)
    save_picture(page, args.show)
    print(f"{args.show}: {count} photographs, the extents of {path}")


def main() -> None:
    parser = arguments()
    asked = parser.parse_args()
    if asked.show:
        return look(parser, asked)
    args, resume = training_settings(parser, recipe)
    catalogue = open_catalogue(args.data)
    net = starting_network(args, catalogue, resume, partial(LIO, grid=args.grid, stage=args.stage))
    compute = choose_compute(net, args.device, args.precision, args.memory_format)
    train, val = loaders(args, catalogue, compute, partial(GroupBatches, positives=args.positives))
    announce(args, catalogue, net, compute, recipe(args))
    method = partial(step, group=args.positives + 1, alpha=args.extent, beta=args.context)
    Trainer(args, net, catalogue, compute, resume, args.head_rate).fit(method, train, val)


if __name__ == "__main__":
    run(main)
