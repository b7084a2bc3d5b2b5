"""EfficientNet-B3 and -B4 (Tan and Le, ICML 2019), efficientnet_pytorch's port of the TensorFlow release.

`Blocks` is the interface of this package around any network of its kind; EfficientNet-Lite has it too.
"""

import math
from copy import deepcopy

import efficientnet_pytorch as original
from torch import Tensor, nn
from torch.nn.functional import conv2d
from torch.nn.functional import pad as pad_image

from models.backbone import Backbone


class SameConv2d(nn.Conv2d):
    """TensorFlow's "SAME" padding for images of any size, without a copy of the image where both sides get the same.

    The packages' convolutions copy every image into a larger one first.
    """

    def forward(self, images: Tensor) -> Tensor:
        pads = []  # of width, then height: before and behind
        for side, kernel, stride in zip(images.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            pad = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            pads += [pad // 2, pad - pad // 2]
        left, right, top, bottom = pads
        if (left, top) == (right, bottom):
            return conv2d(images, self.weight, self.bias, self.stride, (top, left), groups=self.groups)
        return conv2d(pad_image(images, pads), self.weight, self.bias, self.stride, groups=self.groups)


class Blocks(Backbone):
    """The interface of this package for a network of inverted bottlenecks, with efficientnet_pytorch's names of parts.

    A subclass also derives from the network itself, which is built with its `from_name`.
    """

    # Depthwise convolutions move more memory than they multiply: training in bf16 is slower than in float32.
    bf16_pays_on_cpu = False

    def __init__(self, blocks_args: list, global_params: tuple):
        super().__init__(blocks_args, global_params)
        self.feature_dim = self._fc.in_features
        # The last stage begins where the map is halved for the last time.
        self._last_stage = max(n for n, block in enumerate(self._blocks) if block._depthwise_conv.stride[0] == 2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                module.__class__ = SameConv2d
        self.trunk_dim = self._blocks[self._last_stage]._block_args.input_filters
        self._initialise()

    def _initialise(self) -> None:
        """As the TensorFlow release, where the port leaves torch's plain defaults; with three exceptions.

        The classifier keeps torch's default: the release draws its weights from ±1/√K, which makes large, random
        first logits where classes are few. Each block with a skip connection starts as the identity (Goyal et al. 2017,
        section 5.1). Batch norms average over tens of batches as in the other networks, not over hundreds, which
        would be several epochs of a small catalogue.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.1
        nn.init.zeros_(self._fc.bias)
        for block in self._blocks:
            shape = block._block_args
            if block.id_skip and shape.stride == 1 and shape.input_filters == shape.output_filters:
                nn.init.zeros_(block._bn2.weight)

    @property
    def drop_connect(self) -> float:
        """How often a training step leaves out the last block's branch, and earlier ones in proportion to their place.

        Stochastic depth (Huang et al., ECCV 2016); the package's own rate is 0.2.
        """
        return self._global_params.drop_connect_rate

    @drop_connect.setter
    def drop_connect(self, rate: float) -> None:
        self._global_params = self._global_params._replace(drop_connect_rate=rate)

    @property
    def classifier(self) -> nn.Linear:
        return self._fc

    def trunk(self, images: Tensor) -> Tensor:
        """All but the last stage: (B, trunk_dim, ⌈H/16⌉, ⌈W/16⌉) of images (B, 3, H, W)."""
        x = self._swish(self._bn0(self._conv_stem(images)))
        return self._run_blocks(x, range(self._last_stage))

    def top(self, trunk: Tensor) -> Tensor:
        """The last stage: (B, feature_dim, ⌈H/32⌉, ⌈W/32⌉)."""
        x = self._run_blocks(trunk, range(self._last_stage, len(self._blocks)))
        return self._swish(self._bn1(self._conv_head(x)))

    def stages(self) -> list[list[nn.Parameter]]:
        """The parameters from the image to the last feature map, a list for each resolution."""
        stages = [self.children_of("_conv_stem", "_bn0")]
        for block in self._blocks:
            if block._depthwise_conv.stride[0] == 2:
                stages.append([])
            stages[-1] += block.parameters()
        stages[-1] += self.children_of("_conv_head", "_bn1")
        return stages

    def without_trunk(self) -> "Blocks":
        """A copy that has only what `top`, `pool` and the classifier need."""
        bare = deepcopy(self)
        bare._conv_stem = bare._bn0 = nn.Identity()
        for n in range(self._last_stage):
            bare._blocks[n] = nn.Identity()
        return bare

    def _run_blocks(self, x: Tensor, places: range) -> Tensor:
        for n in places:
            x = self._blocks[n](x, drop_connect_rate=self.drop_connect * (n / len(self._blocks)))
        return x

    def pool(self, features: Tensor) -> Tensor:
        """What the classifier reads, (B, feature_dim): the mean over the places of `features`, with dropout."""
        return self._dropout(self._avg_pooling(features).flatten(1))


class EfficientNet(Blocks, original.EfficientNet):
    """efficientnet_pytorch's EfficientNet with the interface of this package."""

    def __init__(self, blocks_args: list, global_params: tuple):
        super().__init__(blocks_args, global_params)
        # nn.SiLU keeps as little for the backward pass as the "memory-efficient" default, and is a fifth to a third
        # faster on a CPU.
        self.set_swish(memory_efficient=False)


def efficientnet_b3(num_classes: int) -> EfficientNet:
    """efficientnet_pytorch's B3: 12.2 M parameters with 1,000 classes, features of 1,536 channels."""
    return _build("efficientnet-b3", num_classes)


def efficientnet_b4(num_classes: int) -> EfficientNet:
    """efficientnet_pytorch's B4: 19.3 M parameters with 1,000 classes, features of 1,792 channels."""
    return _build("efficientnet-b4", num_classes)


def _build(name: str, num_classes: int) -> EfficientNet:
    # Without an image size the convolutions pad as TensorFlow's "SAME" does for whatever size comes.
    return EfficientNet.from_name(name, num_classes=num_classes, image_size=None)
