"""Sheets of pictures for people: a row a photograph, a column a way to look at it."""

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from data import (
    MEAN,
    NO_LABEL,
    STD,
    Batch,
    Catalogue,
    Draw,
    EvalTransform,
    Photographs,
    Split,
    centre_crop,
    collate,
    collate_groups,
    normalise,
)
from engine.files import atomic_write
from errors import InputError


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
    photographs = Photographs(split, EvalTransform(resize))
    batch = collate([photographs[Draw(int(place), 0, 0)] for place in places])
    if not len(batch.index):
        raise InputError(f"{catalogue.root}: none of {len(places)} photographs of the {split.name} split can be read")
    names = ["" if target == NO_LABEL else catalogue.classes[target] for target in batch.target.tolist()]
    return centre_crop(normalise(batch.images), crop), names


def sheet(
    titles: list[str], rows: list[list[Image.Image]], captions: list[str], side: int = 224, gap: int = 8
) -> Image.Image:
    """One page: each row has as many pictures as there are titles, shown side × side, and a caption below them."""
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
        draw.text((gap, top + side + line / 2), caption, "black", font, anchor="lm")
    return page


def save_picture(image: Image.Image, path: Path) -> None:
    """Write `image` in the format that the ending of `path` names, whole or not at all."""
    extensions = Image.registered_extensions()
    if extensions.get(path.suffix.lower()) not in Image.SAVE:
        raise InputError(f"{path}: {path.suffix or 'no ending'} names no picture format; end it with .png or .jpg")
    with atomic_write(path) as file:
        image.save(file, extensions[path.suffix.lower()])


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


def heat(image: Image.Image, values: Tensor) -> Image.Image:
    """`image` in grey, and over it values (N, N) from the lowest, blue, to the highest, yellow."""
    values = (values - values.min()) / (values.max() - values.min()).clamp_min(1e-9)
    level = Image.fromarray((values.numpy() * 255).astype(np.uint8)).resize(image.size, Image.Resampling.BILINEAR)
    steps, colours = [0, 85, 170, 255], np.array([(20, 20, 90), (150, 30, 120), (240, 110, 50), (255, 240, 100)])
    colour = np.stack([np.interp(np.asarray(level), steps, colours[:, c]) for c in range(3)], -1).astype(np.uint8)
    return Image.blend(image.convert("L").convert("RGB"), Image.fromarray(colour), 0.6)


def inside_and_reference(image: Image.Image, inside: Tensor, reference: int) -> Image.Image:
    """`image` with the regions that are not inside (N, N) darkened and a frame around region `reference`."""
    grid, side = len(inside), image.width
    light = Image.fromarray((inside.numpy() * 255).astype(np.uint8)).resize(image.size, Image.Resampling.NEAREST)
    page = Image.composite(image, image.point(lambda value: value // 4), light)
    (row, column), cell = divmod(reference, grid), side / grid
    box = [round(value * cell) for value in (column, row, column + 1, row + 1)]
    ImageDraw.Draw(page).rectangle([box[0], box[1], box[2] - 1, box[3] - 1], outline=(255, 40, 40), width=3)
    return page


def extent_sheet(
    images: Tensor, extent: Tensor, pseudo: Tensor, inside: Tensor, reference: Tensor, captions: list[str]
) -> Image.Image:
    """A row a photograph (B, 3, H, W): predicted and pseudo extent (B, N, N), the regions taken for the object
    (B, N, N) bool, and framed among them the reference region (B,)."""
    shown = [picture(image).resize((224, 224), Image.Resampling.BICUBIC) for image in images]
    columns = {
        "photograph": shown,
        "predicted extent": map(heat, shown, extent.float()),
        "pseudo extent": map(heat, shown, pseudo.float()),
        "object and reference region": map(inside_and_reference, shown, inside, reference.tolist()),
    }
    return sheet(list(columns), list(zip(*columns.values(), strict=True)), captions)
