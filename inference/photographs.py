"""Loose photographs: the products in them, named by the classes of a checkpoint without any catalogue."""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import nn
from tqdm import tqdm

from common.device import choose_compute
from common.errors import InputError, one_line, shortened
from common.files import named_failures, prepare_place
from common.flags import number
from common.pictures import picture_format, save_picture
from common.processes import world
from data import Split, Strings, eval_loader
from data.photographs import endings
from inference.evaluate import Rows, predict
from inference.explain import MOST_ROWS, explained
from predictions.format import check_rows

OF_A_CATALOGUE = ("split", "data", "out", "dtype", "top_k", "save_every")  # arguments of predict.py
OF_LOOSE = ("top", "json", "explain")


def add_loose_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("loose photographs").add_argument
    add("--top", type=number(int, 1), metavar="N", help="the N most probable classes of a photograph (default: 5)")
    add("--json", action="store_true", help="print one JSON document instead of a table")
    add("--explain", type=Path, metavar="FILE.png", help=f"draw where it looked, of up to {MOST_ROWS} photographs")


def require_own_flags(args: argparse.Namespace) -> None:
    """InputError for a flag of loose photographs where there are none, or one of catalogues where there are some."""
    for name in OF_A_CATALOGUE if args.photographs else OF_LOOSE:
        if getattr(args, name) is not None and getattr(args, name) is not False:
            remedy = "leave the photographs out" if args.photographs else "name some behind the checkpoint"
            kind = "a catalogue" if args.photographs else "loose photographs"
            raise InputError(f"--{name.replace('_', '-')} is for {kind}; leave it out, or {remedy}")


class Named(NamedTuple):
    """A photograph's most probable classes (k,), best first, ties by the lower, and their probabilities float32 (k,).

    `error`: why it cannot be read; "" for one that can.
    """

    photograph: str
    classes: np.ndarray
    probabilities: np.ndarray
    error: str


def photographs_in(paths: Iterable[str]) -> list[str]:
    """Files as they are named, for folders the photographs below them: by their endings, sorted, none hidden.

    Raises InputError for a path that is missing, a folder that cannot be listed or holds no photographs.
    """
    found = []
    for path in paths:
        if not os.path.exists(path):
            raise InputError(f"{path}: no such photograph or folder; name one that is there")
        found += _below(path) if os.path.isdir(path) else [path]
    return found


def _below(top: str) -> list[str]:
    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename}: cannot be listed ({error.strerror}); choose another folder") from error

    known, found = endings(), []
    for folder, folders, names in os.walk(top, onerror=refuse):
        folders[:] = [name for name in folders if name[0] != "."]
        found += [os.path.join(folder, name) for name in names if name.lower().endswith(known) and name[0] != "."]
    if not found:
        raise InputError(f"{top}: holds no photographs (.jpg, .png and others); choose another folder, or name files")
    return sorted(found, key=lambda path: path.split(os.sep))


def loose_split(paths: Iterable[str]) -> Split:
    """Photographs without a catalogue as the loaders know them; the id of each is its path."""
    return Split("photographs", Path(), Strings(paths), None)


def named(split: Split, predicted: Iterable[Rows], count: int, checkpoint: Path) -> Iterator[Named]:
    """The `count` most probable classes of each photograph, as far as there are so many; says which cannot be read.

    Raises InputError for a probability that is no number.
    """
    for rows in predicted:
        names, reasons = [split.image_id(index) for index in rows.index], dict(rows.unreadable)
        check_rows(rows.probabilities, names, checkpoint)
        for index, name, row in zip(rows.index, names, rows.probabilities, strict=True):
            error = reasons.get(index, "")
            if error and len(split) > 1:
                print(one_line(f"warning: {name} cannot be read ({error})"), file=sys.stderr)
            classes = np.argsort(-row, kind="stable")[:count]
            yield Named(name, classes, row[classes], error)


def as_table(one: Named, classes: Sequence[str], top: int, width: int) -> str:
    """For people: the photograph's name, and a line of at most `width` characters for each of `top` classes."""
    lines = [one_line(one.photograph)]
    for label, probability in zip(one.classes[:top], one.probabilities, strict=False):
        lines.append(f"  {100 * probability:6.2f} %  {shortened(classes[label], width - 12)}")
    return "\n".join(lines)


def as_facts(one: Named, classes: Sequence[str], class_ids: Sequence[str | int], top: int) -> dict:
    """For programs. A name that is not UTF-8 has half characters, as Python's `os.fsencode` takes them back."""
    if one.error:
        return {"photograph": one.photograph, "error": one.error}
    best = zip(one.classes[:top], one.probabilities.tolist(), strict=False)
    keys = ("class", "class_id", "probability")
    return {
        "photograph": one.photograph,
        "top": [dict(zip(keys, (classes[k], class_ids[k], probability), strict=True)) for k, probability in best],
    }


def name_products(args: argparse.Namespace, state: dict, net: nn.Module, resize: int, crop: int) -> None:
    """What predict.py does with loose photographs: print the classes of each, draw where the network looked."""
    if world().size > 1:
        raise InputError("loose photographs are the work of one process; start predict.py without torchrun")
    split = loose_split(photographs_in(args.photographs))
    if args.explain:
        require_new_picture(args.explain)
    compute = choose_compute(net, args.device, args.precision, args.memory_format)
    net, pin = compute.network(net), compute.device.type == "cuda"

    def loader(split: Split):
        return eval_loader(split, resize, args.batch_size, args.workers, pin, None, args.worker_timeout)

    top, width, done = args.top or 5, max(40, shutil.get_terminal_size().columns), []
    predicted = predict(net, loader(split), compute, crop, args.crops)
    hidden = None if args.json else True  # a table is its own progress
    with tqdm(total=len(split), unit="image", leave=False, disable=hidden) as bar:
        for one in named(split, predicted, max(top, 2), args.checkpoint):
            done.append(one)
            bar.update()
            if not args.json and not one.error:
                print(as_table(one, state["classes"], top, width))
    good = [one for one in done if not one.error]
    if not good:
        many = "" if len(done) == 1 else f"none of {len(done)} photographs can be read; "
        raise InputError(f"{many}{done[0].photograph}: cannot be read ({done[0].error}); name other photographs")
    if args.json:
        print(json.dumps([as_facts(one, state["classes"], state["class_ids"], top) for one in done], indent=1))
    if args.explain:
        shown = good[:MOST_ROWS]
        images = loader(loose_split(one.photograph for one in shown))
        save_picture(explained(net, compute, images, crop, shown, state["classes"]), args.explain)
        which = f"the first {len(shown)} of {len(good)}" if len(shown) < len(good) else f"{len(shown)}"
        told = f"{args.explain}: where the network looked in the centre crop; photographs: {which}"
        print(one_line(told), file=sys.stderr if args.json else sys.stdout)


def require_new_picture(path: Path) -> None:
    """InputError where `path` names no picture format or cannot be written; or is there, a photograph perhaps, which
    a forgotten value has made an output."""
    picture_format(path)
    with named_failures(path, path.resolve()):
        prepare_place(path)
    if path.exists():
        raise InputError(f"--explain {path}: is there already; move it away, or choose another name")
