"""Step 4.1 of the report: the sum of the probabilities of several networks.

    python ensemble.py preds/*.npy --submission submission.csv

Prints the top-1 error and the mean class error of every member, of the ensemble, and what the ensemble gains. Members
may hold all classes (.npy) or the k most probable (predict.py --top-k, .npz); of the latter, it tells for how many
photographs the winner is proven to be that of all classes. Memory holds a few rows at a time, whatever their number.
"""

import argparse
import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
from tqdm import tqdm

from common.command_line import Parser, run
from common.errors import InputError, one_line
from common.files import atomic_write
from predictions.ensemble_sum import Sums, add_members, in_order, kernel_for, read_weights
from predictions.metrics import mean_class_error, top1_error
from predictions.reading import Member, PredictionInfo, open_members
from predictions.top_k import TopMember
from predictions.writer import write_predictions

PIECE_BYTES = 12 * 2**20  # for all arrays of one piece of rows together: what stays in the cache of a core
CELL_BYTES = 8 + 8 + 4 + 8  # a cell of the sum, of what is added, of the member's rows, and as read from the disk


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("members", nargs="+", metavar="NAME.npy", help="prediction files of predict.py, .npy or .npz")
    parser.add_argument("--weights", metavar="1,1,2", help="how often each member counts (default: all once)")
    parser.add_argument("--submission", metavar="FILE.csv", help="write id,predicted: a row per photograph")
    parser.add_argument("--out", metavar="NAME.npy", help="write the mean probabilities as a prediction file")
    parser.add_argument("--dtype", choices=["float16", "float32"], default="float16", help="of --out")
    parser.add_argument(
        "--uncertain", metavar="FILE.txt", help="write the ids of photographs whose winner is not proven"
    )
    args = parser.parse_args(argv)
    # Before a forgotten value turns the first of preds/*.npy into the output.
    if args.submission and not args.submission.endswith(".csv"):
        raise InputError(f"--submission {args.submission}: expected a name that ends in .csv")
    if args.uncertain and not args.uncertain.endswith(".txt"):
        raise InputError(f"--uncertain {args.uncertain}: expected a name that ends in .txt")
    if args.out and Path(args.out).resolve().parent in {Path(member).resolve().parent for member in args.members}:
        raise InputError(
            f"--out {args.out}: lies in the folder of a member, where the next *.npy would add the ensemble to "
            "itself; choose another folder, such as ensembles/"
        )
    return args


def pieces(images: int, classes: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows, start to stop − 1, whose arrays stay within `PIECE_BYTES`."""
    size = max(1, PIECE_BYTES // (CELL_BYTES * classes))
    starts = range(0, images, size)
    for start in tqdm(starts, unit="piece", disable=None, delay=2):  # None: no bar unless stderr is a terminal
        yield start, min(start + size, images)


def step(
    members: Sequence[Member | TopMember], weights: np.ndarray, kernel: Callable | None, piece: tuple[int, int]
) -> Sums:
    """The weighted sum of the probabilities of a piece of the photographs, (m, K), and what follows from it."""
    return add_members(members, weights, *piece, kernel)


def ensemble_info(members: Sequence[Member | TopMember], weights: np.ndarray) -> PredictionInfo:
    first = members[0].info
    return PredictionInfo(
        split=first.split,
        arch="ensemble",
        labels=first.labels,
        image_ids=first.image_ids,
        class_names=first.class_names,
        class_ids=first.class_ids,
        unreadable=list(dict.fromkeys(image for member in members for image in member.info.unreadable)),
        members=[str(member.path) for member in members],
        weights=weights.tolist(),
    )


def write_submission(file: IO[str], info: PredictionInfo, predicted: np.ndarray) -> None:
    names = info.class_ids or info.class_names
    table = csv.writer(file, lineterminator="\n")
    table.writerow(["id", "predicted"])
    table.writerows((image, names[label]) for image, label in zip(info.image_ids, predicted, strict=True))


def print_errors(members: Sequence[Member | TopMember], alone: np.ndarray, predicted: np.ndarray) -> None:
    info = members[0].info
    if info.labels is None:
        return print(f"split {info.split!r} has no labels: {len(members)} members added, no errors to tell")
    labels = np.array(info.labels)
    names = [*(one_line(member.path) for member in members), "ensemble"]
    errors = np.array([(top1_error(row, labels), mean_class_error(row, labels)) for row in (*alone, predicted)]) * 100
    width = max(map(len, names))
    print(f"{'':{width}}  top-1 error  mean class error")
    for name, (top1, mean_class) in zip(names, errors, strict=True):
        print(f"{name:{width}}  {top1:9.2f} %  {mean_class:14.2f} %")
    best = errors[:-1, 1].argmin()  # as the challenge ranks
    gain = errors[best] - errors[-1]
    print(f"best single model {names[best]}; the ensemble gains {gain[0]:.2f} and {gain[1]:.2f} points")


def print_certainty(certain: np.ndarray, uncertain: str | None) -> None:
    count = len(certain) - certain.sum()
    where = f"; their ids: {uncertain}" if uncertain else "; --uncertain FILE.txt lists them" * bool(count)
    print(
        f"the winner of {certain.mean():.2%} of the photographs is certain: that of members with all classes; "
        f"{count:,} may differ{where}"
    )


def main(argv: list[str] | None = None) -> None:
    args = arguments(argv)
    members = open_members(args.members)
    weights = read_weights(args.weights, len(members))
    info = ensemble_info(members, weights)
    images, classes = info.shape
    alone = np.empty((len(members), images), dtype=np.int32)
    predicted, certain = np.empty(images, dtype=np.int32), np.empty(images, dtype=bool)
    with ExitStack() as outputs:  # opened first: a folder that cannot be written to is found before hours of reading
        writer = outputs.enter_context(write_predictions(args.out, info, args.dtype)) if args.out else None
        submission = outputs.enter_context(atomic_write(args.submission, "w")) if args.submission else None
        uncertain = outputs.enter_context(atomic_write(args.uncertain, "w")) if args.uncertain else None
        add = partial(step, members, weights, kernel_for(members))
        for (start, stop), sums in in_order(add, pieces(images, classes)):
            alone[:, start:stop], predicted[start:stop], certain[start:stop] = sums.alone, sums.predicted, sums.certain
            if writer:
                writer.append(sums.total / weights.sum())
        if submission:
            write_submission(submission, info, predicted)
        if uncertain:
            uncertain.writelines(f"{one_line(info.image_ids[place])}\n" for place in np.flatnonzero(~certain))
    print_errors(members, alone, predicted)
    if args.uncertain or any(isinstance(member, TopMember) for member in members):
        print_certainty(certain, args.uncertain)


if __name__ == "__main__":
    run(main)
