"""What happens when a loss, a gradient or a weight is no finite number: named, left out where asked, never saved."""

import argparse
import math
import sys

import torch
from torch import Tensor, nn

from common.errors import InputError
from common.processes import gathered, summed, world
from data import Split
from training.run_folder import RunFolder


class FiniteWatch:
    """Looks after the losses of a run whose training photographs are those of `split`.

    args: the run's; skipped: batches that --skip-nonfinite has left out so far, as `describe` has them.
    """

    def __init__(
        self,
        folder: RunFolder,
        split: Split,
        optimizer: torch.optim.Optimizer,
        args: argparse.Namespace,
        skipped: list[dict],
    ):
        self.folder, self.split, self.optimizer = folder, split, optimizer
        self.limit, self.rate, self.skipped = args.skip_nonfinite, args.lr, skipped
        self.recent: list[tuple[int, int, Tensor, Tensor]] = []  # epoch, batch, places of the photographs, loss

    def note(self, epoch: int, batch: int, index: Tensor, loss: Tensor) -> None:
        """A batch whose gradient is there; the loss is looked at later, so that nobody waits for the device."""
        self.recent.append((epoch, batch, index, loss))

    def step_is_finite(self, net: nn.Module) -> bool:
        """Whether loss and gradient of the newest batch are finite, in every process; this waits for the device."""
        gradients = [p.grad for p in net.parameters() if p.grad is not None]
        largest = nn.utils.get_total_norm(gradients, math.inf)  # a sum of squares might overflow
        return not summed({"bad": float(not (largest + self.recent[-1][-1]).isfinite())})["bad"]

    def skip(self) -> None:
        """The newest batch is left out; InputError where it is one too many."""
        self.skipped.append(self.describe(*self.recent.pop()))
        self.folder.note_nonfinite(self.skipped)
        if len(self.skipped) > self.limit:
            raise InputError(
                f"{self.folder.path}: loss or gradient of {len(self.skipped)} batches was not finite; {self._remedy()}"
            )
        if world().first:
            where = f"epoch {self.skipped[-1]['epoch']}, batch {self.skipped[-1]['batch']}"
            print(
                f"warning: {where} left out, its loss or gradient is not finite ({len(self.skipped)} of {self.limit}, "
                f"listed in {self.folder.nonfinite})",
                file=sys.stderr,
            )

    def require_losses(self) -> None:
        """InputError where a loss noted since the last look is not finite.

        nonfinite.json then lists the batches from it on, and the one before it, whose gradient may be to blame.
        """
        losses = [loss for *_, loss in self.recent]
        good = torch.stack(losses).isfinite().tolist() if losses else []  # one wait for the device
        bad = min(gathered(good.index(False) if False in good else len(good)))  # all processes have the same batches
        if bad < len(good):
            self._stop(f"the loss of epoch {self.recent[bad][0] + 1}, batch {self.recent[bad][1] + 1}", bad)
        self.recent = self.recent[-1:]

    def require_weights(self, net: nn.Module) -> None:
        """InputError where a weight, a batch statistic or a momentum is not finite: they are not to be saved."""
        momenta = [value for state in self.optimizer.state.values() for value in state.values()]
        tensors = [t for t in [*net.state_dict().values(), *momenta] if isinstance(t, Tensor) and t.is_floating_point()]
        if sum(gathered(not nn.utils.get_total_norm(tensors, math.inf).isfinite())):
            self._stop("a weight", len(self.recent))

    def describe(self, epoch: int, batch: int, index: Tensor, loss: Tensor) -> dict:
        """A batch for people, with the photographs of all processes."""
        photographs = [str(self.split.path(place)) for own in gathered(index.tolist()) for place in own]
        rate = self.optimizer.param_groups[0]["lr"]
        return {
            "epoch": epoch + 1,
            "batch": batch + 1,
            "loss": str(float(loss)),
            "lr": rate,
            "photographs": photographs,
        }

    def _stop(self, what: str, bad: int) -> None:
        batches = [self.describe(*each) for each in self.recent[max(0, bad - 1) :]]
        self.folder.note_nonfinite([*self.skipped, *batches])
        raise InputError(f"{self.folder.path}: {what} is not finite; {self._remedy()}")

    def _remedy(self) -> str:
        last = self.folder.path / "last.pt"
        again = f"go on from {last}, which is good, with --resume" if last.exists() else "begin again, with"
        return (
            f"{self.folder.nonfinite} lists the photographs; {again} --lr below {self.rate:g}, or --skip-nonfinite N "
            "to leave such batches out"
        )
