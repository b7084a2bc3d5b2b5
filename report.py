"""The report's table beside ours: what each step gave there, and what it gave here.

    python report.py                        # reads preds/base/, preds/ and ensembles/all.npy's description
    python report.py --preds preds/grocery --ensemble ensembles/grocery/all.npy

Every figure is read from the descriptions that predict.py and ensemble.py write beside their predictions.
"""

import argparse
from pathlib import Path

from engine.cli import Parser, run
from engine.predictions import PredictionInfo, open_member
from errors import InputError, one_line

# (step of the report, its top-1 error on the challenge's leaderboard, our members: ending of the file's name)
STEPS = [
    ("1   whole set", "20 to 25 %", "base"),
    ("1b  balanced", "9 to 12 %", "balanced"),
    ("2   DCL", "1 to 2 points better", "dcl"),
    ("3   LIO", "(not told)", "lio"),
    ("4   accuracy loss", "0.2 to 0.5 points better", "accuracy"),
]
ENSEMBLE = ("4.1 ensemble", "6.27 %")
LINE = "{:19} {:25} {:27} {:>11} {:>16}"


def arguments() -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("--preds", type=Path, default=Path("preds"), help="folder of the members (default: preds)")
    parser.add_argument("--ensemble", type=Path, default=Path("ensembles/all.npy"), help="(default: ensembles/all.npy)")
    return parser.parse_args()


def step_of(path: Path, preds: Path) -> str:
    """Which step's ending a prediction file's name has; the folder base/ holds the networks of step 1."""
    return "base" if path.parent != preds else path.stem.rpartition("-")[2]


def line(step: str, reported: str, name: str, info: PredictionInfo) -> str:
    name = one_line(name)
    if info.top1_error is None or info.mean_class_error is None:
        return LINE.format(step, reported, name, "no labels", "")
    return LINE.format(step, reported, name, f"{100 * info.top1_error:.2f} %", f"{100 * info.mean_class_error:.2f} %")


def main() -> None:
    args = arguments()
    paths = sorted((args.preds / "base").glob("*.npy")) + sorted(args.preds.glob("*.npy"))
    if not paths:
        raise InputError(f"{args.preds}: holds no predictions; run predict.py first or give their folder with --preds")
    infos = {path: open_member(path).info for path in paths}
    print(LINE.format("step", "report, top-1 error", "here", "top-1 error", "mean class error"))
    for step, reported, ending in STEPS:
        ours = [path for path in paths if step_of(path, args.preds) == ending]
        for place, path in enumerate(ours):
            print(line(step if not place else "", reported if not place else "", path.stem, infos[path]))
        if not ours:
            print(LINE.format(step, reported, "-", "", "").rstrip())
    if args.ensemble.exists():
        info = open_member(args.ensemble).info
        print(line(*ENSEMBLE, f"sum of {len(info.members or [])}", info))
    first = infos[paths[-1]]
    print(
        f"\nhere: {one_line(first.split)} split, {len(first.image_ids):,} photographs, "
        f"{len(first.class_names):,} classes,",
        end=" ",
    )
    print("ten crops; the report: the challenge's test set, 50,030 classes")
    print(f"files: {', '.join(map(one_line, [*paths, args.ensemble] if args.ensemble.exists() else paths))}")


if __name__ == "__main__":
    run(main)
