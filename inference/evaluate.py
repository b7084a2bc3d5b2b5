"""Class probabilities of a network for every photograph of a split, from the centre crop or from ten crops."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from common.device import Compute
from data import batches, centre_crop, network_input, ten_crop


class Rows(NamedTuple):
    """probabilities float32 (B, K) of the photographs at places `index` (B,), ascending; `unreadable` as in `Batch`."""

    index: np.ndarray
    probabilities: np.ndarray
    unreadable: list[tuple[int, str]]


def crop_probabilities(net: nn.Module, images: Tensor, crop: int, crops: int) -> Tensor:
    """images (B, 3, S, S) -> probabilities float32 (B, K), averaged over ten crops, or of the centre crop alone."""
    if crops == 1:
        return net.predict(centre_crop(images, crop)).float().softmax(1)
    views = ten_crop(images, crop)  # (B, 10, 3, crop, crop)
    logits = net.predict(views.flatten(0, 1).contiguous(memory_format=torch.channels_last))
    return logits.float().softmax(1).unflatten(0, views.shape[:2]).mean(1)


@torch.inference_mode()
def predict(net: nn.Module, loader: DataLoader, compute: Compute, crop: int, crops: int = 1) -> Iterator[Rows]:
    """Rows for every photograph of the loader, in its order; one that cannot be read gets the uniform distribution."""
    net.eval()
    for batch in batches(loader):
        bad = [index for index, _ in batch.unreadable]
        index = np.sort(np.concatenate([batch.index.numpy(), np.array(bad, np.int64)]))
        classes = net.classifier.out_features
        probabilities = np.full((len(index), classes), 1 / classes, np.float32)
        if len(batch.index):
            with compute.autocast():
                rows = crop_probabilities(net, network_input(batch.images, compute), crop, crops)
            probabilities[np.searchsorted(index, batch.index.numpy())] = rows.cpu().numpy()
        yield Rows(index, probabilities, batch.unreadable)
