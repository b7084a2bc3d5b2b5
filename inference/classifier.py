"""A trained network with all that it needs to predict: classes, sides of photographs and crops, device, precision."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.utils.data import DataLoader

from catalogues import Catalogue, Split, open_catalogue
from common.device import Compute, choose_compute, default_workers, in_pieces
from common.errors import InputError
from common.flags import FITS
from data import (
    UnreadablePhotograph,
    batches,
    centre_crop,
    eval_loader,
    network_input,
    read_squashed,
    ten_crop,
    with_held_back,
)
from models.backbone import require_side
from models.checkpoint import load_checkpoint, network_of
from models.checkpoint_format import SIDE, USE_ANOTHER

BATCH_SIZE = 32  # photographs that are read at once, as in predict.py


class Rows(NamedTuple):
    """Probabilities float32 (B, K) of the photographs at places `index` (B,), ascending; `unreadable`: see `Batch`."""

    index: np.ndarray
    probabilities: np.ndarray
    unreadable: list[tuple[int, str]]


@dataclass
class Classifier:
    """A trained network that predicts; `Classifier.load` makes one from a checkpoint.

    net: a network of `models`, on the device of `compute` and in evaluation mode from now on.
    compute: device, precision and memory layout.
    resize: side of a squashed photograph, in pixels. crop: side of the square that the network gets, in pixels.
    classes, class_ids: names and ids of the K classes, in the order of the logits.
    arch: name of the backbone, as `models.create_model` takes it.
    settings: the arguments of the training run. fit: of photographs that are not square, see `data.fitted`.
    held_back: ids of the photographs that the training has held back for validation.
    source: names the checkpoint in messages.

    `images` of its methods: squashed RGB bytes uint8 (B, resize, resize, 3), an array or a tensor; or a sequence of
    paths of photographs. The methods return tensors on the CPU. They raise InputError for images of another shape or
    type, and for a photograph that cannot be read.
    """

    net: nn.Module
    compute: Compute
    resize: int
    crop: int
    classes: list[str]
    class_ids: list[str | int]
    arch: str = ""
    settings: dict = field(default_factory=dict)
    fit: str = "squash"
    held_back: list[str] = field(default_factory=list)
    source: str = "the network"

    def __post_init__(self):
        self.net = self.compute.network(self.net).eval()

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: str | None = None,
        precision: str | None = None,
        memory_format: str | None = None,
        *,
        heads: str = "auto",
        resize: int | None = None,
        crop: int | None = None,
        compute: Compute | None = None,
    ) -> Classifier:
        """The network of the checkpoint at `path`: the averaged weights where it has some.

        device: cpu, cuda, cuda:1, …; None: CUDA where there is one.
        precision: float32, bf16, or auto (the same as None), what is fastest on the device.
        memory_format: channels_last, contiguous, or auto (the same as None), channels_last.
        heads: auto, the heads of the method that trained it predict too; plain, the backbone's own classifier alone.
        resize, crop: sides in pixels, 32 to 4096; None: those of the training.
        compute: takes the place of device, precision and memory_format (default: None).

        Raises InputError for a checkpoint that is missing, damaged or of another kind, and for a wrong argument.
        """
        state = load_checkpoint(path)
        sides = _sides(state["settings"], resize, crop, path)
        if heads not in ("auto", "plain"):
            raise InputError(f"--head {heads}: expected auto or plain")
        net = network_of(state, path, heads=heads == "auto")
        require_side(net, sides[1])
        if compute is None:
            compute = choose_compute(net, device, precision or "auto", memory_format or "auto", join_processes=False)
            compute = compute.for_testing()
        fit = state["settings"].get("fit", "squash")
        if fit not in FITS:
            raise InputError(f"{path}: fit {fit!r} is none of {', '.join(FITS)}; {USE_ANOTHER}")
        kept = {key: state[key] for key in ("classes", "class_ids", "arch", "settings", "held_back")}
        return cls(net, compute, *sides, **kept, fit=fit, source=str(path))

    @property
    def backbone(self) -> nn.Module:
        """The network without the heads of a method."""
        return self.net.backbone

    def catalogue(self, folder: str | None = None, ignore_unknown_classes: bool = False) -> Catalogue:
        """The catalogue of the training, or the one in `folder`, with the validation split of the training.

        Raises InputError for a catalogue that cannot be used or has other classes.
        """
        ignore = ignore_unknown_classes or bool(self.settings.get("ignore_unknown_classes"))
        catalogue = open_catalogue(folder or self.settings["data"], ignore)
        catalogue.require_classes(self.classes, self.source)
        catalogue.require_fit(self.fit, self.source)
        if not self.held_back or "val" in catalogue.splits:
            return catalogue
        try:
            return with_held_back(catalogue, self.held_back, self.source)
        except InputError:
            if not folder:
                raise
            return catalogue  # another one, with other photographs

    def logits(self, images: np.ndarray | Tensor | Sequence[str | Path]) -> Tensor:
        """float32 (B, K), of the centre crop of each image."""
        return self._each_batch(images, lambda batch: self._of_centre_crops(self.net.predict, batch))

    def probabilities(self, images: np.ndarray | Tensor | Sequence[str | Path], crops: int = 10) -> Tensor:
        """float32 (B, K): the mean of the softmax of ten crops, or with crops=1 the softmax of the centre crop."""
        if crops not in (1, 10):
            raise InputError(f"--crops {crops}: expected 1 or 10")
        return self._each_batch(images, lambda batch: self._probabilities(batch, crops))

    def embed(self, images: np.ndarray | Tensor | Sequence[str | Path], normalise: bool = False) -> Tensor:
        """float32 (B, feature_dim): the pooled features of the centre crop; `normalise`: each of Euclidean length 1."""
        backbone = self.backbone

        def pooled(crops: Tensor) -> Tensor:
            return backbone.pool(backbone.features(crops))

        features = self._each_batch(images, lambda batch: self._of_centre_crops(pooled, batch))
        return normalize(features) if normalise else features

    def loader(
        self,
        split: Split,
        batch_size: int = BATCH_SIZE,
        workers: int | None = None,
        places: range | None = None,
        patience: float = 0,
    ) -> DataLoader:
        """The photographs of the split, or of these places of it, in order and squashed to `resize`, for `rows`.

        workers: processes that read; None: see `default_workers`. patience: seconds for a photograph; 0: any number.
        """
        workers = default_workers() if workers is None else workers
        return eval_loader(
            split, self.resize, batch_size, workers, self.compute.device.type == "cuda", places, patience, self.fit
        )

    @torch.inference_mode()
    def rows(self, loader: DataLoader, crops: int = 10) -> Iterator[Rows]:
        """Rows for every photograph of the loader, in its order; one that cannot be read gets the uniform distribution.

        loader: see `loader`.
        """
        for batch in batches(loader):
            unreadable = [index for index, _ in batch.unreadable]
            index = np.sort(np.concatenate([batch.index.numpy(), np.array(unreadable, np.int64)]))
            probabilities = np.full((len(index), len(self.classes)), 1 / len(self.classes), np.float32)
            if len(batch.index):
                images = network_input(batch.images, self.compute)
                with self.compute.autocast():
                    rows = self._probabilities(images, crops)
                probabilities[np.searchsorted(index, batch.index.numpy())] = rows.cpu().numpy()
            yield Rows(index, probabilities, batch.unreadable)

    @torch.no_grad()
    def network_logits(self, images: Tensor) -> Tensor:
        """float32 (B, K) on the device, of what the network gets: normalised images (B, 3, H, W) on the device."""
        with self.compute.autocast():
            return in_pieces(self.net.predict, images, self.compute.images_at_once(images.shape[-1])).float()

    def photographs_at_once(self, crops: int) -> int:
        """The most photographs whose crops go through the network together.

        Where it is 1, the rows of a photograph have the same bits in every batch. Else rounding depends on the batch.
        """
        return max(1, self.compute.images_at_once(self.crop) // crops)

    def _probabilities(self, images: Tensor, crops: int) -> Tensor:
        """images (B, 3, S, S), normalised, on the device -> probabilities float32 (B, K)."""
        if crops == 1:
            return self._of_centre_crops(self.net.predict, images).float().softmax(1)
        return in_pieces(self._of_ten_crops, images, self.photographs_at_once(crops))

    def _of_centre_crops(self, rows: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """`rows` of the centre crops of images (B, 3, S, S)."""
        return in_pieces(rows, centre_crop(images, self.crop), self.compute.images_at_once(self.crop))

    def _of_ten_crops(self, images: Tensor) -> Tensor:
        """images (B, 3, S, S) -> probabilities float32 (B, K)."""
        views = ten_crop(images, self.crop)  # (B, 10, 3, crop, crop)
        crops = views.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        logits = in_pieces(self.net.predict, crops, self.compute.images_at_once(self.crop))
        return logits.float().softmax(1).unflatten(0, views.shape[:2]).mean(1)

    @torch.no_grad()
    def _each_batch(self, images, compute_rows) -> Tensor:
        """`compute_rows` of normalised images (B, 3, S, S) on the device, batch by batch: float32 on the CPU."""
        rows = []
        for batch in self._byte_batches(images):
            with self.compute.autocast():
                rows.append(compute_rows(network_input(batch.permute(0, 3, 1, 2), self.compute)).float().cpu())
        return torch.cat(rows)

    def _byte_batches(self, images: np.ndarray | Tensor | Sequence[str | Path]) -> Iterator[Tensor]:
        """uint8 (n, S, S, 3), n at most BATCH_SIZE; one of n = 0 where there are no images."""
        side = self.resize
        if isinstance(images, str | os.PathLike):
            images = [images]
        if isinstance(images, np.ndarray | Tensor):
            kind = str(images.dtype).removeprefix("torch.")
            if kind != "uint8" or images.ndim != 4 or tuple(images.shape[1:]) != (side, side, 3):
                shape = ", ".join(map(str, images.shape))
                raise InputError(f"images {kind} ({shape}): expected uint8 (B, {side}, {side}, 3), squashed RGB bytes")
        elif not all(isinstance(path, str | os.PathLike) for path in images):
            raise InputError(
                f"images: expected an array, a tensor, or paths of photographs, not {type(images).__name__}"
            )
        for start in range(0, max(1, len(images)), BATCH_SIZE):
            some = images[start : start + BATCH_SIZE]
            if not isinstance(some, np.ndarray | Tensor):
                some = [_squashed(path, side, self.fit) for path in some] or np.empty((0, side, side, 3), np.uint8)
            yield some if isinstance(some, Tensor) else torch.from_numpy(np.array(some))  # a copy: it may be read-only


def _squashed(path: str | Path, side: int, fit: str) -> np.ndarray:
    try:
        return read_squashed(path, side, fit)
    except UnreadablePhotograph as error:
        raise InputError(f"{path}: cannot be read ({error}); name another photograph") from error


def _sides(settings: dict, resize: int | None, crop: int | None, path: str | Path) -> tuple[int, int]:
    """The sides of photographs and crops: those that are given, else those of the training."""
    for name, side in (("resize", resize), ("crop", crop)):
        if side is not None and side not in SIDE:
            raise InputError(f"--{name} {side}: expected {SIDE.start} to {SIDE.stop - 1} pixels")
    sides = resize or settings["resize"], crop or settings["crop"]
    if sides[1] > sides[0]:
        if resize is None and crop is None:
            raise InputError(f"{path}: crops of {sides[1]} are larger than photographs of {sides[0]}; {USE_ANOTHER}")
        raise InputError(f"--crop {sides[1]} is larger than --resize {sides[0]}; make the crop smaller")
    return sides
