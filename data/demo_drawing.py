"""Pictures of the demo catalogue: 32 products in 8 families, and photographs of them.

A product is drawn once, flat and upright, on a canvas of 512 pixels that is then halved. A photograph puts it in
perspective before a background, in some light, perhaps with something in front of it.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

CANVAS = 512
WHITE, BLACK, INK = (245, 243, 238), (35, 35, 40), (70, 70, 80)
RED, ORANGE, YELLOW, GREEN = (205, 45, 40), (235, 130, 40), (245, 200, 60), (50, 135, 75)
BLUE, NAVY, PURPLE, PINK, BROWN, TEAL = (
    (45, 105, 190),
    (35, 50, 100),
    (120, 65, 150),
    (235, 140, 170),
    (125, 80, 50),
    (40, 150, 155),
)
Colour = tuple[int, int, int]


class Product(NamedTuple):
    """One SKU: department and family of the product tree, its name, and what its drawing function is told."""

    department: str
    family: str
    name: str
    look: dict


def _family(department: str, family: str, **looks: dict) -> list[Product]:
    return [Product(department, family, f"{family}, {name.replace('_', ' ')}", look) for name, look in looks.items()]


# Within a family only details differ, and none is another's mirror image, since training flips photographs.
PRODUCTS = [
    *_family(
        "drinks",
        "bottle",
        round_label_red_cap=dict(glass=GREEN, label="disc", cap=RED),
        square_label_red_cap=dict(glass=GREEN, label="square", cap=RED),
        round_label_white_cap=dict(glass=GREEN, label="disc", cap=WHITE),
        diamond_label_yellow_cap=dict(glass=GREEN, label="diamond", cap=YELLOW),
    ),
    *_family(
        "drinks",
        "can",
        red_with_one_band=dict(body=RED, bands=1),
        red_with_three_bands=dict(body=RED, bands=3),
        red_with_star=dict(body=RED, emblem="star"),
        blue_with_one_band=dict(body=BLUE, bands=1),
    ),
    *_family(
        "pantry",
        "box",
        orange_with_star=dict(front=ORANGE, emblem="star"),
        orange_with_disc=dict(front=ORANGE, emblem="disc"),
        orange_with_two_bars=dict(front=ORANGE, emblem="bars"),
        teal_with_disc=dict(front=TEAL, emblem="disc"),
    ),
    *_family(
        "pantry",
        "jar",
        honey_gold_lid=dict(content=YELLOW, lid=(190, 150, 60), label="square"),
        honey_gold_lid_round_label=dict(content=YELLOW, lid=(190, 150, 60), label="disc"),
        berries_gold_lid=dict(content=PURPLE, lid=(190, 150, 60), label="square"),
        honey_black_lid=dict(content=YELLOW, lid=BLACK, label="square"),
    ),
    *_family(
        "household",
        "mug",
        one_blue_stripe=dict(glaze=WHITE, stripes=1, paint=BLUE),
        three_blue_stripes=dict(glaze=WHITE, stripes=3, paint=BLUE),
        red_heart=dict(glaze=WHITE, emblem="heart", paint=RED),
        red_disc=dict(glaze=WHITE, emblem="disc", paint=RED),
    ),
    *_family(
        "household",
        "bag",
        brown_with_flap=dict(cloth=BROWN, flap=True, emblem=None),
        brown_with_disc=dict(cloth=BROWN, flap=False, emblem="disc"),
        brown_with_two_bars=dict(cloth=BROWN, flap=False, emblem="bars"),
        pink_with_flap=dict(cloth=PINK, flap=True, emblem=None),
    ),
    *_family(
        "clothing",
        "shoe",
        navy_with_one_stripe=dict(cloth=NAVY, stripes=1, sole=WHITE),
        navy_with_three_stripes=dict(cloth=NAVY, stripes=3, sole=WHITE),
        navy_with_orange_sole=dict(cloth=NAVY, stripes=1, sole=ORANGE),
        grey_with_three_stripes=dict(cloth=(150, 150, 155), stripes=3, sole=WHITE),
    ),
    *_family(
        "clothing",
        "shirt",
        teal_with_one_band=dict(cloth=TEAL, bands=1),
        teal_with_three_bands=dict(cloth=TEAL, bands=3),
        teal_with_heart=dict(cloth=TEAL, emblem="heart"),
        purple_with_one_band=dict(cloth=PURPLE, bands=1),
    ),
]


# --------------------------------------------------------------------------------------------------- products


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
        """One of the marks by which products of a family differ, `size` its radius."""
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
        """Multiply the brightness of column (or, for (H, W), pixel) by `profile`, 1 leaving it as it is."""
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
    """Light that falls off from the upper left to the lower right, (CANVAS, CANVAS)."""
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
    """`PRODUCTS[product]`, flat and upright, RGBA of CANVAS/2 pixels a side."""
    canvas = Canvas()
    DRAW[PRODUCTS[product].family](canvas, **PRODUCTS[product].look)
    return canvas.image.reduce(2)


# ------------------------------------------------------------------------------------------------ photographs


def background(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """A studio's gradient, planks, tiles, a shelf, or clutter; RGB."""
    kind = rng.integers(5)
    base = rng.uniform(90, 235) + rng.uniform(-25, 25, 3)
    x, y = np.arange(width) / width, np.arange(height)[:, None] / height
    light = 1 + rng.uniform(-0.25, 0.25) * (x - 0.5) + rng.uniform(-0.25, 0.25) * (y - 0.5)  # (H, W)
    if kind == 1:
        base = np.array([175, 125, 80]) * rng.uniform(0.6, 1.2)
        light = (
            light
            * (1 + 0.06 * np.sin(70 * y + 5 * np.sin(4 * x + rng.uniform(0, 6))))
            * (0.8 + 0.2 * ((6 * y) % 1 > 0.06))
        )
    elif kind == 2:
        light = light * (0.75 + 0.25 * (((5 * x) % 1 > 0.06) & ((5 * y) % 1 > 0.06)))
    elif kind == 3:
        light = light * np.where(y > rng.uniform(0.7, 0.85), 0.7, 1.0)
    pixels = base * light[..., None] + rng.normal(0, 4, (height, width, 1))
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    if kind == 4:
        draw = ImageDraw.Draw(image)
        for _ in range(12):
            x0, y0 = rng.uniform(-0.2, 0.9, 2) * (width, height)
            x1, y1 = (x0, y0) + rng.uniform(0.1, 0.4, 2) * (width, height)
            shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
            shape((x0, y0, x1, y1), fill=tuple(rng.integers(40, 240, 3).tolist()))
        image = image.filter(ImageFilter.BoxBlur(3))
    return image


def perspective(rng: np.random.Generator, width: int, height: int) -> list[float]:
    """The eight coefficients by which Pillow finds, for a place in the photograph, the place in the drawing."""
    side = min(width, height) * rng.uniform(0.6, 0.98)
    angle = math.radians(rng.normal(0, 10))
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * side / 2
    corners = corners * (1 + rng.uniform(-0.06, 0.06, (4, 2)))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    slack = np.array([width - side, height - side]) / 2
    corners = corners @ turn.T + np.array([width, height]) / 2 + rng.uniform(-0.8, 0.8, 2) * slack  # (4, 2)
    drawn = np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) * CANVAS / 2
    rows = []
    for (x, y), (u, v) in zip(corners, drawn, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    return np.linalg.solve(np.array(rows), drawn.flatten()).tolist()


def occlude(rng: np.random.Generator, image: Image.Image, mask: Image.Image) -> None:
    """Put a price tag, a finger or a bar before the product, over at most 15 % of it; in place, mask too."""
    width, height = image.size
    left, top, right, bottom = mask.getbbox()
    cover = Image.new("L", image.size)
    draw = ImageDraw.Draw(cover)
    kind = rng.integers(3)
    x, y = rng.uniform(left, right), rng.choice([top, bottom]) + rng.uniform(-0.05, 0.05) * height
    w, h = rng.uniform(0.15, 0.3) * width, rng.uniform(0.08, 0.16) * height
    if kind == 2:
        w, h = rng.uniform(0.03, 0.06) * width, 2 * height
    (draw.ellipse if kind == 1 else draw.rectangle)((x - w / 2, y - h / 2, x + w / 2, y + h / 2), fill=255)
    hidden = ImageChops.multiply(cover, mask).histogram()[255]
    if hidden > 0.15 * mask.histogram()[255]:
        return
    colour = [(250, 248, 240), (222, 170, 140), (120, 122, 128)][kind]
    image.paste(colour, mask=cover)
    if kind == 0:
        for bar in range(3):
            ImageDraw.Draw(image).rectangle(
                (x - w / 3, y - h / 3 + bar * h / 3, x + w / 4, y - h / 3 + bar * h / 3 + 1), fill=INK
            )
    mask.paste(0, mask=cover)


def draw_photograph(product: int, rng: np.random.Generator) -> tuple[Image.Image, Image.Image]:
    """A photograph of `PRODUCTS[product]`, RGB of 128 to 192 pixels a side, and its mask ("L": 255 where it shows).

    Pose, background, light and occluder are drawn from `rng` alone.
    """
    width, height = (int(side) for side in rng.integers(128, 193, 2))
    image = background(rng, width, height)
    shape = render(product).transform(
        (width, height), Image.Transform.PERSPECTIVE, perspective(rng, width, height), Image.Resampling.BILINEAR
    )
    alpha = shape.getchannel("A")
    shadow = ImageChops.offset(alpha, 4, 5).filter(ImageFilter.GaussianBlur(5)).point(lambda value: 0.45 * value)
    image.paste((20, 20, 25), mask=shadow)
    image.paste(shape, mask=alpha)
    mask = alpha.point(lambda value: 255 * (value > 127))
    if rng.random() < 0.25:
        occlude(rng, image, mask)
    warmth = rng.uniform(-0.12, 0.12)
    gain = rng.uniform(0.5, 1.2) * np.array([1 + warmth, 1.0, 1 - warmth])
    slope = rng.uniform(-0.2, 0.2, 2)
    light = 1 + slope[0] * np.linspace(-1, 1, width) + slope[1] * np.linspace(-1, 1, height)[:, None]
    pixels = np.asarray(image) * (light[..., None] * gain) + rng.normal(0, rng.uniform(0, 9), (height, width, 1))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), mask
