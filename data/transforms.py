"""What happens to a photograph between the disk and the network, in the order of the report's section 1.

Training: squash to resize × resize, RandomResizedCrop, horizontal flip, AutoAugment (per photograph, in the
workers, on Pillow images), then normalisation and Cutout (per batch, on the device). Testing: squash,
normalisation, centre crop or ten crops.
"""

import io

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms import v2

from data.shards import Piece

MEAN = (0.485, 0.456, 0.406)  # of ImageNet's training photographs in RGB, the statistics of all five backbones
STD = (0.229, 0.224, 0.225)


class UnreadablePhotograph(Exception):
    """A file that Pillow cannot decode to its end; the message says why."""


def read_photograph(path) -> Image.Image:
    """The photograph at `path` (a file's, an open file, or a `Piece` of a shard), upright, as 8-bit RGB.

    EXIF rotation is applied, transparency is laid over white, 16-bit values are scaled to 8 bits, and CMYK and
    palettes are converted. Raises UnreadablePhotograph for whatever cannot be decoded.
    """
    try:
        with Image.open(io.BytesIO(path.read()) if isinstance(path, Piece) else path) as image:
            image.load()
            return _rgb(ImageOps.exif_transpose(image))
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and others
        raise UnreadablePhotograph(f"{type(error).__name__}: {error}") from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode == "I" or image.mode.startswith("I;16"):
        pixels = np.asarray(image).astype(np.int64)
        return Image.fromarray((pixels.clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def squash(image: Image.Image, size: int) -> Image.Image:
    """`image` resized to size × size, whatever its shape: the report's "resize to 256 × 256"."""
    return image.resize((size, size), Image.Resampling.BILINEAR)


class TrainTransform:
    """Pillow RGB image -> uint8 (3, crop, crop): squash, random crop, flip, AutoAugment.

    `min_scale`: least share of the photograph's area that a crop keeps (0.08 is RandomResizedCrop's own).
    Randomness comes from torch's global generator; `data.loader` seeds it for every photograph.
    """

    def __init__(self, resize: int, crop: int, min_scale: float = 0.08, autoaugment: bool = True):
        self.resize = resize
        steps = [v2.RandomResizedCrop(crop, scale=(min_scale, 1.0)), v2.RandomHorizontalFlip()]
        if autoaugment:
            steps.append(v2.AutoAugment(v2.AutoAugmentPolicy.IMAGENET))  # Cubuk et al., CVPR 2019
        self.augment = v2.Compose([*steps, v2.PILToTensor()])

    def __call__(self, image: Image.Image) -> Tensor:
        return self.augment(squash(image, self.resize))


class EvalTransform:
    """Pillow RGB image -> uint8 (3, resize, resize): the crops are cut from the batch, on the device."""

    def __init__(self, resize: int):
        self.resize = resize

    def __call__(self, image: Image.Image) -> Tensor:
        return v2.functional.pil_to_tensor(squash(image, self.resize))


def normalise(images: Tensor) -> Tensor:
    """uint8 (B, 3, H, W) -> float32 (B, 3, H, W) with ImageNet's mean 0 and standard deviation 1."""
    mean = torch.tensor(MEAN, device=images.device).view(3, 1, 1) * 255
    std = torch.tensor(STD, device=images.device).view(3, 1, 1) * 255
    return (images - mean) / std


def cutout(
    images: Tensor, size: int, generator: torch.Generator | None = None, part: tuple[int, int] | None = None
) -> Tensor:
    """Fill one random square of every normalised image (B, C, H, W) with the mean, which is zero, in place.

    The centre of the size × size hole is uniform over the image, so the hole may overlap the border, where less
    of it falls on the image. DeVries and Taylor, "Improved regularization of CNNs with Cutout", 2017.
    `part`: as in `Batch`.
    """
    batch, _, height, width = images.shape
    first, whole = part or (0, batch)
    centre = torch.stack([torch.randint(side, (whole, 1), generator=generator) for side in (height, width)])
    top, left = (centre[:, first : first + batch] - size // 2).to(images.device)  # (B, 1) each
    row, column = (torch.arange(side, device=images.device) for side in (height, width))
    rows = (row >= top) & (row < top + size)  # (B, H)
    columns = (column >= left) & (column < left + size)  # (B, W)
    return images.masked_fill_((rows[:, :, None] & columns[:, None, :])[:, None], 0)


def centre_crop(images: Tensor, size: int) -> Tensor:
    """The central size × size of images (..., H, W), H and W at least `size`."""
    return v2.functional.center_crop(images, [size, size])


def ten_crop(images: Tensor, size: int) -> Tensor:
    """images (B, C, H, W) -> (B, 10, C, size, size): four corners and centre, then the same of the mirrored images.

    Krizhevsky et al., NeurIPS 2012; the report's section 5. Raises ValueError where an image is smaller than `size`.
    """
    return torch.stack(v2.functional.ten_crop(images, [size, size]), dim=1)
