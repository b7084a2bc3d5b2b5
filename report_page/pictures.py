"""Photographs and sheets for the page as data: URIs, so that the page needs no other file."""

import base64
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from catalogues import Catalogue, Split
from common.errors import InputError
from data import UnreadablePhotograph, read_photograph
from inference import Classifier, destruction_sheet, object_sheet
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
    """Pictures of the photographs of a seed's predictions: row i of these is photograph i of `split`."""

    def __init__(self, catalogue: Catalogue, counted: EnsembleStatistics, split: str):
        self.counted, self.split = counted, catalogue.split(split)
        self.train = catalogue.splits.get("train")

    def pairs(self) -> list[list[dict]]:
        """The most confused pairs of classes, in one direction or both.

        Each direction has two pictures: a photograph that was confused, and an example of the class it was taken for.
        """
        return [
            [
                self._direction(true, predicted, places)
                for true, predicted, places in ((pair.one, pair.other, pair.there), (pair.other, pair.one, pair.back))
                if len(places)
            ]
            for pair in confused_pairs(self.counted, PAIRS)
        ]

    def _direction(self, true: int, predicted: int, places: np.ndarray) -> dict:
        names = self.counted.classes
        return {
            "true": names[true],
            "told": names[predicted],
            "count": len(places),
            "of": int((self.counted.labels == true).sum()),
            "images": [
                (thumbnail(self.split, int(places[0])), names[true]),
                (self._example(predicted), names[predicted]),
            ],
        }

    def _example(self, label: int) -> str | None:
        """A photograph of the class, of this split or else of the training split."""
        for split in (self.split, self.train):
            if split is not None and split.labels is not None:
                places = np.flatnonzero(split.labels == label)
                if len(places):
                    return thumbnail(split, int(places[0]))
        return None

    def mistakes(self) -> list[dict]:
        """The mistakes of the highest probability, with the five most probable classes of each."""
        counted, mistakes = self.counted, []
        for place in worst_mistakes(counted, MISTAKES):
            top = zip(counted.top[place], counted.top_probability[place], strict=True)
            marks = {int(counted.labels[place]): "right", int(counted.predicted[place]): "told"}
            mistakes.append(
                {
                    "image": thumbnail(self.split, int(place)),
                    "id": self.split.image_id(int(place)),
                    "true": counted.classes[counted.labels[place]],
                    "top": [(counted.classes[k], float(p), marks.get(int(k), "")) for k, p in top],
                }
            )
        return mistakes


def method_sheets(seed: Seed, catalogue: Catalogue) -> list[Sheet]:
    """DCL's and LIO's sheets, each of the first network that has the heads of the method."""
    sheets = []
    for ending, draw in (("dcl", _regions), ("lio", _extents)):
        for name, run in seed.runs.items():
            if name.endswith(f"-{ending}") and (sheet := draw(run.folder, catalogue)):
                sheets.append(sheet)
                break
    return sheets


def _with_heads(path: Path, method: str) -> Classifier | None:
    """The checkpoint on the CPU; None where there is none, or none with the heads of this method."""
    if not path.exists():
        return None
    classifier = Classifier.load(path, device="cpu", precision="float32", memory_format="contiguous")
    return classifier if type(classifier.net).__name__ == method else None


def _regions(folder: Path, catalogue: Catalogue) -> Sheet | None:
    classifier = _with_heads(folder / "best.pt", "DCL")
    if classifier is None:
        return None
    reach = classifier.settings.get("reach", 2)
    page, exact = destruction_sheet(
        classifier.net, catalogue, classifier.resize, classifier.crop, reach, 0, 4, classifier.fit
    )
    text = (
        f"What {folder.name} learns from: the photograph, the same with its regions shuffled, where each is from, "
        f"where the network puts it ({exact:.0%} exact), and the photograph put back by the network."
    )
    return Sheet("dcl", "DCL: destruction and construction", text, data_uri(page))


def _extents(folder: Path, catalogue: Catalogue) -> Sheet | None:
    classifier = _with_heads(folder / "last.pt", "LIO")
    if classifier is None:
        return None
    group = classifier.settings.get("positives", 3) + 1
    try:
        page, _ = object_sheet(classifier.net, catalogue, classifier.resize, classifier.crop, group, classifier.fit)
    except InputError:  # no class has so many photographs
        return None
    text = (
        f"Where {folder.name} sees the product: the extent that the network predicts from one photograph, the one that "
        "the photographs of a group have in common, and the object with its reference region (framed)."
    )
    return Sheet("lio", "LIO: the object's extent", text, data_uri(page))
