"""Catalogues of product photographs, their transforms, samplers and loaders."""

from common import torchvision_shim  # noqa: F401  (before anything below imports torchvision)

# isort: split
from data.catalogue import SPLITS, Catalogue, Split, Strings
from data.kinds import open_catalogue
from data.label_files import LABEL_COLUMNS, excluded_places, with_extra_labels
from data.loader import (
    NO_LABEL,
    Batch,
    Photographs,
    WorkerLost,
    batches,
    collate,
    collate_groups,
    eval_loader,
    train_loader,
)
from data.photographs import UnreadablePhotograph, read_photograph, read_squashed, squash
from data.regions import move_regions, shuffle_regions, shuffled_places
from data.samplers import (
    Draw,
    EpochBatches,
    GroupBatches,
    ReversedPairs,
    ShardedBatches,
    StreamBatches,
    balanced_subset,
)
from data.transforms import (
    MEAN,
    STD,
    TrainTransform,
    centre_crop,
    cutout,
    network_input,
    normalise,
    ten_crop,
)

__all__ = [
    "LABEL_COLUMNS",
    "MEAN",
    "NO_LABEL",
    "SPLITS",
    "STD",
    "Batch",
    "Catalogue",
    "Draw",
    "EpochBatches",
    "GroupBatches",
    "Photographs",
    "ReversedPairs",
    "ShardedBatches",
    "Split",
    "StreamBatches",
    "Strings",
    "TrainTransform",
    "UnreadablePhotograph",
    "WorkerLost",
    "balanced_subset",
    "batches",
    "centre_crop",
    "collate",
    "collate_groups",
    "cutout",
    "eval_loader",
    "excluded_places",
    "move_regions",
    "network_input",
    "normalise",
    "open_catalogue",
    "read_photograph",
    "read_squashed",
    "shuffle_regions",
    "shuffled_places",
    "squash",
    "ten_crop",
    "train_loader",
    "with_extra_labels",
]
