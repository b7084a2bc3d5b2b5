"""The settings of a run: from the command line, the run that is resumed, the recipe, the parser's defaults."""

import argparse
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from common.command_line import accepted, parse, this_command
from common.errors import InputError
from common.processes import world
from training.run_folder import claim, require_no_run

# What a resumed run cannot change: its network, its photographs, its order, its checkpoints' layout.
FIXED = ("arch", "data", "balanced", "batch_size", "seed", "resize", "crop", "min_scale", "autoaugment", "cutout")
FIXED += ("ema", "grid", "adversary", "stage", "positives", "loss", "extra", "exclude", "stream")
# Of this machine or this call, not of the run:
NOT_A_SETTING = ("resume", "overwrite", "device", "workers", "worker_timeout", "out", "show", "export_plain")
RENAMED = {"train_bbn.py": "bbn.py"}  # scripts of older checkpoints


def training_settings(
    parser: argparse.ArgumentParser, recipe: Callable[[argparse.Namespace], dict]
) -> tuple[argparse.Namespace, dict | None]:
    """The settings of a run and, with --resume, the checkpoint it goes on from.

    The command line wins over the resumed run's settings, these over `recipe(args)`, and that over the parser's
    defaults. `recipe` must give `out`.

    Raises InputError where the run's folder and the command line do not fit together; ends the process with exit code
    0 where all epochs of the resumed run are done.
    """
    resumed: dict = {}  # checkpoint: the one to go on from; settings: what it remembers

    def defaults(args: argparse.Namespace) -> dict:
        chosen = recipe(args)
        last = Path(args.out or chosen["out"]) / "last.pt"
        restarted = world().restarts > 0  # by torchrun, with the same command, after a process died
        if args.resume or (restarted and last.exists()):
            resumed.update(_resumed(parser, last, args.out or chosen["out"]))
            chosen |= {name: value for name, value in resumed["settings"].items() if value is not None}
        return chosen

    args = parse(parser, defaults)
    require_place(args.out)
    if args.crop > args.resize:
        raise InputError(f"--crop {args.crop} is larger than --resize {args.resize}; make the crop smaller")
    if resumed:
        _require_same_run(args, resumed)
        return args, resumed["checkpoint"]
    claim(Path(args.out))
    require_no_run(Path(args.out), args.overwrite)
    return args, None


def _resumed(parser: argparse.ArgumentParser, last: Path, out: str) -> dict:
    """The checkpoint of the run in `out`, and the settings it remembers."""
    from models.checkpoint import load_checkpoint  # here: it imports torch, which --help does not need

    claim(last.parent)
    checkpoint = load_checkpoint(last)
    require_same_script(out, checkpoint)
    return {"checkpoint": checkpoint, "settings": settings_of(parser, checkpoint, last)}


def _require_same_run(args: argparse.Namespace, resumed: dict) -> None:
    """Raise InputError where the command line changes what a run cannot change; end where nothing is left to train."""
    for name in FIXED:
        before = resumed["settings"]
        if name in before and getattr(args, name, None) != before[name]:
            flag_name = "--" + name.replace("_", "-")
            raise InputError(
                f"{flag_name} {getattr(args, name)}: the run in {args.out} has {before[name]}; "
                f"leave {flag_name} out, or start another run with another --out"
            )
    if missing := [name for name in ("data", "epochs", "lr", "decay_at") if getattr(args, name) is None]:
        raise InputError(f"{args.out}/last.pt: does not tell --{missing[0].replace('_', '-')}; give it")
    if resumed["checkpoint"]["epoch"] >= args.epochs:
        if world().first:
            print(f"{args.out}: all {args.epochs} epochs are done; raise --epochs to go on")
        sys.exit(0)


def require_place(out: str) -> None:
    """Raise InputError where the folder `out` is not one and cannot be made."""
    try:
        near = next(place for place in (Path(out).absolute(), *Path(out).absolute().parents) if os.path.lexists(place))
    except ValueError:
        near = None
    if near is None or not near.is_dir():
        raise InputError(f"--out {out}: {near} is no folder; choose another place")
    if not os.access(near, os.W_OK | os.X_OK) or len(os.fsencode(Path(out).name)) > 255:
        raise InputError(f"--out {out}: cannot be made in {near}; choose another place")


def settings_of(parser: argparse.ArgumentParser, checkpoint: dict, source: str | Path) -> dict:
    """What a checkpoint remembers of the settings, as far as this script has them and would accept them."""
    settings = accepted(parser, checkpoint["settings"], source, but=NOT_A_SETTING)
    return settings | {"arch": checkpoint["arch"]}


def settings_to_keep(args: argparse.Namespace) -> dict:
    """What a checkpoint remembers of the settings."""
    return {name: value for name, value in vars(args).items() if name not in NOT_A_SETTING}


def require_same_script(out: str, checkpoint: dict) -> None:
    """Raise InputError where another script made the run in `out`: its networks have other heads."""
    script = RENAMED.get(checkpoint["script"], checkpoint["script"])
    if script != Path(sys.argv[0]).name:
        command = "python -m tricks.bbn" if script == "bbn.py" else f"python {script}"
        raise InputError(
            f"--resume: the run in {out} is one of {script}; go on with {command} --resume --out {shlex.quote(out)}"
        )


def command_to_resume(out: str) -> str:
    """What to type to go on with the run in `out`."""
    return f"{this_command()} --resume --out {shlex.quote(out)}"


def flag(name: str, value: object) -> str:
    """A setting as one types it."""
    name = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    if isinstance(value, list):
        value = ",".join(f"{v:g}" for v in value) or "none"
    return f"--{name} {value}"
