"""One file of a trained network for deployment: squashed photographs in, class probabilities out.

    python export.py runs/resnet50-balanced/best.pt                          # -> exports/resnet50-balanced.onnx
    python export.py runs/resnet50-balanced/best.pt --format torchscript     # -> exports/resnet50-balanced.ts
    python export.py runs/resnet50-balanced/best.pt --format safetensors     # -> exports/resnet50-balanced.safetensors
    python export.py runs/resnet50-dcl/best.pt --crops 10                    # ten crops of each photograph, averaged

Crops, normalisation, heads and softmax are inside ONNX and TorchScript files: uint8 (N, resize, resize, 3) in RGB goes
in, float32 (N, classes) comes out, for any N. A safetensors file holds the weights alone, for train.py --weights say.
The file itself and FILE.json beside it tell classes and preprocessing. Before it takes its name, the file is opened
again and compared with PyTorch on photographs of the catalogue.
"""

import argparse
import hashlib
from pathlib import Path

from common.command_line import Parser, run
from common.errors import InputError
from common.files import atomic_write, flush_to_disk
from data import Catalogue, open_catalogue
from inference.export import TOGETHER, TOLERANCE, Deployed, compare, deployable, describe, split_to_compare
from inference.export_formats import FORMATS, INTERFACE, interface, to_json
from models.checkpoint import load_checkpoint, prediction_name


def arguments() -> argparse.Namespace:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("checkpoint", type=Path, help="best.pt or last.pt of a run")
    add("--format", choices=FORMATS, default="onnx", help="(default: onnx)")
    add("--out", type=Path, metavar="FILE", help="(default: exports/RUN.onnx, .ts or .safetensors)")
    add("--data", help="the catalogue of the comparison (default: the one it was trained on)")
    add("--crops", type=int, choices=[1, 10], default=1, help="1: the centre crop, ten times as fast (default: 1)")
    args = parser.parse_args()
    suffix = FORMATS[args.format].suffix
    args.out = args.out or Path("exports", prediction_name(args.checkpoint) + suffix)
    if args.out.suffix != suffix:
        raise InputError(f"--out {args.out}: expected a name that ends in {suffix} for --format {args.format}")
    return args


def catalogue_of(state: dict, args: argparse.Namespace) -> Catalogue:
    """The catalogue whose photographs are compared: of --data, else the checkpoint's own."""
    kept = state["settings"]["data"]
    if not args.data and kept != "demo" and not Path(kept).is_dir():
        raise InputError(f"{args.checkpoint}: its catalogue {kept} is not there any more; give its folder with --data")
    catalogue = open_catalogue(args.data or kept)
    catalogue.require_classes(state["classes"], str(args.checkpoint))
    return catalogue


def main() -> None:
    args = arguments()
    state, format = load_checkpoint(args.checkpoint), FORMATS[args.format]
    split = split_to_compare(catalogue_of(state, args))
    net = deployable(state, args.checkpoint)
    description = describe(state, args.checkpoint, net, args.crops)
    sides = description["resize"], description["crop"], args.crops
    beside = args.out.with_name(f"{args.out.name}.json")
    with atomic_write(beside, "w") as text, atomic_write(args.out) as file:
        file.write(format.make(Deployed(net, *sides), description))
        flush_to_disk(file)
        content = Path(file.name).read_bytes()
        found = compare(format.opened(content), net, split, *sides)
        if not found.difference <= TOLERANCE:
            raise InputError(
                f"{args.out}: not written, since {format.reader} differs from PyTorch by {found.difference:.2g} in a "
                f"probability, more than {TOLERANCE:g}; try another --format"
            )
        facts = {"file": args.out.name, "sha256": hashlib.sha256(content).hexdigest(), "format": args.format}
        facts |= interface(args.format, description) | description
        text.write(to_json(facts))
    taken, given = (f"{facts[side]['dtype']} ({', '.join(map(str, facts[side]['shape']))})" for side in INTERFACE)
    crops = "ten crops" if args.crops == 10 else "centre crop"
    print(f"{args.out}: {state['arch']}, {crops}, {len(content) / 1e6:.1f} MB; {taken} -> {given}")
    print(
        f"opened by {format.reader}, {found.photographs} photographs of {split.name}, by one and by {TOGETHER}: "
        f"probabilities at most {found.difference:.1e} from PyTorch's (allowed: {TOLERANCE:g}), "
        f"top-1 the same for {found.same} of {found.photographs}"
    )
    print(f"{beside}: classes, preprocessing, shapes, hashes")


if __name__ == "__main__":
    run(main)
