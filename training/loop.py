"""The training loop around a method's `step`: optimizer, decay, averaging, validation, checkpoints, logs.

The settings of a run decide all its random draws: their seeds are made of (seed, epoch, place in the epoch). So a
checkpoint needs no state of a random generator. A run that was stopped goes on exactly where it stopped.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from catalogues import Catalogue
from common.command_line import Interrupted, stop_requests
from common.device import Compute, compile_training
from common.errors import InputError
from common.processes import agree, barrier, summed, summed_array, world
from data import Batch, WorkerLost, batches, network_input
from models.checkpoint import joined_weights, save_checkpoint, split_weights, without_heads
from models.checkpoint_format import FORMAT
from predictions.metrics import mean_class_error, top1_error
from training.nan_guard import NanGuard
from training.optimisation import Average, learning_rate, parameter_groups
from training.parallel import black_batch, distributed, dropout_seed, same_buffers, with_synced_batch_norm
from training.run_folder import RunFolder
from training.run_info import write_run_info
from training.settings import command_to_resume, settings_to_keep
from training.totals import Totals, describe_epoch
from training.validation import validate

Step = Callable[[nn.Module, Batch], tuple[Tensor, dict[str, Tensor]]]
LOG_EVERY = 10  # batches between two readings of the loss: a reading waits for the device and for other processes


class Trainer:
    """Trains a network from `epoch` and `batch` (done so far, 0 for a new run) to `args.epochs`.

    `fit` takes the method's `step(net, batch) -> (loss, metrics)`: a scalar to minimise and a dict of scalars to
    report, each the mean over the batch.

    args: the script's settings.
    resume: the checkpoint to go on from, or None.

    One of several processes trains on its part of every batch. The loss of a part is weighted by its share of the
    photographs, so that the average of all gradients is that of the whole batch. The first process prints and writes.
    """

    def __init__(
        self, args: argparse.Namespace, net: nn.Module, catalogue: Catalogue, compute: Compute, resume: dict | None
    ):
        self.args, self.catalogue, self.compute, self.testing = args, catalogue, compute, compute.for_testing()
        if resume:
            net.load_state_dict(joined_weights(resume, "model"))
        self.net = compute.network(net)
        if args.sync_bn and world().size > 1:
            self.net = with_synced_batch_norm(self.net)
        groups = parameter_groups(self.net, args.head_rate, args.layer_decay)
        self.optimizer = torch.optim.SGD(groups, args.lr, args.momentum, weight_decay=args.weight_decay, fused=True)
        averaged = joined_weights(resume, "ema") if resume and args.ema else None
        self.average = Average(self.net, args.ema, averaged) if args.ema else None
        self.epoch = self.batch = 0
        self.totals = Totals()
        self.log: list[dict] = []  # a row an epoch
        self.best = math.inf  # lowest validation mean class error, a fraction
        if resume:
            self._restore(resume)
        if args.compile:
            compile_training(self.net)
        self.folder = RunFolder(Path(args.out), fresh=resume is None, overwrite=args.overwrite)
        write_run_info(self.folder, args, compute, catalogue)
        skipped = resume["skipped"] if resume else []
        self.nan_guard = NanGuard(self.folder, catalogue.split("train"), self.optimizer, args, skipped)
        self.model = distributed(self.net)  # with the gradients of all processes

    def _restore(self, resume: dict) -> None:
        self.optimizer.load_state_dict(resume["optimizer"])
        for group in self.optimizer.param_groups:  # the command line may change these
            group |= dict(momentum=self.args.momentum, weight_decay=self.args.weight_decay)
        self.epoch, self.batch, self.log, self.best = (resume[key] for key in ("epoch", "batch", "log", "best"))
        self.totals = Totals(resume["totals"] if world().first else {})

    def state(self) -> dict:
        """The checkpoint of the run as it is now; see `models.checkpoint_format`."""
        model, heads = split_weights(self.net)
        ema, ema_heads = split_weights(self.average.module) if self.average else (None, None)
        if heads is not None:  # kept separately: the rest is a checkpoint of the plain backbone
            heads = {"kind": type(self.net).__name__, "options": self.net.options, "model": heads, "ema": ema_heads}
        return {
            "format": FORMAT,
            "arch": self.args.arch,
            "classes": self.catalogue.classes,
            "class_ids": self.catalogue.class_ids,
            "held_back": list(self.catalogue.held_back),
            "settings": settings_to_keep(self.args),
            "script": Path(sys.argv[0]).name,
            "model": model,
            "ema": ema,
            "heads": heads,
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "batch": self.batch,
            "totals": summed(self.totals.sums),
            "log": self.log,
            "best": self.best,
            "skipped": self.nan_guard.skipped,
        }

    def save(self) -> None:
        self.nan_guard.require_losses()
        self.nan_guard.require_weights(self.net)
        state = self.state()
        if world().first:
            save_checkpoint(self.folder.path / "last.pt", state)
        barrier()

    def save_best(self) -> None:
        state = self.state()
        drop = state["heads"] and not self.net.heads_predict  # prediction does not need them
        if world().first:
            save_checkpoint(self.folder.path / "best.pt", without_heads(state) if drop else state)

    def fit(
        self,
        step: Step | None,
        train: DataLoader,
        val: DataLoader | None,
        first: Callable[["Trainer", list[int]], None] | None = None,
    ) -> None:
        """Train to `args.epochs`; validate and save after each epoch.

        step: None: an epoch only closes, after what `first` has done. first: `first(trainer, stop)` comes before all
        epochs; a run that is stopped in it begins with it again.

        After SIGINT or SIGTERM it saves and raises Interrupted. If a worker that reads photographs dies or hangs, it
        saves and raises InputError. One of several processes cannot save alone: it raises WorkerLost.
        """
        try:
            with stop_requests() as stop:
                if first and not self.epoch and not self.batch:
                    first(self, stop)
                    if signum := agree(stop)[0]:
                        self._stop(signum)
                while self.epoch < self.args.epochs:
                    if step:
                        self._train_epoch(step, train, stop)
                    self._close_epoch(val, stop)
        except WorkerLost as lost:
            if world().size > 1:
                raise
            self.save()
            raise InputError(f"{lost}; all is saved, go on with {command_to_resume(self.args.out)}") from lost
        finally:
            self.folder.close()

    def _train_epoch(self, step: Step, loader: DataLoader, stop: list[int]) -> None:
        loader.batch_sampler.go_to(self.epoch, self.batch)
        last = len(loader.batch_sampler)
        title = f"epoch {self.epoch + 1}/{self.args.epochs}"
        hidden = None if world().first else True  # None: a bar only if stderr is a terminal
        with tqdm(total=last, initial=self.batch, desc=title, unit="batch", leave=False, disable=hidden) as bar:
            saved = before = time.monotonic()
            for batch in batches(loader):
                self.folder.note_unreadable(self.catalogue.split("train"), batch.unreadable)
                self._train_batch(step, batch, last, loader.batch_sampler.group)
                self.batch += 1
                bar.update()
                if self.batch % LOG_EVERY == 0 or self.batch == last:
                    self._report(bar)
                now = time.monotonic()
                self.totals.add("seconds", now - before)
                before = now
                if world().size > 1 and self.batch % LOG_EVERY:
                    continue  # several processes stop or save only at a reading, where they agree on it
                signum, due = agree(stop, now - saved > self.args.save_every * 60)
                if signum:
                    self._stop(signum)
                if due:
                    self.save()
                    saved = now
        if not summed({"images": self.totals.images})["images"]:
            few = "no batch had two training photographs that can be read, which batch normalisation needs"
            raise InputError(f"{self.catalogue.root}: {few}; see {self.folder.unreadable}")

    def _train_batch(self, step: Step, batch: Batch, count: int, group: int) -> None:
        """Take one step of the optimizer for this batch, or for the batch of all processes that it is a part of.

        count: batches in an epoch. group: number of adjacent photographs that stay together.
        """
        args, several = self.args, world().size > 1
        enough = len(batch.index) > 1  # a single photograph has no batch statistics
        if not enough:
            if not several:
                return
            batch = black_batch(2 * group, args.crop)  # the others wait for this process's gradient: it is zero
        elif not several:
            batch = batch._replace(whole=len(batch.index))
        epochs_done = self.epoch + self.batch / count
        rate = learning_rate(epochs_done, args.epochs, args.lr, args.decay_at, args.decay, args.warmup, args.schedule)
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = rate * parameters.get("lr_scale", 1)
        self.net.train()
        self.optimizer.zero_grad()
        pieces = list(batch._replace(progress=epochs_done / args.epochs).pieces(args.accumulate, group))
        before = self.totals.copy(), [buffer.clone() for buffer in self.net.buffers()] if args.skip_nonfinite else []
        losses = []
        for number, piece in enumerate(pieces, 1):  # the last backward pass averages the gradients of all processes
            with self.model.no_sync() if several and number < len(pieces) else nullcontext():
                losses.append(self._backward(step, piece, number, len(piece.index) * enough))
        self.nan_guard.note(self.epoch, self.batch, batch.index, sum(losses))
        if args.skip_nonfinite and not self.nan_guard.step_is_finite(self.net):
            return self._skip(*before)
        self.optimizer.step()
        if self.average:
            self.average.update(self.net)

    def _backward(self, step: Step, piece: Batch, number: int, images: int) -> Tensor:
        """Add the gradient of a piece of the batch, weighted by its share of the photographs.

        number: of the piece, from 1. images: number of its photographs, 0 for black ones. Returns the loss, a scalar.
        """
        args, piece = self.args, piece.with_generators()
        torch.manual_seed(dropout_seed(args.seed, self.epoch, self.batch, number))
        inputs = network_input(piece.images, self.compute, round(args.cutout * args.crop), piece.generators)
        target = piece.target.to(self.compute.device, non_blocking=True)
        with self.compute.autocast():
            loss, metrics = step(self.model, piece._replace(images=inputs, target=target))
        share = images * world().size / piece.whole  # DDP divides the sum of all processes' gradients by their number
        (loss if share == 1 else loss * share).backward()
        self.totals.add("images", images)
        for name, value in {"loss": loss, **metrics}.items():
            self.totals.add(name, value.detach().double() * images)
        return loss.detach()

    def _skip(self, totals: Totals, buffers: list[Tensor]) -> None:
        """Leave the batch out: restore the sums and the batch statistics of before."""
        self.totals = totals
        with torch.no_grad():
            for buffer, value in zip(self.net.buffers(), buffers, strict=True):
                buffer.copy_(value)
        self.nan_guard.skip()

    def _report(self, bar: tqdm) -> None:
        self.nan_guard.require_losses()
        means = self.totals.means()
        rate = world().size * self.totals.images / max(self.totals.seconds, 1e-9)
        bar.set_postfix({k: f"{v:.3f}" for k, v in means.items()} | {"images/s": f"{rate:.0f}"}, refresh=False)
        self.folder.curve({f"batch/{k}": v for k, v in means.items()}, self.epoch * bar.total + self.batch)

    def _close_epoch(self, val: DataLoader | None, stop: list[int]) -> None:
        """Validate, add a row to the log, save.

        last.pt is written last. A run that is killed before that goes on from the previous last.pt and writes the other
        files again, with the same content.
        """
        self.nan_guard.require_losses()
        self.nan_guard.require_weights(self.net)
        row = {"epoch": self.epoch + 1, "lr": self.optimizer.param_groups[0]["lr"]}
        row |= {f"train_{name}": mean for name, mean in self.totals.means().items()}
        if val is not None:
            row |= self._validate(val, stop)
        row |= self.totals.speed()
        self.log.append(row)
        self.folder.gather_unreadable()
        self.epoch, self.batch, self.totals = self.epoch + 1, 0, Totals()
        if val is None:  # without validation errors the newest network is the best
            self.save_best()
        elif row["val_mean_class_error"] < self.best:
            self.best = row["val_mean_class_error"]
            self.save_best()
        self.folder.write_log(self.log)
        self.save()
        if world().first:
            print(describe_epoch(row, self.args.epochs), flush=True)
        if signum := agree(stop)[0]:
            self._stop(signum)

    def _validate(self, loader: DataLoader, stop: list[int]) -> dict[str, float]:
        """Top-1 error and mean class error, as fractions, of the network, or of its average with --ema."""
        net = self.average.module if self.average else self.net
        same_buffers(net, self.net)
        rows = validate(net, loader, self.testing, self.args.crop, self.folder.note_unreadable, stop)
        if signum := agree(stop)[0]:
            self._stop(signum)
        predicted, labels = map(summed_array, rows)
        return {
            "val_top1_error": top1_error(predicted, labels),
            "val_mean_class_error": mean_class_error(predicted, labels),
        }

    def _stop(self, signum: int) -> None:
        self.save()
        raise Interrupted(signum, command_to_resume(self.args.out))
