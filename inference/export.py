"""A network as it is deployed: bytes of photographs in, probabilities out; what a deployer must know; the check."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from common.device import Compute
from common.errors import InputError
from data import MEAN, STD, Catalogue, Split, batches, eval_loader, network_input
from inference.evaluate import crop_probabilities
from models import HEADS
from models.checkpoint import file_hash, network_of
from models.checkpoint_format import USE_ANOTHER

Run = Callable[[np.ndarray], np.ndarray]  # photographs uint8 (N, S, S, 3) -> probabilities float32 (N, K)

# The largest difference of a probability between an exported file and torch's float32. Roundings alone make some 1e-6;
# a wrong crop, mean or order of colours far more than this.
TOLERANCE = 1e-4
PHOTOGRAPHS, TOGETHER = 16, 4  # that are compared, and of these at once; the first is compared alone, too
CPU = Compute(torch.device("cpu"), bf16=False, memory_format=torch.channels_last)

SQUASH = """\
Decode to 8-bit RGB: EXIF rotation applied, transparency laid over white, 16 bits scaled to 8. Resize to {0} x {0}, \
whatever the shape: bilinear, with a filter that widens where it shrinks (antialias). In Pillow: \
ImageOps.exif_transpose(Image.open(path)).convert("RGB").resize(({0}, {0}), Image.Resampling.BILINEAR), within 1 of \
torch.nn.functional.interpolate(mode="bilinear", antialias=True), by which the network was trained and tested. \
Exactly as there: data.read_squashed(path, {0}) of this project, which has libjpeg decode a plain JPEG of at least {1} \
pixels a side at 1/2, 1/4 or 1/8 of its sides first, about one level apart in the mean."""


class Deployed(nn.Module):
    """photographs uint8 (N, S, S, 3), squashed, RGB -> probabilities float32 (N, K): the whole of predict.py's way.

    net: a backbone, or a method's heads around one, of K classes.
    resize: S; crop: side of what the network sees; crops: 1, the centre, or 10, whose probabilities are averaged.
    """

    def __init__(self, net: nn.Module, resize: int, crop: int, crops: int):
        super().__init__()
        self.net, self.resize, self.crop, self.crops = net, resize, crop, crops
        self.register_buffer("mean", torch.tensor(MEAN) * 255)  # buffers, which go along to a GPU
        self.register_buffer("std", torch.tensor(STD) * 255)
        self.eval().requires_grad_(False)

    def forward(self, photographs: Tensor) -> Tensor:
        images = ((photographs.float() - self.mean) / self.std).permute(0, 3, 1, 2)  # (N, 3, S, S)
        images = images.contiguous()  # channels last, every pooling would be a gather in ONNX
        # Slices between numbers known here: a traced torchvision would ask for the sides of the images again.
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


def deployable(state: dict, source: Path) -> nn.Module:
    """The network of a checkpoint, with the heads around it of its method where these speak at test time."""
    kept = state["heads"]
    return network_of(state, source, heads=bool(kept) and HEADS[kept["kind"]].heads_predict)


def describe(state: dict, source: Path, net: nn.Module, crops: int) -> dict:
    """What a deployer must know, for JSON: of the checkpoint `state`, read from `source`, whose network is `net`.

    Raises InputError where its crops do not fit into its photographs.
    """
    resize, crop = state["settings"]["resize"], state["settings"]["crop"]
    if crop > resize:
        raise InputError(f"{source}: crops of {crop} are larger than photographs of {resize}; {USE_ANOTHER}")
    return {
        "version": 1,  # of this description
        "arch": state["arch"],
        "heads": {"kind": type(net).__name__, "options": net.options} if hasattr(net, "options") else None,
        "checkpoint": file_hash(source),
        "resize": resize,
        "crop": crop,
        "crops": crops,
        "mean": MEAN,
        "std": STD,
        "squash": SQUASH.format(resize, 2 * resize),
        "classes": state["classes"],
        "class_ids": state["class_ids"],
    }


class Comparison(NamedTuple):
    """Largest difference of a probability, photographs compared, and how many of them have the same winner."""

    difference: float
    photographs: int
    same: int


def compare(run: Run, net: nn.Module, split: Split, resize: int, crop: int, crops: int) -> Comparison:
    """`run`, an exported file, on photographs from all over `split`, against predict.py's way through `net`.

    Raises InputError where none of the photographs can be read.
    """
    net = CPU.network(net).eval()
    places = range(0, len(split), max(1, len(split) // PHOTOGRAPHS))[:PHOTOGRAPHS]
    difference, photographs, same = 0.0, 0, 0
    for batch in batches(eval_loader(split, resize, TOGETHER, 0, False, places)):
        if not len(batch.index):
            continue
        with torch.inference_mode():
            expected = crop_probabilities(net, network_input(batch.images, CPU), crop, crops).numpy()  # (n, K)
        pixels = batch.images.permute(0, 2, 3, 1).contiguous().numpy()  # (n, S, S, 3)
        rows = run(pixels)
        # numpy's maximum, unlike Python's, keeps what is not a number
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


def split_to_compare(catalogue: Catalogue) -> Split:
    """The validation split, else the test, else the training split."""
    return catalogue.split(next(name for name in ("val", "test", "train") if name in catalogue.splits))
