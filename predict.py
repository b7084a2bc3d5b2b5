"""Class probabilities of one checkpoint for a split or loose photographs, over ten crops: the report's section 5.

    python predict.py runs/resnet50-balanced/best.pt                  # -> preds/resnet50-balanced.npy (validation)
    python predict.py runs/resnet50-balanced/best.pt --split test     # -> preds/test/resnet50-balanced.npy
    python predict.py runs/resnet50-balanced/best.pt --crops 1        # the centre crop alone
    python predict.py runs/resnet50-balanced/best.pt --top-k 100      # -> preds/resnet50-balanced.npz, 1/200 as large
    python predict.py runs/resnet50-balanced/best.pt photo.jpg folder     # names the products, needs no catalogue
    python predict.py runs/resnet50-balanced/best.pt photo.jpg --json     # for programs
    python predict.py runs/resnet50-balanced/best.pt photo.jpg --explain sheet.png   # draws where the network looked

NAME.npy is (photographs, classes); NAME.json beside it names both, and holds the errors where labels are known.
Stopped or killed, the same command goes on where it was.
"""

import argparse
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from common.command_line import Interrupted, Parser, number, run, stop_requests
from common.device import choose_compute
from common.errors import InputError, one_line
from common.flags import add_compute_arguments, add_worker_arguments
from common.processes import barrier, world
from data import SPLITS, Split, eval_loader, open_catalogue
from inference.evaluate import Rows, predict
from inference.photographs import add_loose_arguments, name_products, require_own_flags
from models.checkpoint import file_hash, load_checkpoint, network_of, prediction_name
from predictions.format import PredictionInfo
from predictions.writer import PredictionWriter, fingerprint, join_predictions, write_predictions


def arguments() -> argparse.Namespace:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("checkpoint", type=Path, help="best.pt or last.pt of a run")
    add("photographs", nargs="*", default=[], help="files and folders: name the products in them, without a catalogue")
    add("--split", choices=SPLITS, help="(default: val, or test where the catalogue has no val)")
    add("--data", help="the catalogue (default: the one it was trained on)")
    add(
        "--out",
        type=Path,
        help="NAME.npy, or NAME.npz with --top-k (default: preds/RUN.npy, for another split preds/SPLIT/RUN.npy)",
    )
    add("--crops", type=int, choices=[1, 10], default=10)
    add("--resize", type=number(int, 32, 4096), help="squash photographs to this side (default: as in training)")
    add("--crop", type=number(int, 32, 4096), help="side of the crops (default: as in training)")
    add("--head", choices=["auto", "plain"], default="auto", help="plain: a DCL network by its own classifier alone")
    add("--dtype", choices=["float16", "float32"], help="of the file (default: float16)")
    add("--top-k", type=number(int, 1), metavar="K", help="keep the K most probable classes of a photograph: NAME.npz")
    add("--save-every", type=number(float, 0), metavar="MINUTES", help="bring to the disk (default: 1)")
    add("--batch-size", type=number(int, 1), default=32, metavar="N", help="photographs at once (default: 32)")
    add_worker_arguments(add)
    add_loose_arguments(parser)
    add_compute_arguments(parser)
    args = parser.parse_intermixed_args()  # photographs may also stand behind flags
    require_own_flags(args)
    return args


def output_path(checkpoint: Path, split: str, suffix: str) -> Path:
    """preds/RUN.npy, or .npz; other splits have a folder of their own, so that preds/*.npy never mixes splits."""
    return Path("preds", *([split] if split != "val" else []), prediction_name(checkpoint) + suffix)


def fill(file: PredictionWriter, split: Split, share: range, predicted: Iterator[Rows], stop: list[int]) -> None:
    """Append what is predicted until this process's share is done, or a signal has come."""
    if file.next > share.start:
        print(f"going on at photograph {file.next:,} of {share.stop:,}", file=sys.stderr)
    hidden = None if world().first else True  # None: where nobody watches
    with tqdm(total=len(share), initial=file.next - share.start, unit="image", leave=False, disable=hidden) as bar:
        for rows in predicted:
            for index, reason in rows.unreadable:
                warning = f"warning: {split.path(index)} cannot be read, its row is uniform ({reason})"
                print(one_line(warning), file=sys.stderr)
            file.append(rows.probabilities, [split.image_id(index) for index, _ in rows.unreadable])
            bar.update(len(rows.index))
            if stop and file.next < share.stop:
                raise Interrupted(stop[0], shlex.join(["python", *sys.argv]))


def main() -> None:
    args = arguments()
    state = load_checkpoint(args.checkpoint)
    settings = state["settings"]
    resize, crop = args.resize or settings["resize"], args.crop or settings["crop"]
    if crop > resize:
        raise InputError(f"--crop {crop} is larger than --resize {resize}; make the crop smaller")
    net = network_of(state, args.checkpoint, heads=args.head == "auto")
    if args.photographs:
        return name_products(args, state, net, resize, crop)
    catalogue = open_catalogue(args.data or settings["data"])
    catalogue.require_classes(state["classes"], str(args.checkpoint))
    split = catalogue.split(args.split or ("val" if "val" in catalogue.splits else "test"))
    compute = choose_compute(net, args.device, args.precision, args.memory_format)
    net = compute.network(net)
    info = PredictionInfo(
        split=split.name,
        arch=state["arch"],
        labels=None if split.labels is None else split.labels.tolist(),
        image_ids=[split.image_id(index) for index in range(len(split))],
        class_names=catalogue.classes,
        class_ids=catalogue.class_ids,
        checkpoint=file_hash(args.checkpoint),
        crop=crop,
        crops=args.crops,
        top_k=args.top_k,
    )
    made_with = fingerprint(
        info,
        resize=resize,
        head=args.head,
        batch_size=args.batch_size,
        device=compute.device.type,
        bf16=compute.bf16,
        memory_format=str(compute.memory_format),
    )
    out = args.out or output_path(args.checkpoint, split.name, ".npz" if args.top_k else ".npy")
    shares = world().shares(len(split), args.batch_size)  # of whole batches, as one process would make them
    own, several, dtype = shares[world().rank], len(shares) > 1, args.dtype or "float16"
    minutes = 1 if args.save_every is None else args.save_every
    if own:
        writing = write_predictions(out, info, dtype, own if several else None, made_with, 60 * minutes)
        pin = compute.device.type == "cuda"
        with stop_requests() as stop, writing as file:
            left = range(file.next, own.stop)
            patience = args.worker_timeout
            loader = eval_loader(split, resize, args.batch_size, args.workers, pin, left, patience)
            fill(file, split, own, predict(net, loader, compute, crop, args.crops), stop)
    barrier()
    if not world().first:
        return
    if several:
        join_predictions(out, info, [share for share in shares if share], dtype, made_with)
    errors = "no labels, so no error is known"
    if info.labels is not None:
        errors = f"top-1 error {100 * info.top1_error:.2f} %, mean class error {100 * info.mean_class_error:.2f} %"
    crops = "ten crops" if args.crops == 10 else "centre crop"
    print(f"{out}: {split.name}, {len(split):,} photographs, {crops}: {errors}")


if __name__ == "__main__":
    run(main)
