"""Train one backbone: the report's section 1, on the whole set and then on a balanced one.

    python train.py --arch resnet50                                              # demo catalogue
    python train.py --arch seresnext50 --balanced 30                             # 30 photographs a class
    python train.py --arch resnet50 --balanced 30 --init runs/resnet50/best.pt   # the report's step 1b
    python train.py --arch resnet50 --data /path/to/catalogue                    # the report's settings
    python train.py --resume --out runs/resnet50                                 # go on where it stopped

The best checkpoint (lowest validation mean class error) is runs/NAME/best.pt, the newest runs/NAME/last.pt.
"""

import argparse
from functools import partial

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from data import Batch, open_catalogue
from engine.cli import Parser, number, run
from engine.device import choose_compute
from engine.loop import Trainer
from engine.setup import add_training_arguments, announce, loaders, starting_network, training_settings
from models import ARCHS

# Step 1, ImageNet weights on the whole set; the report names the kind of schedule but not its numbers.
BASE = dict(epochs=12, lr=0.02, decay_at=[6, 9], batch_size=64)
# Step 1b, from a network of step 1: a lower rate, since only the balance of the classes is to be learned.
BALANCED = dict(epochs=8, lr=0.005, decay_at=[4, 6], batch_size=64)

# The demo's drawings are small and learned from scratch, so that two cores suffice: small pictures, crops and holes
# that leave most of a product in sight, every block of the network in every step.
DEMO = dict(weights="none", resize=56, crop=48, min_scale=0.5, autoaugment=False, cutout=0.25, batch_size=32)
DEMO |= dict(warmup=0.5, drop_connect=0.0)
DEMO_BASE = DEMO | dict(epochs=10, lr=0.1, decay_at=[7, 9])
DEMO_BALANCED = DEMO | dict(epochs=6, lr=0.07, decay_at=[4, 5], warmup=0.0)
DEMO_EFFICIENTNET = dict(lr=0.02)  # at 0.1 its first epochs diverge: after ten, B4 had hardly left chance


def step(model: nn.Module, batch: Batch, label_smoothing: float = 0.0) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross entropy of the batch (B, 3, H, W), and the share of it that is right."""
    logits = model(batch.images)  # (B, K)
    loss = cross_entropy(logits, batch.target, label_smoothing=label_smoothing)
    return loss, {"top1": (logits.argmax(1) == batch.target).float().mean()}


def recipe(args: argparse.Namespace) -> dict:
    """The settings of the report's step, or the demo's own; a network from scratch needs the longer of the two."""
    finetune = bool(args.init)
    if args.data == "demo":
        chosen = DEMO_BALANCED if finetune else DEMO_BASE
        if args.arch.startswith("efficientnet"):
            chosen = chosen | DEMO_EFFICIENTNET
    else:
        chosen = BALANCED if finetune else BASE
    return chosen | dict(out=f"runs/{args.arch}" + ("-balanced" if args.balanced else ""))


def arguments() -> Parser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="resnet50", help=", ".join(ARCHS) + " (default: resnet50)")
    parser.add_argument(
        "--balanced", type=number(int, 0), default=0, metavar="N", help="train on N photographs a class; 0: all"
    )
    parser.add_argument(
        "--label-smoothing", type=number(float, 0, 1), default=0.0, metavar="E", help="(default: 0, off)"
    )
    add_training_arguments(parser, out="runs/ARCH, with -balanced where --balanced is given")
    return parser


def main() -> None:
    args, resume = training_settings(arguments(), recipe)
    catalogue = open_catalogue(args.data)
    net = starting_network(args, catalogue, resume)
    compute = choose_compute(args, net)
    train, val = loaders(args, catalogue, compute)
    announce(args, catalogue, net, compute, recipe(args))
    Trainer(args, net, catalogue, compute, resume).fit(partial(step, label_smoothing=args.label_smoothing), train, val)


if __name__ == "__main__":
    run(main)
