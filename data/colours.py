"""Colours of an ICC profile brought to sRGB, which every photograph of a training has, by littleCMS.

Phones write Display P3; cameras and stock agencies write Adobe RGB, ProPhoto RGB and CMYK. Read as sRGB, their colours
are pale or wrong.
"""

import io
from functools import lru_cache

import numpy as np
from PIL import Image

from common.lazy import LazyModule

cms = LazyModule("PIL.ImageCms")  # most photographs have no profile

MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # Pillow's mode for a colour space of ICC
LARGEST_PROFILE = 4 * 2**20  # bytes; those of printers have up to 2 MB
ALIKE = 2  # levels of 255: a profile whose colours are all so near to sRGB is one of the many copies of sRGB


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The image of mode L, RGB or CMYK as RGB in sRGB.

    profile: its ICC profile. One that is damaged, or belongs to other colours than the image has, counts as none.
    """
    mode, transform = profile_transform(profile) if profile else ("", None)
    if image.mode == "L" and mode == "RGB":
        image = image.convert("RGB")
    if transform is None or image.mode != mode:
        return image.convert("RGB")
    return cms.applyTransform(image, transform)


def pixels_to_srgb(pixels: np.ndarray, profile: bytes | None) -> np.ndarray:
    """uint8 (H, W, 3), as `to_srgb`; the same array where there is nothing to do."""
    if not profile or profile_transform(profile)[1] is None:
        return pixels
    return np.array(to_srgb(Image.fromarray(pixels), profile))


@lru_cache(maxsize=16)  # a catalogue has few different ones
def profile_transform(profile: bytes) -> tuple[str, object | None]:
    """The mode of images that the profile is for, and the transform to sRGB; None where none is needed or possible."""
    try:
        if len(profile) > LARGEST_PROFILE:
            return "", None
        source = cms.ImageCmsProfile(io.BytesIO(profile))
        mode = MODES[source.profile.xcolor_space.strip()]
        transform = cms.buildTransform(source, cms.createProfile("sRGB"), mode, "RGB")  # perceptual, as in browsers
        probe = _probe(mode)
        result = np.asarray(cms.applyTransform(probe, transform), int)
    except Exception:  # littleCMS names few of the ways in which a profile can be wrong; Pillow has several exceptions
        return "", None
    if mode != "CMYK" and np.abs(result - np.asarray(probe.convert("RGB"), int)).max() <= ALIKE:
        return mode, None
    return mode, transform


def _probe(mode: str) -> Image.Image:
    """Colours from the whole range: all greys, or 6 × 6 × 6 colours, without black ink."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    steps = np.arange(0, 256, 51, dtype=np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3)
    return (
        Image.fromarray(colours)
        if mode == "RGB"
        else Image.merge("CMYK", [*Image.fromarray(colours).split(), Image.new("L", (216, 1))])
    )
