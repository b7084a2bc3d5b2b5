"""Which photographs the demo catalogue has: product, label, near-duplicates."""

import hashlib
from typing import NamedTuple

import numpy as np

from drawings.products import PRODUCTS

SPLITS = ("train", "val", "test")
HELD_OUT = 10  # photographs of each class in val and in test
WRONG_LABELS, NEAR_DUPLICATES = 0.12, 0.03  # shares of the training photographs


class Plan(NamedTuple):
    """One photograph before it is drawn. `drawing` is the `number` of the photograph whose drawing it shows.

    The two differ for a near-duplicate.
    """

    split: str
    number: int
    drawing: int
    product: int  # the true class
    label: int  # the class in the catalogue, which may be wrong

    def image_id(self, seed: int) -> str:
        """A file name that does not tell the product."""
        return hashlib.blake2s(f"{seed} {self.split} {self.number}".encode(), digest_size=8).hexdigest() + ".jpg"


def class_counts(classes: int = len(PRODUCTS), largest: int = 300, smallest: int = 5) -> np.ndarray:
    """Photographs of the r-th largest class, int (classes,), by the Zipf-Mandelbrot law: largest · (q / (q + r))⁴.

    q is chosen such that the last class has `smallest`. With exponent 4 the total is about 1,800. Plain Zipf
    (exponent 1) would put most photographs into two classes.
    """
    ratio = (largest / smallest) ** 0.25
    q = (classes - 1) / (ratio - 1)
    return np.round(largest * (q / (q + np.arange(classes))) ** 4).astype(int)


def plan_train(seed: int) -> list[Plan]:
    """The training photographs, with a random order of the products' frequencies, near-duplicates and wrong labels."""
    rng = np.random.default_rng([seed, 0])
    products = np.repeat(rng.permutation(len(PRODUCTS)), class_counts())
    drawings = np.arange(len(products))
    for number in rng.choice(len(products), round(NEAR_DUPLICATES * len(products)), replace=False):
        others = np.flatnonzero((products == products[number]) & (drawings != number))
        originals = others[drawings[others] == others]
        drawings[number] = rng.choice(originals)
        drawings[drawings == number] = drawings[number]  # copies of this one become copies of its original
    labels = wrong_labels(products, rng)
    return [Plan("train", n, int(drawings[n]), int(products[n]), int(labels[n])) for n in range(len(products))]


def wrong_labels(products: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Labels int (n,), a share WRONG_LABELS of them wrong.

    Photographs swap labels in pairs, so every class keeps its count. Half of the pairs are within one family. Each
    class keeps at least three photographs with a right label.
    """
    labels, right = products.copy(), np.bincount(products)
    family = np.array([product.family for product in PRODUCTS])[products]
    wanted = round(WRONG_LABELS * len(products) / 2)
    for number in rng.permutation(len(products)):
        if not wanted:
            break
        near = (family == family[number]) if wanted % 2 else (family != family[number])
        free = (labels == products) & (right[products] > 3) & (products != products[number])
        if not free.any() or labels[number] != products[number] or right[products[number]] <= 3:
            continue
        partner = rng.choice(np.flatnonzero(near & free)) if (near & free).any() else rng.choice(np.flatnonzero(free))
        labels[[number, partner]] = labels[[partner, number]]
        right[products[[number, partner]]] -= 1
        wanted -= 1
    return labels


def plan_held_out(split: str, seed: int) -> list[Plan]:
    """A split with HELD_OUT photographs of every class, all labels right, in random order."""
    products = np.random.default_rng([seed, SPLITS.index(split)]).permutation(
        np.repeat(np.arange(len(PRODUCTS)), HELD_OUT)
    )
    return [Plan(split, n, n, int(product), int(product)) for n, product in enumerate(products)]
