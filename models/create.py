"""Which networks there are, and how one is created. Importing this module does not import torch."""

from __future__ import annotations

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
}
ARCHS = tuple(FAMILIES)
ADVERSARIES = ("2k", "2")  # of DCL
STAGES = (3, 2)  # of LIO


def create_model(arch: str, num_classes: int, weights: str | PathLike | None = None) -> nn.Module:
    """A network of the report; the same after the same `torch.manual_seed`, bit for bit.

    arch: one of ARCHS.
    num_classes: K ≥ 1, outputs of the classifier.
    weights: None or "none" (from scratch), "imagenet" (downloaded once, then cached), or a file: see `load_weights`.
        A classifier made for another number of classes stays fresh.

    Raises InputError for an unknown `arch`, weights that cannot be downloaded, or a file that does not fit.
    """
    if arch not in FAMILIES:
        close = get_close_matches(arch.lower(), ARCHS, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise InputError(f"--arch {arch}: no such network; {hint}there are {', '.join(ARCHS)}")
    if weights in (None, "none"):
        return _build(arch, num_classes)

    from models.weights import fetch_imagenet, load_weights

    file = fetch_imagenet(arch) if weights == "imagenet" else weights
    net = _build(arch, num_classes)
    load_weights(net, file)
    return net


def _build(arch: str, num_classes: int) -> nn.Module:
    family = import_module(f"models.{FAMILIES[arch]}")
    return getattr(family, arch.replace("-", "_"))(num_classes)
