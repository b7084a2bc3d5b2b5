"""The interface that all backbones have, and the one that all methods' heads around a backbone have."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from common.errors import InputError
from common.imagenet import MEAN, STD


class Backbone(nn.Module):
    """The part of a network that is the same in all families; see `models`.

    A family defines `trunk`, `top`, `pool`, `stages` and `classifier`.
    """

    weights_from = "from scratch"  # where the weights came from that it started with, in words
    side: int | None = None  # of the only images that it takes, in pixels; None: any from 32 up
    has_map = True  # whether `features` are a map of places
    pool_is_mean = True  # whether `pool` is the mean over these places
    weights_prefix = ""  # of the keys in its state dict, before those of its original package

    @property
    def backbone(self) -> nn.Module:
        """Itself; of a method's heads, the network inside of them."""
        return self

    def features(self, images: Tensor) -> Tensor:
        """The last feature map (B, feature_dim, ⌈H/32⌉, ⌈W/32⌉) of images (B, 3, H, W)."""
        return self.top(self.trunk(images))

    def forward(self, images: Tensor) -> Tensor:
        """images (B, 3, H, W) -> logits (B, K)."""
        return self.classifier(self.pool(self.features(images)))

    def predict(self, images: Tensor) -> Tensor:
        """images (B, 3, H, W) -> logits (B, K) at test time; a method's heads have their own."""
        return self(images)

    def children_of(self, *names: str) -> list[nn.Parameter]:
        """The parameters of these children."""
        return [parameter for name in names for parameter in getattr(self, name).parameters()]


class Rescale(nn.Module):
    """Images in ImageNet's scale, (byte / 255 − MEAN) / STD, -> in another one, (byte / 255 − mean) / std.

    mean, std: RGB. It is no part of the state dict: the original packages know of none.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        mean, std = (torch.tensor(values, dtype=torch.float64) for values in (mean, std))
        scale, shift = torch.tensor(STD) / std, (torch.tensor(MEAN) - mean) / std
        self.register_buffer("scale", scale.float().view(1, 3, 1, 1), persistent=False)
        self.register_buffer("shift", shift.float().view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return torch.addcmul(self.shift, images, self.scale)


def require_side(net: nn.Module, crop: int) -> None:
    """Raise InputError if a network does not take images of `crop` pixels."""
    side = net.backbone.side
    if side not in (None, crop):
        raise InputError(f"--crop {crop}: this network takes images of {side} pixels alone; give --crop {side}")


def require_map(net: nn.Module, needs: str) -> None:
    """Raise InputError if a network has no last feature map of places; `needs`: what for."""
    if not net.backbone.has_map:
        raise InputError(f"--arch: this network has no last feature map of places, which {needs} needs; choose another")


class Heads(nn.Module):
    """A module around a backbone, its `net`, whose classifier it uses; `options`: its other arguments."""

    heads_predict: bool  # whether `predict` uses the heads; if not, best.pt is saved without them

    def __init__(self, net: nn.Module, **options):
        super().__init__()
        self.net, self.options = net, options

    @property
    def backbone(self) -> nn.Module:
        return self.net

    @property
    def classifier(self) -> nn.Linear:
        return self.net.classifier

    @property
    def bf16_pays_on_cpu(self) -> bool:
        return self.net.bf16_pays_on_cpu
