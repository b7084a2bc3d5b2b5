"""SE-ResNeXt-50 (32×4d) and SE-ResNet-101 (Hu et al., CVPR 2018), pretrainedmodels' port of the Caffe release."""

from copy import deepcopy

from torch import Tensor, nn

from common import torchvision_shim  # noqa: F401  (before pretrainedmodels, which imports torchvision)
from models.backbone import Backbone

# isort: split
from pretrainedmodels.models import senet as original


class SENet(Backbone, original.SENet):
    """pretrainedmodels' SENet with the interface of this package, for images of any size."""

    bf16_pays_on_cpu = True  # 2–3 times faster than float32 on a CPU with AVX512-BF16

    def __init__(self, block: type[nn.Module], layers: list[int], groups: int, num_classes: int):
        super().__init__(
            block,
            layers,
            groups,
            reduction=16,
            dropout_p=None,
            inplanes=64,
            input_3x3=False,
            downsample_kernel_size=1,
            downsample_padding=0,
            num_classes=num_classes,
        )
        self.avg_pool = nn.AdaptiveAvgPool2d(1)  # the original's 7×7 window only fits images of 224
        self.feature_dim = self.last_linear.in_features
        self.trunk_dim = self.feature_dim // 2
        self._initialise()

    def _initialise(self) -> None:
        """As torchvision's ResNet; the original leaves torch's plain defaults."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, original.Bottleneck):
                # Each block starts as the identity (Goyal et al. 2017, section 5.1).
                nn.init.zeros_(module.bn3.weight)

    @property
    def classifier(self) -> nn.Linear:
        return self.last_linear

    def trunk(self, images: Tensor) -> Tensor:
        """All but the last stage: (B, trunk_dim, ⌈H/16⌉, ⌈W/16⌉) of images (B, 3, H, W)."""
        return self.layer3(self.layer2(self.layer1(self.layer0(images))))

    def top(self, trunk: Tensor) -> Tensor:
        """The last stage: (B, feature_dim, ⌈H/32⌉, ⌈W/32⌉)."""
        return self.layer4(trunk)

    def stages(self) -> list[list[nn.Parameter]]:
        """The parameters from the image to the last feature map, a list for each resolution."""
        names = ("layer0", "layer1"), ("layer2",), ("layer3",), ("layer4",)
        return [self.children_of(*stage) for stage in names]

    def without_trunk(self) -> "SENet":
        """A copy that has only what `top`, `pool` and the classifier need."""
        bare = deepcopy(self)
        for name in ("layer0", "layer1", "layer2", "layer3"):
            setattr(bare, name, nn.Identity())
        return bare

    def pool(self, features: Tensor) -> Tensor:
        """What the classifier reads, (B, feature_dim): the mean over the places of `features`."""
        return self.avg_pool(features).flatten(1)


def seresnext50(num_classes: int) -> SENet:
    """pretrainedmodels' `se_resnext50_32x4d`: 27.6 M parameters with 1,000 classes, features of 2,048 channels."""
    return SENet(original.SEResNeXtBottleneck, [3, 4, 6, 3], groups=32, num_classes=num_classes)


def seresnet101(num_classes: int) -> SENet:
    """pretrainedmodels' `se_resnet101`: 49.3 M parameters with 1,000 classes, features of 2,048 channels."""
    return SENet(original.SEResNetBottleneck, [3, 4, 23, 3], groups=1, num_classes=num_classes)
