"""One file of a trained network for deployment: squashed photographs in, class probabilities out.

    python export.py runs/resnet50-balanced/best.pt                          # -> exports/resnet50-balanced.onnx
    python export.py runs/resnet50-balanced/best.pt --format torchscript     # -> exports/resnet50-balanced.ts
    python export.py runs/resnet50-balanced/best.pt --format safetensors     # -> exports/resnet50-balanced.safetensors
    python export.py runs/resnet50-dcl/best.pt --crops 10                    # the mean of ten crops of each photograph

ONNX and TorchScript files contain crops, normalisation, heads and softmax: uint8 (N, resize, resize, 3) in RGB goes in,
float32 (N, classes) comes out, for any N. A safetensors file holds the weights alone, for example for train.py
--weights. The file itself and FILE.json beside it describe classes and preprocessing. Before the file gets its name,
the script opens it again and compares it with PyTorch on photographs of the catalogue.
"""

import argparse
import hashlib
from pathlib import Path

import catalogues
import inference
import models
from common.command_line import Parser, run
from common.errors import InputError
from common.files import atomic_write, flush_to_disk
from inference.export_formats import FORMATS, INTERFACE, interface, to_json


def arguments() -> argparse.Namespace:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("checkpoint", type=Path, help="best.pt or last.pt of a run")
    add("--format", choices=FORMATS, default="onnx", help="(default: onnx)")
    add("--out", type=Path, metavar="FILE", help="(default: exports/RUN.onnx, .ts or .safetensors)")
    add("--data", help="the catalogue of the comparison (default: the catalogue of the training)")
    add("--crops", type=int, choices=[1, 10], default=1, help="1: the centre crop, ten times as fast (default: 1)")
    args = parser.parse_args()
    suffix = FORMATS[args.format].suffix
    args.out = args.out or Path("exports", models.prediction_name(args.checkpoint) + suffix)
    if args.out.suffix != suffix:
        raise InputError(f"--out {args.out}: expected a name that ends in {suffix} for --format {args.format}")
    return args


def split_to_compare(classifier: "inference.Classifier", args: argparse.Namespace) -> "catalogues.Split":
    """The validation, test or training split of the catalogue of --data, or of the training: the first that exists."""
    trained_on = classifier.settings["data"]
    if not args.data and trained_on != "demo" and not Path(trained_on).exists():
        raise InputError(
            f"{args.checkpoint}: its catalogue {trained_on} is not there any more; give its folder with --data"
        )
    catalogue = classifier.catalogue(args.data)
    return catalogue.split(next(name for name in ("val", "test", "train") if name in catalogue.splits))


def main() -> None:
    args = arguments()
    format, classifier = FORMATS[args.format], inference.load_for_export(args.checkpoint)
    split = split_to_compare(classifier, args)
    deployed = inference.Deployed(
        inference.deployed_network(classifier), classifier.resize, classifier.crop, args.crops
    )
    description = inference.describe(classifier, args.checkpoint, args.crops)
    beside = args.out.with_name(f"{args.out.name}.json")
    with atomic_write(beside, "w") as text, atomic_write(args.out) as file:
        file.write(format.make(deployed, description))
        flush_to_disk(file)
        content = Path(file.name).read_bytes()
        comparison = inference.compare(format.opened(content), classifier, split, args.crops)
        if not comparison.difference <= inference.TOLERANCE:
            raise InputError(
                f"{args.out}: not written, since {format.reader} differs from PyTorch by {comparison.difference:.2g} "
                f"in a probability, more than {inference.TOLERANCE:g}; try another --format"
            )
        file_info = {"file": args.out.name, "sha256": hashlib.sha256(content).hexdigest(), "format": args.format}
        file_info |= interface(args.format, description) | description
        text.write(to_json(file_info))
    input, output = (
        f"{file_info[side]['dtype']} ({', '.join(map(str, file_info[side]['shape']))})" for side in INTERFACE
    )
    crops = "ten crops" if args.crops == 10 else "centre crop"
    print(f"{args.out}: {classifier.arch}, {crops}, {len(content) / 1e6:.1f} MB; {input} -> {output}")
    print(
        f"opened by {format.reader}, {comparison.photographs} photographs of {split.name}, by one and by "
        f"{inference.TOGETHER}: probabilities at most {comparison.difference:.1e} from PyTorch's "
        f"(allowed: {inference.TOLERANCE:g}), top-1 the same for {comparison.same} of {comparison.photographs}"
    )
    print(f"{beside}: classes, preprocessing, shapes, hashes")


if __name__ == "__main__":
    run(main)
