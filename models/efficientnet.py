"""EfficientNet-B3 and -B4 (Tan and Le, ICML 2019), efficientnet_pytorch's port of the TensorFlow release."""

import math

import efficientnet_pytorch as original
from torch import Tensor, nn


class EfficientNet(original.EfficientNet):
    """efficientnet_pytorch's EfficientNet with the interface of this package; built with `from_name`."""

    # Depthwise convolutions move more memory than they multiply: at small sizes bf16 is slower than float32.
    bf16_pays_on_cpu = False

    def __init__(self, blocks_args: list, global_params: tuple):
        super().__init__(blocks_args, global_params)
        # nn.SiLU keeps as little for the backward pass as the "memory-efficient" default, and is a fifth to a third
        # faster on a CPU.
        self.set_swish(memory_efficient=False)
        self.feature_dim = self._fc.in_features
        self._initialise()

    def _initialise(self) -> None:
        """As the TensorFlow release; the port leaves torch's plain defaults.

        The classifier keeps torch's default: the release draws its weights from ±1/√K, which makes large, random
        first logits where classes are few.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.zeros_(self._fc.bias)

    @property
    def classifier(self) -> nn.Linear:
        return self._fc

    def features(self, images: Tensor) -> Tensor:
        """The last feature map (B, feature_dim, ⌈H/32⌉, ⌈W/32⌉) of images (B, 3, H, W)."""
        return self.extract_features(images)

    def forward(self, images: Tensor) -> Tensor:
        pooled = self._avg_pooling(self.features(images)).flatten(1)  # (B, feature_dim)
        return self._fc(self._dropout(pooled))  # (B, K)


def efficientnet_b3(num_classes: int) -> EfficientNet:
    """efficientnet_pytorch's B3: 12.2 M parameters with 1,000 classes, features of 1,536 channels."""
    return _build("efficientnet-b3", num_classes)


def efficientnet_b4(num_classes: int) -> EfficientNet:
    """efficientnet_pytorch's B4: 19.3 M parameters with 1,000 classes, features of 1,792 channels."""
    return _build("efficientnet-b4", num_classes)


def _build(name: str, num_classes: int) -> EfficientNet:
    # Without an image size the convolutions pad as TensorFlow's "SAME" does for whatever size comes.
    return EfficientNet.from_name(name, num_classes=num_classes, image_size=None)
