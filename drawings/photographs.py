"""Photographs of the demo's products: in perspective, before a background, in some light, some partly covered."""

import math

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

from drawings.products import INK, PRODUCTS
from drawings.shapes import CANVAS, render


def background(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """A random background, RGB: a plain gradient, planks, tiles, a shelf, or clutter."""
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
    """Random coefficients (8) of Pillow's perspective transform, from places in the photograph to the drawing."""
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
    """Cover at most 15 % of the product with a price tag, a finger or a bar; changes `image` and `mask`."""
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
    """A photograph of `PRODUCTS[product]`, RGB of 128 to 192 pixels a side, and its mask.

    The mask has mode "L": 255 where the product is visible. Everything random is drawn from `rng`.
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


def contact_sheet(side: int = 128, gap: int = 6) -> Image.Image:
    """Two photographs of every product, a row a family."""
    families = list(dict.fromkeys(product.family for product in PRODUCTS))
    margin, columns = 84, 2 * len(PRODUCTS) // len(families)
    sheet = Image.new("RGB", (margin + columns * (side + gap), gap + len(families) * (side + gap)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(17)
    for row, family in enumerate(families):
        top = gap + row * (side + gap)
        draw.text((10, top + side / 2), family, "black", font, anchor="lm")
        members = [number for number, product in enumerate(PRODUCTS) if product.family == family]
        for column in range(columns):
            photograph, _ = draw_photograph(members[column // 2], np.random.default_rng([0, row, column]))
            sheet.paste(photograph.resize((side, side)), (margin + column * (side + gap), top))
    return sheet
