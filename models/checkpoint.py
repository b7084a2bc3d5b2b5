"""Checkpoints: all that is needed to go on with a run, or to predict with its network."""

import hashlib
from pathlib import Path

import torch
from torch import nn

from common.errors import InputError
from common.files import atomic_write
from models import HEADS, create_model
from models.checkpoint_format import USE_ANOTHER, checked, require_sound, wrong_weights


def save_checkpoint(path: Path, state: dict) -> None:
    """Write `state` (see `models.checkpoint_format`) to `path`, where the file is whole at any moment."""
    with atomic_write(path) as file:
        torch.save(state, file)


def split_weights(net: nn.Module) -> tuple[dict, dict | None]:
    """State dicts of the backbone and, where a method trains it, of the heads that the method put around it."""
    state = net.state_dict()
    if not hasattr(net, "net"):
        return state, None
    backbone = {key.removeprefix("net."): value for key, value in state.items() if key.startswith("net.")}
    return backbone, {key: value for key, value in state.items() if not key.startswith("net.")}


def without_heads(state: dict) -> dict:
    """A checkpoint with the backbone alone, averaged if the run averaged weights. It can be used, but not resumed."""
    return state | dict(model=state["ema"] or state["model"], ema=None, heads=None, optimizer={})


def joined_weights(state: dict, part: str) -> dict:
    """The state dict of a checkpoint's network, with its heads if it has some. part: "model", or "ema" for averages."""
    if not state.get("heads"):
        return state[part]
    return {f"net.{key}": value for key, value in state[part].items()} | state["heads"][part]


def load_checkpoint(path: str | Path) -> dict:
    """Read a checkpoint to the CPU; code in the file is never run.

    All keys of the result have the types and ranges that this project writes. Of `settings` only those that
    `checkpoint_format.Settings` names are checked; `training.settings.settings_of` checks the others.

    Raises InputError for a file that is missing, damaged, or not a checkpoint of this project.
    """
    path = Path(path)
    require_sound(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # what a damaged pickle raises has no common class
        raise InputError(
            f"{path}: not a readable checkpoint (it holds Python objects, which are not loaded because they can run "
            f"code, or other nonsense); {USE_ANOTHER}"
        ) from error
    return checked(state, path)


def network_of(state: dict, source: str | Path, heads: bool = False) -> nn.Module:
    """The network of a checkpoint, with the averaged weights where the run averaged some.

    heads: with the heads of the method that trained it, if any; else the backbone alone.
    """
    net, part = create_model(state["arch"], len(state["classes"])), "ema" if state["ema"] else "model"
    around = state.get("heads") if heads else None
    try:
        if around:
            net = HEADS[around["kind"]](net, **around["options"])
        net.load_state_dict(joined_weights(state, part) if around else state[part])
    except RuntimeError as error:
        raise wrong_weights(state, source) from error
    return net


def prediction_name(path: Path) -> str:
    """The name of files made from a checkpoint: that of its run, with -last behind it where it is last.pt."""
    run_name = path.resolve().parent.name
    return run_name if path.stem == "best" else f"{run_name}-{path.stem}"


def file_hash(path: str | Path) -> str:
    """The first 16 hexadecimal digits of the file's SHA-256. A prediction file holds that of its checkpoint."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
