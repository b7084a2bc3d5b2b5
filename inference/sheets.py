"""Sheets of pictures for people: a row a photograph, a column a way to look at it."""

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from common.errors import InputError
from common.pictures import save_picture  # noqa: F401 (for the scripts)
from data import (
    MEAN,
    NO_LABEL,
    STD,
    Batch,
    Catalogue,
    Draw,
    Photographs,
    Split,
    centre_crop,
    collate,
    collate_groups,
    normalise,
)


def checkpoint_to_show(args: argparse.Namespace, method: str, name: str) -> Path:
    """What --show looks at: --init, or file `name` of the run in --out, or of the newest run called ARCH-`method`."""
    newest = max(Path("runs").glob(f"*-{method}/{name}"), key=os.path.getmtime, default=None)
    path = args.init or (Path(args.out, name) if args.out else newest)
    if path is None:
        raise InputError(f"--init is missing: name the network to look at, --init runs/resnet50-{method}/{name}")
    return path


def picture(image: Tensor) -> Image.Image:
    """A normalised image (3, H, W) as it looks."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    pixels = (image.cpu().float() * std + mean).clamp(0, 1) * 255
    return Image.fromarray(pixels.round().byte().permute(1, 2, 0).numpy())


def some_photographs(catalogue: Catalogue, resize: int, crop: int, count: int = 6) -> tuple[Tensor, list[str]]:
    """`count` photographs from all over the validation (else training) split: normalised crops and their classes."""
    split = catalogue.split("val" if "val" in catalogue.splits else "train")
    return _crops(catalogue, split, np.linspace(0, len(split) - 1, count).astype(int), resize, crop)


def groups_of_photographs(
    catalogue: Catalogue, resize: int, crop: int, group: int, count: int = 2
) -> tuple[Tensor, list[str]]:
    """As `some_photographs`, `group` adjacent ones of each of `count` classes, of a split that has so many."""
    for name in ("val", "train"):
        split = catalogue.splits.get(name)
        if split is not None and split.labels is not None:
            large = np.flatnonzero(np.bincount(split.labels) >= group)
            if len(large):
                chosen = large[np.linspace(0, len(large) - 1, count + 2).astype(int)[1:-1]]
                places = np.concatenate([np.flatnonzero(split.labels == label)[:group] for label in chosen])
                return _crops(catalogue, split, places, resize, crop, partial(collate_groups, group=group))
    raise InputError(f"{catalogue.root}: no class has {group} photographs; lower --positives {group - 1}")


def _crops(
    catalogue: Catalogue,
    split: Split,
    places: np.ndarray,
    resize: int,
    crop: int,
    collate: Callable[[list], Batch] = collate,
) -> tuple[Tensor, list[str]]:
    photographs = Photographs(split, resize)
    batch = collate([photographs[Draw(int(place), 0, 0)] for place in places])
    if not len(batch.index):
        raise InputError(f"{catalogue.root}: none of {len(places)} photographs of the {split.name} split can be read")
    names = ["" if target == NO_LABEL else catalogue.classes[target] for target in batch.target.tolist()]
    return centre_crop(normalise(batch.images), crop), names


def sheet(
    titles: list[str], rows: list[list[Image.Image]], captions: list[str | list[str]], side: int = 224, gap: int = 8
) -> Image.Image:
    """One page: each row has as many pictures as there are titles, shown side × side, and a caption below them, or one
    below each."""
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


def numbered_grid(index: Tensor, side: int = 224) -> Image.Image:
    """index (N²,), what lies at each place of an N × N grid, in figures; a colour for each place it may come from."""
    grid = round(len(index) ** 0.5)
    cell = side // grid
    image, font = Image.new("RGB", (cell * grid, cell * grid)), ImageFont.load_default(max(8, cell // 2))
    draw = ImageDraw.Draw(image)
    for place, number in enumerate(index.tolist()):
        left, top = place % grid * cell, place // grid * cell
        column, row = (value / max(1, grid - 1) for value in (number % grid, number // grid))
        draw.rectangle([left, top, left + cell, top + cell], (round(255 * column), round(255 * row), 160))
        draw.text((left + cell / 2, top + cell / 2), str(number), "black" if row > 0.4 else "white", font, anchor="mm")
    return image


def region_sheet(
    images: Tensor, moved: Tensor, source: Tensor, guess: Tensor, back: Tensor, captions: list[str]
) -> Image.Image:
    """A row a photograph: intact and moved (B, 3, H, W), where its regions are from (B, N²), where a network puts them,
    and the photograph that it puts together so."""
    columns = {
        "intact": map(picture, images),
        "destructed": map(picture, moved),
        "where regions are from": map(numbered_grid, source),
        "where the network puts them": map(numbered_grid, guess),
        "put back by the network": map(picture, back),
    }
    exact = (guess == source).sum(1).tolist()
    captions = [f"{name}: {e} of {source.shape[1]} places exact" for name, e in zip(captions, exact, strict=True)]
    return sheet(list(columns), list(zip(*columns.values(), strict=True)), captions)


def gaze(net: nn.Module, stage: int, side: int = 512) -> tuple[float, float]:
    """How many pixels down and to the right of itself a place of a feature map looks.

    That is, how far the middle of what it sees lies from its own. Strided convolutions look ahead or back, depending on
    how they pad: a ResNet's places see half a place up and to the left of where they lie. Measured as the centre of the
    gradient of the middle place.

    net: a backbone; stage: 3, the last feature map; 2, the one before it.
    """
    images = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    images = images.to(next(net.parameters()).device).requires_grad_()
    trunk = net.eval().trunk(images)
    features = trunk if stage == 2 else net.top(trunk)  # (1, C, H', H')
    middle, stride = features.shape[-1] // 2, side / features.shape[-1]
    (slope,) = torch.autograd.grad(features[0, :, middle, middle].square().sum(), images)
    weight = slope[0].square().sum(0).cpu()  # (side, side)
    pixels = torch.arange(side) + 0.5
    seen = [float((weight.sum(axis) * pixels).sum() / weight.sum()) for axis in (1, 0)]
    return tuple(place - (middle + 0.5) * stride for place in seen)


def spread(values: Tensor, side: int, off: tuple[float, float], mode: str) -> np.ndarray:
    """values (N, N) of regions over a picture, (side, side): each around what it sees, `off` regions down and right."""
    place = (torch.arange(side) + 0.5) / side * 2 - 1  # −1 … 1
    row, column = (place - 2 * part / len(values) for part in off)
    at = torch.stack(torch.meshgrid(row, column, indexing="ij")[::-1], -1)  # (side, side, 2) of x, y
    values = values.float()[None, None]
    return grid_sample(values, at[None], mode=mode, padding_mode="border", align_corners=False)[0, 0].numpy()


def heat(
    image: Image.Image, values: Tensor, off: tuple[float, float], span: tuple[float, float] | None = None
) -> Image.Image:
    """`image` in grey, and over it values (N, N) from the lowest, blue, to the highest, yellow; `off`: see `spread`.

    `span`: what is blue, with all below, and what is yellow, with all above, instead of the lowest and the highest.
    """
    low, high = span or (float(values.min()), float(values.max()))
    values = ((values - low) / max(high - low, 1e-9)).clamp(0, 1)
    level = spread(values, image.width, off, "bilinear")
    steps, colours = [0, 1 / 3, 2 / 3, 1], np.array([(20, 20, 90), (150, 30, 120), (240, 110, 50), (255, 240, 100)])
    colour = np.stack([np.interp(level, steps, colours[:, c]) for c in range(3)], -1).astype(np.uint8)
    return Image.blend(image.convert("L").convert("RGB"), Image.fromarray(colour), 0.6)


def inside_and_reference(image: Image.Image, inside: Tensor, reference: int, off: tuple[float, float]) -> Image.Image:
    """`image` with the regions that are not inside (N, N) darkened and a frame around region `reference`."""
    cell = image.width / len(inside)
    light = Image.fromarray((spread(inside, image.width, off, "nearest") * 255).astype(np.uint8))
    page = Image.composite(image, image.point(lambda value: value // 4), light)
    top, left = (round((place + part) * cell) for place, part in zip(divmod(reference, len(inside)), off, strict=True))
    frame = (left, top, left + round(cell) - 1, top + round(cell) - 1)
    ImageDraw.Draw(page).rectangle(frame, outline=(255, 40, 40), width=3)
    return page


def extent_sheet(
    images: Tensor,
    extent: Tensor,
    pseudo: Tensor,
    inside: Tensor,
    reference: Tensor,
    off: tuple[float, float],
    captions: list[str],
) -> Image.Image:
    """A row a photograph (B, 3, H, W): predicted and pseudo extent (B, N, N), the regions taken for the object
    (B, N, N) bool, and framed among them the reference region (B,); all drawn `off` regions down and right."""
    shown = [picture(image).resize((224, 224), Image.Resampling.BICUBIC) for image in images]
    columns = {
        "photograph": shown,
        "predicted extent": [heat(*row, off) for row in zip(shown, extent, strict=True)],
        "pseudo extent": [heat(*row, off) for row in zip(shown, pseudo, strict=True)],
        "object and reference region": [
            inside_and_reference(*row, off) for row in zip(shown, inside, reference.tolist(), strict=True)
        ],
    }
    return sheet(list(columns), list(zip(*columns.values(), strict=True)), captions)
