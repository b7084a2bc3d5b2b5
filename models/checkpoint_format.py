"""What a checkpoint promises: its keys and their types, weights that are numbers, heads that can be built."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.errors import InputError
from models import ADVERSARIES, ARCHS, HEADS, STAGES
from models.weights import damaged_part, is_finite, is_plain

FORMAT = 1
USE_ANOTHER = "use another, e.g. last.pt or best.pt beside it"
SIDE = range(32, 4097)  # pixels, as --resize and --crop
OPTIONS = {"grid": range(2, 65), "adversary": ADVERSARIES, "stage": STAGES}  # of heads: see `models`


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


# Each check tells whether a value is what a training script writes, whoever wrote it.


def _text(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**31


def _number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 2**63)


def _dict_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(_text, value)) and all(map(check, value.values()))


def _list_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _settings(value: Any) -> bool:
    return (
        _dict_of(lambda _: True)(value)
        and _text(value.get("data"))
        and all(_count(value.get(name)) and value[name] in SIDE for name in ("resize", "crop"))
    )


def _total(value: Any) -> bool:
    return _number(value) or (is_plain(value) and not value.ndim)


_weights = _dict_of(is_plain)


def _heads(value: Any) -> bool:
    """Whether `HEADS` can build them: all options of their kind and no others, each within its flag's range."""
    if value is None:
        return True
    if not (isinstance(value, dict) and _text(value.get("kind")) and _dict_of(lambda _: True)(value.get("options"))):
        return False
    names = [name for name in inspect.signature(HEADS[value["kind"]]).parameters if name != "net"]
    options = value["options"]
    fit = sorted(options) == sorted(names)
    fit = fit and all(type(options[name]) in (int, str) and options[name] in OPTIONS[name] for name in names)
    return fit and _weights(value.get("model")) and (value.get("ema") is None or _weights(value["ema"]))


def _batch_left_out(value: Any) -> bool:
    """As `training.nan_guard` describes one."""
    names = value.get("photographs") if isinstance(value, dict) else None
    return _list_of(_text)(names) and _dict_of(lambda fact: fact is names or _text(fact) or _number(fact))(value)


EXPECTED = {
    "classes": (lambda value: _list_of(_text)(value) and len(value) > 0, "a list of class names"),
    "class_ids": (_list_of(lambda value: _text(value) or _count(value)), "a list of ids"),
    "settings": (_settings, "settings of a run, with the catalogue's folder and the sides of photographs and crops"),
    "model": (lambda value: _weights(value) and len(value) > 0, "a state dict"),
    "ema": (lambda value: value is None or (_weights(value) and len(value) > 0), "a state dict or None"),
    "heads": (_heads, "weights of heads with options that this version knows"),
    "optimizer": (lambda value: isinstance(value, dict), "the state of an optimizer"),
    "epoch": (_count, "a count of epochs"),
    "batch": (_count, "a count of batches"),
    "totals": (_dict_of(_total), "numbers"),
    "log": (_list_of(_dict_of(_number)), "a list of rows of numbers"),
    "best": (lambda value: _number(value) and value == value, "a number"),
    "skipped": (_list_of(_batch_left_out), "a list of batches that were left out"),
    "script": (lambda value: _text(value) and re.fullmatch(r"[\w.-]*", value, re.ASCII), "the name of a script"),
}
OPTIONAL = {
    "heads": None,
    "totals": {},
    "skipped": [],
    "script": "train.py",
}  # what a checkpoint of before there were such keys means
REQUIRED = {"format", "arch", *EXPECTED} - OPTIONAL.keys()


def checked(state: Any, path: str | Path) -> dict:
    """A checkpoint as it was read, with what is optional filled in; InputError names what is not as it should be."""
    if not isinstance(state, dict) or REQUIRED - state.keys():
        raise InputError(f"{path}: not a checkpoint of this project; load plain weights with --weights {path}")
    state = OPTIONAL | state
    heads = state["heads"].get("kind") if isinstance(state["heads"], dict) else None
    if not all(isinstance(name, str | None) for name in (state["arch"], heads)) or type(state["format"]) is not int:
        raise InputError(f"{path}: keys 'format', 'arch' and 'heads' are not a number and names; {USE_ANOTHER}")
    if state["format"] != FORMAT or state["arch"] not in ARCHS or heads not in (None, *HEADS):
        raise InputError(
            f"{path}: format {state['format']}, arch {state['arch']!r}, heads {heads!r}: "
            "written by another version of this project"
        )
    for key, (check, expected) in EXPECTED.items():
        if not check(state[key]):
            raise InputError(f"{path}: key {key!r} is not {expected}; {USE_ANOTHER}")
    for part, other in (("class_ids", "classes"), ("log", "epoch")):
        length = state[other] if other == "epoch" else len(state[other])
        if len(state[part]) != length:
            raise InputError(f"{path}: key {part!r} has {len(state[part])} entries instead of {length}; {USE_ANOTHER}")
    if state["batch"] and state["totals"] and not _mid_epoch(state["totals"]):
        raise InputError(f"{path}: key 'totals' is not what an epoch has summed; {USE_ANOTHER}")
    return _checked_weights(state, path)


def _mid_epoch(totals: dict) -> bool:
    images = totals.get("images", 0)
    return totals.get("seconds", 0) > 0 and (images == 0 or (images > 0 and "loss" in totals))


def _checked_weights(state: dict, path: str | Path) -> dict:
    """`state` with plain dicts of weights, which torch's own may carry more than weights; all of them finite."""
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
    plain = {part: None if state[part] is None else dict(state[part]) for part in ("model", "ema")}
    if heads:
        plain["heads"] = heads | {part: None if heads[part] is None else dict(heads[part]) for part in ("model", "ema")}
    return state | plain


def wrong_weights(state: dict, source: str | Path) -> InputError:
    heads = f" and heads {state['heads']['kind']}" if state["heads"] else ""
    return InputError(
        f"{source}: its weights are not those of a {state['arch']} with {len(state['classes'])} classes{heads}; "
        f"{USE_ANOTHER}"
    )
