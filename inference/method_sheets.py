"""Sheets of what DCL and LIO see: a network's answers on some photographs of a catalogue."""

import torch
from PIL import Image

from data import Catalogue, move_regions, shuffle_regions
from inference.sheets import extent_sheet, gaze, groups_of_photographs, region_sheet, some_photographs
from losses import object_regions, pseudo_extent
from models import DCL, LIO


def destruction_sheet(
    net: DCL, catalogue: Catalogue, resize: int, crop: int, reach: float, seed: int, count: int = 6
) -> tuple[Image.Image, float]:
    """Photographs intact and destructed, where their regions are from and where the network puts them.

    Returns the sheet and the share of places that are exact.
    """
    images, captions = some_photographs(catalogue, resize, crop, count)
    grid = net.options["grid"]
    copy, source = shuffle_regions(images, grid, reach, torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        law = net.eval()(copy)[2]  # (B, N²)
    guess = (law * grid**2 + grid**2 // 2).round().long().clamp(0, grid**2 - 1)
    page = region_sheet(images, copy, source, guess, move_regions(copy, law.argsort(1)), captions)
    return page, float((guess == source).float().mean())


def object_sheet(net: LIO, catalogue: Catalogue, resize: int, crop: int, group: int) -> tuple[Image.Image, int]:
    """Groups of photographs of a class, the extents that the network and the group give, and the object found in them.

    Returns the sheet and the number of photographs on it.
    """
    images, captions = groups_of_photographs(catalogue, resize, crop, group)
    with torch.inference_mode():
        _, features, extent, context = net.eval()(images)
    inside, reference = object_regions(context, extent)  # (B, N²), (B, 1)
    off = [pixels * net.options["grid"] / crop for pixels in gaze(net.net, net.options["stage"])]  # regions
    pseudo = pseudo_extent(features, group)
    return extent_sheet(images, extent, pseudo, inside.view_as(extent), reference[:, 0], off, captions), len(images)
