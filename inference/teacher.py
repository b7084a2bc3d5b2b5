"""Teachers of a distillation: networks that get the same batch, or predictions that were stored before."""

import sys
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from catalogues import Catalogue
from common.device import Compute
from common.errors import InputError, one_line
from common.processes import world
from data import Batch
from inference.classifier import Classifier
from losses import soften
from predictions.reading import open_member

Teacher = Callable[[Batch], Tensor]  # probabilities (B, K) at the distillation's temperature


def open_teacher(names: str, catalogue: Catalogue, compute: Compute, temperature: float) -> Teacher:
    """The teacher that --teacher names: checkpoints separated by commas, or a prediction file of the training split.

    Of a file of the k most probable classes (.npz), the remaining probability is spread evenly over the other classes.

    Raises InputError where one of them cannot be read or was made for other classes or photographs.
    """
    if names.endswith((".npy", ".npz")):
        return _stored(names, catalogue, compute, temperature)
    classifiers = []
    for name in names.split(","):
        classifiers.append(Classifier.load(name, compute=compute))
        catalogue.require_classes(classifiers[-1].classes, f"--teacher {name}")
        if world().first and set(catalogue.held_back) - set(classifiers[-1].held_back):
            note = f"note: --teacher {name} may know photographs that are held back here; then the error is too low"
            print(one_line(note), file=sys.stderr)

    @torch.no_grad()
    def mean(batch: Batch) -> Tensor:
        logits = (classifier.network_logits(batch.images) for classifier in classifiers)
        return torch.stack([(row / temperature).softmax(1) for row in logits]).mean(0)

    return mean


def _stored(name: str, catalogue: Catalogue, compute: Compute, temperature: float) -> Teacher:
    member, split = open_member(name), catalogue.split("train")
    catalogue.require_classes(member.info.class_names, f"--teacher {name}")
    if member.info.image_ids != [split.image_id(place) for place in range(len(split))]:
        raise InputError(
            f"--teacher {name}: holds other photographs ({member.info.split}, {member.info.shape[0]:,}) than the "
            f"training split ({len(split):,}); make it with predict.py --split train, and leave --extra out"
        )

    def stored(batch: Batch) -> Tensor:
        rows = torch.from_numpy(member.take(batch.index.numpy().astype(np.int64)))
        return soften(rows.to(compute.device), temperature)

    return stored
