"""Photographs without a catalogue: files and folders of them, and the most probable classes of each."""

import argparse
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from catalogues import Split, Strings
from catalogues.catalogue import describe_left_out
from catalogues.formats.scanning import HIDDEN, scan
from common.errors import InputError, one_line, shortened
from common.files import named_failures, prepare_place
from common.pictures import picture_format, save_picture
from common.processes import world
from inference.classifier import Classifier, Rows
from inference.explain import explanation_sheet
from predictions.format import check_rows

MOST_ROWS = 24  # photographs on the sheet of --explain


class Prediction(NamedTuple):
    """A photograph's most probable classes (k,), best first, ties by the lower, and their probabilities float32 (k,).

    `error`: why the photograph cannot be read; "" where it can.
    """

    photograph: str
    classes: np.ndarray
    probabilities: np.ndarray
    error: str


def photographs_in(paths: Iterable[str]) -> list[str]:
    """The paths of files as they are; for a folder, the photographs below it, sorted.

    Prints a note of what is left out, unless it is hidden. Raises InputError for a path that is missing, and for a
    folder that cannot be listed or holds no photographs.
    """
    photographs = []
    for path in paths:
        if not os.path.exists(path):
            raise InputError(f"{path}: no such photograph or folder; name one that is there")
        photographs += _photographs_below(path) if os.path.isdir(path) else [path]
    return photographs


def _photographs_below(top: str) -> list[str]:
    photographs, left = [], Counter()
    for below, folder in scan(Path(top)).items():
        photographs += [os.path.join(top, below, name) for name in folder.photographs]
        left.update(reason for _, reason in folder.left if reason != HIDDEN)
    if not photographs:
        raise InputError(f"{top}: holds no photographs (.jpg, .png and others); choose another folder, or name files")
    if left:
        print(one_line(f"note: {top}: {describe_left_out(left)}"), file=sys.stderr)
    return sorted(photographs, key=lambda path: path.split(os.sep))


def split_of(paths: Iterable[str]) -> Split:
    """Photographs without a catalogue as the loaders take them; the id of each is its path."""
    return Split("photographs", Path(), Strings(paths), None)


def top_classes(split: Split, rows: Iterable[Rows], count: int, checkpoint: Path) -> Iterator[Prediction]:
    """The `count` most probable classes of each photograph, or all where there are fewer.

    Prints a warning for a photograph that cannot be read, unless it is the only one. Raises InputError for a
    probability that is not finite.
    """
    for batch in rows:
        names, reasons = [split.image_id(index) for index in batch.index], dict(batch.unreadable)
        check_rows(batch.probabilities, names, checkpoint)
        for index, name, row in zip(batch.index, names, batch.probabilities, strict=True):
            error = reasons.get(index, "")
            if error and len(split) > 1:
                print(one_line(f"warning: {name} cannot be read ({error})"), file=sys.stderr)
            classes = np.argsort(-row, kind="stable")[:count]
            yield Prediction(name, classes, row[classes], error)


def as_table(prediction: Prediction, classes: Sequence[str], top: int, width: int) -> str:
    """For people: the photograph's name, and a line of at most `width` characters for each of `top` classes."""
    lines = [one_line(prediction.photograph)]
    for label, probability in zip(prediction.classes[:top], prediction.probabilities, strict=False):
        lines.append(f"  {100 * probability:6.2f} %  {shortened(classes[label], width - 12)}")
    return "\n".join(lines)


def as_json(prediction: Prediction, classes: Sequence[str], class_ids: Sequence[str | int], top: int) -> dict:
    """For programs. Bytes of a name that are not UTF-8 are surrogates, which `os.fsencode` turns back into bytes."""
    if prediction.error:
        return {"photograph": prediction.photograph, "error": prediction.error}
    best = zip(prediction.classes[:top], prediction.probabilities.tolist(), strict=False)
    return {
        "photograph": prediction.photograph,
        "top": [{"class": classes[k], "class_id": class_ids[k], "probability": probability} for k, probability in best],
    }


def name_products(classifier: Classifier, args: argparse.Namespace) -> None:
    """Print the most probable classes of photographs without a catalogue; with --explain, write a sheet of them.

    args: the arguments of predict.py.
    """
    split = split_of(photographs_in(args.photographs))
    if args.explain:
        require_new_picture(args.explain)

    top, width, predictions = args.top or 5, max(40, shutil.get_terminal_size().columns), []
    loader = classifier.loader(split, args.batch_size, args.workers, patience=args.worker_timeout)
    hidden = None if args.json else True  # the table shows progress itself
    with tqdm(total=len(split), unit="image", leave=False, disable=hidden) as bar:
        for prediction in top_classes(split, classifier.rows(loader, args.crops), max(top, 2), args.checkpoint):
            predictions.append(prediction)
            bar.update()
            if not args.json and not prediction.error:
                print(as_table(prediction, classifier.classes, top, width))
    readable = [prediction for prediction in predictions if not prediction.error]
    if not readable:
        first = predictions[0]
        many = "" if len(predictions) == 1 else f"none of {len(predictions)} photographs can be read; "
        raise InputError(f"{many}{first.photograph}: cannot be read ({first.error}); name other photographs")
    if args.json:
        entries = [as_json(prediction, classifier.classes, classifier.class_ids, top) for prediction in predictions]
        print(json.dumps(entries, indent=1))
    if args.explain:
        _explain(classifier, readable, args)


def _explain(classifier: Classifier, predictions: list[Prediction], args: argparse.Namespace) -> None:
    shown = predictions[:MOST_ROWS]
    split = split_of(prediction.photograph for prediction in shown)
    loader = classifier.loader(split, args.batch_size, args.workers, patience=args.worker_timeout)
    save_picture(explanation_sheet(classifier, loader, shown), args.explain)
    which = f"the first {len(shown)} of {len(predictions)}" if len(shown) < len(predictions) else f"{len(shown)}"
    message = f"{args.explain}: where the network looked in the centre crop; photographs: {which}"
    print(one_line(message), file=sys.stderr if args.json else sys.stdout)


def require_new_picture(path: Path) -> None:
    """Raise InputError where `path` names no picture format, cannot be written, or exists.

    A forgotten value makes the first photograph the value of --explain; it must not be overwritten.
    """
    picture_format(path)
    with named_failures(path, path.resolve()):
        prepare_place(path)
    if path.exists():
        raise InputError(f"--explain {path}: is there already; move it away, or choose another name")


def require_one_process() -> None:
    """Raise InputError in a process of torchrun with others."""
    if world().size > 1:
        raise InputError("your own photographs are predicted by one process; start predict.py without torchrun")
