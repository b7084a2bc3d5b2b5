"""Pixels of more than 8 bits: their grey levels as bytes, and their transparent colour."""

import io
import math

import numpy as np
from PIL import Image

BYTE, TWELVE_BITS, SIXTEEN_BITS = 2**8 - 1, 2**12 - 1, 2**16 - 1
WHITE_IS_ZERO = 0  # of the tag 262, PhotometricInterpretation
# Tags of TIFF 6.0: bits of a sample, its type, its range as an integer or in its own type
BITS, PHOTOMETRIC, SAMPLE_FORMAT, RANGES = 258, 262, 339, ((280, 281), (340, 341))
TAGS = (BITS, PHOTOMETRIC, SAMPLE_FORMAT, *RANGES[0], *RANGES[1])
UNSIGNED = 1
SCALED = {"L;2": 85, "L;4": 17}  # Pillow spreads the values of 2 and 4 bits over 8, but not the transparent one


def is_deep(image: Image.Image) -> bool:
    """One channel of more than 8 bits."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def grey_levels(image: Image.Image, tags: dict[int, object] | None = None) -> Image.Image:
    """Integers of 16 or 32 bits, or floats, as a grey image of 8 bits. The levels of a TIFF are those that it means.

    tags: of a TIFF. The range that becomes 0 … 255 is, in this order:
    - what the TIFF says: the largest value of 12 bits, or smallest and largest sample value, if no pixel is outside;
    - floats: 0 … 1 or 0 … 255, if all lie there, else from their smallest to their largest;
    - integers of 32 bits in a TIFF: 0 … 255, 0 … 4095 or 0 … 65535, if all lie there, else as floats;
    - integers of 16 bits in a TIFF: 0 … 4095, if all lie there (12 bits, as of many cameras), else 0 … 65535;
    - other formats: 0 … 65535.
    What is no number is black. Infinite values are black or white.
    """
    values, tags = np.asarray(image), tags or {}
    if image.mode == "I" and _number(tags.get(SAMPLE_FORMAT, UNSIGNED)) == UNSIGNED and _number(tags.get(BITS)) == 32:
        values = values.view(np.uint32)  # Pillow has no such mode, and shows the upper half as negative
    low, high = _range(values, tags, image.mode)
    if values.dtype.kind == "u" and low == 0 and high in (TWELVE_BITS, SIXTEEN_BITS):
        levels = (values >> (4 if high == TWELVE_BITS else 8)).astype(np.uint8)  # in their own type, to save memory
    else:
        levels = _spread(values, low, high)
    if "transparency" in image.info:
        levels[values == image.info["transparency"]] = 255
    return Image.fromarray(255 - levels if _number(tags.get(PHOTOMETRIC, 1)) == WHITE_IS_ZERO else levels)


def _spread(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """low … high as 0 … 255, what is outside cut off."""
    steps = values.dtype.kind in "iu"  # integers: as many of them for each level, as a shift of bits gives
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = (values.astype(np.float32) - np.float32(low)) * np.float32((255 + steps) / (high - low + steps))
        scaled = np.nan_to_num(scaled, copy=False, nan=0, posinf=255, neginf=0)
        return (np.floor(scaled) if steps else np.rint(scaled)).clip(0, 255).astype(np.uint8)


def _range(values: np.ndarray, tags: dict, mode: str) -> tuple[float, float]:
    low, high = _extremes(values)
    for smallest, largest in _told_ranges(tags):
        if smallest <= low and high <= largest:
            return smallest, largest
    if mode == "F":
        usual = (1, BYTE)
    elif not tags:
        return 0, SIXTEEN_BITS
    elif mode == "I":
        usual = (BYTE, TWELVE_BITS, SIXTEEN_BITS)
    else:
        usual = (TWELVE_BITS, SIXTEEN_BITS)
    for largest in usual:
        if low >= 0 and high <= largest:
            return 0, largest
    return (low, high) if low < high else (0, BYTE)


def _extremes(values: np.ndarray) -> tuple[float, float]:
    """The smallest and the largest finite value; (0, 0) if there is none."""
    if values.dtype.kind == "f" and not np.isfinite(values.sum(dtype=np.float64)):
        values = values[np.isfinite(values)]
    return (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)


def _told_ranges(tags: dict):
    if _number(tags.get(BITS)) == 12:
        yield 0, TWELVE_BITS
    for smallest, largest in RANGES:
        told = _number(tags.get(smallest, 0)), _number(tags.get(largest))
        if None not in told and told[0] < told[1]:
            yield told


def _number(value: object) -> float | None:
    """A tag's only or first value, if it is a finite number."""
    value = value[0] if isinstance(value, tuple) and value else value
    try:
        return float(value) if not isinstance(value, str | bytes) and math.isfinite(value) else None
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        return None


def settle_transparent_colour(image: Image.Image, content: bytes, rawmode: str) -> None:
    """Make the transparent colour of the loaded PNG `image` hold for its pixels of 8 bits.

    content: the file. rawmode: Pillow's name for the samples in it.
    """
    colour = image.info.get("transparency")
    if isinstance(colour, int):
        image.info["transparency"] = colour * SCALED.get(rawmode, 1)
    elif isinstance(colour, tuple) and rawmode == "RGB;16B":
        halves = []
        for half in ("RGB;16B", "RGB;16L"):  # in the wrong byte order Pillow keeps the lower half of each sample
            with Image.open(io.BytesIO(content), formats=("PNG",)) as again:
                again.tile = [tile._replace(args=half) for tile in again.tile]
                halves.append(np.asarray(again).astype(np.uint16))
        clear = (halves[0] << 8 | halves[1]) == np.array(colour, np.uint16)
        image.putalpha(Image.fromarray(~clear.all(-1)))
        image.info.pop("transparency", None)
