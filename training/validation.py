"""Predictions of a network for the validation split, between epochs of its training."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from catalogues import Split
from common.device import Compute, in_pieces
from data import batches, centre_crop, network_input


@torch.inference_mode()
def validate(
    net: nn.Module,
    loader: DataLoader,
    compute: Compute,
    crop: int,
    note_unreadable: Callable[[Split, list], None],
    stop: list[int],
) -> tuple[np.ndarray, np.ndarray]:
    """Predict the centre crop of each photograph in this process's share. It ends early once `stop` is not empty.

    crop: side in pixels.
    note_unreadable: is called with the split and the pairs (place, reason) of photographs that cannot be read. Their
    prediction is class 0.

    Returns predicted classes and labels, int64 (n,) of the n photographs of the split; 0 outside this share.
    """
    split = loader.dataset.split
    labels, predicted = np.zeros((2, len(split)), np.int64)  # each process fills in its share
    net.eval()
    for batch in batches(loader):
        index, unreadable = batch.index.numpy(), [index for index, _ in batch.unreadable]
        labels[index], labels[unreadable] = split.labels[index], split.labels[unreadable]
        if len(index):
            images = centre_crop(network_input(batch.images, compute), crop)
            with compute.autocast():
                logits = in_pieces(net.predict, images, compute.images_at_once(crop))
            predicted[index] = logits.argmax(1).cpu().numpy()
        note_unreadable(split, batch.unreadable)
        if stop:
            break
    return predicted, labels
