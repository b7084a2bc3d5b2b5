"""The demo catalogue: 32 products, about 1,800 training photographs, drawn on first use in AliProducts' own layout.

    python -m data.demo --out DIR --seed 0       # draw it somewhere
    python -m data.demo --sheet sheet.jpg        # two photographs of every product on one page

The training split has what makes the real challenge hard: a long tail (300 photographs down to 5), wrong labels
(8 %) and near-duplicates (3 %). Validation and test splits are balanced and clean. `truth.json` tells what is what.
"""

import argparse
import hashlib
import io
import json
import os
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

from common import flags
from common.command_line import run as run_tool
from common.errors import InputError
from common.files import temporary_folder
from common.pictures import picture_format, save_picture
from data.demo_drawing import PRODUCTS, draw_photograph
from data.workers import in_processes

VERSION = 1  # of the drawings: another one is drawn anew
HELD_OUT = 10  # photographs a class in val and in test
WRONG_LABELS, NEAR_DUPLICATES = 0.08, 0.03
SPLITS = ("train", "val", "test")


class Plan(NamedTuple):
    """One photograph before it is drawn; `drawing` differs from `number` in a near-duplicate."""

    split: str
    number: int
    drawing: int
    product: int  # what it shows
    label: int  # what the catalogue says it shows

    def image_id(self, seed: int) -> str:
        """A file name that gives nothing away."""
        return hashlib.blake2s(f"{seed} {self.split} {self.number}".encode(), digest_size=8).hexdigest() + ".jpg"


def class_counts(classes: int = len(PRODUCTS), largest: int = 300, smallest: int = 5) -> np.ndarray:
    """Photographs of the r-th largest class, (classes,): Zipf and Mandelbrot's law, largest · (q / (q + r))⁴.

    q is chosen such that the last class has `smallest`. The exponent sets the total: about 1,800 with 4, where plain
    Zipf (exponent 1) would put most photographs into two classes.
    """
    ratio = (largest / smallest) ** 0.25
    q = (classes - 1) / (ratio - 1)
    return np.round(largest * (q / (q + np.arange(classes))) ** 4).astype(int)


def plan_train(seed: int) -> list[Plan]:
    """The training photographs: which product is how frequent, which are near-duplicates, which have wrong labels."""
    rng = np.random.default_rng([seed, 0])
    products = np.repeat(rng.permutation(len(PRODUCTS)), class_counts())
    drawings = np.arange(len(products))
    for number in rng.choice(len(products), round(NEAR_DUPLICATES * len(products)), replace=False):
        others = np.flatnonzero((products == products[number]) & (drawings != number))
        originals = others[drawings[others] == others]
        drawings[number] = rng.choice(originals)
        drawings[drawings == number] = drawings[number]  # what copied this one copies its original
    labels = wrong_labels(products, rng)
    return [Plan("train", n, int(drawings[n]), int(products[n]), int(labels[n])) for n in range(len(products))]


def wrong_labels(products: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Labels (n,) of which WRONG_LABELS are wrong: photographs swap labels in pairs, so every class keeps its count.

    Half of the pairs are of one family. Each class keeps at least three photographs that are what they say.
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
    """A balanced, clean split in random order."""
    products = np.random.default_rng([seed, SPLITS.index(split)]).permutation(
        np.repeat(np.arange(len(PRODUCTS)), HELD_OUT)
    )
    return [Plan(split, n, n, int(product), int(product)) for n, product in enumerate(products)]


def write_photograph(plan: Plan, root: Path, seed: int) -> dict:
    """Draw one photograph into its place; what `truth.json` says of it."""
    split = SPLITS.index(plan.split)
    image, mask = draw_photograph(plan.product, np.random.default_rng([seed, split, plan.drawing]))
    rng = np.random.default_rng([seed, split, plan.number, 1])
    if plan.drawing != plan.number:  # a near-duplicate: another hand has cropped, brightened and saved it again
        left, top = (int(side) for side in rng.integers(1, 7, 2))
        image = ImageEnhance.Brightness(image.crop((left, top, *image.size))).enhance(rng.uniform(0.9, 1.1))
        mask = mask.crop((left, top, *mask.size))
    image_id = plan.image_id(seed)
    folder = root / plan.split / ("" if plan.split == "test" else f"{plan.label:05d}")
    file = io.BytesIO()
    image.save(file, "jpeg", quality=int(rng.integers(40, 96)))
    (folder / image_id).write_bytes(file.getvalue())
    original = plan._replace(number=plan.drawing).image_id(seed) if plan.drawing != plan.number else None
    return dict(split=plan.split, class_id=plan.product, duplicate_of=original, box=list(mask.getbbox()))


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=0), encoding="utf-8")


def draw_demo(root: Path, seed: int = 0, processes: int | None = None) -> None:
    """Draw the whole catalogue into `root`, by `processes` workers (default: one a core), whose number changes nothing.

    It is drawn beside and renamed, so that an interrupted drawing is never taken for a catalogue; where another process
    was first, its drawing stays.
    """
    root = Path(root).resolve()
    root.parent.mkdir(parents=True, exist_ok=True)
    plans = plan_train(seed) + plan_held_out("val", seed) + plan_held_out("test", seed)
    with temporary_folder(root.parent, ".drawing-") as temporary:
        folder = temporary / "demo"
        for plan in plans:
            (folder / plan.split / ("" if plan.split == "test" else f"{plan.label:05d}")).mkdir(
                parents=True, exist_ok=True
            )
        facts = list(in_processes(partial(write_photograph, root=folder, seed=seed), plans, processes, 16))
        for split in SPLITS:
            images = [
                {"image_id": plan.image_id(seed)} | ({} if split == "test" else {"class_id": plan.label})
                for plan in plans
                if plan.split == split
            ]
            write_json(folder / f"{split}.json", {"images": images})
        tree: dict = {}
        for number, product in enumerate(PRODUCTS):
            tree.setdefault(product.department, {}).setdefault(product.family, {})[product.name] = number
        write_json(folder / "product_tree.json", tree)
        truth = {plan.image_id(seed): fact for plan, fact in zip(plans, facts, strict=True)}
        write_json(folder / "truth.json", {"version": VERSION, "seed": seed, "images": truth})
        try:
            os.rename(folder, root)
        except OSError:
            if not is_drawn(root, seed):
                raise


def is_drawn(root: Path, seed: int) -> bool:
    """Whether `root` holds this version's drawing for this seed."""
    try:
        truth = json.loads((root / "truth.json").read_text(encoding="utf-8"))
        return (truth["version"], truth["seed"]) == (VERSION, seed)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def demo_root(parent: Path | None = None, seed: int = 0) -> Path:
    """The folder `demo` beside the scripts (or in `parent`), drawn on first use and when the drawings have changed."""
    root = (parent or Path(__file__).resolve().parent.parent) / "demo"
    if not is_drawn(root, seed):
        print(f"drawing the demo catalogue into {root} (once, about 15 s) …", file=sys.stderr, flush=True)
        if root.exists():
            shutil.rmtree(root)
        draw_demo(root, seed)
    return root


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


def arguments() -> argparse.Namespace:
    parser = flags.Parser(prog="python -m data.demo", description=__doc__)
    parser.add_argument("--out", type=Path, help="folder to draw the catalogue into, a new one")
    parser.add_argument("--seed", type=flags.number(int, 0, 2**31), default=0, help="(default: 0)")
    parser.add_argument("--sheet", type=Path, help="picture file to draw the contact sheet into")
    args = parser.parse_args()
    if args.sheet:
        picture_format(args.sheet)
    if args.out and len(os.fsencode(args.out.name)) > 255:
        raise InputError(f"--out {args.out}: no name may be so long; choose a shorter one")
    empty = args.out and (not os.path.lexists(args.out) or (args.out.is_dir() and not any(args.out.iterdir())))
    if args.out and not empty and not is_drawn(args.out, args.seed):
        raise InputError(f"--out {args.out}: is there already and is not this drawing; choose a new folder")
    return args


def main() -> None:
    args = arguments()
    if args.out:
        try:
            draw_demo(args.out, args.seed)
        except OSError as error:
            raise InputError(f"--out {args.out}: cannot be drawn ({error.strerror}); choose another place") from error
    if args.sheet:
        save_picture(contact_sheet(), args.sheet)


if __name__ == "__main__":
    run_tool(main)
