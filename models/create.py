"""Which networks there are, and how one is created. Importing this module does not import torch."""

from __future__ import annotations

import re
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING

from common.errors import InputError

if TYPE_CHECKING:
    from os import PathLike

    from torch import nn

FAMILIES = {  # arch -> its module, where a function of the same name builds it
    "resnet18": "resnet",
    "resnet50": "resnet",
    "seresnext50": "seresnet",
    "seresnet101": "seresnet",
    "efficientnet-b3": "efficientnet",
    "efficientnet-b4": "efficientnet",
    "efficientnet-lite0": "efficientnet_lite",
    "efficientnet-lite1": "efficientnet_lite",
    "efficientnet-lite2": "efficientnet_lite",
}
ARCHS = tuple(FAMILIES)
ADVERSARIES = ("2k", "2")  # of DCL
STAGES = (3, 2)  # of LIO


TIMM = re.compile(r"timm:([A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)?)", re.ASCII)  # a network of timm, with a tag of weights


def create_model(arch: str, num_classes: int, weights: str | PathLike | None = None) -> nn.Module:
    """A network of the report, or another one; the same after the same `torch.manual_seed`, bit for bit.

    arch: one of ARCHS, or timm:NAME for any network of timm.
    num_classes: K ≥ 1, outputs of the classifier.
    weights: None or "none" (from scratch), "imagenet" (of a package, or downloaded once and cached), or a file: see
        `load_weights`. A classifier made for another number of classes stays fresh.

    Its `weights_from` says in words where its weights came from.

    Raises InputError for an unknown `arch`, weights that cannot be had, or a file that does not fit.
    """
    require_arch(arch)
    if weights in (None, "none"):
        return _build(arch, num_classes)

    from models.weights import describe_weights, fetch_imagenet, load_weights

    if weights == "imagenet" and TIMM.fullmatch(arch):
        return _build(arch, num_classes, pretrained=True)
    file = fetch_imagenet(arch) if weights == "imagenet" else weights
    net = _build(arch, num_classes)
    load_weights(net, file)
    net.weights_from = describe_weights(weights, file)
    return net


def is_arch(arch: object) -> bool:
    """Whether `arch` is one of ARCHS, or could be a network of timm."""
    return isinstance(arch, str) and (arch in FAMILIES or bool(TIMM.fullmatch(arch)))


def require_arch(arch: str) -> None:
    """Raise InputError unless there is a network of this name."""
    if is_arch(arch):
        return
    close = get_close_matches(arch.lower(), ARCHS, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise InputError(f"--arch {arch}: no such network; {hint}there are {', '.join(ARCHS)}, and timm:NAME")


def require_imagenet(arch: str, patience: float = 5.0) -> None:
    """Raise InputError unless ImageNet weights of `arch` are at hand, or can be downloaded now.

    patience: seconds to wait for a server that sends nothing.
    """
    require_arch(arch)
    if TIMM.fullmatch(arch):
        _build(arch, 1, pretrained=True)
    else:
        from models.weights import fetch_imagenet

        fetch_imagenet(arch, patience)


def _build(arch: str, num_classes: int, **options) -> nn.Module:
    if name := TIMM.fullmatch(arch):
        return import_module("models.timm_backbone").build(name[1], num_classes, **options)
    family = import_module(f"models.{FAMILIES[arch]}")
    return getattr(family, arch.replace("-", "_"))(num_classes)
