"""Does each step lower the error, and does the ensemble beat its best member? The report's steps for several seeds.

    python benchmarks/effect.py                        # 5 seeds of the quick run on the demo
    python benchmarks/effect.py --seeds 1 --data DIR -- --weights none --resize 72 --crop 64

Each seed is one call of reproduce_paper.sh, so a stopped study continues where it was. Prints a Markdown table.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.studies import print_gain  # noqa: E402
from common.command_line import Parser, number, run  # noqa: E402
from predictions.reading import open_member  # noqa: E402


def errors(path: Path) -> tuple[float, float]:
    """Top-1 error and mean class error of a prediction file, in percent."""
    info = open_member(path).info
    return 100 * info.top1_error, 100 * info.mean_class_error


def chain(args: argparse.Namespace, seed: int) -> dict[str, tuple[float, float]]:
    """Errors of one seed's run: the first backbone before balanced finetuning, every member, the ensemble."""
    name = f"{args.name}-{seed}"
    call = ["bash", str(ROOT / "reproduce_paper.sh"), "--name", name, "--seed", str(seed), "--arch", args.arch]
    call += ["--data", args.data] if args.data else []
    subprocess.run([*call, "--", *args.extra], check=True, stdout=sys.stderr)
    total = open_member(ROOT / "ensembles" / name / "all.npy").info
    first = args.arch.partition(",")[0]
    members = {Path(path).stem: errors(ROOT / path) for path in total.members}
    base = {first: errors(ROOT / "preds" / name / "base" / f"{first}.npy")}
    return base | members | {"ensemble": (100 * total.top1_error, 100 * total.mean_class_error)}


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--seeds", type=number(int, 1), default=5)
    parser.add_argument("--arch", default="resnet18", help="as in reproduce_paper.sh (default: resnet18)")
    parser.add_argument("--data", help="a catalogue (default: the demo)")
    parser.add_argument("--name", default="effect", help="name of the folders runs/NAME-SEED (default: effect)")
    parser.add_argument("extra", nargs="*", help="after --: arguments for every training")
    args = parser.parse_args()

    runs = [chain(args, seed) for seed in range(args.seeds)]
    names, table = list(runs[0]), np.array([list(run.values()) for run in runs])  # (seeds, names, 2) percent
    print(f"| seed | {' | '.join(names)} |\n|{'---|' * (1 + len(names))}")
    for seed, row in enumerate(table):
        print(f"| {seed} | " + " | ".join(f"{top1:.2f} / {mean:.2f}" for top1, mean in row) + " |")
    mean_class = table[:, :, 1]  # the challenge ranks by it
    if args.seeds > 1:
        means, deviations = mean_class.mean(0), mean_class.std(0, ddof=1)
        cells = [f"{m:.2f} ± {s:.2f}" for m, s in zip(means, deviations, strict=True)]
        print(f"| mean class error, mean ± standard deviation | {' | '.join(cells)} |")
    print_gain("balanced finetuning", "the whole set", mean_class[:, 0] - mean_class[:, 1])
    print_gain("the ensemble", "its best member", mean_class[:, 1:-1].min(1) - mean_class[:, -1])


if __name__ == "__main__":
    run(main)
