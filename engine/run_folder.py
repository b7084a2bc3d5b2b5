"""What a run leaves in its folder besides checkpoints: log.csv, TensorBoard's curves, unreadable.txt."""

import csv
import io
import sys
from pathlib import Path

from data import Split
from engine.distributed import gathered, world
from errors import one_line
from files import atomic_write


class RunFolder:
    """The folder `path` of a run, which the first process writes; `fresh`: nothing of an earlier run in it is kept."""

    def __init__(self, path: Path, fresh: bool):
        self.path, self.unreadable = path, path / "unreadable.txt"
        self.bad: dict[str, str] = {}
        self.writer = None
        if not world().first:
            return
        path.mkdir(parents=True, exist_ok=True)
        if fresh:
            for name in ("last.pt", "best.pt", "log.csv", self.unreadable.name):
                (path / name).unlink(missing_ok=True)

    def note_unreadable(self, split: Split, unreadable: list[tuple[int, str]]) -> None:
        """Warn of photographs that were skipped, with their count so far, and list each once."""
        self._note({str(split.path(index)): reason for index, reason in unreadable})

    def gather_unreadable(self) -> None:
        """What the other processes have noted becomes known to the first."""
        for bad in gathered(self.bad):
            self._note(bad)

    def _note(self, new: dict[str, str]) -> None:
        known = new.keys() <= self.bad.keys()
        self.bad |= new
        if known or not world().first:
            return
        with atomic_write(self.unreadable) as file:
            file.write("".join(f"{one_line(path)}\t{one_line(reason)}\n" for path, reason in self.bad.items()).encode())
        print(f"warning: {len(self.bad)} unreadable photograph(s) so far, listed in {self.unreadable}", file=sys.stderr)

    def write_log(self, rows: list[dict]) -> None:
        """log.csv, a line an epoch; and the same figures as TensorBoard curves."""
        if not world().first:
            return
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, list(rows[-1]), extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        with atomic_write(self.path / "log.csv") as file:
            file.write(text.getvalue().encode())
        self.curve({f"epoch/{k}": v for k, v in rows[-1].items() if k != "epoch"}, len(rows))

    def curve(self, values: dict[str, float], at: int) -> None:
        if not world().first:
            return
        if self.writer is None:  # imported when first needed: it costs a second, which --help should not
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(self.path / "tensorboard"))
        for name, value in values.items():
            self.writer.add_scalar(name, value, at)

    def close(self) -> None:
        if self.writer:
            self.writer.close()
