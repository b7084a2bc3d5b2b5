"""Step 4.1 of the report: the sum of the probabilities of several networks.

    python ensemble.py preds/*.npy --submission submission.csv

Prints the top-1 error and the mean class error of each member and of the ensemble, and how much the ensemble gains.
Mean class error: the error rate of each class, averaged over the classes, so that rare products count as much as common
ones. Members hold all classes (.npy), or the k most probable of each photograph (.npz, by predict.py --top-k). With
.npz members it also prints for how many photographs the predicted class is proven to be that of full files. Only a few
rows are in memory at a time, whatever the size of the files.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING

import predictions
from common.command_line import Parser, run
from common.errors import InputError, one_line
from common.files import atomic_write
from common.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np

    from predictions import Member, PredictionInfo, PredictionWriter, TopMember
else:
    np = LazyModule("numpy")  # a help text does not need it


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("members", nargs="+", metavar="NAME.npy", help="prediction files of predict.py, .npy or .npz")
    parser.add_argument("--weights", metavar="1,1,2", help="weight of each member in the sum (default: all 1)")
    parser.add_argument("--submission", metavar="FILE.csv", help="write id,predicted: a row per photograph")
    parser.add_argument("--out", metavar="NAME.npy", help="write the mean probabilities as a prediction file")
    parser.add_argument("--dtype", choices=["float16", "float32"], default="float16", help="of --out")
    parser.add_argument(
        "--uncertain", metavar="FILE.txt", help="write the ids of photographs whose predicted class is not proven"
    )
    args = parser.parse_args(argv)
    # After a forgotten value the first of preds/*.npy would become the output.
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


def ensemble_info(members: Sequence[Member | TopMember], weights: np.ndarray) -> PredictionInfo:
    first = members[0].info
    return predictions.PredictionInfo(
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


def add_all(
    members: Sequence[Member | TopMember], weights: np.ndarray, mean: PredictionWriter | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sum the probabilities of all n photographs, and write their weighted mean to `mean`.

    Returns what `predictions.Sums` says of each photograph: the class that each member predicts (members, n), the class
    that the ensemble predicts (n,), and whether that is certain (n,).
    """
    images = members[0].info.shape[0]
    alone = np.empty((len(members), images), dtype=np.int32)
    predicted, certain = np.empty(images, dtype=np.int32), np.empty(images, dtype=bool)
    for (start, stop), sums in predictions.ensemble_sums(members, weights):
        alone[:, start:stop], predicted[start:stop], certain[start:stop] = sums.alone, sums.predicted, sums.certain
        if mean:
            mean.append(sums.total / weights.sum())
    return alone, predicted, certain


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
    metrics = (predictions.top1_error, predictions.mean_class_error)
    errors = np.array([[metric(row, labels) for metric in metrics] for row in (*alone, predicted)]) * 100
    width = max(map(len, names))
    print(f"{'':{width}}  top-1 error  mean class error")
    for name, (top1, mean_class) in zip(names, errors, strict=True):
        print(f"{name:{width}}  {top1:9.2f} %  {mean_class:14.2f} %")
    best = errors[:-1, 1].argmin()  # the challenge ranks by mean class error
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
    members = predictions.open_members(args.members)
    weights = predictions.read_weights(args.weights, len(members))
    info = ensemble_info(members, weights)
    with ExitStack() as outputs:  # opened first: a folder that cannot be written to is found before hours of reading
        mean = outputs.enter_context(predictions.write_predictions(args.out, info, args.dtype)) if args.out else None
        submission = outputs.enter_context(atomic_write(args.submission, "w")) if args.submission else None
        uncertain = outputs.enter_context(atomic_write(args.uncertain, "w")) if args.uncertain else None
        alone, predicted, certain = add_all(members, weights, mean)
        if submission:
            write_submission(submission, info, predicted)
        if uncertain:
            uncertain.writelines(f"{one_line(info.image_ids[place])}\n" for place in np.flatnonzero(~certain))
    print_errors(members, alone, predicted)
    if args.uncertain or any(member.info.top_k for member in members):
        print_certainty(certain, args.uncertain)


if __name__ == "__main__":
    run(main)
