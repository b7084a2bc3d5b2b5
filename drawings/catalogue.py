"""The files of the demo catalogue, in AliProducts' own layout; `truth.json` says what each photograph really shows."""

import io
import json
import os
from functools import partial
from pathlib import Path

import numpy as np
from PIL import ImageEnhance

from common.files import temporary_folder
from common.workers import in_processes
from drawings.photographs import draw_photograph
from drawings.plan import SPLITS, Plan, plan_held_out, plan_train
from drawings.products import PRODUCTS

VERSION = 2  # of the drawings: a catalogue of another version is drawn again


def write_photograph(plan: Plan, root: Path, seed: int) -> dict:
    """Draw one photograph into its file; returns its entry in `truth.json`."""
    split = SPLITS.index(plan.split)
    image, mask = draw_photograph(plan.product, np.random.default_rng([seed, split, plan.drawing]))
    rng = np.random.default_rng([seed, split, plan.number, 1])
    if plan.drawing != plan.number:  # a near-duplicate: cropped, brightened and saved again
        left, top = (int(side) for side in rng.integers(1, 7, 2))
        image = ImageEnhance.Brightness(image.crop((left, top, *image.size))).enhance(rng.uniform(0.9, 1.1))
        mask = mask.crop((left, top, *mask.size))
    file = io.BytesIO()
    image.save(file, "jpeg", quality=int(rng.integers(40, 96)))
    (folder_of(plan, root) / plan.image_id(seed)).write_bytes(file.getvalue())
    original = plan._replace(number=plan.drawing).image_id(seed) if plan.drawing != plan.number else None
    return dict(split=plan.split, class_id=plan.product, duplicate_of=original, box=list(mask.getbbox()))


def folder_of(plan: Plan, root: Path) -> Path:
    """The folder of a photograph; test photographs are not sorted by class."""
    return root / plan.split / ("" if plan.split == "test" else f"{plan.label:05d}")


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=0), encoding="utf-8")


def draw_demo(root: Path, seed: int = 0, processes: int | None = None) -> None:
    """Draw the whole catalogue into `root`, in `processes` workers (default: one a core).

    The files do not depend on the number of workers. They are drawn in a temporary folder that is then renamed, so an
    interrupted drawing is never taken for a catalogue. Where another process was faster, its drawing stays.
    """
    root = Path(root).resolve()
    root.parent.mkdir(parents=True, exist_ok=True)
    plans = plan_train(seed) + plan_held_out("val", seed) + plan_held_out("test", seed)
    with temporary_folder(root.parent, ".drawing-") as temporary:
        folder = temporary / "demo"
        for plan in plans:
            folder_of(plan, folder).mkdir(parents=True, exist_ok=True)
        truth = list(in_processes(partial(write_photograph, root=folder, seed=seed), plans, processes, 16))
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
        images = {plan.image_id(seed): entry for plan, entry in zip(plans, truth, strict=True)}
        write_json(folder / "truth.json", {"version": VERSION, "seed": seed, "images": images})
        try:
            os.rename(folder, root)
        except OSError:
            if not is_drawn(root, seed):
                raise


def is_drawn(root: Path, seed: int) -> bool:
    """Whether `root` holds the demo catalogue of this version and seed."""
    try:
        truth = json.loads((root / "truth.json").read_text(encoding="utf-8"))
        return (truth["version"], truth["seed"]) == (VERSION, seed)
    except (OSError, ValueError, KeyError, TypeError):
        return False
