"""Where a network looked: how much each place of a photograph speaks for a class, drawn over it."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from PIL import Image, ImageFont
from torch import Tensor, nn
from torch.utils.data import DataLoader

from common.device import Compute
from common.errors import shortened
from data import batches, centre_crop, network_input
from inference.sheets import gaze, heat, picture, sheet

MOST_ROWS = 24  # of a sheet, photographs
SIDE = 288  # pixels of a picture
MOST_LETTERS = 100  # of a caption
TITLES = [
    "the centre crop, as the network sees it",
    "yellow: what speaks for its best class",
    "for its second; dark blue: nothing does",
]


@contextmanager
def unpooled(net: nn.Module) -> Iterator[None]:
    """Within it the pooling of `net` hands over the places of its last feature map one by one, instead of their mean.

    So every head that reads the mean reads each place, and what comes out has a row for each: (B·H'·W', …).
    """
    pooling = [module for module in net.modules() if hasattr(type(module), "pool")]  # a method may have two
    try:
        for module in pooling:
            module.pool = lambda features: features.permute(0, 2, 3, 1).flatten(0, 2)
        yield
    finally:
        for module in pooling:
            del module.pool


@torch.inference_mode()
def class_maps(net: nn.Module, images: Tensor) -> Tensor:
    """The logits of each place, (B, K, N, N): class activation maps, whose mean over the places is the logit.

    From the last feature map to the logits all is linear, in the heads of a method, too: pooling is a mean. So the
    logits of a photograph are the mean of those of its places. Zhou et al., "Learning Deep Features for Discriminative
    Localization", CVPR 2016, Eq. 2; their maps lack the class's bias, the same everywhere.

    net: of `models`, in evaluation; images: normalised (B, 3, S, S).
    """
    with unpooled(net):
        logits = net.predict(images)  # (B·N², K)
    side = math.isqrt(len(logits) // len(images))
    return logits.view(len(images), side, side, -1).permute(0, 3, 1, 2)


def fitting(text: str, width: int, font: ImageFont.FreeTypeFont, end: float = 1 / 3) -> str:
    """As much of `text` as takes no more than `width` pixels; `end`: see `shortened`."""
    text = shortened(text, MOST_LETTERS, end)
    cuts = (shortened(text, length, end) for length in range(len(text), 1, -1))
    return next((cut for cut in cuts if font.getlength(cut) <= width), "")


def explained(
    net: nn.Module, compute: Compute, loader: DataLoader, crop: int, named: Sequence, classes: Sequence[str]
) -> Image.Image:
    """A sheet: a row a photograph, its centre crop, and the maps of its best class and of its second in one scale.

    Drawn is what speaks for a class more than for the mean of all: a number that is added to all logits alike changes
    no probability.

    named: of each photograph of the loader, as `inference.photographs.Named`.
    """
    net.eval()
    pixels, rows, captions, font = gaze(getattr(net, "net", net), 3), [], [], ImageFont.load_default(14)
    for batch in batches(loader):
        crops = centre_crop(network_input(batch.images, compute), crop)
        for index, image in zip(batch.index.tolist(), crops, strict=True):
            one = named[index]
            maps = class_maps(net, image[None])[0]  # (K, N, N)
            maps = (maps[one.classes[:2]] - maps.mean(0)).cpu()  # (2, N, N); one where there is one class
            off = [part * maps.shape[-1] / crop for part in pixels]
            seen = picture(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            rows.append([seen, *(heat(seen, values, off, (0, float(maps.max()))) for values in maps)])
            best = zip(one.classes[:2], one.probabilities, strict=False)
            words = [f"{100 * probability:.1f} %  {classes[k]}" for k, probability in best]
            captions.append([fitting(one.photograph, SIDE, font, 1), *(fitting(text, SIDE, font) for text in words)])
    return sheet(TITLES[: 1 + min(2, len(classes))], rows, captions, SIDE)
