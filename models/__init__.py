"""The report's backbones, each exactly its original package's: same mathematics, same state-dict keys.

Every network has

    net(images (B, 3, H, W)) -> logits (B, K)              any H, W from 32 pixels up
    net.predict(images)      -> logits (B, K)              for testing: the same
    net.trunk(images)        -> (B, trunk_dim, 2H', 2W')   the map before the last stage
    net.top(trunk)           -> (B, feature_dim, H', W')   the last stage
    net.features(images)     -> (B, feature_dim, H', W')   the last feature map, before pooling: top of trunk
    net.pool(features)       -> (B, feature_dim)           what the classifier reads
    net.without_trunk()                                    a copy with the last stage, pooling and classifier alone
    net.trunk_dim, net.feature_dim                         channels of the first and of the others
    net.classifier                                         the nn.Linear behind the pooling
    net.bf16_pays_on_cpu                                   whether a CPU with bf16 units is faster in bf16

A method with heads of its own is a module around one, its `net`, with

    module(images)           -> whatever its loss reads, while it is trained
    module.predict(images)   -> logits (B, K)              for testing
    module.options                                         what its constructor was given besides `net`
    module.classifier, module.bf16_pays_on_cpu             those of `net`
    module.heads_predict                                   whether `predict` uses the heads; else best.pt goes without
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from importlib import import_module
from os import PathLike
from typing import TYPE_CHECKING

import lazy_loader

from common.errors import InputError

if TYPE_CHECKING:
    from torch import nn

_LAZY, __dir__, _NAMES = lazy_loader.attach(
    __name__,
    submod_attrs={
        "angular": ["Angular"],
        "bbn": ["BBN"],
        "checkpoint": ["load_checkpoint", "network_of", "save_checkpoint", "without_heads"],
        "dcl": ["DCL"],
        "lio": ["LIO"],
        "weights": ["fetch_imagenet", "load_weights"],
    },
)
__getattr__ = _LAZY
__all__ = ["ADVERSARIES", "ARCHS", "HEADS", "STAGES", "create_model", *_NAMES]

_BUILDERS = {  # module and function; a family's package is imported when one of its networks is made
    "resnet18": ("models.resnet", "resnet18"),
    "resnet50": ("models.resnet", "resnet50"),
    "seresnext50": ("models.seresnet", "seresnext50"),
    "seresnet101": ("models.seresnet", "seresnet101"),
    "efficientnet-b3": ("models.efficientnet", "efficientnet_b3"),
    "efficientnet-b4": ("models.efficientnet", "efficientnet_b4"),
}
ARCHS = tuple(_BUILDERS)
ADVERSARIES = ("2k", "2")  # of DCL
STAGES = (3, 2)  # of LIO


class _Heads(Mapping):
    """Name -> class of the methods whose checkpoints hold heads."""

    def __getitem__(self, kind: str) -> type[nn.Module]:
        if kind not in tuple(self):
            raise KeyError(kind)
        return _LAZY(kind)

    def __iter__(self) -> Iterator[str]:
        return iter(("DCL", "LIO", "Angular", "BBN"))

    def __len__(self) -> int:
        return 4


HEADS = _Heads()


def create_model(arch: str, num_classes: int, weights: str | PathLike | None = None) -> nn.Module:
    """A network of the report; the same after the same `torch.manual_seed`, bit for bit.

    arch: one of ARCHS.
    num_classes: K ≥ 1, outputs of the classifier.
    weights: None or "none" (from scratch), "imagenet" (fetched once, then cached), or a file: see `load_weights`.
        A classifier made for another number of classes stays fresh.

    Raises InputError for an unknown `arch`, weights that cannot be fetched, or a file that does not fit.
    """
    if arch not in _BUILDERS:
        close = get_close_matches(arch.lower(), ARCHS, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise InputError(f"--arch {arch}: no such network; {hint}there are {', '.join(ARCHS)}")
    from models.weights import fetch_imagenet, load_weights

    file = fetch_imagenet(arch) if weights == "imagenet" else weights
    module, function = _BUILDERS[arch]
    net = getattr(import_module(module), function)(num_classes)
    if file not in (None, "none"):
        load_weights(net, file)
    return net
