"""The settings of a run, from the command line, the resumed run, the recipe and the parser's defaults."""

import argparse
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from common.command_line import accepted, this_command, typed
from common.errors import InputError
from common.processes import world
from training.run_folder import claim, require_no_run

# A resumed run cannot change these: they decide its network, its photographs, their order, its checkpoints.
FIXED = (
    "arch",
    "data",
    "balanced",
    "batch_size",
    "seed",
    "resize",
    "crop",
    "fit",
    "min_scale",
    "autoaugment",
    "cutout",
)
FIXED += ("ema", "grid", "adversary", "stage", "positives", "loss", "extra", "exclude", "stream")
FIXED += ("val_share", "val_seed", "ignore_unknown_classes")
FIXED += ("schedule", "head_rate", "layer_decay", "head_epochs", "probe")
# These belong to the machine or to one call, not to the run: checkpoints do not keep them.
NOT_A_SETTING = ("resume", "overwrite", "device", "workers", "worker_timeout", "out", "show", "export_plain")
RENAMED = {"train_bbn.py": "bbn.py"}  # in older checkpoints


def training_settings(
    parser: argparse.ArgumentParser, recipe: Callable[[argparse.Namespace], dict]
) -> tuple[argparse.Namespace, dict | None]:
    """Return the settings of a run and the checkpoint that it goes on from (None for a new run).

    The command line wins over the settings of the resumed run. These win over `recipe(args)`, and that wins over the
    parser's defaults. `recipe` must give `out`.

    Raises InputError if the run's folder does not fit the command line. Ends the process with exit code 0 if all
    epochs of the resumed run are done.
    """
    asked = parser.parse_args()
    if asked.schedule == "cosine" and (idle := [flag for flag in ("--decay-at", "--decay") if typed(flag)]):
        raise InputError(f"{idle[0]}: --schedule cosine has no decays; leave one of them out")
    defaults, checkpoint, of_run = recipe(asked), None, {}
    out = asked.out or defaults["out"]
    last = Path(out) / "last.pt"
    restarted = world().restarts > 0  # by torchrun, with the same command, after a process died
    if asked.resume or (restarted and last.exists()):
        checkpoint = _run_to_resume(out, last)
        of_run = settings_of(parser, checkpoint, last)
        defaults |= {name: value for name, value in of_run.items() if value is not None}
    parser.set_defaults(**defaults)
    args = parser.parse_args()
    require_place(args.out)
    if args.crop > args.resize:
        raise InputError(f"--crop {args.crop} is larger than --resize {args.resize}; make the crop smaller")
    if checkpoint:
        _require_same_run(args, of_run)
        _end_if_done(args, checkpoint)
    else:
        claim(Path(args.out))
        require_no_run(Path(args.out), args.overwrite)
    return args, checkpoint


def _run_to_resume(out: str, last: Path) -> dict:
    """The checkpoint `last` of the run in `out`, which is locked for this process."""
    from models.checkpoint import load_checkpoint  # here: it imports torch, which --help does not need

    claim(last.parent)
    checkpoint = load_checkpoint(last)
    require_same_script(out, checkpoint)
    return checkpoint


def _require_same_run(args: argparse.Namespace, before: dict) -> None:
    """Raise InputError if the command line changes a setting that a run cannot change, or if one is missing.

    before: the settings of the run so far.
    """
    for name in FIXED:
        if name in before and getattr(args, name, None) != before[name]:
            flag_name = "--" + name.replace("_", "-")
            raise InputError(
                f"{flag_name} {getattr(args, name)}: the run in {args.out} has {before[name]}; "
                f"leave {flag_name} out, or start another run with another --out"
            )
    if missing := [name for name in ("data", "epochs", "lr", "decay_at") if getattr(args, name) is None]:
        raise InputError(f"{args.out}/last.pt: has no setting --{missing[0].replace('_', '-')}; give it")


def _end_if_done(args: argparse.Namespace, checkpoint: dict) -> None:
    if checkpoint["epoch"] >= args.epochs:
        if world().first:
            print(f"{args.out}: all {args.epochs} epochs are done; raise --epochs to go on")
        sys.exit(0)


def require_place(out: str) -> None:
    """Raise InputError if `out` is not a folder and this process cannot make one there."""
    try:
        near = next(place for place in (Path(out).absolute(), *Path(out).absolute().parents) if os.path.lexists(place))
    except ValueError:
        near = None
    if near is None or not near.is_dir():
        raise InputError(f"--out {out}: {near} is no folder; choose another place")
    if not os.access(near, os.W_OK | os.X_OK) or len(os.fsencode(Path(out).name)) > 255:
        raise InputError(f"--out {out}: cannot be made in {near}; choose another place")


def settings_of(parser: argparse.ArgumentParser, checkpoint: dict, source: str | Path) -> dict:
    """The settings in a checkpoint that are arguments of this script.

    Raises InputError for a value that the command line would not accept; `source` names the checkpoint in the message.
    """
    settings = accepted(parser, checkpoint["settings"], source, but=NOT_A_SETTING)
    return settings | {"arch": checkpoint["arch"]}


def settings_to_keep(args: argparse.Namespace) -> dict:
    """The settings that a checkpoint keeps."""
    return {name: value for name, value in vars(args).items() if name not in NOT_A_SETTING}


def require_same_script(out: str, checkpoint: dict) -> None:
    """Raise InputError if another script made the run in `out`: its networks have other heads."""
    script = RENAMED.get(checkpoint["script"], checkpoint["script"])
    if script != Path(sys.argv[0]).name:
        command = "python -m tricks.bbn" if script == "bbn.py" else f"python {script}"
        raise InputError(
            f"--resume: the run in {out} is one of {script}; go on with {command} --resume --out {shlex.quote(out)}"
        )


def command_to_resume(out: str) -> str:
    """The command that goes on with the run in `out`."""
    return f"{this_command()} --resume --out {shlex.quote(out)}"


def flag(name: str, value: object) -> str:
    """A setting as one types it on the command line."""
    name = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    if isinstance(value, list):
        value = ",".join(f"{v:g}" for v in value) or "none"
    return f"--{name} {value}"
