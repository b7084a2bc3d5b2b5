"""The 32 products of the demo catalogue, four in each of eight families."""

from typing import NamedTuple

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
    """One SKU: its department and family in the product tree, its name, and the arguments of its drawing function."""

    department: str
    family: str
    name: str
    look: dict


def _family(department: str, family: str, **looks: dict) -> list[Product]:
    return [Product(department, family, f"{family}, {name.replace('_', ' ')}", look) for name, look in looks.items()]


# Products of a family differ in details. None is the mirror image of another, since training flips photographs.
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
