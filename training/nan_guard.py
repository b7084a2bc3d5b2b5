"""The NaN guard: it reports losses, gradients and weights that are not finite, and prevents that they are saved.

With --skip-nonfinite it leaves out batches whose loss or gradient is not finite.
"""

import argparse
import math
import sys

import torch
from torch import Tensor, nn

from catalogues import Split
from common.errors import InputError
from common.processes import gathered, summed, world
from training.run_folder import RunFolder


class NanGuard:
    """Checks the losses, gradients and weights of a run.

    split: the training photographs; messages name those of a bad batch.
    args: the settings of the run.
    skipped: the batches that --skip-nonfinite has left out so far, as `describe` returns them.
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
        """Remember a batch after its backward pass. Its loss is read later: reading waits for the device."""
        self.recent.append((epoch, batch, index, loss))

    def step_is_finite(self, net: nn.Module) -> bool:
        """Whether the loss and the gradient of the newest batch are finite in every process. Waits for the device."""
        gradients = [p.grad for p in net.parameters() if p.grad is not None]
        largest = nn.utils.get_total_norm(gradients, math.inf)  # the largest value: a sum of squares could overflow
        bad = not (largest + self.recent[-1][-1]).isfinite()
        return summed({"bad": float(bad)})["bad"] == 0

    def skip(self) -> None:
        """Count the newest batch as left out. Raises InputError if more than --skip-nonfinite batches are."""
        self.skipped.append(self.describe(*self.recent.pop()))
        self.folder.note_nonfinite(self.skipped)
        if len(self.skipped) > self.limit:
            raise InputError(
                f"{self.folder.path}: loss or gradient of {len(self.skipped)} batches was not finite; {self._remedy()}"
            )
        if world().first:
            where = f"epoch {self.skipped[-1]['epoch']}, batch {self.skipped[-1]['batch']}"
            count = f"{len(self.skipped)} of {self.limit}, listed in {self.folder.nonfinite}"
            print(f"warning: {where} left out, its loss or gradient is not finite ({count})", file=sys.stderr)

    def require_losses(self) -> None:
        """Raise InputError if a loss noted since the last call is not finite.

        nonfinite.json then lists this batch, those after it, and the one before it, whose gradient may be the cause.
        """
        losses = [loss for *_, loss in self.recent]
        finite = torch.stack(losses).isfinite().tolist() if losses else []  # one wait for the device
        # All processes have the same batches.
        first_bad = min(gathered(finite.index(False) if False in finite else len(finite)))
        if first_bad < len(finite):
            epoch, batch, *_ = self.recent[first_bad]
            self._stop(f"the loss of epoch {epoch + 1}, batch {batch + 1}", first_bad)
        self.recent = self.recent[-1:]

    def require_weights(self, net: nn.Module) -> None:
        """Raise InputError if a weight, a batch statistic or a momentum is not finite: it must not be saved."""
        momenta = [value for state in self.optimizer.state.values() for value in state.values()]
        tensors = [t for t in [*net.state_dict().values(), *momenta] if isinstance(t, Tensor) and t.is_floating_point()]
        if sum(gathered(not nn.utils.get_total_norm(tensors, math.inf).isfinite())):
            self._stop("a weight", len(self.recent))

    def describe(self, epoch: int, batch: int, index: Tensor, loss: Tensor) -> dict:
        """A batch as nonfinite.json lists it, with the photographs of all processes."""
        photographs = [str(self.split.path(place)) for places in gathered(index.tolist()) for place in places]
        rate = self.optimizer.param_groups[0]["lr"]
        where = {"epoch": epoch + 1, "batch": batch + 1}
        return where | {"loss": str(float(loss)), "lr": rate, "photographs": photographs}

    def _stop(self, what: str, first_bad: int) -> None:
        batches = [self.describe(*batch) for batch in self.recent[max(0, first_bad - 1) :]]
        self.folder.note_nonfinite([*self.skipped, *batches])
        raise InputError(f"{self.folder.path}: {what} is not finite; {self._remedy()}")

    def _remedy(self) -> str:
        last = self.folder.path / "last.pt"
        again = f"go on from {last}, which is good, with --resume" if last.exists() else "start again, with"
        return (
            f"{self.folder.nonfinite} lists the photographs; {again} --lr below {self.rate:g}, or --skip-nonfinite N "
            "to leave such batches out"
        )
