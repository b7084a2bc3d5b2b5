"""AutoAugment with ImageNet's policy (Cubuk et al., CVPR 2019) on uint8 arrays (H, W, 3), with OpenCV's speed.

The random draws are those of torchvision's `v2.AutoAugment`: the same generator does the same to the same photograph.
Operations that replace values give exactly Pillow's results; the others differ by roundings.
"""

import math
from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
import torch

cv2.setNumThreads(0)  # the worker processes already use all cores

Operation = Callable[[np.ndarray, float], np.ndarray]  # pixels (H, W, 3), magnitude -> pixels (H, W, 3), all uint8
VALUES = np.arange(256)


def _by_table(pixels: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Replace every value v by table[v]; table (256,)."""
    return cv2.LUT(pixels, table.astype(np.uint8))


@cache
def compiled() -> tuple[Callable, Callable]:
    """Two compiled functions of pixels uint8 (n, 3), in two thirds of OpenCV's time.

    count(pixels) -> how often each value occurs in each channel, int64 (3, 256). replace(pixels, tables (3, 256)) ->
    every value v of channel c replaced by tables[c, v], (n, 3).
    """
    from numba import int64, njit, types, uint8

    def count(pixels):
        counts = np.zeros((3, 256), np.int64)
        for place in range(len(pixels)):
            for channel in range(3):
                counts[channel, pixels[place, channel]] += 1
        return counts

    def replace(pixels, tables):
        replaced = np.empty(pixels.shape, np.uint8)
        for place in range(len(pixels)):
            for channel in range(3):
                replaced[place, channel] = tables[channel, pixels[place, channel]]
        return replaced

    image, tables = types.Array(uint8, 2, "C", readonly=True), types.Array(uint8, 2, "C")
    signatures = types.Array(int64, 2, "C")(image), tables(image, tables)
    try:
        return tuple(njit(sign, cache=True)(f) for sign, f in zip(signatures, (count, replace), strict=True))
    except (OSError, RuntimeError):  # numba has no folder or no room for its cache
        return tuple(njit(sign)(f) for sign, f in zip(signatures, (count, replace), strict=True))


def _by_tables(pixels: np.ndarray, tables_of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """As `_by_table`, with a table for each channel: tables_of(counts (3, 256)) -> (3, 256)."""
    count, replace = compiled()
    rows = np.ascontiguousarray(pixels).reshape(-1, 3)
    return replace(rows, tables_of(count(rows)).astype(np.uint8)).reshape(pixels.shape)


def _blend(degenerate: np.ndarray, pixels: np.ndarray, factor: float) -> np.ndarray:
    """degenerate + factor · (pixels − degenerate), rounded down as in Pillow."""
    return cv2.addWeighted(degenerate, 1 - factor, pixels, factor, -0.499)


def posterize(pixels: np.ndarray, bits: float) -> np.ndarray:
    """Keep only the highest `bits` bits of every value."""
    return _by_table(pixels, VALUES & ~(2 ** (8 - int(bits)) - 1))


def solarize(pixels: np.ndarray, threshold: float) -> np.ndarray:
    """Invert values from `threshold` (a share of 255) on."""
    return _by_table(pixels, np.where(255 * threshold <= VALUES, 255 - VALUES, VALUES))


def invert(pixels: np.ndarray, _: float) -> np.ndarray:
    return cv2.bitwise_not(pixels)


def autocontrast(pixels: np.ndarray, _: float) -> np.ndarray:
    """Stretch each channel to 0 … 255."""
    return _by_tables(pixels, _stretching)


def _stretching(counts: np.ndarray) -> np.ndarray:
    seen = counts > 0
    low, high = seen.argmax(1, keepdims=True), 255 - seen[:, ::-1].argmax(1, keepdims=True)
    scale = 255.0 / np.maximum(high - low, 1)
    return np.where(high > low, (VALUES * scale + -low * scale).clip(0, 255), VALUES)


def equalize(pixels: np.ndarray, _: float) -> np.ndarray:
    """Spread each channel's values such that all are about equally frequent."""
    return _by_tables(pixels, _equalizing)


def _equalizing(counts: np.ndarray) -> np.ndarray:
    below = counts.cumsum(1) - counts  # how many values are smaller
    largest = 255 - (counts[:, ::-1] > 0).argmax(1)
    step = below[range(3), largest][:, None] // 255
    return np.where(step > 0, ((step // 2 + below) // np.maximum(step, 1)).clip(0, 255), VALUES)


def color(pixels: np.ndarray, change: float) -> np.ndarray:
    """Saturation × (1 + change)."""
    grey = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return _blend(grey, pixels, 1 + change)


def contrast(pixels: np.ndarray, change: float) -> np.ndarray:
    """Distance from the mean brightness × (1 + change)."""
    mean = int(cv2.mean(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))[0] + 0.5)
    blended = mean + np.float32(1 + change) * (VALUES - mean).astype(np.float32)
    return _by_table(pixels, blended.clip(0, 255))


def sharpness(pixels: np.ndarray, change: float) -> np.ndarray:
    """Distance from a smoothed image × (1 + change); the outermost pixels stay."""
    kernel = np.ones((3, 3), np.float32)
    kernel[1, 1] = 5
    smooth = pixels.copy()
    smooth[1:-1, 1:-1] = cv2.filter2D(pixels, -1, kernel / 13)[1:-1, 1:-1]
    return _blend(smooth, pixels, 1 + change)


def rotate(pixels: np.ndarray, degrees: float) -> np.ndarray:
    """Rotate counterclockwise around the centre; pixels from outside are black."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return _moved(pixels, [[cosine, -sine], [sine, cosine]], (pixels.shape[1] / 2, pixels.shape[0] / 2))


def shear_x(pixels: np.ndarray, slope: float) -> np.ndarray:
    """Shift every row to the left by `slope` times its height in the image; pixels from outside are black."""
    return _moved(pixels, [[1.0, slope], [0.0, 1.0]], (0.0, 0.0))


def _moved(pixels: np.ndarray, matrix: list[list[float]], centre: tuple[float, float]) -> np.ndarray:
    """Every pixel x becomes the nearest pixel to M (x − c) + c, with the coordinates of pixel centres."""
    middle = np.array(centre) - 0.5
    inverse = np.column_stack([matrix, middle - matrix @ middle])
    return cv2.warpAffine(pixels, inverse, pixels.shape[1::-1], flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)


def _steps(start: float, stop: float) -> list[float]:
    """The ten magnitudes of an operation, in float32 as in torchvision."""
    return torch.linspace(start, stop, 10).tolist()


# For each operation its ten magnitudes, and whether half of the draws are negative; as in torchvision.
_SPACE: dict[Operation, tuple[list[float], bool]] = {
    posterize: ((8 - torch.arange(10) / (9 / 4)).round().tolist(), False),
    solarize: (_steps(1, 0), False),
    invert: ([], False),
    autocontrast: ([], False),
    equalize: ([], False),
    color: (_steps(0, 0.9), True),
    contrast: (_steps(0, 0.9), True),
    sharpness: (_steps(0, 0.9), True),
    rotate: (_steps(0, 30), True),
    shear_x: (_steps(0, 0.3), True),
}

# The paper's Table 9: 25 sub-policies of two operations, each with its probability and the index of its magnitude.
POLICY: list[tuple[tuple[Operation, float, int], tuple[Operation, float, int]]] = [
    ((posterize, 0.4, 8), (rotate, 0.6, 9)),
    ((solarize, 0.6, 5), (autocontrast, 0.6, 0)),
    ((equalize, 0.8, 0), (equalize, 0.6, 0)),
    ((posterize, 0.6, 7), (posterize, 0.6, 6)),
    ((equalize, 0.4, 0), (solarize, 0.2, 4)),
    ((equalize, 0.4, 0), (rotate, 0.8, 8)),
    ((solarize, 0.6, 3), (equalize, 0.6, 0)),
    ((posterize, 0.8, 5), (equalize, 1.0, 0)),
    ((rotate, 0.2, 3), (solarize, 0.6, 8)),
    ((equalize, 0.6, 0), (posterize, 0.4, 6)),
    ((rotate, 0.8, 8), (color, 0.4, 0)),
    ((rotate, 0.4, 9), (equalize, 0.6, 0)),
    ((equalize, 0.0, 0), (equalize, 0.8, 0)),
    ((invert, 0.6, 0), (equalize, 1.0, 0)),
    ((color, 0.6, 4), (contrast, 1.0, 8)),
    ((rotate, 0.8, 8), (color, 1.0, 2)),
    ((color, 0.8, 8), (solarize, 0.8, 7)),
    ((sharpness, 0.4, 7), (invert, 0.6, 0)),
    ((shear_x, 0.6, 5), (equalize, 1.0, 0)),
    ((color, 0.4, 0), (equalize, 0.6, 0)),
    ((equalize, 0.4, 0), (solarize, 0.2, 4)),
    ((solarize, 0.6, 5), (autocontrast, 0.6, 0)),
    ((invert, 0.6, 0), (equalize, 1.0, 0)),
    ((color, 0.6, 4), (contrast, 1.0, 8)),
    ((equalize, 0.8, 0), (equalize, 0.6, 0)),
]


def autoaugment(pixels: np.ndarray, generator: torch.Generator) -> np.ndarray:
    """Apply one of the 25 sub-policies, drawn from `generator`, to uint8 (H, W, 3)."""
    for operation, probability, number in POLICY[int(torch.randint(len(POLICY), (), generator=generator))]:
        if torch.rand((), generator=generator) > probability:
            continue
        magnitudes, signed = _SPACE[operation]
        magnitude = magnitudes[number] if magnitudes else 0.0
        if signed and torch.rand((), generator=generator) <= 0.5:
            magnitude = -magnitude
        pixels = operation(pixels, magnitude)
    return pixels
