"""Train a bilateral-branch network: one of the tricks that did not work for the report (section 6).

    python -m tricks.bbn --arch resnet50                             # demo catalogue, whole, unbalanced set
    python -m tricks.bbn --arch resnet50 --init runs/resnet50/best.pt
    python -m tricks.bbn --resume --out runs/resnet50-bbn            # go on where it stopped

One branch sees photographs as often as the catalogue has them, the other rare classes the most often; what is learned
shifts from the first to the second (Zhou et al., CVPR 2020). The second branch is kept in the checkpoint.
"""

import argparse

from torch import Tensor
from torch.nn.functional import cross_entropy

from common.command_line import Parser, number, run
from common.device import choose_compute
from data import Batch, ReversedPairs, open_catalogue
from models import ARCHS, BBN
from training.loop import Trainer
from training.setup import add_training_arguments, announce, loaders, starting_network, training_settings

# Those of train.py's steps 1 and 1b; the batch holds the photographs of both branches.
BASE = dict(epochs=12, lr=0.02, decay_at=[6, 9], batch_size=128)
FINETUNE = dict(epochs=8, lr=0.005, decay_at=[4, 6], batch_size=128)
DEMO = dict(weights="none", resize=56, crop=48, min_scale=0.5, autoaugment=False, cutout=0.25, batch_size=64)
DEMO |= dict(drop_connect=0.0)
DEMO_BASE = DEMO | dict(epochs=10, lr=0.1, decay_at=[7, 9], warmup=0.5)
DEMO_FINETUNE = DEMO | dict(epochs=3, lr=0.07, decay_at=[2, 2.5])


def step(model: BBN, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """BBN's loss of pairs (2B, 3, H, W): a photograph of the uniform sampler, then one of the reversed sampler."""
    alpha = 1 - batch.progress**2  # 1 − (t/T)²: from the conventional to the re-balancing branch
    logits = model(batch.images[0::2], batch.images[1::2], alpha)  # (B, K)
    uniform, reverse = batch.target[0::2], batch.target[1::2]
    loss = alpha * cross_entropy(logits, uniform) + (1 - alpha) * cross_entropy(logits, reverse)
    predicted = logits.argmax(1)
    right = alpha * (predicted == uniform).float() + (1 - alpha) * (predicted == reverse).float()
    return loss, {"top1": right.mean()}


def recipe(args: argparse.Namespace) -> dict:
    """The settings of the report's step 1, or the demo's own; a network from scratch needs the longer of the two."""
    if args.data == "demo":
        chosen = DEMO_FINETUNE if args.init else DEMO_BASE
        if args.arch.startswith("efficientnet"):
            chosen = chosen | dict(lr=0.02)  # at 0.1 its first epochs diverge
    else:
        chosen = FINETUNE if args.init else BASE
    return chosen | dict(out=f"runs/{args.arch}-bbn")


def arguments() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument("--arch", default="resnet50", help=", ".join(ARCHS) + " (default: resnet50)")
    parser.add_argument(
        "--balanced", type=number(int, 0), default=0, metavar="N", help="train on N photographs a class; 0: all"
    )
    add_training_arguments(parser, "runs/ARCH-bbn")
    return parser


def main() -> None:
    args, resume = training_settings(arguments(), recipe)
    catalogue = open_catalogue(args.data)
    net = starting_network(args, catalogue, resume, BBN)
    compute = choose_compute(net, args.device, args.precision, args.memory_format)
    train, val = loaders(args, catalogue, compute, ReversedPairs)
    announce(args, catalogue, net, compute, recipe(args))
    Trainer(args, net, catalogue, compute, resume).fit(step, train, val)


if __name__ == "__main__":
    run(main)
