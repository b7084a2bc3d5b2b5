"""The probabilities of a whole split, written to a prediction file, by one process or by several of torchrun."""

import argparse
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from catalogues import Catalogue, Split
from common.command_line import Interrupted, stop_requests
from common.errors import one_line
from common.processes import barrier, join, world
from inference.classifier import Classifier, Rows
from models.checkpoint import file_hash
from predictions.format import PredictionInfo
from predictions.writer import PredictionWriter, fingerprint, join_predictions, write_predictions


def predict_split(
    classifier: Classifier, catalogue: Catalogue, split: Split, out: Path, args: argparse.Namespace
) -> PredictionInfo | None:
    """Write the probabilities of `split` to `out`, from where an earlier call stopped; None but in the first process.

    args: the arguments of predict.py. Returns what the file is about, with its errors where labels are known. Raises
    Interrupted after SIGINT or SIGTERM.
    """
    info = describe_predictions(classifier, catalogue, split, args)
    compute = classifier.compute
    made_with = fingerprint(
        info,
        resize=classifier.resize,
        head=args.head,
        batch_size=args.batch_size
        if classifier.photographs_at_once(args.crops) > 1
        else None,  # rounding depends on it
        device=compute.device.type,
        bf16=compute.bf16,
        memory_format=str(compute.memory_format),
    )
    join()
    shares = world().shares(len(split), args.batch_size)  # of whole batches, as one process would make them
    share, several, dtype = shares[world().rank], len(shares) > 1, args.dtype or "float16"
    seconds = 60 * (1 if args.save_every is None else args.save_every)
    if share:
        writing = write_predictions(out, info, dtype, share if several else None, made_with, seconds)
        with stop_requests() as stop, writing as file:
            places = range(file.next, share.stop)
            loader = classifier.loader(split, args.batch_size, args.workers, places, args.worker_timeout)
            write_rows(file, split, share, classifier.rows(loader, args.crops), stop)
    barrier()
    if not world().first:
        return None
    if several:
        join_predictions(out, info, [share for share in shares if share], dtype, made_with)
    return info


def describe_predictions(
    classifier: Classifier, catalogue: Catalogue, split: Split, args: argparse.Namespace
) -> PredictionInfo:
    return PredictionInfo(
        split=split.name,
        arch=classifier.arch,
        labels=None if split.labels is None else split.labels.tolist(),
        image_ids=[split.image_id(index) for index in range(len(split))],
        class_names=catalogue.classes,
        class_ids=catalogue.class_ids,
        checkpoint=file_hash(args.checkpoint),
        crop=classifier.crop,
        fit=classifier.fit,
        crops=args.crops,
        top_k=args.top_k,
    )


def write_rows(file: PredictionWriter, split: Split, share: range, rows: Iterator[Rows], stop: list[int]) -> None:
    """Append `rows` until this process's share is complete, or until `stop` has a signal in it."""
    if file.next > share.start:
        print(f"going on at photograph {file.next:,} of {share.stop:,}", file=sys.stderr)
    hidden = None if world().first else True  # None: hidden where stderr is not a terminal
    with tqdm(total=len(share), initial=file.next - share.start, unit="image", leave=False, disable=hidden) as bar:
        for batch in rows:
            for index, reason in batch.unreadable:
                warning = f"warning: {split.path(index)} cannot be read, its row is uniform ({reason})"
                print(one_line(warning), file=sys.stderr)
            file.append(batch.probabilities, [split.image_id(index) for index, _ in batch.unreadable])
            bar.update(len(batch.index))
            if stop and file.next < share.stop:
                raise Interrupted(stop[0], shlex.join(["python", *sys.argv]))
