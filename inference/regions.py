"""The sheet of DCL: photographs, their shuffled regions, and where the network puts these."""

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from catalogues import Catalogue
from data import move_regions, shuffle_regions
from inference.sheets import cropped_photographs, picture, sheet
from models import DCL


def destruction_sheet(
    net: DCL, catalogue: Catalogue, resize: int, crop: int, reach: float, seed: int, count: int = 6, fit: str = "squash"
) -> tuple[Image.Image, float]:
    """A row for each of `count` photographs of the validation split, or of the training split where there is none.

    Columns: intact, with shuffled regions, where the regions are from, where the network puts them, and the photograph
    put together as the network says.

    resize, crop: sides of photographs and crops in pixels. reach, seed: of `data.shuffle_regions`.
    fit: see `data.fitted`.

    Returns the sheet and the share of regions that the network puts exactly where they are from.
    """
    images, classes = some_photographs(catalogue, resize, crop, count, fit)
    grid = net.options["grid"]
    shuffled, source = shuffle_regions(images, grid, reach, torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        law = net.eval()(shuffled)[2]  # (B, N²)
    guess = (law * grid**2 + grid**2 // 2).round().long().clamp(0, grid**2 - 1)
    columns = {
        "intact": map(picture, images),
        "destructed": map(picture, shuffled),
        "where regions are from": map(numbered_grid, source),
        "where the network puts them": map(numbered_grid, guess),
        "put back by the network": map(picture, move_regions(shuffled, law.argsort(1))),
    }
    right = guess == source  # (B, N²)
    counts = zip(classes, right.sum(1).tolist(), strict=True)
    captions = [f"{name}: {exact} of {grid**2} places exact" for name, exact in counts]
    page = sheet(list(columns), list(zip(*columns.values(), strict=True)), captions)
    return page, float(right.float().mean())


def some_photographs(
    catalogue: Catalogue, resize: int, crop: int, count: int = 6, fit: str = "squash"
) -> tuple[Tensor, list[str]]:
    """`count` photographs from all over the validation (else training) split: normalised crops and names of classes."""
    split = catalogue.split("val" if "val" in catalogue.splits else "train")
    places = np.linspace(0, len(split) - 1, count).astype(int)
    return cropped_photographs(catalogue, split, places, resize, crop, fit=fit)


def numbered_grid(index: Tensor, side: int = 224) -> Image.Image:
    """The numbers index (N²,) in an N × N grid of side pixels; each number 0 … N² − 1 has a colour of its own."""
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
