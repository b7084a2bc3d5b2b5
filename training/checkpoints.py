"""Check that a run can go on from a checkpoint: its weights and its optimizer must fit the network to train."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.errors import InputError
from models.checkpoint import joined_weights
from models.checkpoint_format import USE_ANOTHER, wrong_weights
from models.weights import is_plain
from training.optimisation import parameter_groups

NEEDED = {"params", "lr", "momentum", "dampening", "weight_decay"}  # keys without which SGD cannot go on


def require_resumable(state: dict, net: nn.Module, averaged: bool, rates: tuple, source: str | Path) -> None:
    """Raise InputError if `net`, heads included, and its optimizer cannot go on from a checkpoint.

    state: the checkpoint, read from `source`. averaged: whether the run averages its weights.
    rates: head_rate and layer_decay of `parameter_groups`.
    """
    shapes = {name: tensor.shape for name, tensor in net.state_dict().items()}
    for part in ("model", "ema")[: 1 + averaged]:
        weights = joined_weights(state, part) if state[part] else {}
        if {name: tensor.shape for name, tensor in weights.items()} != shapes:
            raise wrong_weights(state, source)
    fresh = torch.optim.SGD(parameter_groups(net, *rates), 0.1, fused=True)
    if not _fits_optimizer(state["optimizer"], fresh.param_groups):
        raise InputError(
            f"{source}: its optimizer is not that of this run, of this --head-rate or --layer-decay perhaps; "
            f"{USE_ANOTHER}, or start another run from its network with --init"
        )


def _fits_optimizer(state: dict, fresh: list[dict]) -> bool:
    """Whether an optimizer with the parameter groups `fresh` can load `state`."""
    groups, moments = state.get("param_groups"), state.get("state")
    if not (isinstance(groups, list) and len(groups) == len(fresh) and isinstance(moments, dict)):
        return False
    parameters: list[Tensor] = []
    for group, expected in zip(groups, fresh, strict=True):
        if not _fits_group(group, expected, first=len(parameters)):
            return False
        parameters += expected["params"]
    return all(
        type(place) is int and 0 <= place < len(parameters) and _fits_moment(moment, parameters[place])
        for place, moment in moments.items()
    )


def _fits_group(group: Any, expected: dict, first: int) -> bool:
    """Whether a parameter group has the parameters and the settings of SGD. Its first parameter has number `first`."""
    if not (isinstance(group, dict) and NEEDED <= group.keys() <= expected.keys()):
        return False
    if group["params"] != list(range(first, first + len(expected["params"]))):
        return False
    return all(_fits_setting(name, group[name], expected[name]) for name in group.keys() - {"params"})


def _fits_setting(name: str, value: Any, expected: Any) -> bool:
    if expected is None or isinstance(expected, bool):  # a switch, of which only `fused` may differ
        return (value is None or isinstance(value, bool)) and (name == "fused" or bool(value) == bool(expected))
    return type(value) in (int, float) and 0 <= value < min(math.inf, 2**63 if type(value) is int else math.inf)


def _fits_moment(moment: Any, parameter: Tensor) -> bool:
    if not (isinstance(moment, dict) and moment.keys() == {"momentum_buffer"}):
        return False
    buffer = moment["momentum_buffer"]
    return buffer is None or (is_plain(buffer) and buffer.is_floating_point() and buffer.shape == parameter.shape)
