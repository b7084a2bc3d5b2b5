"""Photographs and sheets for the page, as data: URIs, so that the page needs no other file."""

import base64
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from common.errors import InputError
from data import Catalogue, Split, UnreadablePhotograph, read_photograph
from inference.method_sheets import destruction_sheet, object_sheet
from models.checkpoint import load_checkpoint, network_of
from report_page.results import Seed
from report_page.statistics import EnsembleStatistics, confused_pairs, worst_mistakes

SIDE = 200  # pixels of a photograph's longer side
PAIRS, MISTAKES = 8, 12


class Sheet(NamedTuple):
    id: str
    title: str
    text: str
    image: str


def data_uri(image: Image.Image, quality: int = 82) -> str:
    content = BytesIO()
    image.convert("RGB").save(content, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()


def thumbnail(split: Split, index: int) -> str | None:
    """The photograph, small; None where it cannot be read."""
    try:
        image = read_photograph(split.path(index))
    except UnreadablePhotograph:
        return None
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return data_uri(image)


class Album:
    """Pictures of the photographs that a seed's predictions are about: place i of them is photograph i of `split`."""

    def __init__(self, catalogue: Catalogue, counted: EnsembleStatistics, split: str):
        self.counted, self.split = counted, catalogue.split(split)
        self.train = catalogue.splits.get("train")

    def pairs(self) -> list[list[dict]]:
        """The most confused pairs of classes: one side or both, each with two pictures, what it was and looks like."""
        return [
            [
                self._side(true, told, places)
                for true, told, places in ((pair.one, pair.other, pair.there), (pair.other, pair.one, pair.back))
                if len(places)
            ]
            for pair in confused_pairs(self.counted, PAIRS)
        ]

    def _side(self, true: int, told: int, places: np.ndarray) -> dict:
        names = self.counted.classes
        return {
            "true": names[true],
            "told": names[told],
            "count": len(places),
            "of": int((self.counted.labels == true).sum()),
            "images": [(thumbnail(self.split, int(places[0])), names[true]), (self._example(told), names[told])],
        }

    def _example(self, label: int) -> str | None:
        """A photograph of the class, of this split or else of the training split."""
        for split in (self.split, self.train):
            if split is not None and split.labels is not None and len(own := np.flatnonzero(split.labels == label)):
                return thumbnail(split, int(own[0]))
        return None

    def mistakes(self) -> list[dict]:
        """The surest mistakes with the five likeliest classes of each."""
        counted, found = self.counted, []
        for place in worst_mistakes(counted, MISTAKES):
            top = zip(counted.top[place], counted.top_probability[place], strict=True)
            kinds = {int(counted.labels[place]): "right", int(counted.predicted[place]): "told"}
            found.append(
                {
                    "image": thumbnail(self.split, int(place)),
                    "id": self.split.image_id(int(place)),
                    "true": counted.classes[counted.labels[place]],
                    "top": [(counted.classes[k], float(p), kinds.get(int(k), "")) for k, p in top],
                }
            )
        return found


def method_sheets(seed: Seed, catalogue: Catalogue) -> list[Sheet]:
    """DCL's and LIO's sheets of the first network of each that has its heads."""
    sheets = []
    for ending, draw in (("dcl", _destruction), ("lio", _extents)):
        for name, run in seed.runs.items():
            if name.endswith(f"-{ending}") and (sheet := draw(run.folder, catalogue)):
                sheets.append(sheet)
                break
    return sheets


def _heads(path: Path, kind: str) -> dict | None:
    if not path.exists():
        return None
    state = load_checkpoint(path)
    return state if state["heads"] is not None and state["heads"]["kind"] == kind else None


def _destruction(folder: Path, catalogue: Catalogue) -> Sheet | None:
    state = _heads(folder / "best.pt", "DCL")
    if state is None:
        return None
    net, settings = network_of(state, folder / "best.pt", heads=True), state["settings"]
    page, exact = destruction_sheet(
        net, catalogue, settings["resize"], settings["crop"], settings.get("reach", 2), 0, 4
    )
    text = (
        f"What {folder.name} learns from: the photograph, the same with its regions shuffled, where each is from, "
        f"where the network puts it ({exact:.0%} exact), and the photograph put back by the network."
    )
    return Sheet("dcl", "DCL: destruction and construction", text, data_uri(page))


def _extents(folder: Path, catalogue: Catalogue) -> Sheet | None:
    state = _heads(folder / "last.pt", "LIO")
    if state is None:
        return None
    net, settings = network_of(state, folder / "last.pt", heads=True), state["settings"]
    try:
        page, _ = object_sheet(net, catalogue, settings["resize"], settings["crop"], settings.get("positives", 3) + 1)
    except InputError:  # no class has so many photographs
        return None
    text = (
        f"Where {folder.name} sees the product: the extent that the network predicts from one photograph, the one that "
        "the photographs of a group have in common, and the object with its reference region (framed)."
    )
    return Sheet("lio", "LIO: the object's extent", text, data_uri(page))
