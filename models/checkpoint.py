"""Checkpoints: everything a run needs to go on, and everything a prediction needs to know."""

import hashlib
from pathlib import Path

import torch
from torch import nn

from common.errors import InputError
from common.files import atomic_write
from models import HEADS, create_model
from models.checkpoint_format import USE_ANOTHER, checked, require_sound, wrong_weights


def save_checkpoint(path: Path, state: dict) -> None:
    """Write `state` (see models.checkpoint_format) beside `path` and rename: the file there is always a whole one."""
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
    """A checkpoint with its plain backbone alone, the averaged one where it kept one: for use, not for going on."""
    return state | dict(model=state["ema"] or state["model"], ema=None, heads=None, optimizer={})


def joined_weights(state: dict, part: str) -> dict:
    """`part` ("model" or "ema") of a checkpoint as the state dict of the backbone with the heads around it, if any."""
    if not state.get("heads"):
        return state[part]
    return {f"net.{key}": value for key, value in state[part].items()} | state["heads"][part]


def load_checkpoint(path: str | Path) -> dict:
    """The checkpoint at `path`, on the CPU, never running code from it.

    Raises InputError for a file that is missing, damaged, or not a checkpoint of this project: of what it returns,
    every key but `settings` (see `training.setup.settings_of`) is as this project writes it.
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
    """The network that a checkpoint holds, for evaluation or finetuning: the averaged weights where it kept some.

    `heads`: with the heads around it of the method that trained it, if any; else the backbone alone.
    """
    net, part = create_model(state["arch"], len(state["classes"])), "ema" if state["ema"] else "model"
    kept = state.get("heads") if heads else None
    try:
        if kept:
            net = HEADS[kept["kind"]](net, **kept["options"])
        net.load_state_dict(joined_weights(state, part) if kept else state[part])
    except RuntimeError as error:
        raise wrong_weights(state, source) from error
    return net


def prediction_name(path: Path) -> str:
    """What predict.py and export.py call what they make of a checkpoint: its run, and -last where it is last.pt."""
    run_name = path.resolve().parent.name
    return run_name if path.stem == "best" else f"{run_name}-{path.stem}"


def file_hash(path: str | Path) -> str:
    """First 16 hexadecimal digits of the file's SHA-256: names the checkpoint that a prediction came from."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
