"""Whether a run can go on from a checkpoint."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.errors import InputError
from models.checkpoint import joined_weights
from models.checkpoint_format import USE_ANOTHER, _list_of, _number, wrong_weights
from models.weights import is_plain
from training.optimisation import parameter_groups

RATES = {"params", "lr", "momentum", "dampening", "weight_decay"}  # without which SGD cannot go on


def require_resumable(state: dict, net: nn.Module, averaged: bool, head_rate: float, source: str | Path) -> None:
    """Raise InputError unless `net`, heads included, and its optimizer can go on from a checkpoint."""
    own = {name: tensor.shape for name, tensor in net.state_dict().items()}
    for part in ("model", "ema")[: 1 + averaged]:
        weights = joined_weights(state, part) if state[part] else {}
        if {name: tensor.shape for name, tensor in weights.items()} != own:
            raise wrong_weights(state, source)
    if not goes_on(state["optimizer"], net, head_rate):
        raise InputError(
            f"{source}: its optimizer is not that of this run, of this --head-rate perhaps; {USE_ANOTHER}, or start "
            "another run from its network with --init"
        )


def goes_on(state: dict, net: nn.Module, head_rate: float) -> bool:
    """Whether `state` is that of the optimizer which trains `net`."""
    groups = [{"params": list(net.parameters())}] if head_rate == 1 else parameter_groups(net, head_rate)
    return _same_optimizer(state, torch.optim.SGD(groups, 0.1, fused=True).param_groups)


def _same_optimizer(state: dict, fresh: list[dict]) -> bool:
    groups, moments = state.get("param_groups"), state.get("state")
    if not (_list_of(lambda group: isinstance(group, dict))(groups) and isinstance(moments, dict)):
        return False
    sizes, count = [len(group["params"]) for group in fresh], 0
    if [len(group["params"]) for group in groups if isinstance(group.get("params"), list)] != sizes:
        return False
    for group, expected in zip(groups, fresh, strict=True):
        known = RATES <= group.keys() <= expected.keys()
        if not known or group["params"] != list(range(count, count + len(expected["params"]))):
            return False
        count += len(expected["params"])
        for name in group.keys() - {"params"}:
            value, switch = group[name], expected[name] is None or isinstance(expected[name], bool)
            if switch and not (value is None or isinstance(value, bool)):
                return False
            if switch and name != "fused" and bool(value) != bool(expected[name]):
                return False
            if not switch and not (_number(value) and 0 <= value < float("inf")):
                return False
    parameters = [parameter for group in fresh for parameter in group["params"]]
    return all(
        type(place) is int
        and 0 <= place < count
        and isinstance(moment, dict)
        and moment.keys() == {"momentum_buffer"}
        and (moment["momentum_buffer"] is None or _fits(moment["momentum_buffer"], parameters[place]))
        for place, moment in moments.items()
    )


def _fits(moment: Any, parameter: Tensor) -> bool:
    return is_plain(moment) and moment.is_floating_point() and moment.shape == parameter.shape
