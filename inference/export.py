"""A network for deployment, from bytes of photographs to probabilities; its description; the check of a file."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from catalogues import Split
from common.errors import InputError
from data import MEAN, STD, batches, eval_loader
from inference.classifier import Classifier
from models.checkpoint import file_hash

Run = Callable[[np.ndarray], np.ndarray]  # photographs uint8 (N, S, S, 3) -> probabilities float32 (N, K)

# The largest difference of a probability between an exported file and torch's float32. Rounding alone gives some 1e-6;
# a wrong crop, mean or order of colours gives far more than this.
TOLERANCE = 1e-4
PHOTOGRAPHS, TOGETHER = 16, 4  # how many are compared, and how many at once; the first is compared alone, too

SQUASH = """\
Decode to 8-bit RGB: EXIF rotation applied, an ICC profile converted to sRGB, transparency laid over white, 16 bits \
scaled to 8. {3} Bilinear, with a filter that widens where it shrinks (antialias), within 1 of \
torch.nn.functional.interpolate(mode="bilinear", antialias=True), by which the network was trained and tested. \
Exactly as there: data.read_squashed(path, {0}{2}) of this project, which has libjpeg decode a JPEG of at least {1} \
pixels a side at 1/2, 1/4 or 1/8 of its sides first, about one level apart in the mean."""
SHAPES = {
    "squash": "Resize to {0} x {0}, whatever the shape; in Pillow, for RGB without a profile: "
    'ImageOps.exif_transpose(Image.open(path)).convert("RGB").resize(({0}, {0}), Image.Resampling.BILINEAR).',
    "pad": "Resize so that the long side is {0}, and fill up to {0} x {0} with (124, 116, 104) on both sides.",
    "crop": "Cut out the middle square, and resize it to {0} x {0}.",
}


class Deployed(nn.Module):
    """photographs uint8 (N, S, S, 3), squashed, RGB -> probabilities float32 (N, K), as predict.py computes them.

    net: a backbone, or a method's heads around one, of K classes.
    resize: S; crop: side of the crops; crops: 1, the centre, or 10, whose probabilities are averaged.
    """

    def __init__(self, net: nn.Module, resize: int, crop: int, crops: int):
        super().__init__()
        self.net, self.resize, self.crop, self.crops = net, resize, crop, crops
        self.register_buffer("mean", torch.tensor(MEAN) * 255)  # buffers move to a GPU with the module
        self.register_buffer("std", torch.tensor(STD) * 255)
        self.eval().requires_grad_(False)

    def forward(self, photographs: Tensor) -> Tensor:
        images = ((photographs.float() - self.mean) / self.std).permute(0, 3, 1, 2)  # (N, 3, S, S)
        images = images.contiguous()  # with the channels last every pooling would be a gather in ONNX
        # The bounds of the slices are constants: a traced torchvision would compute them from the images again.
        end = self.resize - self.crop
        middle = round(end / 2)
        views = self._cut(images, middle, middle)
        if self.crops == 10:
            places = [(middle, middle), (0, 0), (0, end), (end, 0), (end, end)]
            ways = (images, images.flip(3))
            views = torch.cat([self._cut(way, *place) for way in ways for place in places])  # (10 N, 3, crop, crop)
        logits = self.net.predict(views)
        rows = logits.softmax(1)
        return rows.reshape(10, -1, rows.shape[1]).mean(0) if self.crops == 10 else rows

    def _cut(self, images: Tensor, top: int, left: int) -> Tensor:
        return images[:, :, top : top + self.crop, left : left + self.crop]


def load_for_export(path: Path) -> Classifier:
    """The checkpoint on the CPU in float32, in the memory layout of files."""
    return Classifier.load(path, device="cpu", precision="float32", memory_format="contiguous")


def deployed_network(classifier: Classifier) -> nn.Module:
    """The network, without the heads of its method where these do not predict."""
    return classifier.net if getattr(classifier.net, "heads_predict", False) else classifier.backbone


def describe(classifier: Classifier, source: Path, crops: int) -> dict:
    """What a deployer must know, for JSON: of the classifier loaded from the checkpoint `source`."""
    net, resize, crop = deployed_network(classifier), classifier.resize, classifier.crop
    return {
        "version": 1,  # of this description
        "arch": classifier.arch,
        "heads": {"kind": type(net).__name__, "options": net.options} if hasattr(net, "options") else None,
        "checkpoint": file_hash(source),
        "resize": resize,
        "crop": crop,
        "crops": crops,
        "mean": MEAN,
        "std": STD,
        "fit": classifier.fit,
        "squash": SQUASH.format(resize, 2 * resize, f", {classifier.fit!r}", SHAPES[classifier.fit].format(resize)),
        "classes": classifier.classes,
        "class_ids": classifier.class_ids,
    }


class Comparison(NamedTuple):
    """Largest difference of a probability, photographs compared, and how many of them have the same best class."""

    difference: float
    photographs: int
    same: int


def compare(run: Run, classifier: Classifier, split: Split, crops: int) -> Comparison:
    """`run`, an exported file, on photographs from all over `split`, against the classifier that it was made of.

    Raises InputError where none of the photographs can be read.
    """
    places = range(0, len(split), max(1, len(split) // PHOTOGRAPHS))[:PHOTOGRAPHS]
    difference, photographs, same = 0.0, 0, 0
    for batch in batches(eval_loader(split, classifier.resize, TOGETHER, 0, False, places, fit=classifier.fit)):
        if not len(batch.index):
            continue
        pixels = batch.images.permute(0, 2, 3, 1).contiguous().numpy()  # (n, S, S, 3)
        expected, rows = classifier.probabilities(pixels, crops).numpy(), run(pixels)  # (n, K)
        # numpy's maximum keeps NaN, unlike Python's
        difference = np.maximum(difference, abs(rows - expected).max())
        if not photographs:
            difference = np.maximum(difference, abs(run(pixels[:1]) - expected[:1]).max())
        photographs += len(expected)
        same += int((rows.argmax(1) == expected.argmax(1)).sum())
    if not photographs:
        raise InputError(
            f"{split.root}: of {len(places)} photographs of its {split.name} split none can be read; restore it, "
            "or give another place of the catalogue with --data"
        )
    return Comparison(float(difference), photographs, same)
