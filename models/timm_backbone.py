"""Any network of timm (Wightman, 2019) with the interface of this package: `timm:NAME`.

timm comes with requirements-extra.txt. Classifier, features and pooling are those of timm's own interface, mean and
deviation those of the network's own configuration.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from common import torchvision_shim  # noqa: F401  (before timm, which imports torchvision)
from common.errors import InputError
from models.backbone import Backbone, Rescale

# isort: split
try:
    import timm
    from timm.models import group_parameters
except ImportError as error:
    raise InputError("--arch timm:…: timm is missing; pip install -r requirements-extra.txt") from error

SIDE = 224  # of the image that tells what a network's features look like, unless it takes one size only


class TimmBackbone(Backbone):
    """A network of timm; `timm` is timm's own module.

    Its last feature map is called `features`; `trunk` and `top` split nothing: the trunk is the last map already.
    """

    bf16_pays_on_cpu = False  # not known of a network in general
    weights_prefix = "timm."  # of the keys in its state dict, before timm's own

    def __init__(self, name: str, num_classes: int, pretrained: bool = False):
        super().__init__()
        self.timm = timm.create_model(name, pretrained, num_classes=num_classes)
        if not isinstance(self.classifier, nn.Linear):
            raise InputError(f"--arch timm:{name}: its classifier is no single linear layer; choose another network")
        config = self.timm.pretrained_cfg
        self.rescale = Rescale(config["mean"], config["std"])
        self.channels_last = getattr(self.timm, "output_fmt", "NCHW") == "NHWC"  # Swin's maps, (B, H, W, C)
        self.feature_dim = self.timm.num_features
        self.side = config["input_size"][-1] if config.get("fixed_input_size") else None
        side = self.side or SIDE
        with torch.no_grad():
            sample = self.eval().features(torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0)))
            self.has_map = sample.ndim == 4 and sample.shape[1] == self.feature_dim
            pooled, mean = self.pool(sample), sample.mean((2, 3)) if self.has_map else sample
        self.pool_is_mean = pooled.shape == mean.shape and torch.allclose(pooled, mean, atol=1e-5)
        self.train()
        self.trunk_dim = None

    @property
    def classifier(self) -> nn.Linear:
        return self.timm.get_classifier()

    def trunk(self, images: Tensor) -> Tensor:
        """The last feature map, see `features`."""
        return self.features(images)

    def top(self, trunk: Tensor) -> Tensor:
        """The last feature map itself."""
        return trunk

    def features(self, images: Tensor) -> Tensor:
        """images (B, 3, H, W) -> (B, feature_dim, H', W'); of a network of tokens (B, tokens, feature_dim)."""
        features = self.timm.forward_features(self.rescale(images))
        return features.permute(0, 3, 1, 2) if self.channels_last else features

    def pool(self, features: Tensor) -> Tensor:
        """What the classifier reads, (B, classifier.in_features): timm's pooling, normalisation and dropout."""
        if self.channels_last:
            features = features.permute(0, 2, 3, 1)
        return self.timm.forward_head(features, pre_logits=True)

    def stages(self) -> list[list[nn.Parameter]]:
        """The parameters from the image to the last feature map, in timm's coarse groups."""
        matcher = self.timm.group_matcher(coarse=True)
        named, head = dict(self.timm.named_parameters()), {id(p) for p in self.classifier.parameters()}
        groups = group_parameters(self.timm, matcher).values()
        stages = [[named[name] for name in group if id(named[name]) not in head] for group in groups]
        return [stage for stage in stages if stage]


def build(name: str, num_classes: int, pretrained: bool = False) -> TimmBackbone:
    """timm's network `name` with K classes; with its ImageNet weights, by timm's own download, if `pretrained`.

    Raises InputError for a name that timm does not know, and for weights that cannot be had.
    """
    if not timm.is_model(name):
        close = timm.list_models(f"*{name.partition('.')[0][:8]}*")[:5]
        raise InputError(f"--arch timm:{name}: timm has no such network" + f"; it has {', '.join(close)}" * bool(close))
    try:
        net = TimmBackbone(name, num_classes, pretrained)
    except InputError:
        raise
    except Exception as error:  # of timm, of the hub, of the network
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        if not pretrained:
            raise InputError(f"--arch timm:{name}: does not work here ({reason}); choose another network") from error
        raise InputError(
            f"no ImageNet weights for timm:{name} ({reason}); start from a file with --weights FILE, or from scratch "
            "with --weights none"
        ) from error
    if pretrained:
        tag = net.timm.pretrained_cfg.get("tag") or "default"
        net.weights_from = f"timm's weights {net.timm.pretrained_cfg['architecture']}.{tag}"
    return net
