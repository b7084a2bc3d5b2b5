"""Sheets of pictures for people: a row for each photograph, a column for each way to look at it."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from catalogues import Catalogue, Split
from common.errors import InputError
from data import MEAN, NO_LABEL, STD, Batch, Draw, Photographs, centre_crop, collate, normalise


def checkpoint_to_show(args: argparse.Namespace, method: str, name: str) -> Path:
    """The checkpoint for --show: --init, or file `name` of the run in --out, or of the newest run ARCH-`method`.

    Raises InputError where there is none of them.
    """
    newest = max(Path("runs").glob(f"*-{method}/{name}"), key=os.path.getmtime, default=None)
    path = args.init or (Path(args.out, name) if args.out else newest)
    if path is None:
        raise InputError(f"--init is missing: name the network to look at, --init runs/resnet50-{method}/{name}")
    return path


def picture(image: Tensor) -> Image.Image:
    """A normalised image (3, H, W) as a picture."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    pixels = (image.cpu().float() * std + mean).clamp(0, 1) * 255
    return Image.fromarray(pixels.round().byte().permute(1, 2, 0).numpy())


def cropped_photographs(
    catalogue: Catalogue,
    split: Split,
    places: np.ndarray,
    resize: int,
    crop: int,
    collate: Callable[[list], Batch] = collate,
    fit: str = "squash",
) -> tuple[Tensor, list[str]]:
    """The photographs at these places of the split: normalised centre crops (B, 3, crop, crop) and names of classes.

    Raises InputError where none of them can be read.
    """
    photographs = Photographs(split, resize, fit=fit)
    batch = collate([photographs[Draw(int(place), 0, 0)] for place in places])
    if not len(batch.index):
        raise InputError(f"{catalogue.root}: none of {len(places)} photographs of the {split.name} split can be read")
    names = ["" if target == NO_LABEL else catalogue.classes[target] for target in batch.target.tolist()]
    return centre_crop(normalise(batch.images), crop), names


def sheet(
    titles: list[str], rows: list[list[Image.Image]], captions: list[str | list[str]], side: int = 224, gap: int = 8
) -> Image.Image:
    """One page with a column for each title.

    rows: of each photograph, a picture for each column, which is resized to side × side pixels.
    captions: of each photograph, one text below its row, or a text below each of its pictures.
    gap: pixels between pictures.
    """
    font, line = ImageFont.load_default(14), 24
    width = gap + len(titles) * (side + gap)
    page = Image.new("RGB", (width, line + len(rows) * (side + line + gap)), "white")
    draw = ImageDraw.Draw(page)
    for column, title in enumerate(titles):
        draw.text((gap + column * (side + gap), line / 2), title, "black", font, anchor="lm")
    for place, (pictures, caption) in enumerate(zip(rows, captions, strict=True)):
        top = line + place * (side + line + gap)
        for column, image in enumerate(pictures):
            page.paste(image.resize((side, side), Image.Resampling.BICUBIC), (gap + column * (side + gap), top))
        for column, text in enumerate([caption] if isinstance(caption, str) else caption):
            draw.text((gap + column * (side + gap), top + side + line / 2), text, "black", font, anchor="lm")
    return page


def receptive_field_offset(net: nn.Module, stage: int, side: int = 512) -> tuple[float, float]:
    """Pixels (down, right) from the middle of a place of a feature map to the middle of its receptive field.

    Strided convolutions shift the receptive field, each by its padding: that of a place of a ResNet lies half a place
    up and to the left. Measured with noise of side × side pixels: the centre of the squared gradient of the middle
    place.

    net: a backbone of `models`. stage: 3, the last feature map; 2, the map before the last stage.
    """
    images = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    images = images.to(next(net.parameters()).device).requires_grad_()
    trunk = net.eval().trunk(images)
    features = trunk if stage == 2 else net.top(trunk)  # (1, C, H', H')
    middle, stride = features.shape[-1] // 2, side / features.shape[-1]
    (gradient,) = torch.autograd.grad(features[0, :, middle, middle].square().sum(), images)
    weight = gradient[0].square().sum(0).cpu()  # (side, side)
    pixels = torch.arange(side) + 0.5
    centre = [float((weight.sum(axis) * pixels).sum() / weight.sum()) for axis in (1, 0)]
    return tuple(place - (middle + 0.5) * stride for place in centre)


def spread(values: Tensor, side: int, offset: tuple[float, float], mode: str) -> np.ndarray:
    """values (N, N) of regions -> (side, side), the value of each region around the middle of its receptive field.

    offset: see `receptive_field_offset`, in regions. mode: "bilinear" or "nearest".
    """
    place = (torch.arange(side) + 0.5) / side * 2 - 1  # −1 … 1
    row, column = (place - 2 * part / len(values) for part in offset)
    at = torch.stack(torch.meshgrid(row, column, indexing="ij")[::-1], -1)  # (side, side, 2) of x, y
    values = values.float()[None, None]
    return grid_sample(values, at[None], mode=mode, padding_mode="border", align_corners=False)[0, 0].numpy()


def heat_map(
    image: Image.Image, values: Tensor, offset: tuple[float, float], span: tuple[float, float] | None = None
) -> Image.Image:
    """`image` in grey with values (N, N) over it, from blue, the lowest, to yellow, the highest.

    offset: see `spread`. span: the values of blue and yellow, where these are not the lowest and the highest.
    """
    low, high = span or (float(values.min()), float(values.max()))
    values = ((values - low) / max(high - low, 1e-9)).clamp(0, 1)
    level = spread(values, image.width, offset, "bilinear")
    steps, colours = [0, 1 / 3, 2 / 3, 1], np.array([(20, 20, 90), (150, 30, 120), (240, 110, 50), (255, 240, 100)])
    colour = np.stack([np.interp(level, steps, colours[:, c]) for c in range(3)], -1).astype(np.uint8)
    return Image.blend(image.convert("L").convert("RGB"), Image.fromarray(colour), 0.6)
