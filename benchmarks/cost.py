"""What a full reproduction at the challenge's size costs, computed from formulas; explained in docs/scale.md.

    python benchmarks/cost.py
    python benchmarks/cost.py --images 30000000 --classes 500300     # ten times the catalogue

GPU-hours of a member = crops · 3 · multiply-adds of a forward pass ÷ multiply-adds a second of a GPU. Crops are
photographs times epochs; the factor 3 covers forward and backward pass. The multiply-adds are counted in our networks.
Epochs and crops are the settings in recipes.py. The rates of a GPU are published for training networks of the same
family. Prints Markdown.
"""

import sys
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common.command_line import Parser, number, run
from models import create_model
from recipes import REPORT

# Images a second on eight A100 80 GB in mixed precision, and giga-multiply-adds of an image's forward pass, for the
# nearest network in the training table of NVIDIA/DeepLearningExamples, PyTorch/Classification/ConvNets/README.md:
# resnet50 and se-resnext101-32x4d at 224 pixels, efficientnet-b4 at 380. The second figures are from the networks'
# papers: He et al. 2016 (4.1 of v1.5), Hu et al. 2018 (8.0), Tan and Le 2019 (4.2).
RATES = {"resnet": (15977, 4.1), "seres": (5248, 8.0), "efficientnet": (2341, 4.2)}
ARCHS = ("resnet50", "seresnext50", "seresnet101", "efficientnet-b3", "efficientnet-b4")


def sustained(arch: str) -> float:
    """Giga-multiply-adds a second of one A100 in training, forward and backward: from RATES."""
    rate, work = next(figures for family, figures in RATES.items() if arch.startswith(family))
    return rate / 8 * 3 * work


def multiply_adds(arch: str, crop: int, classes: int) -> float:
    """Giga-multiply-adds of a forward pass of one crop."""
    net = create_model(arch, classes).eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, 3, crop, crop))
    return counter.get_total_flops() / 2e9


def members(images: int, balanced: int) -> list[tuple[str, str, float, int]]:
    """(step, arch, crops trained on, side of a crop) of all networks of the report, with our settings."""
    dcl, lio = REPORT["dcl"]["epochs"], REPORT["lio from a network"]["epochs"]
    return [
        *(("1 whole set", arch, images * REPORT["base"]["epochs"], 224) for arch in ARCHS),
        *(("1b balanced", arch, balanced * REPORT["balanced"]["epochs"], 224) for arch in ARCHS),
        *(("2 DCL", arch, 2 * balanced * dcl, 448) for arch in ARCHS[:2]),  # intact and destructed
        ("3 LIO", "resnet50", 4 * balanced * lio, 224),  # groups of four
        *(("4 accuracy loss", arch, balanced * REPORT["accuracy"]["epochs"], 224) for arch in (*ARCHS[:2], ARCHS[3])),
    ]


def main() -> None:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("--images", type=number(int, 1), default=3_000_000, help="training photographs (default: 3,000,000)")
    add("--classes", type=number(int, 2), default=50_030, help="classes (default: 50,030)")
    add("--test", type=number(int, 1), default=250_000, help="photographs to predict (default: 250,000)")
    args = parser.parse_args()
    balanced = min(args.images, 30 * args.classes)
    work: dict[tuple[str, int], float] = {}

    print("| step | network | crops, million | G multiply-adds a crop | A100-hours |\n|---|---|---|---|---|")
    total = 0.0
    for step, arch, crops, side in members(args.images, balanced):
        if (arch, side) not in work:
            work[arch, side] = multiply_adds(arch, side, args.classes)
        hours = crops * 3 * work[arch, side] / sustained(arch) / 3600
        total += hours
        print(f"| {step} | {arch} | {crops / 1e6:.0f} | {work[arch, side]:.2f} | {hours:.1f} |")
    print(f"| all | | | | {total:.0f} |")

    ten_crop, tests = 0.0, [step for step in members(1, 1) if not step[0].startswith("1 ")]
    for _, arch, _, side in tests:  # a forward pass takes a third of the work of a training step
        ten_crop += 10 * args.test * work[arch, side] / sustained(arch) / 3600
    print(f"\nten-crop prediction of {args.test:,} photographs by {len(tests)} members: {ten_crop:.0f} A100-hours")

    print("\n| network | parameters, M | of the classifier, M | three times its size in float32, GB | once, GB |")
    print("|---|---|---|---|---|")
    for arch in ARCHS:
        with torch.device("meta"):
            net = create_model(arch, args.classes)
        count, head = (sum(p.numel() for p in part.parameters()) for part in (net, net.classifier))
        print(f"| {arch} | {count / 1e6:.0f} | {head / 1e6:.0f} | {12 * count / 1e9:.2f} | {4 * count / 1e9:.2f} |")


if __name__ == "__main__":
    run(main)
