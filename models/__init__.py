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

from difflib import get_close_matches
from os import PathLike

from torch import nn

from common import torchvision_shim  # noqa: F401  (before torchvision, which the families import)
from common.errors import InputError
from models.angular import Angular
from models.bbn import BBN
from models.dcl import ADVERSARIES, DCL
from models.efficientnet import efficientnet_b3, efficientnet_b4
from models.lio import LIO, STAGES
from models.resnet import resnet18, resnet50
from models.seresnet import seresnet101, seresnext50
from models.weights import fetch_imagenet, load_weights

__all__ = ["ADVERSARIES", "ARCHS", "BBN", "DCL", "HEADS", "LIO", "STAGES", "Angular", "create_model", "load_weights"]

_BUILDERS = {
    "resnet18": resnet18,
    "resnet50": resnet50,
    "seresnext50": seresnext50,
    "seresnet101": seresnet101,
    "efficientnet-b3": efficientnet_b3,
    "efficientnet-b4": efficientnet_b4,
}
ARCHS = tuple(_BUILDERS)
HEADS = {"DCL": DCL, "LIO": LIO, "Angular": Angular, "BBN": BBN}  # methods whose checkpoints hold heads


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
    file = fetch_imagenet(arch) if weights == "imagenet" else weights
    net = _BUILDERS[arch](num_classes)
    if file not in (None, "none"):
        load_weights(net, file)
    return net
