"""The training loop: optimizer, manual decay, averaging, validation, checkpoints and logs around a method's `step`.

A run is a pure function of its settings and of (epoch, batch): the order of an epoch, every augmentation and every
dropout mask are drawn from seeds made of them. So a checkpoint needs no state of any random generator, and a run
that was stopped anywhere goes on exactly where it stopped.
"""

import argparse
import math
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from tqdm import tqdm

from data import Batch, Catalogue
from engine.checkpoint import FORMAT, joined_weights, save_checkpoint, split_weights, without_heads
from engine.cli import Interrupted, stop_requests
from engine.device import Compute
from engine.evaluate import predict
from engine.metrics import mean_class_error, top1_error
from engine.run_folder import RunFolder
from engine.setup import kept_settings
from errors import InputError

Step = Callable[[nn.Module, Batch], tuple[Tensor, dict[str, Tensor]]]
LOG_EVERY = 10  # batches between two readings of the loss, each of which waits for the device


def learning_rate(epochs_done: float, lr: float, decay_at: list[float], decay: float, warmup: float = 0.0) -> float:
    """Manual decay, the report's scheduler: `lr` times `decay` for every epoch of `decay_at` that is past.

    `warmup`: epochs in which the rate first rises linearly from zero (Goyal et al. 2017).
    """
    rise = min(1.0, epochs_done / warmup) if warmup else 1.0
    return lr * rise * decay ** sum(epochs_done >= epoch for epoch in decay_at)


class Average:
    """Exponential moving average of a network's parameters and buffers; its `module` is a network like any other."""

    def __init__(self, net: nn.Module, decay: float, state: dict | None = None):
        self.model = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
        if state:
            self.model.module.load_state_dict(state)
            self.model.n_averaged.fill_(1)  # else the first update would start from the network again

    @property
    def module(self) -> nn.Module:
        return self.model.module

    def update(self, net: nn.Module) -> None:
        self.model.update_parameters(net)


def step_seed(seed: int, epoch: int, batch: int) -> int:
    return int(np.random.SeedSequence([seed, epoch, batch]).generate_state(1, np.uint64)[0] >> 1)


def parameter_groups(net: nn.Module, head_rate: float) -> list[dict]:
    """The backbone, and what learns at `head_rate` times its rate: the classifier and a method's heads."""
    backbone = getattr(net, "net", net)
    slow = {id(p) for p in backbone.parameters()} - {id(p) for p in backbone.classifier.parameters()}
    return [
        {"params": [p for p in net.parameters() if id(p) in slow], "lr_scale": 1.0},
        {"params": [p for p in net.parameters() if id(p) not in slow], "lr_scale": head_rate},
    ]


class Trainer:
    """A network in training: where it stands (`epoch`, `batch` within it) and what it has seen so far.

    `step(net, batch) -> (loss, metrics)` is the method: a scalar to descend and scalars to report, each the mean over
    the batch. `args` are the script's settings; `resume` is a checkpoint to go on from; `head_rate`: see
    `parameter_groups`.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        net: nn.Module,
        catalogue: Catalogue,
        compute: Compute,
        resume: dict | None,
        head_rate: float = 1.0,
    ):
        self.args, self.catalogue, self.compute = args, catalogue, compute
        if resume:
            net.load_state_dict(joined_weights(resume, "model"))
        self.net = compute.network(net)
        groups = self.net.parameters() if head_rate == 1 else parameter_groups(self.net, head_rate)
        self.optimizer = torch.optim.SGD(groups, args.lr, args.momentum, weight_decay=args.weight_decay)
        averaged = joined_weights(resume, "ema") if resume and args.ema else None
        self.average = Average(self.net, args.ema, averaged) if args.ema else None
        self.epoch = self.batch = 0
        self.totals: dict[str, float | Tensor] = {}  # sums over the photographs of this epoch so far
        self.log: list[dict] = []  # a row an epoch
        self.best = math.inf
        if resume:
            self.optimizer.load_state_dict(resume["optimizer"])
            self.epoch, self.batch, self.log, self.best = (resume[key] for key in ("epoch", "batch", "log", "best"))
            self.totals = resume["totals"]
        self.folder = RunFolder(Path(args.out), fresh=resume is None)

    def state(self) -> dict:
        model, heads = split_weights(self.net)
        ema, ema_heads = split_weights(self.average.module) if self.average else (None, None)
        if heads is not None:  # apart, so that the rest is a checkpoint of the plain backbone
            heads = {"kind": type(self.net).__name__, "options": self.net.options, "model": heads, "ema": ema_heads}
        return {
            "format": FORMAT,
            "arch": self.args.arch,
            "classes": self.catalogue.classes,
            "class_ids": self.catalogue.class_ids,
            "settings": kept_settings(self.args),
            "script": Path(sys.argv[0]).name,
            "model": model,
            "ema": ema,
            "heads": heads,
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "batch": self.batch,
            "totals": self.totals,
            "log": self.log,
            "best": self.best,
        }

    def save(self) -> None:
        save_checkpoint(self.folder.path / "last.pt", self.state())

    def save_best(self) -> None:
        state = self.state()
        drop = state["heads"] and not self.net.heads_predict  # they have done their work: best.pt is a plain network
        save_checkpoint(self.folder.path / "best.pt", without_heads(state) if drop else state)

    def fit(self, step: Step, train: DataLoader, val: DataLoader | None) -> None:
        """Train to `args.epochs`, validating and saving after each; on SIGINT or SIGTERM save and raise Interrupted."""
        with stop_requests() as stop:
            while self.epoch < self.args.epochs:
                self._train_epoch(step, train, stop)
                self._close_epoch(val)
                self._stop_if_asked(stop)
        self.folder.close()

    def _train_epoch(self, step: Step, loader: DataLoader, stop: list[int]) -> None:
        loader.batch_sampler.epoch, loader.batch_sampler.start = self.epoch, self.batch
        batches = len(loader.batch_sampler)
        title = f"epoch {self.epoch + 1}/{self.args.epochs}"
        # disable=None: no bar where nobody watches; a line an epoch is printed in any case
        with tqdm(total=batches, initial=self.batch, desc=title, unit="batch", leave=False, disable=None) as bar:
            saved = mark = time.monotonic()
            for batch in loader:
                self.folder.note_unreadable(self.catalogue.split("train"), batch.unreadable)
                if len(batch.index) > 1:  # batch statistics of a single photograph are no statistics
                    self._train_batch(step, batch, batches)
                self.batch += 1
                bar.update()
                if self.batch % LOG_EVERY == 0 or self.batch == batches:
                    self._report(bar)
                mark, before = time.monotonic(), mark
                self._add("seconds", mark - before)
                if stop:
                    break
                if mark - saved > self.args.save_every * 60:
                    self.save()
                    saved = mark
        if self.batch < batches:
            self._stop_if_asked(stop)
        if not self.totals.get("images"):
            raise InputError(
                f"{self.catalogue.root}: not one training photograph could be read; see {self.folder.unreadable}"
            )

    def _train_batch(self, step: Step, batch: Batch, batches: int) -> None:
        args = self.args
        seed = step_seed(args.seed, self.epoch, self.batch)
        torch.manual_seed(seed)  # dropout
        done = self.epoch + self.batch / batches
        for group in self.optimizer.param_groups:
            rate = learning_rate(done, args.lr, args.decay_at, args.decay, args.warmup)
            group["lr"] = rate * group.get("lr_scale", 1)
        images = self.compute.images(batch.images, round(args.cutout * args.crop), torch.Generator().manual_seed(seed))
        target = batch.target.to(self.compute.device, non_blocking=True)
        batch = batch._replace(images=images, target=target, progress=done / args.epochs)
        self.net.train()
        with self.compute.autocast():
            loss, metrics = step(self.net, batch)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if self.average:
            self.average.update(self.net)
        self._add("images", len(images))
        for name, value in {"loss": loss, **metrics}.items():
            self._add(name, value.detach().double() * len(images))

    def _add(self, name: str, value: float | Tensor) -> None:
        self.totals[name] = self.totals.get(name, 0) + value

    def _means(self) -> dict[str, float]:
        """Means over the photographs of the epoch so far; a loss that is no number ends the run."""
        images = self.totals.get("images", 0)
        means = (
            {k: float(v) / images for k, v in self.totals.items() if k not in ("images", "seconds")} if images else {}
        )
        if not math.isfinite(means.get("loss", 0)):
            raise InputError(
                f"{self.folder.path}: the loss is not finite in epoch {self.epoch + 1}; lower --lr {self.args.lr:g} "
                "and go on from the last checkpoint with --resume"
            )
        return means

    def _report(self, bar: tqdm) -> None:
        means = self._means()
        rate = self.totals.get("images", 0) / max(self.totals.get("seconds", 0), 1e-9)
        bar.set_postfix({k: f"{v:.3f}" for k, v in means.items()} | {"images/s": f"{rate:.0f}"}, refresh=False)
        self.folder.curve({f"batch/{k}": v for k, v in means.items()}, self.epoch * bar.total + self.batch)

    def _close_epoch(self, val: DataLoader | None) -> None:
        """Validate, add a row to the log, save."""
        row = {"epoch": self.epoch + 1, "lr": self.optimizer.param_groups[0]["lr"]}
        row |= {f"train_{name}": mean for name, mean in self._means().items()}
        if val is not None:
            row |= self.validate(val)
        seconds = self.totals["seconds"]
        row |= {"images_per_second": self.totals["images"] / seconds, "seconds": seconds}
        self.log.append(row)
        self.epoch, self.batch, self.totals = self.epoch + 1, 0, {}
        error = row.get("val_mean_class_error", -self.epoch)  # without a validation split the newest is the best
        if error < self.best:
            self.best = error
            self.save_best()
        self.save()
        self.folder.write_log(self.log)
        print(describe_row(row, self.args.epochs), flush=True)

    def validate(self, loader: DataLoader) -> dict[str, float]:
        """Top-1 error and mean class error of the centre crop, as fractions."""
        labels, predicted = np.empty((2, len(loader.dataset)), np.int64)
        net = self.average.module if self.average else self.net
        split = loader.dataset.split
        for rows in predict(net, loader, self.compute, self.args.crop):
            labels[rows.index], predicted[rows.index] = split.labels[rows.index], rows.probabilities.argmax(1)
            self.folder.note_unreadable(split, rows.unreadable)
        return {
            "val_top1_error": top1_error(predicted, labels),
            "val_mean_class_error": mean_class_error(predicted, labels),
        }

    def _stop_if_asked(self, stop: list[int]) -> None:
        if stop:
            self.save()
            self.folder.close()
            raise Interrupted(stop[0], f"python {shlex.quote(sys.argv[0])} --resume --out {shlex.quote(self.args.out)}")


def describe_row(row: dict, epochs: int) -> str:
    """One line for people."""
    text = f"epoch {row['epoch']}/{epochs}: loss {row['train_loss']:.3f}"
    if "train_top1" in row:
        text += f", top-1 {100 * row['train_top1']:.1f} %"
    if "val_top1_error" in row:
        text += f"; validation top-1 error {100 * row['val_top1_error']:.2f} %"
        text += f", mean class error {100 * row['val_mean_class_error']:.2f} %"
    return text + f"; {row['images_per_second']:.0f} images/s, lr {row['lr']:.3g}"
