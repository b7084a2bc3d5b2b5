"""Train the classifier alone, on features of the frozen backbone that are computed once.

A fresh classifier sends large random gradients into a pretrained backbone. Trained before anything else moves, it
spares the backbone that (linear probing, then finetuning: Kumar et al., ICLR 2022). Alone it is a usable model.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from tqdm import tqdm

from common.device import in_pieces
from common.errors import InputError
from common.processes import agree, summed_array, world
from data import batches, centre_crop, network_input
from training.optimisation import learning_rate

if TYPE_CHECKING:
    from training.loop import Trainer

RATE, MOMENTUM, BATCH_SIZE = 0.02, 0.9, 64  # of SGD on features whose mean square is 1


def learn_head(trainer: Trainer, loader: DataLoader, places: np.ndarray, stop: list[int]) -> None:
    """Train the classifier of `trainer.net` for `args.head_epochs` epochs; nothing else in the network changes.

    loader: this process's share of the training photographs, squashed, as `data.eval_loader` reads them.
    places: of the training photographs of all processes in their split, ascending.
    stop: a list of signals. As soon as it has one, the classifier stays as it is.

    Adds the loss and the accuracy of the last epoch, and the seconds of all, to `trainer.totals`.
    """
    started, args = time.monotonic(), trainer.args
    rows, target = frozen_features(trainer, loader, places, stop)
    if agree(stop)[0]:
        return
    if not len(rows):
        raise InputError(f"{trainer.catalogue.root}: not one training photograph could be read")
    device = trainer.compute.device
    features, target = torch.from_numpy(rows).to(device), torch.from_numpy(target).to(device)
    loss, top1 = fit_classifier(trainer.net.classifier, features, target, args.head_epochs, args.seed)
    seconds = time.monotonic() - started
    trainer.totals.add("images", len(rows) / world().size)
    trainer.totals.add("loss", loss * len(rows) / world().size)
    trainer.totals.add("top1", top1 * len(rows) / world().size)
    trainer.totals.add("seconds", seconds)
    if world().first:
        print(
            f"head       {args.head_epochs} epochs on features of {len(rows):,} photographs: loss {loss:.3f}, "
            f"top-1 {100 * top1:.1f} %, {seconds:.0f} s",
            flush=True,
        )


@torch.no_grad()
def frozen_features(
    trainer: Trainer, loader: DataLoader, places: np.ndarray, stop: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """What the classifier reads of the centre crop of each photograph: float16 (n, C), and labels int64 (n,).

    The n photographs of all processes that can be read, in the order of `places`. With 1,280 channels a million of them
    takes 2.6 GB. It ends early when `stop` is not empty.
    """
    net, compute, split, crop = trainer.net.backbone, trainer.testing, loader.dataset.split, trainer.args.crop
    most = compute.images_at_once(crop)
    net.eval()
    rows = np.zeros((len(places), net.classifier.in_features), np.float16)
    read = np.zeros(len(places), np.uint8)
    hidden = None if world().first else True  # None: a bar only if stderr is a terminal
    for batch in tqdm(batches(loader), "features", len(loader), leave=False, unit="batch", disable=hidden):
        trainer.folder.note_unreadable(split, batch.unreadable)
        if len(batch.index):
            images = centre_crop(network_input(batch.images, compute), crop)
            with compute.autocast():
                features = in_pieces(lambda piece: net.pool(net.features(piece)), images, most)
            at = np.searchsorted(places, batch.index.numpy())
            rows[at], read[at] = features.float().cpu().numpy(), 1
        if stop:
            break
    summed_array(rows.view(np.uint8))  # all processes but one have zeros in a row, so the sum of its bytes is exact
    there = np.flatnonzero(summed_array(read))
    return rows[there], split.labels[places[there]].astype(np.int64)


def fit_classifier(
    classifier: nn.Linear, features: Tensor, target: Tensor, epochs: int, seed: int
) -> tuple[float, float]:
    """Multinomial logistic regression by SGD, from zero: mean loss and accuracy of the last epoch.

    features: (n, C), of any scale: they are divided by their root mean square. target: int64 (n,). The result is a
    function of the seed, and replaces the weights of `classifier`.
    """
    scale = features.float().square().mean().sqrt().clamp_min(1e-12)
    weight = torch.zeros_like(classifier.weight, requires_grad=True)
    bias = torch.zeros_like(classifier.bias, requires_grad=True)
    optimizer = torch.optim.SGD([weight, bias], RATE, MOMENTUM)
    count = -(-len(features) // BATCH_SIZE)
    for epoch in range(epochs):
        order = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed + epoch)).to(target.device)
        loss_sum = right = 0.0
        for number, places in enumerate(order.tensor_split(count)):
            optimizer.param_groups[0]["lr"] = learning_rate(
                epoch + number / count, epochs, RATE, [], 1.0, schedule="cosine"
            )
            logits = (features[places].to(weight.dtype) / scale) @ weight.T + bias
            loss = cross_entropy(logits, target[places])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_sum += loss.item() * len(places)
            right += (logits.argmax(1) == target[places]).sum().item()
    with torch.no_grad():
        classifier.weight.copy_(weight / scale)
        classifier.bias.copy_(bias)
    return loss_sum / len(features), right / len(features)
