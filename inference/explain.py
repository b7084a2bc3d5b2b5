"""Where a network looked: how much each place of a photograph speaks for a class, drawn over the photograph."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from PIL import Image, ImageFont
from torch import Tensor, nn
from torch.utils.data import DataLoader

from common.errors import InputError, shortened
from data import batches, centre_crop, network_input
from inference.classifier import Classifier
from inference.sheets import heat_map, picture, receptive_field_offset, sheet

SIDE = 288  # pixels of a picture
MOST_LETTERS = 100  # of a caption
TITLES = [
    "the centre crop, as the network sees it",
    "yellow: what speaks for its best class",
    "for its second; dark blue: nothing does",
]


@contextmanager
def unpooled(net: nn.Module) -> Iterator[None]:
    """While it lasts, `net` does not average over the places of its last feature map: each place is a row of its own.

    The heads then read each place instead of the mean, and the outputs have the shape (B·H'·W', …).
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

    All is linear from the last feature map to the logits, in the heads of a method too, and pooling is a mean. So the
    logits of a photograph are the mean of the logits of its places. Zhou et al., "Learning Deep Features for
    Discriminative Localization", CVPR 2016, Eq. 2; their maps lack the bias of the class, which is the same everywhere.

    net: a network of `models` in evaluation mode. images: normalised (B, 3, S, S).
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


def explanation_sheet(classifier: Classifier, loader: DataLoader, predictions: Sequence) -> Image.Image:
    """A row for each photograph: its centre crop, and the maps of its best two classes in one scale.

    A map shows what speaks for a class more than for the mean of all classes: a number that is added to all logits
    changes no probability.

    predictions: an `inference.photographs.Prediction` for each photograph of the loader.
    """
    if not classifier.backbone.pool_is_mean:
        raise InputError("--explain: this network does not average over the places of a map; leave it out")
    net, crop, classes = classifier.net, classifier.crop, classifier.classes
    pixels = receptive_field_offset(classifier.backbone, 3)
    rows, captions, font = [], [], ImageFont.load_default(14)
    for batch in batches(loader):
        crops = centre_crop(network_input(batch.images, classifier.compute), crop)
        for index, image in zip(batch.index.tolist(), crops, strict=True):
            prediction = predictions[index]
            maps = class_maps(net, image[None])[0]  # (K, N, N)
            maps = (maps[prediction.classes[:2]] - maps.mean(0)).cpu()  # (2, N, N); one where there is one class
            offset = [part * maps.shape[-1] / crop for part in pixels]
            shown = picture(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            rows.append([shown, *(heat_map(shown, values, offset, (0, float(maps.max()))) for values in maps)])
            best = zip(prediction.classes[:2], prediction.probabilities, strict=False)
            texts = [f"{100 * probability:.1f} %  {classes[k]}" for k, probability in best]
            name = fitting(prediction.photograph, SIDE, font, 1)
            captions.append([name, *(fitting(text, SIDE, font) for text in texts)])
    return sheet(TITLES[: 1 + min(2, len(classes))], rows, captions, SIDE)
