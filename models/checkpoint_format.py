"""The format of a checkpoint: its keys and their types, weights that are finite numbers, heads that can be built."""

import inspect
import re
from pathlib import Path
from typing import Annotated, Any

import msgspec
from torch import Tensor

from common.errors import InputError
from common.schema import Number, converted, described, wrong_value
from models import ADVERSARIES, HEADS, STAGES
from models.create import is_arch
from models.weights import damaged_part, is_finite, is_plain

FORMAT = 1
USE_ANOTHER = "use another, e.g. last.pt or best.pt beside it"
SIDE = range(32, 4097)  # pixels, as --resize and --crop
OPTIONS = {"grid": range(2, 65), "adversary": ADVERSARIES, "stage": STAGES}  # of heads: see `models`

Weights = dict[str, Tensor]
SomeWeights = Annotated[Weights, msgspec.Meta(min_length=1)]
Side = Annotated[int, msgspec.Meta(ge=SIDE.start, lt=SIDE.stop)]
Count = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]


class Settings(msgspec.Struct):
    """The settings that are used of every run; `training.settings_of` checks the others."""

    data: str
    resize: Side
    crop: Side


class Heads(msgspec.Struct):
    """The heads that a method puts around a backbone."""

    kind: str
    options: dict[str, Any]
    model: Weights
    ema: Weights | None


class Checkpoint(msgspec.Struct):
    """A checkpoint. A key that has a default here is missing in files of an older version."""

    classes: described(Annotated[list[str], msgspec.Meta(min_length=1)], "a list of class names")
    class_ids: described(list[str | Count], "a list of ids")
    settings: described(
        Settings, "settings of a run, with the catalogue's folder and the sides of photographs and crops"
    )
    model: described(SomeWeights, "a state dict")
    ema: described(SomeWeights | None, "a state dict or None")
    optimizer: described(dict, "the state of an optimizer")
    epoch: described(Count, "a count of epochs")
    batch: described(Count, "a count of batches")
    log: described(list[dict[str, Number]], "a list of rows of numbers")
    best: described(Annotated[float, msgspec.Meta(ge=-1e300)], "a number")  # NaN is not at least anything
    heads: described(Heads | None, "weights of heads with options that this version knows") = None
    totals: described(dict[str, Any], "numbers") = {}
    skipped: described(list[dict[str, Any]], "a list of batches that were left out") = []
    held_back: described(list[str], "a list of ids") = []
    script: described(str, "the name of a script") = "train.py"


REQUIRED = {"format", "arch", *(field.name for field in msgspec.structs.fields(Checkpoint) if field.required)}


def require_sound(path: Path) -> None:
    """Raise InputError where there is no file to read, or a bit of it has changed: `torch.load` notices none."""
    try:
        if path.exists() and not path.is_file():  # reading a pipe would wait for ever
            raise InputError(f"{path}: not a file; {USE_ANOTHER}")
        damaged = damaged_part(path)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such checkpoint; train one first or give another path") from None
    except OSError as error:
        raise InputError(f"{path}: not a readable checkpoint ({error.strerror or error}); {USE_ANOTHER}") from error
    except Exception as error:  # what a damaged archive raises has no common class
        raise InputError(
            f"{path}: not a readable checkpoint (cut off, or no file of torch.save); {USE_ANOTHER}"
        ) from error
    if damaged:
        raise InputError(f"{path}: not a readable checkpoint (damaged in {damaged}); {USE_ANOTHER}")


def checked(state: Any, path: str | Path) -> dict:
    """A checkpoint as torch.load gives it, with optional keys filled in and unknown ones left out.

    Raises InputError that names the key whose value is wrong.
    """
    if not isinstance(state, dict) or REQUIRED - state.keys():
        raise InputError(f"{path}: not a checkpoint of this project; load plain weights with --weights {path}")
    _check_version(state, path)
    for key in ("settings", "heads"):  # msgspec would look for keys in a tensor, and torch would print a warning
        if not isinstance(state.get(key), dict | None):
            raise wrong_value(key, Checkpoint, path, USE_ANOTHER)
    checkpoint = converted(state, Checkpoint, path, USE_ANOTHER, dec_hook=_plain)
    for key in checkpoint.__struct_fields__:
        value = getattr(checkpoint, key)
        if not MORE_CHECKS.get(key, _has_no_nul)(value):
            raise wrong_value(key, Checkpoint, path, USE_ANOTHER)
    for key, length in (("class_ids", len(checkpoint.classes)), ("log", checkpoint.epoch)):
        entries = len(getattr(checkpoint, key))
        if entries != length:
            raise InputError(f"{path}: key {key!r} has {entries} entries instead of {length}; {USE_ANOTHER}")
    if checkpoint.batch and checkpoint.totals and not _mid_epoch(checkpoint.totals):
        raise InputError(f"{path}: key 'totals' is not what an epoch has summed; {USE_ANOTHER}")
    values = msgspec.structs.asdict(checkpoint)
    values |= {key: state[key] for key in ("format", "arch", "settings")}  # all settings, also those of a method
    values["heads"] = checkpoint.heads and msgspec.structs.asdict(checkpoint.heads)
    _check_weights(values, path)
    return values


def _check_version(state: dict, path: str | Path) -> None:
    heads = state.get("heads")
    heads = heads.get("kind") if isinstance(heads, dict) else None
    if not all(isinstance(name, str | None) for name in (state["arch"], heads)) or type(state["format"]) is not int:
        raise InputError(f"{path}: keys 'format', 'arch' and 'heads' are not a number and names; {USE_ANOTHER}")
    if state["format"] != FORMAT or not is_arch(state["arch"]) or heads not in (None, *HEADS):
        raise InputError(
            f"{path}: format {state['format']}, arch {state['arch']!r}, heads {heads!r}: "
            "written by another version of this project"
        )


def _plain(kind: type, value: Any) -> Any:
    """The tensor `value`; msgspec takes a ValueError for a wrong type."""
    if kind is not Tensor or not is_plain(value):
        raise ValueError("not a plain tensor")
    return value


def _options_fit(heads: Heads | None) -> bool:
    """Whether `HEADS` can build them: all options of their kind and no others, each within its flag's range."""
    if heads is None:
        return True
    names = [name for name in inspect.signature(HEADS[heads.kind]).parameters if name != "net"]
    options = heads.options
    return sorted(options) == sorted(names) and all(
        type(options[name]) in (int, str) and options[name] in OPTIONS.get(name, ()) for name in names
    )


def _totals_fit(totals: dict) -> bool:
    def fits(value: Any) -> bool:
        if isinstance(value, Tensor):
            return is_plain(value) and not value.ndim
        return _is_number(value)

    return all(map(fits, totals.values()))


def _skipped_fit(skipped: list[dict]) -> bool:
    """Whether batches are as `training.nan_guard` describes them: photographs in a list, else texts and numbers."""
    return all(
        isinstance(batch.get("photographs"), list)
        and all(isinstance(name, str) for name in batch["photographs"])
        and all(isinstance(value, str) or _is_number(value) for key, value in batch.items() if key != "photographs")
        for batch in skipped
    )


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 2**63)


def _has_no_nul(value: Any) -> bool:
    """Whether no text in it, at any depth, holds a NUL; no file name does."""
    if isinstance(value, str):
        return "\0" not in value
    if isinstance(value, msgspec.Struct):
        value = msgspec.structs.asdict(value)
    if isinstance(value, dict):
        return all(map(_has_no_nul, value)) and all(map(_has_no_nul, value.values()))
    return not isinstance(value, list) or all(map(_has_no_nul, value))


# By its key, what types cannot say of a value.
MORE_CHECKS = {
    "heads": lambda heads: _options_fit(heads) and _has_no_nul(heads),
    "totals": lambda totals: _totals_fit(totals) and _has_no_nul(totals),
    "skipped": lambda skipped: _skipped_fit(skipped) and _has_no_nul(skipped),
    "script": lambda script: re.fullmatch(r"[\w.-]*", script, re.ASCII),
    "optimizer": lambda optimizer: True,  # see `training.checkpoints`
}


def _mid_epoch(totals: dict) -> bool:
    images = totals.get("images", 0)
    return totals.get("seconds", 0) > 0 and (images == 0 or (images > 0 and "loss" in totals))


def _check_weights(state: dict, path: str | Path) -> None:
    """Raise InputError where weights are not finite, or not those of as many classes as the checkpoint names."""
    heads = state["heads"]
    if heads and (heads["ema"] is None) != (state["ema"] is None):
        raise InputError(f"{path}: averaged weights of the network alone, or of its heads alone; {USE_ANOTHER}")
    for holder in filter(None, (state, heads)):
        for part in ("model", "ema"):
            for name, weights in (holder[part] or {}).items():
                if not is_finite(weights):
                    raise InputError(f"{path}: {name} of its weights is not finite, training had failed; {USE_ANOTHER}")
    # The classifier is the one matrix of these networks: another count of classes would build another network.
    if not any(weights.ndim == 2 and len(weights) == len(state["classes"]) for weights in state["model"].values()):
        raise wrong_weights(state, path)


def wrong_weights(state: dict, source: str | Path) -> InputError:
    """The error of weights that do not fit the network that the checkpoint names."""
    heads = f" and heads {state['heads']['kind']}" if state["heads"] else ""
    return InputError(
        f"{source}: its weights are not those of a {state['arch']} with {len(state['classes'])} classes{heads}; "
        f"{USE_ANOTHER}"
    )
