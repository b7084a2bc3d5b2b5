"""Prediction on a CPU with 1 to 64 images at a time in the network: speed and memory; NOTES.md has the results.

    python benchmarks/pieces.py                                       # every row
    python benchmarks/pieces.py --arch resnet50 --crop 224 --crops 10 # some rows

Each number of images has its own process. They work in turn, --repeats times; the speeds are medians, the memory is the
most that the process has taken. Photographs are random bytes: 64 of them, or with ten crops 8.
"""

import sys
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.run import Contender, machine, three_digits
from common.command_line import Parser, number, run

MOST = (1, 2, 5, 10, 20, 32, 64)  # images at a time
NETWORKS = (("efficientnet-lite0", 224), ("resnet50", 224), ("efficientnet-lite0", 336))


def measured(arch: str, crop: int, precision: str, crops: int, threads: int, repeats: int) -> list[str]:
    """A cell for each of MOST: images a second, and GB."""
    contenders = [
        Contender(["our_pieces", arch, str(crop), precision, str(crops), str(most)], threads) for most in MOST
    ]
    rates = [[contender.rate() for contender in contenders] for _ in range(repeats)]
    cells = [
        f"{three_digits(median(rate))}, {contender.peak():.2f} GB"
        for rate, contender in zip(zip(*rates, strict=True), contenders, strict=True)
    ]
    for contender in contenders:
        contender.close()
    return cells


def main() -> None:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("--arch", help="(default: efficientnet-lite0 and resnet50)")
    add("--crop", type=number(int, 32, 4096), help="side of the crops (default: 224, and 336)")
    add("--crops", type=int, choices=(1, 10), help="(default: both)")
    add("--precision", choices=("bf16", "float32"), help="(default: both)")
    add("--threads", type=number(int, 1), default=2, metavar="N", help="(default: 2)")
    add("--repeats", type=number(int, 1), default=3, metavar="N", help="counted repetitions (default: 3)")
    args = parser.parse_args()
    print(f"| network | crops | precision | {' | '.join(map(str, MOST))} |\n|---|---|---|{'---|' * len(MOST)}")
    for arch, crop in NETWORKS:
        for crops in (10, 1):
            for precision in ("bf16", "float32"):
                chosen = (args.arch, arch), (args.crop, crop), (args.crops, crops), (args.precision, precision)
                if all(wanted in (None, this) for wanted, this in chosen):
                    cells = measured(arch, crop, precision, crops, args.threads, args.repeats)
                    print(f"| {arch}, {crop} | {crops} | {precision} | {' | '.join(cells)} |", flush=True)
    print(machine())


if __name__ == "__main__":
    run(main)
