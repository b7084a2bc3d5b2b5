"""Class probabilities of a checkpoint for a split or for your own photographs, over ten crops: the report's section 5.

    python predict.py runs/resnet50-balanced/best.pt                  # -> preds/resnet50-balanced.npy (validation)
    python predict.py runs/resnet50-balanced/best.pt --split test     # -> preds/test/resnet50-balanced.npy
    python predict.py runs/resnet50-balanced/best.pt --crops 1        # the centre crop alone
    python predict.py runs/resnet50-balanced/best.pt --top-k 100      # -> preds/resnet50-balanced.npz, 1/200 as large
    python predict.py runs/resnet50-balanced/best.pt photo.jpg folder     # names the products, needs no catalogue
    python predict.py runs/resnet50-balanced/best.pt photo.jpg --json     # for programs
    python predict.py runs/resnet50-balanced/best.pt photo.jpg --explain sheet.png   # draws where the network looked

NAME.npy has the shape (photographs, classes). NAME.json beside it names both and holds the errors where labels are
known. After a signal or a crash, the same command goes on where it stopped.
"""

import argparse
from pathlib import Path

import catalogues
import inference
import models
from common.command_line import Parser, number, run
from common.errors import InputError
from common.flags import add_compute_arguments, add_ignore_unknown, add_worker_arguments

FOR_CATALOGUES = (
    "split",
    "data",
    "ignore_unknown_classes",
    "out",
    "dtype",
    "top_k",
    "save_every",
)  # arguments of a prediction file
FOR_PHOTOGRAPHS = ("top", "json", "explain")


def arguments() -> argparse.Namespace:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("checkpoint", type=Path, help="best.pt or last.pt of a run")
    add("photographs", nargs="*", default=[], help="files and folders: name the products in them, without a catalogue")
    add("--split", choices=catalogues.SPLITS, help="(default: val, or test where the catalogue has no val)")
    add("--data", help="the catalogue (default: the catalogue of the training)")
    add_ignore_unknown(add)
    out = "NAME.npy, or NAME.npz with --top-k (default: preds/RUN.npy, for another split preds/SPLIT/RUN.npy)"
    add("--out", type=Path, help=out)
    add("--crops", type=int, choices=[1, 10], default=10)
    add("--resize", type=number(int, 32, 4096), help="squash photographs to this side (default: as in training)")
    add("--crop", type=number(int, 32, 4096), help="side of the crops (default: as in training)")
    add("--head", choices=["auto", "plain"], default="auto", help="plain: a DCL network by its own classifier alone")
    add("--dtype", choices=["float16", "float32"], help="of the file (default: float16)")
    add("--top-k", type=number(int, 1), metavar="K", help="keep the K most probable classes of a photograph: NAME.npz")
    add("--save-every", type=number(float, 0), metavar="MINUTES", help="write to the disk (default: 1)")
    add("--batch-size", type=number(int, 1), default=32, metavar="N", help="photographs read at once (default: 32)")
    add_worker_arguments(add)
    add = parser.add_argument_group("your own photographs").add_argument
    add("--top", type=number(int, 1), metavar="N", help="the N most probable classes of a photograph (default: 5)")
    add("--json", action="store_true", help="print one JSON document instead of a table")
    add("--explain", type=Path, metavar="FILE.png", help="draw where the network looked, of up to 24 photographs")
    add_compute_arguments(parser)
    args = parser.parse_intermixed_args()  # photographs may also stand behind flags
    require_matching_flags(args)
    return args


def require_matching_flags(args: argparse.Namespace) -> None:
    """Raise InputError for a flag of photographs without photographs, or for a flag of catalogues with photographs."""
    for name in FOR_CATALOGUES if args.photographs else FOR_PHOTOGRAPHS:
        value = getattr(args, name)
        if value is not None and value is not False:  # 0 is a value
            remedy = "leave the photographs out" if args.photographs else "name some behind the checkpoint"
            kind = "a catalogue" if args.photographs else "your own photographs"
            raise InputError(f"--{name.replace('_', '-')} is for {kind}; leave it out, or {remedy}")


def output_path(checkpoint: Path, split: str, suffix: str) -> Path:
    """preds/RUN.npy, or .npz; other splits have a folder of their own, so that preds/*.npy never mixes splits."""
    return Path("preds", *([split] if split != "val" else []), models.prediction_name(checkpoint) + suffix)


def main() -> None:
    args = arguments()
    if args.photographs:
        inference.require_one_process()
    classifier = inference.Classifier.load(
        args.checkpoint,
        args.device,
        args.precision,
        args.memory_format,
        heads=args.head,
        resize=args.resize,
        crop=args.crop,
    )
    if args.photographs:
        return inference.name_products(classifier, args)
    catalogue = classifier.catalogue(args.data, args.ignore_unknown_classes)
    split = catalogue.split(args.split or ("test" if "val" not in catalogue.splits | catalogue.broken else "val"))
    out = args.out or output_path(args.checkpoint, split.name, ".npz" if args.top_k else ".npy")
    info = inference.predict_split(classifier, catalogue, split, out, args)
    if info is None:  # another process prints
        return
    errors = "no labels, so no error is known"
    if info.labels is not None:
        errors = f"top-1 error {100 * info.top1_error:.2f} %, mean class error {100 * info.mean_class_error:.2f} %"
    crops = "ten crops" if args.crops == 10 else "centre crop"
    print(f"{out}: {split.name}, {len(split):,} photographs, {crops}: {errors}")


if __name__ == "__main__":
    run(main)
