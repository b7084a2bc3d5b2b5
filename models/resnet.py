"""ResNet-18 and ResNet-50 (He et al., CVPR 2016), torchvision's."""

from copy import deepcopy

from torch import Tensor, nn

from common import torchvision_shim  # noqa: F401  (before torchvision)
from models.backbone import Backbone

# isort: split
from torchvision.models import resnet as original


class ResNet(Backbone, original.ResNet):
    """torchvision's ResNet with the interface of this package."""

    bf16_pays_on_cpu = True  # 2–3 times faster than float32 on a CPU with AVX512-BF16

    def __init__(self, block: type[nn.Module], layers: list[int], num_classes: int):
        # Each block starts as the identity (Goyal et al. 2017, section 5.1).
        super().__init__(block, layers, num_classes, zero_init_residual=True)
        self.feature_dim = self.fc.in_features
        self.trunk_dim = self.feature_dim // 2

    @property
    def classifier(self) -> nn.Linear:
        return self.fc

    def trunk(self, images: Tensor) -> Tensor:
        """All but the last stage: (B, trunk_dim, ⌈H/16⌉, ⌈W/16⌉) of images (B, 3, H, W)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))  # (B, 64, ⌈H/4⌉, ⌈W/4⌉)
        return self.layer3(self.layer2(self.layer1(x)))

    def top(self, trunk: Tensor) -> Tensor:
        """The last stage: (B, feature_dim, ⌈H/32⌉, ⌈W/32⌉)."""
        return self.layer4(trunk)

    def stages(self) -> list[list[nn.Parameter]]:
        """The parameters from the image to the last feature map, a list for each resolution."""
        names = ("conv1", "bn1", "layer1"), ("layer2",), ("layer3",), ("layer4",)
        return [self.children_of(*stage) for stage in names]

    def without_trunk(self) -> "ResNet":
        """A copy that has only what `top`, `pool` and the classifier need."""
        bare = deepcopy(self)
        for name in ("conv1", "bn1", "layer1", "layer2", "layer3"):
            setattr(bare, name, nn.Identity())
        return bare

    def pool(self, features: Tensor) -> Tensor:
        """What the classifier reads, (B, feature_dim): the mean over the places of `features`."""
        return self.avgpool(features).flatten(1)


def resnet18(num_classes: int) -> ResNet:
    """torchvision's `resnet18`: 11.7 M parameters with 1,000 classes, features of 512 channels."""
    return ResNet(original.BasicBlock, [2, 2, 2, 2], num_classes)


def resnet50(num_classes: int) -> ResNet:
    """torchvision's `resnet50`: 25.6 M parameters with 1,000 classes, features of 2,048 channels."""
    return ResNet(original.Bottleneck, [3, 4, 6, 3], num_classes)
