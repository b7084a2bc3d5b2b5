"""How each product is drawn: once, flat and upright, on a canvas of 512 pixels that is then halved."""

import math
from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from drawings.products import BLACK, INK, PRODUCTS, RED, WHITE, YELLOW, Colour

CANVAS = 512  # side in pixels


class Canvas:
    """A transparent square canvas to draw on."""

    def __init__(self):
        self.image = Image.new("RGBA", (CANVAS, CANVAS))
        self.draw = ImageDraw.Draw(self.image)

    def outline(self, points: list[tuple[float, float]], colour: Colour) -> None:
        self.draw.polygon(points, fill=colour)

    def slab(self, left: float, top: float, right: float, bottom: float, colour: Colour, radius: float = 0) -> None:
        self.draw.rounded_rectangle((left, top, right, bottom), radius, fill=colour)

    def disc(self, x: float, y: float, radius_x: float, radius_y: float, colour: Colour) -> None:
        self.draw.ellipse((x - radius_x, y - radius_y, x + radius_x, y + radius_y), fill=colour)

    def small_print(self, x: float, y: float, width: float, lines: int) -> None:
        """Lines of text too small to read."""
        for line in range(lines):
            length = width * (1, 0.7, 0.85)[line % 3]
            self.slab(x - length / 2, y + 14 * line, x + length / 2, y + 14 * line + 6, INK, 3)

    def emblem(self, kind: str | None, x: float, y: float, size: float, colour: Colour) -> None:
        """A mark by which products of a family differ; `size`: its radius in pixels."""
        if kind == "disc":
            self.disc(x, y, size, size, colour)
        elif kind == "square":
            self.slab(x - size, y - size, x + size, y + size, colour, size / 8)
        elif kind == "diamond":
            self.outline([(x, y - 1.2 * size), (x + size, y), (x, y + 1.2 * size), (x - size, y)], colour)
        elif kind == "star":
            turns = [(k * math.pi / 5, size * (1.2 if k % 2 == 0 else 0.5)) for k in range(10)]
            self.outline([(x + r * math.sin(t), y - r * math.cos(t)) for t, r in turns], colour)
        elif kind == "bars":
            for middle in (y - 0.55 * size, y + 0.55 * size):
                self.slab(x - size, middle - 0.3 * size, x + size, middle + 0.3 * size, colour, size / 8)
        elif kind == "heart":
            angles = np.linspace(0, 2 * np.pi, 60)
            across = 16 * np.sin(angles) ** 3
            down = 13 * np.cos(angles) - 5 * np.cos(2 * angles) - 2 * np.cos(3 * angles) - np.cos(4 * angles)
            self.outline(list(zip(x + across * size / 16, y - down * size / 16, strict=True)), colour)

    def shade(self, profile: np.ndarray) -> None:
        """Multiply the brightness by `profile`, a factor for each column (W,) or for each pixel (H, W)."""
        pixels = np.asarray(self.image).astype(np.float32)
        profile = np.broadcast_to(profile, (CANVAS, CANVAS))[..., None]
        pixels[..., :3] = pixels[..., :3] * np.minimum(profile, 1) + 255 * np.maximum(profile - 1, 0)
        self.image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        self.draw = ImageDraw.Draw(self.image)


def round_shading(left: float, right: float) -> np.ndarray:
    """Brightness of the columns of an upright cylinder lit from the left, with a highlight, (CANVAS,)."""
    x = (np.arange(CANVAS) - left) / (right - left) * 2 - 1
    body = 0.55 + 0.45 * np.sqrt((1 - np.clip(x + 0.15, -1, 1) ** 2).clip(0))
    return body + 0.35 * np.exp(-(((x + 0.45) / 0.09) ** 2))


def soft_shading(strength: float = 0.25) -> np.ndarray:
    """Brightness that falls from the upper left to the lower right, (CANVAS, CANVAS)."""
    place = np.arange(CANVAS) / CANVAS
    return 1.08 - strength * (place[:, None] + place[None, :]) / 2


def bottle(canvas: Canvas, glass: Colour, label: str, cap: Colour) -> None:
    canvas.slab(160, 190, 352, 500, glass, 30)
    canvas.outline([(162, 215), (222, 120), (290, 120), (350, 215)], glass)
    canvas.slab(222, 70, 290, 200, glass)
    canvas.slab(212, 12, 300, 84, cap, 12)
    canvas.emblem(label, 256, 340, 84, WHITE)
    canvas.emblem("disc", 256, 312, 26, cap if cap != WHITE else RED)
    canvas.small_print(256, 352, 90, 3)
    canvas.shade(round_shading(160, 352))


def can(canvas: Canvas, body: Colour, bands: int = 0, emblem: str | None = None) -> None:
    canvas.slab(130, 40, 382, 480, (190, 192, 198), 40)
    canvas.slab(130, 70, 382, 450, body)
    for band in range(bands):
        middle = 260 + (band - (bands - 1) / 2) * 104
        half = 26 if bands > 1 else 62
        canvas.slab(130, middle - half, 382, middle + half, WHITE)
    canvas.emblem(emblem, 256, 250, 92, WHITE)
    canvas.small_print(256, 405, 120, 2)
    canvas.shade(round_shading(130, 382))
    canvas.disc(256, 52, 118, 26, (215, 217, 222))
    canvas.disc(256, 52, 98, 18, (165, 168, 175))
    canvas.disc(256, 60, 30, 8, (225, 226, 230))


def box(canvas: Canvas, front: Colour, emblem: str) -> None:
    side = tuple(int(0.62 * value) for value in front)
    lid = tuple(int(value + 0.35 * (255 - value)) for value in front)
    canvas.outline([(370, 90), (450, 50), (450, 440), (370, 490)], side)
    canvas.outline([(80, 90), (160, 50), (450, 50), (370, 90)], lid)
    canvas.slab(80, 90, 370, 490, front)
    canvas.slab(80, 118, 370, 176, WHITE)
    canvas.small_print(225, 132, 200, 2)
    canvas.emblem(emblem, 225, 300, 88, WHITE)
    canvas.slab(110, 436, 200, 470, YELLOW, 10)
    canvas.small_print(290, 440, 110, 2)
    canvas.shade(soft_shading())


def jar(canvas: Canvas, content: Colour, lid: Colour, label: str) -> None:
    canvas.slab(116, 110, 396, 490, (225, 228, 226), 60)
    canvas.slab(130, 150, 382, 476, content, 50)
    canvas.slab(128, 30, 384, 118, lid, 18)
    for ridge in range(9):
        canvas.slab(142 + 28 * ridge, 44, 148 + 28 * ridge, 110, tuple(int(0.75 * value) for value in lid))
    canvas.emblem(label, 256, 320, 92, WHITE)
    canvas.emblem("diamond", 256, 290, 30, content)
    canvas.small_print(256, 340, 110, 3)
    canvas.shade(round_shading(116, 396))


def mug(canvas: Canvas, glaze: Colour, paint: Colour, stripes: int = 0, emblem: str | None = None) -> None:
    canvas.draw.ellipse((310, 150, 490, 370), outline=tuple(int(0.85 * v) for v in glaze), width=36)
    canvas.slab(70, 80, 390, 460, glaze, 46)
    for stripe in range(stripes):
        middle = 280 + (stripe - (stripes - 1) / 2) * 92
        half = 24 if stripes > 1 else 48
        canvas.slab(70, middle - half, 390, middle + half, paint)
    canvas.emblem(emblem, 230, 280, 88, paint)
    profile = np.where(np.arange(CANVAS) < 392, round_shading(70, 390), 0.9)
    canvas.shade(profile)
    canvas.disc(230, 88, 158, 34, tuple(int(0.93 * v) for v in glaze))
    canvas.disc(230, 92, 140, 25, (90, 60, 45))


def bag(canvas: Canvas, cloth: Colour, flap: bool, emblem: str | None) -> None:
    dark = tuple(int(0.7 * value) for value in cloth)
    canvas.draw.arc((150, 20, 362, 330), 180, 360, fill=dark, width=22)
    canvas.outline([(70, 180), (442, 180), (480, 480), (32, 480)], cloth)
    canvas.slab(32, 452, 480, 486, dark, 14)
    if flap:
        canvas.outline([(66, 176), (446, 176), (420, 310), (256, 372), (92, 310)], dark)
        canvas.disc(256, 340, 24, 24, YELLOW)
    canvas.emblem(emblem, 256, 325, 84, WHITE)
    for x in range(60, 452, 22):
        canvas.slab(x, 440, x + 10, 444, WHITE)
    canvas.shade(soft_shading(0.35))


def shoe(canvas: Canvas, cloth: Colour, stripes: int, sole: Colour) -> None:
    upper = [(40, 350), (52, 190), (80, 150), (180, 160), (220, 200), (330, 270), (440, 300), (482, 350)]
    canvas.outline(upper, cloth)
    canvas.disc(430, 350, 54, 52, tuple(int(0.8 * value) for value in cloth))
    canvas.disc(125, 165, 62, 22, tuple(int(0.5 * value) for value in cloth))
    canvas.slab(24, 344, 494, 408, sole, 28)
    canvas.slab(24, 392, 494, 408, BLACK, 8)
    for lace in range(4):
        x, y = 212 + 32 * lace, 206 + 20 * lace
        canvas.outline([(x, y - 18), (x + 14, y - 18), (x - 6, y + 26), (x - 20, y + 26)], WHITE)
    for stripe in range(stripes):
        x = 150 + (stripe - (stripes - 1) / 2) * 54
        half = 13 if stripes > 1 else 26
        canvas.outline([(x - half, 344), (x + half, 344), (x + half + 34, 222), (x - half + 34, 222)], YELLOW)
    canvas.shade(soft_shading(0.3))


def shirt(canvas: Canvas, cloth: Colour, bands: int = 0, emblem: str | None = None) -> None:
    dark = tuple(int(0.75 * value) for value in cloth)
    canvas.outline([(150, 60), (30, 150), (78, 238), (150, 200), (362, 200), (434, 238), (482, 150), (362, 60)], dark)
    canvas.outline([(150, 60), (362, 60), (372, 160), (376, 490), (136, 490), (140, 160)], cloth)
    for band in range(bands):
        middle = 300 + (band - (bands - 1) / 2) * 88
        half = 22 if bands > 1 else 50
        canvas.slab(138, middle - half, 374, middle + half, WHITE)
    canvas.emblem(emblem, 256, 270, 84, WHITE)
    canvas.disc(256, 62, 62, 34, dark)
    canvas.disc(256, 54, 50, 30, BLACK)
    folds = 1 + 0.06 * np.sin(np.arange(CANVAS) / 21)[None, :] * np.linspace(0.2, 1, CANVAS)[:, None]
    canvas.shade(soft_shading() * folds)


DRAW: dict[str, Callable[..., None]] = dict(
    bottle=bottle, can=can, box=box, jar=jar, mug=mug, bag=bag, shoe=shoe, shirt=shirt
)


@cache
def render(product: int) -> Image.Image:
    """`PRODUCTS[product]`, flat and upright: RGBA, CANVAS / 2 pixels a side."""
    canvas = Canvas()
    DRAW[PRODUCTS[product].family](canvas, **PRODUCTS[product].look)
    return canvas.image.reduce(2)
