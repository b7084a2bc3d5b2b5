"""Train a step's control: plain training, the same as the step in everything but its method.

    python control.py finetune_dcl.py --init runs/resnet50-balanced/best.pt    # -> runs/resnet50-dcl-control
    python control.py train_lio.py --arch resnet50 --balanced 30 --init runs/resnet50/best.pt
    python control.py train.py --arch resnet50 --balanced 30 --init runs/resnet50/best.pt
    python control.py train.py --loss accuracy --arch resnet50 --balanced 30 --init runs/A-balanced/best.pt

It takes the step's command line and calls train.py with cross entropy. Everything else is that of the step: network,
photographs, resolution, rate, decay, and the number of photographs to learn from. DCL's shuffled copies do not count as
photographs; the members of LIO's groups do. The control of balanced training trains on the whole set, for at least as
many photographs.
"""

import argparse
import math
import sys

import catalogues
import data
import finetune_dcl
import recipes
import train
import train_lio
from common.command_line import parse, run
from common.errors import InputError
from training.settings import flag, settings_to_keep

STEPS = {f"{module.__name__}.py": module for module in (train, finetune_dcl, train_lio)}


def longer(settings: dict, factor: float) -> dict:
    """The settings with at least `factor` times as many epochs."""
    return recipes.stretched(settings, math.ceil(factor * settings["epochs"] - 1e-9))


def control_settings(module, args: argparse.Namespace) -> dict:
    """The settings of train.py that differ from those of the step in the method alone."""
    settings = settings_to_keep(args) | dict(loss="cross-entropy")
    if args.init:
        settings.pop("weights", None)
    if module is finetune_dcl:  # as many images at once: there are no copies
        settings["accumulate"] = math.ceil(settings["accumulate"] / 2)
    settings["out"] = f"{args.out}-control" if args.out == module.recipe(args)["out"] else args.out
    if module is train_lio:
        settings = longer(settings, args.positives + 1)
    elif module is train and args.loss == "cross-entropy":
        if not args.balanced or not args.init:
            raise InputError("train.py has a control only with --balanced N --init FILE, or with another --loss")
        labels = catalogues.open_catalogue(args.data, args.ignore_unknown_classes).split("train").labels
        settings = longer(settings, len(data.balanced_subset(labels, args.balanced)) / len(labels)) | dict(balanced=0)
    idle = ("decay", "decay_at") if args.schedule == "cosine" else ()
    return {name: value for name, value in settings.items() if name not in idle}


def arguments_of(parser: argparse.ArgumentParser, settings: dict) -> list[str]:
    """The arguments that give these settings, as far as the parser has them."""
    typed = []
    for action in parser._actions:
        value = settings.get(action.dest)
        if value is True and not isinstance(action, argparse.BooleanOptionalAction):
            typed.append(action.option_strings[0])
        elif value is not None and (value is not False or isinstance(action, argparse.BooleanOptionalAction)):
            typed += flag(action.dest, value).split(maxsplit=1)
    return typed


def call(module, *arguments) -> None:
    """A script's `main` with these arguments."""
    sys.argv = [f"{module.__name__}.py", *map(str, arguments)]
    print("$ python", *sys.argv, file=sys.stderr, flush=True)
    module.main()


def main() -> None:
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        return print(__doc__)
    if name not in STEPS:
        raise InputError(f"{name}: expected one of {', '.join(STEPS)} and its arguments (see --help)")
    module = STEPS[name]
    if "--resume" in arguments:
        if "--out" not in arguments[:-1]:
            raise InputError("--resume: name the folder of the control with --out")
        return call(train, "--resume", "--out", arguments[arguments.index("--out") + 1])
    sys.argv = [name, *arguments]
    settings = control_settings(module, parse(module.arguments(), module.recipe))
    call(train, *arguments_of(train.arguments(), settings))


if __name__ == "__main__":
    run(main)
