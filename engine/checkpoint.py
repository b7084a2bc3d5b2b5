"""Checkpoints: everything a run needs to go on, and everything a prediction needs to know."""

import hashlib
import pickle
from pathlib import Path

import torch
from torch import nn

from engine.files import atomic_write
from errors import InputError
from models import ARCHS, create_model

FORMAT = 1
KEYS = {
    "format",
    "arch",
    "classes",
    "class_ids",
    "settings",
    "model",
    "ema",
    "optimizer",
    "epoch",
    "batch",
    "log",
    "best",
}


def save_checkpoint(path: Path, state: dict) -> None:
    """Write `state` (see KEYS) beside `path` and rename: the file at `path` is always a whole checkpoint."""
    with atomic_write(path) as file:
        torch.save(state, file)


def load_checkpoint(path: str | Path) -> dict:
    """The checkpoint at `path`, on the CPU, never running code from it.

    Raises InputError for a file that is missing, damaged, or not a checkpoint of this project.
    """
    path = Path(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: no such checkpoint; train one first or give another path") from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{path}: not a readable checkpoint ({reason}); use another, e.g. last.pt beside it"
        ) from error
    if not isinstance(state, dict) or KEYS - state.keys():
        raise InputError(f"{path}: not a checkpoint of this project; load plain weights with --weights {path}")
    if state["format"] != FORMAT or state["arch"] not in ARCHS:
        raise InputError(
            f"{path}: format {state['format']}, arch {state['arch']!r}: written by another version of this project"
        )
    return state


def network_of(state: dict, source: str | Path) -> nn.Module:
    """The network that a checkpoint holds, for evaluation or finetuning: the averaged weights where it kept some."""
    net = create_model(state["arch"], len(state["classes"]))
    try:
        net.load_state_dict(state["ema"] or state["model"])
    except RuntimeError as error:
        raise InputError(
            f"{source}: its weights are not those of a {state['arch']} with {len(state['classes'])} classes"
        ) from error
    return net


def file_hash(path: str | Path) -> str:
    """First 16 hexadecimal digits of the file's SHA-256: names the checkpoint that a prediction came from."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
