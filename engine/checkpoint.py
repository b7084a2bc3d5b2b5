"""Checkpoints: everything a run needs to go on, and everything a prediction needs to know."""

import hashlib
import pickle
from pathlib import Path

import torch
from torch import nn

from errors import InputError
from files import atomic_write
from models import ARCHS, HEADS, create_model

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
}  # and "heads" where a method has some, see `Trainer.state`


def save_checkpoint(path: Path, state: dict) -> None:
    """Write `state` (see KEYS) beside `path` and rename: the file at `path` is always a whole checkpoint."""
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
    heads = (state.get("heads") or {}).get("kind")
    if state["format"] != FORMAT or state["arch"] not in ARCHS or heads not in (None, *HEADS):
        raise InputError(
            f"{path}: format {state['format']}, arch {state['arch']!r}, heads {heads!r}: "
            "written by another version of this project"
        )
    return state


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
        raise InputError(
            f"{source}: its weights are not those of a {state['arch']} with {len(state['classes'])} classes"
        ) from error
    return net


def file_hash(path: str | Path) -> str:
    """First 16 hexadecimal digits of the file's SHA-256: names the checkpoint that a prediction came from."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
