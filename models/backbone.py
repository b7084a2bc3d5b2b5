"""What every backbone answers, whichever package it comes from."""

from torch import Tensor, nn


class Backbone(nn.Module):
    """The part of a network's interface that is the same in all families; see `models`.

    A family defines `trunk`, `top`, `pool` and `classifier`.
    """

    @property
    def backbone(self) -> nn.Module:
        """Itself; of a method's heads, the network that they are around."""
        return self

    def features(self, images: Tensor) -> Tensor:
        """The last feature map (B, feature_dim, ⌈H/32⌉, ⌈W/32⌉) of images (B, 3, H, W)."""
        return self.top(self.trunk(images))

    def forward(self, images: Tensor) -> Tensor:
        """images (B, 3, H, W) -> logits (B, K)."""
        return self.classifier(self.pool(self.features(images)))

    def predict(self, images: Tensor) -> Tensor:
        """images (B, 3, H, W) -> logits (B, K) for testing; a method's heads around a backbone have their own."""
        return self(images)
