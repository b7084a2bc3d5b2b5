"""The interface that all backbones have, and the one that all methods' heads around a backbone have."""

from torch import Tensor, nn


class Backbone(nn.Module):
    """The part of a network that is the same in all families; see `models`.

    A family defines `trunk`, `top`, `pool` and `classifier`.
    """

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
