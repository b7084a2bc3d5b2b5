"""Labels for photographs that have none, from the ensemble's predictions: a trick that worked (report, section 6).

    python -m tricks.pseudo_label ensembles/test.npy --threshold 0.95             # -> pseudo_labels.csv
    python train.py --extra pseudo_labels.csv --balanced 30 --init runs/resnet50-balanced/best.pt

Writes id,class,probability: a row per photograph of the test split whose winner is probable enough, in its order.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from catalogues import LABEL_COLUMNS
from common.command_line import Parser, number, run
from common.errors import InputError
from common.files import atomic_write
from predictions.reading import Member, open_member

ROWS = 1024  # at a time


def arguments() -> argparse.Namespace:
    parser = Parser(prog="python -m tricks.pseudo_label", description=__doc__)
    add = parser.add_argument
    predictions = "prediction file of the test split, of ensemble.py --out or predict.py"
    add("predictions", type=Path, metavar="NAME.npy", help=predictions)
    add("--threshold", type=number(float, 0, 1), default=0.95, metavar="P", help="least probability (default: 0.95)")
    add("--per-class", type=number(int, 1), metavar="N", help="at most the N most probable of a class (default: all)")
    add("--out", type=Path, default="pseudo_labels.csv", metavar="FILE.csv", help="(default: pseudo_labels.csv)")
    args = parser.parse_args()
    if args.out.suffix != ".csv":
        raise InputError(f"--out {args.out}: expected a name that ends in .csv")
    return args


def winners(member: Member) -> tuple[np.ndarray, np.ndarray]:
    """The most probable class of every photograph, (n,), and its probability, (n,)."""
    images = member.info.shape[0]
    label, probability = np.empty(images, np.int64), np.empty(images)
    for start in range(0, images, ROWS):
        rows = member.rows(start, min(start + ROWS, images))  # (m, K)
        label[start : start + ROWS], probability[start : start + ROWS] = rows.argmax(1), rows.max(1)
    return label, probability


def chosen_places(label: np.ndarray, probability: np.ndarray, threshold: float, per_class: int | None) -> np.ndarray:
    """Sorted places whose winner has at least `threshold`, the `per_class` most probable of each class."""
    places = np.flatnonzero(probability >= threshold)
    if per_class:
        order = places[np.lexsort((places, -probability[places], label[places]))]  # class by class, best first
        counts = np.bincount(label[order])
        rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        places = np.sort(order[rank < per_class])
    return places


def main() -> None:
    args = arguments()
    member = open_member(args.predictions)
    info = member.info
    if info.split != "test":
        raise InputError(f"{args.predictions}: of the {info.split} split; pseudo labels are for the test split alone")
    label, probability = winners(member)
    bad = set(info.unreadable)
    unreadable = np.array([image in bad for image in info.image_ids])  # numpy would give every id the longest's room
    places = chosen_places(label, np.where(unreadable, -1, probability), args.threshold, args.per_class)
    names = info.class_ids or info.class_names
    with atomic_write(args.out, "w") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(LABEL_COLUMNS)
        table.writerows((info.image_ids[n], names[label[n]], f"{min(probability[n], 1):.4g}") for n in places)
    share = len(places) / max(1, len(label))
    print(f"{args.out}: {len(places):,} of {len(label):,} photographs ({share:.0%}) at {args.threshold:g} or more")


if __name__ == "__main__":
    run(main)
