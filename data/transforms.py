"""The transforms between a photograph's file and the network, in the order of the report's section 1.

Training: squash to resize × resize, RandomResizedCrop, horizontal flip and AutoAugment, for each photograph in the
workers; then normalisation and Cutout, for the batch on the device. Testing: squash, normalisation, centre crop or ten
crops.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from common import torchvision_shim  # noqa: F401  (before torchvision)

# isort: split
from torchvision.transforms import v2

from common.device import Compute
from common.imagenet import MEAN, STD
from data.autoaugment import autoaugment, compiled
from data.fitting import resized

LOG_RATIO = torch.log(torch.tensor((3 / 4, 4 / 3)))  # of a crop's sides


class TrainTransform:
    """Random crop, flip and AutoAugment: squashed uint8 (resize, resize, 3) -> uint8 (3, crop, crop).

    min_scale: least share of the photograph's area in a crop (RandomResizedCrop's default is 0.08). The random draws
    are those of torchvision's `v2.RandomResizedCrop`, `RandomHorizontalFlip` and `AutoAugment`, in this order.
    """

    def __init__(self, resize: int, crop: int, min_scale: float = 0.08, autoaugment: bool = True, fit: str = "squash"):
        self.fit = fit
        self.resize, self.crop, self.min_scale, self.autoaugment = resize, crop, min_scale, autoaugment
        if autoaugment:
            compiled()  # once here, not in every worker

    def __call__(self, pixels: np.ndarray, generator: torch.Generator) -> Tensor:
        top, left, height, width = random_box(self.resize, self.min_scale, generator)
        pixels = resized(pixels[top : top + height, left : left + width], self.crop, self.crop)
        if torch.rand(1, generator=generator) < 0.5:
            pixels = cv2.flip(pixels, 1)
        if self.autoaugment:
            pixels = autoaugment(pixels, generator)
        return torch.from_numpy(pixels).permute(2, 0, 1)


def random_box(side: int, min_scale: float, generator: torch.Generator) -> tuple[int, int, int, int]:
    """Top, left, height and width of a random part of a square: RandomResizedCrop (Szegedy et al., CVPR 2015).

    The share of the area is between `min_scale` and 1, the ratio of the sides between 3/4 and 4/3. The result is the
    whole square if ten draws gave no part that fits.
    """
    for _ in range(10):
        area = side * side * torch.empty(1).uniform_(min_scale, 1, generator=generator).item()
        ratio = torch.exp(torch.empty(1).uniform_(*LOG_RATIO.tolist(), generator=generator)).item()
        width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < width <= side and 0 < height <= side:
            top = torch.randint(side - height + 1, (1,), generator=generator).item()
            left = torch.randint(side - width + 1, (1,), generator=generator).item()
            return top, left, height, width
    return 0, 0, side, side


def normalise(images: Tensor) -> Tensor:
    """uint8 (B, 3, H, W) -> float32 (B, 3, H, W), channels last: minus MEAN, divided by STD."""
    width = images.shape[3]
    # The mean is as long as a row of pixels, which lets vector code work on whole rows.
    mean, std = (torch.tensor(values, device=images.device).repeat(width) * 255 for values in (MEAN, STD))
    rows = images.permute(0, 2, 3, 1).flatten(2)  # (B, H, 3 W)
    return rows.float().sub_(mean).div_(std).unflatten(2, (width, 3)).permute(0, 3, 1, 2)


def cutout(images: Tensor, size: int, generator: torch.Generator | Sequence[torch.Generator] | None = None) -> Tensor:
    """Fill one random square of every normalised image (B, C, H, W) with the mean, which is zero, in place.

    The centre of the size × size hole is uniform over the image, so a hole near the border is smaller.
    DeVries and Taylor, "Improved regularization of CNNs with Cutout", 2017.
    generator: on the CPU, one for the batch or one for each image; None: torch's default generator.
    """
    batch, _, height, width = images.shape
    draws = [(1, each) for each in generator] if isinstance(generator, Sequence) else [(batch, generator)]
    centre = torch.cat(
        [torch.stack([torch.randint(s, (n,), generator=each) for s in (height, width)], 1) for n, each in draws]
    )  # (B, 2)
    for image, (top, left) in zip(images, (centre - size // 2).tolist(), strict=True):
        image[:, max(top, 0) : max(top + size, 0), max(left, 0) : max(left + size, 0)] = 0
    return images


def network_input(
    images: Tensor, compute: Compute, hole: int = 0, generators: Sequence[torch.Generator] = ()
) -> Tensor:
    """uint8 (B, 3, H, W) on the host -> normalised float32 (B, 3, H, W) on the device, in its memory format.

    hole: side of Cutout's square in pixels; 0: no Cutout. generators: for Cutout, one for each image.
    """
    images = normalise(images.to(compute.device, non_blocking=True))
    if hole:
        cutout(images, hole, generators)
    return images.contiguous(memory_format=compute.memory_format)


def centre_crop(images: Tensor, size: int) -> Tensor:
    """The central size × size of images (..., H, W), H and W at least `size`."""
    return v2.functional.center_crop(images, [size, size])


def ten_crop(images: Tensor, size: int) -> Tensor:
    """images (B, C, H, W) -> (B, 10, C, size, size): four corners and centre, of each image and of its mirror image.

    Krizhevsky et al., NeurIPS 2012; the report's section 5. Raises ValueError where an image is smaller than `size`.
    """
    return torch.stack(v2.functional.ten_crop(images, [size, size]), dim=1)
