"""Catalogues of product photographs, their transforms, samplers and loaders."""

import torchvision_shim  # noqa: F401  (before anything below imports torchvision)

# isort: split
from data.catalogue import SPLITS, Catalogue, Split, Strings
from data.kinds import open_catalogue
from data.loader import NO_LABEL, Batch, Photographs, eval_loader, train_loader
from data.samplers import Draw, EpochBatches, balanced_subset
from data.transforms import (
    EvalTransform,
    TrainTransform,
    UnreadablePhotograph,
    centre_crop,
    cutout,
    normalise,
    read_photograph,
    squash,
    ten_crop,
)

__all__ = [
    "NO_LABEL",
    "SPLITS",
    "Batch",
    "Catalogue",
    "Draw",
    "EpochBatches",
    "EvalTransform",
    "Photographs",
    "Split",
    "Strings",
    "TrainTransform",
    "UnreadablePhotograph",
    "balanced_subset",
    "centre_crop",
    "cutout",
    "eval_loader",
    "normalise",
    "open_catalogue",
    "read_photograph",
    "squash",
    "ten_crop",
    "train_loader",
]
