"""Train one backbone: the report's section 1, on the whole set and on a balanced one; the losses of sections 4 and 6.

    python train.py --arch resnet50                                              # demo catalogue
    python train.py --arch seresnext50 --balanced 30                             # 30 photographs a class
    python train.py --arch resnet50 --balanced 30 --init runs/resnet50/best.pt   # the report's step 1b
    python train.py --arch resnet50 --balanced 30 --init runs/resnet50-balanced/best.pt --loss accuracy   # step 4
    python train.py --arch resnet50 --data /path/to/catalogue                    # the report's settings
    python train.py --resume --out runs/resnet50                                 # go on where it stopped

The best checkpoint (lowest validation mean class error) is runs/NAME/best.pt, the newest runs/NAME/last.pt.
"""

import argparse
from functools import partial

import torch
from torch import Tensor, nn

from common.command_line import Parser, number, numbers, run
from common.device import choose_compute
from common.errors import InputError
from data import Batch, Catalogue, open_catalogue, with_extra_labels
from inference.teacher import Teacher, open_teacher
from losses import LOSSES, Criterion, choose_loss, distillation_loss
from models import ARCHS, Angular
from training.loop import Trainer
from training.setup import add_training_arguments, announce, loaders, starting_network, training_settings

# Step 1, ImageNet weights on the whole set; the report names the kind of schedule but not its numbers.
BASE = dict(epochs=12, lr=0.02, decay_at=[6, 9], batch_size=64)
# Step 1b, from a network of step 1: a lower rate, since only the balance of the classes is to be learned.
BALANCED = dict(epochs=8, lr=0.005, decay_at=[4, 6], batch_size=64)
# Step 4, from a network of step 1b: the report's 2 to 3 epochs.
ACCURACY = dict(epochs=3, lr=0.002, decay_at=[2], batch_size=64)

# The demo's drawings are small and learned from scratch, so that two cores suffice: small pictures, crops and holes
# that leave most of a product in sight, every block of the network in every step.
DEMO = dict(weights="none", resize=56, crop=48, min_scale=0.5, autoaugment=False, cutout=0.25, batch_size=32)
DEMO |= dict(warmup=0.5, drop_connect=0.0)
DEMO_BASE = DEMO | dict(epochs=10, lr=0.1, decay_at=[7, 9])
DEMO_BALANCED = DEMO | dict(epochs=6, lr=0.07, decay_at=[4, 5], warmup=0.0)
DEMO_ACCURACY = DEMO | dict(epochs=3, lr=0.02, decay_at=[2], warmup=0.0)
DEMO_EFFICIENTNET = dict(lr=0.02)  # at 0.1 its first epochs diverge: after ten, B4 had hardly left chance

CROSS_ENTROPY = choose_loss("cross-entropy")


def step(
    model: nn.Module,
    batch: Batch,
    criterion: Criterion = CROSS_ENTROPY,
    weights: Tensor | None = None,
    teacher: Teacher | None = None,
    mix: float = 0.5,
    temperature: float = 2.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of the batch (B, 3, H, W), some of it a teacher's where there is one, and the share that is right."""
    outputs = model(batch.images)  # logits (B, K); of an angular classifier with |x| (B,)
    logits = outputs if isinstance(outputs, Tensor) else outputs[0]
    weight = None if weights is None else weights[batch.index].to(logits.device)
    loss = criterion(outputs, batch.target, weight, batch.progress)
    if teacher:
        loss = (1 - mix) * loss + mix * distillation_loss(logits, teacher(batch), temperature, weight)
    return loss, {"top1": (logits.argmax(1) == batch.target).float().mean()}


def recipe(args: argparse.Namespace) -> dict:
    """The settings of the report's step, or the demo's own; a network from scratch needs the longer of the two."""
    demo = args.data == "demo"
    if args.init and args.loss == "accuracy":
        chosen = DEMO_ACCURACY if demo else ACCURACY
    elif args.init:
        chosen = DEMO_BALANCED if demo else BALANCED
    else:
        chosen = DEMO_BASE if demo else BASE
    if demo and args.arch.startswith("efficientnet"):
        chosen = chosen | DEMO_EFFICIENTNET
    plain = "-balanced" if args.balanced else ""
    return chosen | dict(out=f"runs/{args.arch}" + (plain if args.loss == "cross-entropy" else f"-{args.loss}"))


def arguments() -> Parser:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("--arch", default="resnet50", help=", ".join(ARCHS) + " (default: resnet50)")
    add("--balanced", type=number(int, 0), default=0, metavar="N", help="train on N photographs a class; 0: all")
    add("--extra", metavar="FILE", help="train on photographs of the test split too, labelled by tricks.pseudo_label")
    add("--extra-weighted", action="store_true", help="these count as much as their labels are probable")

    group = parser.add_argument_group("loss")
    add = group.add_argument
    add("--loss", choices=LOSSES, default="cross-entropy", help="(default: cross-entropy)")
    add("--label-smoothing", type=number(float, 0, 1), default=0.0, metavar="E", help="of cross-entropy (default: 0)")
    add("--focal-gamma", type=number(float, 0), default=2.0, metavar="G", help="of focal (default: 2)")
    add("--margin", type=number(int, 1, 20), default=4, metavar="M", help="of asoftmax: m of the angle (default: 4)")
    add("--level-weights", type=numbers, default=[0.5], metavar="W,W", help="of hierarchy, coarsest first (0.5 each)")
    add("--t1", type=number(float, 0, 1), default=0.8, help="of bitempered: bounds the loss below 1 (default: 0.8)")
    add("--t2", type=number(float, 1, 10), default=1.2, help="of bitempered: heavy tails above 1 (default: 1.2)")
    add("--teacher", metavar="A,B", help="learn from checkpoints' mean, or from NAME.npy or .npz of the training split")
    add("--mix", type=number(float, 0, 1), default=0.5, metavar="W", help="weight of the teacher (default: 0.5)")
    add("--temperature", type=number(float, 0, above=True), default=2.0, metavar="T", help="of both (default: 2)")
    add_training_arguments(
        parser, out="runs/ARCH, with -balanced where --balanced is given, with -LOSS of another loss"
    )
    return parser


def criterion_of(args: argparse.Namespace, catalogue: Catalogue, device: torch.device) -> Criterion:
    names = ("label_smoothing", "focal_gamma", "margin", "t1", "t2")
    levels, weights = None, args.level_weights
    if args.loss == "hierarchy":
        levels = torch.from_numpy(catalogue.levels()).to(device)  # (L, K)
        weights = weights * len(levels) if len(weights) == 1 else weights
        if len(weights) != len(levels):
            raise InputError(f"--level-weights: {len(weights)} weights for {len(levels)} levels; give one for each")
    return choose_loss(args.loss, **{name: getattr(args, name) for name in names}, levels=levels, level_weights=weights)


def main() -> None:
    args, resume = training_settings(arguments(), recipe)
    catalogue, weights = open_catalogue(args.data), None
    if args.extra:
        catalogue, weights = with_extra_labels(catalogue, args.extra)
    net = starting_network(args, catalogue, resume, Angular if args.loss == "asoftmax" else lambda net: net)
    compute = choose_compute(net, args.device, args.precision, args.memory_format)
    train, val = loaders(args, catalogue, compute)
    method = partial(
        step,
        criterion=criterion_of(args, catalogue, compute.device),
        weights=torch.from_numpy(weights) if args.extra_weighted and args.extra else None,
        teacher=open_teacher(args.teacher, catalogue, compute, args.temperature) if args.teacher else None,
        mix=args.mix,
        temperature=args.temperature,
    )
    announce(args, catalogue, net, compute, recipe(args))
    Trainer(args, net, catalogue, compute, resume).fit(method, train, val)


if __name__ == "__main__":
    run(main)
