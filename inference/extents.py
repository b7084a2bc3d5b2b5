"""The sheet of LIO: photographs, where the network and the group see the object, and the object that they give."""

from functools import partial

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from catalogues import Catalogue
from common.errors import InputError
from data import collate_groups
from inference.sheets import cropped_photographs, heat_map, picture, receptive_field_offset, sheet, spread
from losses import object_regions, pseudo_extent
from models import LIO


def object_sheet(
    net: LIO, catalogue: Catalogue, resize: int, crop: int, group: int, fit: str = "squash"
) -> tuple[Image.Image, int]:
    """A row for each photograph of two groups, `group` photographs of one class each.

    Columns: the photograph, the extent that the network predicts, the pseudo extent of the group, and the object with
    its reference region in a frame.

    resize, crop: sides of photographs and crops in pixels. fit: see `data.fitted`. Returns the sheet and the number of
    photographs on it.
    Raises InputError where no class has so many photographs.
    """
    images, classes = groups_of_photographs(catalogue, resize, crop, group, fit)
    with torch.inference_mode():
        _, features, extent, context = net.eval()(images)
    inside, reference = object_regions(context, extent)  # (B, N²), (B, 1)
    offset = [part * net.options["grid"] / crop for part in receptive_field_offset(net.net, net.options["stage"])]
    pseudo, inside, reference = pseudo_extent(features, group), inside.view_as(extent), reference[:, 0].tolist()
    shown = [picture(image).resize((224, 224), Image.Resampling.BICUBIC) for image in images]
    columns = {
        "photograph": shown,
        "predicted extent": [heat_map(*row, offset) for row in zip(shown, extent, strict=True)],
        "pseudo extent": [heat_map(*row, offset) for row in zip(shown, pseudo, strict=True)],
        "object and reference region": [
            inside_and_reference(*row, offset) for row in zip(shown, inside, reference, strict=True)
        ],
    }
    return sheet(list(columns), list(zip(*columns.values(), strict=True)), classes), len(images)


def groups_of_photographs(
    catalogue: Catalogue, resize: int, crop: int, group: int, fit: str = "squash", count: int = 2
) -> tuple[Tensor, list[str]]:
    """`group` photographs of each of `count` classes, side by side: normalised crops and names of classes."""
    for name in ("val", "train"):
        split = catalogue.splits.get(name)
        if split is not None and split.labels is not None:
            large = np.flatnonzero(np.bincount(split.labels) >= group)
            if len(large):
                chosen = large[np.linspace(0, len(large) - 1, count + 2).astype(int)[1:-1]]
                places = np.concatenate([np.flatnonzero(split.labels == label)[:group] for label in chosen])
                together = partial(collate_groups, group=group)
                return cropped_photographs(catalogue, split, places, resize, crop, together, fit)
    raise InputError(f"{catalogue.root}: no class has {group} photographs; lower --positives {group - 1}")


def inside_and_reference(
    image: Image.Image, inside: Tensor, reference: int, offset: tuple[float, float]
) -> Image.Image:
    """`image`, darker in the regions that are not inside (N, N), with a frame around region `reference`."""
    cell = image.width / len(inside)
    light = Image.fromarray((spread(inside, image.width, offset, "nearest") * 255).astype(np.uint8))
    page = Image.composite(image, image.point(lambda value: value // 4), light)
    top, left = (
        round((place + part) * cell) for place, part in zip(divmod(reference, len(inside)), offset, strict=True)
    )
    frame = (left, top, left + round(cell) - 1, top + round(cell) - 1)
    ImageDraw.Draw(page).rectangle(frame, outline=(255, 40, 40), width=3)
    return page
