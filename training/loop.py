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
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from common.command_line import Interrupted, stop_requests
from common.device import Compute, compile_training
from common.errors import InputError
from common.processes import (
    added,
    barrier,
    gathered,
    summed,
    world,
)
from data import Batch, Catalogue, WorkerLost, batches, centre_crop, network_input
from models.checkpoint import joined_weights, save_checkpoint, split_weights, without_heads
from models.checkpoint_format import FORMAT
from predictions.metrics import mean_class_error, top1_error
from training.nan_guard import FiniteWatch
from training.optimisation import Average, learning_rate, parameter_groups
from training.parallel import distributed, same_buffers, with_synced_batch_norm
from training.run_folder import RunFolder
from training.run_info import write_facts
from training.setup import kept_settings

Step = Callable[[nn.Module, Batch], tuple[Tensor, dict[str, Tensor]]]
LOG_EVERY = 10  # batches between two readings of the loss, each of which waits for the device and for other processes


def dropout_seed(seed: int, epoch: int, batch: int, piece: int) -> int:
    """Of what a network itself draws: dropout has no photograph to be drawn from, so each piece of work has its own."""
    key = [seed, epoch, batch, piece, world().rank]
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)


class Trainer:
    """A network in training: where it stands (`epoch`, `batch` within it) and what it has seen so far.

    `step(net, batch) -> (loss, metrics)` is the method: a scalar to descend and scalars to report, each the mean over
    the batch. `args` are the script's settings; `resume` is a checkpoint to go on from; `head_rate`: see
    `parameter_groups`.

    As one of several processes (`common.processes`) it trains on its part of every batch, and its gradient is that of
    the whole batch: the loss of a part counts by its share of the photographs. The first process prints and writes.
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
        if args.sync_bn and world().size > 1:
            self.net = with_synced_batch_norm(self.net)
        groups = self.net.parameters() if head_rate == 1 else parameter_groups(self.net, head_rate)
        self.optimizer = torch.optim.SGD(groups, args.lr, args.momentum, weight_decay=args.weight_decay, fused=True)
        averaged = joined_weights(resume, "ema") if resume and args.ema else None
        self.average = Average(self.net, args.ema, averaged) if args.ema else None
        self.epoch = self.batch = 0
        self.totals: dict[str, float | Tensor] = {}  # sums over the photographs of this epoch so far
        self.log: list[dict] = []  # a row an epoch
        self.best = math.inf
        if resume:
            self.optimizer.load_state_dict(resume["optimizer"])
            for group in self.optimizer.param_groups:  # these may be given anew
                group |= dict(momentum=args.momentum, weight_decay=args.weight_decay)
            self.epoch, self.batch, self.log, self.best = (resume[key] for key in ("epoch", "batch", "log", "best"))
            self.totals = resume["totals"] if world().first else {}
        if args.compile:
            compile_training(self.net)
        self.folder = RunFolder(Path(args.out), fresh=resume is None, overwrite=args.overwrite)
        write_facts(self.folder.path, args, compute)
        skipped = resume["skipped"] if resume else []
        self.finite = FiniteWatch(self.folder, catalogue.split("train"), self.optimizer, args, skipped)
        self.model = distributed(self.net)  # with gradients of all processes

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
            "totals": summed(self.totals),
            "log": self.log,
            "best": self.best,
            "skipped": self.finite.skipped,
        }

    def save(self) -> None:
        self.finite.require_losses()
        self.finite.require_weights(self.net)
        state = self.state()
        if world().first:
            save_checkpoint(self.folder.path / "last.pt", state)
        barrier()

    def save_best(self) -> None:
        state = self.state()
        drop = state["heads"] and not self.net.heads_predict  # they have done their work: best.pt is a plain network
        if world().first:
            save_checkpoint(self.folder.path / "best.pt", without_heads(state) if drop else state)

    def fit(self, step: Step, train: DataLoader, val: DataLoader | None) -> None:
        """Train to `args.epochs`, validating and saving after each; on SIGINT or SIGTERM save and raise Interrupted.

        So it does where a process that reads photographs is lost, with an InputError; but not as one of several, where
        the others know nothing of it.
        """
        try:
            with stop_requests() as stop:
                while self.epoch < self.args.epochs:
                    self._train_epoch(step, train, stop)
                    self._close_epoch(val, stop)
        except WorkerLost as lost:
            if world().size > 1:
                raise
            self.save()
            raise InputError(f"{lost}; all is saved, go on with {self._resume()}") from lost
        finally:
            self.folder.close()

    def _train_epoch(self, step: Step, loader: DataLoader, stop: list[int]) -> None:
        loader.batch_sampler.go_to(self.epoch, self.batch)
        last = len(loader.batch_sampler)
        title = f"epoch {self.epoch + 1}/{self.args.epochs}"
        # None: no bar where nobody watches; a line an epoch is printed in any case
        hidden = None if world().first else True
        with tqdm(total=last, initial=self.batch, desc=title, unit="batch", leave=False, disable=hidden) as bar:
            saved = mark = time.monotonic()
            for batch in batches(loader):
                self.folder.note_unreadable(self.catalogue.split("train"), batch.unreadable)
                self._train_batch(step, batch, last, loader.batch_sampler.group)
                self.batch += 1
                bar.update()
                if self.batch % LOG_EVERY == 0 or self.batch == last:
                    self._report(bar)
                mark, before = time.monotonic(), mark
                self._add("seconds", mark - before)
                if world().size > 1 and self.batch % LOG_EVERY:
                    continue  # all stop, or save, where all hear of it
                asked, due = self._agree(stop, mark - saved > self.args.save_every * 60)
                if asked:
                    self._stop(asked)
                if due:
                    self.save()
                    saved = mark
        if not summed({"images": self.totals.get("images", 0)})["images"]:
            raise InputError(
                f"{self.catalogue.root}: not one training photograph could be read; see {self.folder.unreadable}"
            )

    def _agree(self, stop: list[int], due: bool = False) -> tuple[int, bool]:
        """The same for every process: a signal that one of them has received, or 0; and what `due` is for the first.

        What a process does follows from this alone: a signal may reach it, and no other, at any moment.
        """
        signals, dues = zip(*gathered((list(stop), due)), strict=True)
        return next((signum for received in signals for signum in received), 0), dues[0]

    def _train_batch(self, step: Step, batch: Batch, count: int, group: int) -> None:
        """Descend the loss of the batch, or this process's share in that of the batch of all processes.

        count: batches of an epoch; group: photographs that belong together."""
        args, several = self.args, world().size > 1
        enough = len(batch.index) > 1  # batch statistics of a single photograph are no statistics
        if not enough:
            if not several:
                return
            batch = self._blank(2 * group)  # the others wait for a gradient: it is zero
        elif not several:
            batch = batch._replace(whole=len(batch.index))
        done = self.epoch + self.batch / count
        rate = learning_rate(done, args.lr, args.decay_at, args.decay, args.warmup)
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = rate * parameters.get("lr_scale", 1)
        self.net.train()
        self.optimizer.zero_grad()
        pieces = list(batch._replace(progress=done / args.epochs).pieces(args.accumulate, group))
        before = self.totals.copy(), [buffer.clone() for buffer in self.net.buffers()] if args.skip_nonfinite else []
        losses = []
        for number, piece in enumerate(pieces, 1):  # the last one's backward pass averages over all processes
            with self.model.no_sync() if several and number < len(pieces) else nullcontext():
                losses.append(self._backward(step, piece, number, len(piece.index) * enough))
        self.finite.note(self.epoch, self.batch, batch.index, sum(losses))
        if args.skip_nonfinite and not self.finite.step_is_finite(self.net):
            return self._skip(*before)
        self.optimizer.step()
        if self.average:
            self.average.update(self.net)

    def _skip(self, totals: dict, buffers: list[Tensor]) -> None:
        """Leave the batch out, as if it had not been: batch statistics and sums are what they were."""
        self.totals = totals
        with torch.no_grad():
            for buffer, value in zip(self.net.buffers(), buffers, strict=True):
                buffer.copy_(value)
        self.finite.skip()

    def _backward(self, step: Step, piece: Batch, number: int, images: int) -> Tensor:
        """Add the gradient of a piece, as large as its share of the whole batch; `images`: that count in it.

        Returns the loss, a scalar."""
        args, piece = self.args, piece.with_generators()
        torch.manual_seed(dropout_seed(args.seed, self.epoch, self.batch, number))
        inputs = network_input(piece.images, self.compute, round(args.cutout * args.crop), piece.generators)
        target = piece.target.to(self.compute.device, non_blocking=True)
        with self.compute.autocast():
            loss, metrics = step(self.model, piece._replace(images=inputs, target=target))
        share = images * world().size / piece.whole  # DDP divides the sum of all processes' gradients by their number
        (loss if share == 1 else loss * share).backward()
        self._add("images", images)
        for name, value in {"loss": loss, **metrics}.items():
            self._add(name, value.detach().double() * images)
        return loss.detach()

    def _blank(self, n: int) -> Batch:
        """n photographs of nothing."""
        side, zeros = self.args.crop, torch.zeros(n, dtype=torch.int64)
        return Batch(torch.zeros(n, 3, side, side, dtype=torch.uint8), zeros, zeros, [], seeds=zeros, whole=n)

    def _add(self, name: str, value: float | Tensor) -> None:
        self.totals[name] = self.totals.get(name, 0) + value

    def _means(self) -> dict[str, float]:
        """Means over the photographs of the epoch so far."""
        totals = summed(self.totals)
        images = totals.get("images", 0)
        return {k: float(v) / images for k, v in totals.items() if k not in ("images", "seconds")} if images else {}

    def _report(self, bar: tqdm) -> None:
        self.finite.require_losses()
        means = self._means()
        rate = world().size * self.totals.get("images", 0) / max(self.totals.get("seconds", 0), 1e-9)
        bar.set_postfix({k: f"{v:.3f}" for k, v in means.items()} | {"images/s": f"{rate:.0f}"}, refresh=False)
        self.folder.curve({f"batch/{k}": v for k, v in means.items()}, self.epoch * bar.total + self.batch)

    def _close_epoch(self, val: DataLoader | None, stop: list[int]) -> None:
        """Validate, add a row to the log, save.

        last.pt comes last: who stops before goes on from the one before it, and writes the others again as they are.
        """
        self.finite.require_losses()
        self.finite.require_weights(self.net)
        row = {"epoch": self.epoch + 1, "lr": self.optimizer.param_groups[0]["lr"]}
        row |= {f"train_{name}": mean for name, mean in self._means().items()}
        if val is not None:
            row |= self.validate(val, stop)
        totals = summed(self.totals)
        seconds = totals["seconds"] / world().size
        row |= {"images_per_second": totals["images"] / seconds, "seconds": seconds}
        self.log.append(row)
        self.folder.gather_unreadable()
        self.epoch, self.batch, self.totals = self.epoch + 1, 0, {}
        error = row.get("val_mean_class_error", -self.epoch)  # without a validation split the newest is the best
        if error < self.best:
            self.best = error
            self.save_best()
        self.folder.write_log(self.log)
        self.save()
        if world().first:
            print(describe_row(row, self.args.epochs), flush=True)
        if asked := self._agree(stop)[0]:
            self._stop(asked)

    def validate(self, loader: DataLoader, stop: list[int]) -> dict[str, float]:
        """Top-1 error and mean class error of the centre crop, as fractions; a signal stops the run within it."""
        labels, predicted = np.zeros((2, len(loader.dataset)), np.int64)  # each process fills in its own
        net = self.average.module if self.average else self.net
        same_buffers(net, self.net)
        split = loader.dataset.split
        net.eval()
        for batch in batches(loader):
            index, bad = batch.index.numpy(), [index for index, _ in batch.unreadable]
            labels[bad] = split.labels[bad]  # a photograph that cannot be read counts as of class 0
            labels[index] = split.labels[index]
            if len(index):
                with torch.inference_mode(), self.compute.autocast():
                    logits = net.predict(centre_crop(network_input(batch.images, self.compute), self.args.crop))
                predicted[index] = logits.argmax(1).cpu().numpy()
            self.folder.note_unreadable(split, batch.unreadable)
            if stop:
                break
        if asked := self._agree(stop)[0]:
            self._stop(asked)
        labels, predicted = added(labels), added(predicted)
        return {
            "val_top1_error": top1_error(predicted, labels),
            "val_mean_class_error": mean_class_error(predicted, labels),
        }

    def _stop(self, signum: int) -> None:
        self.save()
        raise Interrupted(signum, self._resume())

    def _resume(self) -> str:
        return f"python {shlex.quote(sys.argv[0])} --resume --out {shlex.quote(self.args.out)}"


def describe_row(row: dict, epochs: int) -> str:
    """One line for people."""
    text = f"epoch {row['epoch']}/{epochs}: loss {row['train_loss']:.3f}"
    if "train_top1" in row:
        text += f", top-1 {100 * row['train_top1']:.1f} %"
    if "val_top1_error" in row:
        text += f"; validation top-1 error {100 * row['val_top1_error']:.2f} %"
        text += f", mean class error {100 * row['val_mean_class_error']:.2f} %"
    return text + f"; {row['images_per_second']:.0f} images/s, lr {row['lr']:.3g}"
