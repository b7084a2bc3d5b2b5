"""What a run leaves in its folder besides checkpoints: log.csv, TensorBoard's curves, unreadable.txt."""

import csv
import io
import json
import sys
import threading
from pathlib import Path

from common.errors import InputError, one_line
from common.files import atomic_write, hold_folder, release_folder, remove_litter
from common.processes import gathered, world
from data import Split

CHECKPOINTS = ("last.pt", "best.pt")


def claim(path: Path) -> None:
    """Make the run's folder this process's own, if there is one; InputError where another process is training there."""
    if world().first and path.is_dir():
        hold_folder(path)


def require_no_run(path: Path, overwrite: bool) -> None:
    if (path / "last.pt").exists() and not overwrite:
        raise InputError(
            f"{path} already holds a run; add --resume to go on, --overwrite to lose it, or give another --out"
        )


class RunFolder:
    """The folder `path` of a run, which the first process writes.

    `fresh`: a new run begins; one that lies there is lost with `overwrite` and an InputError without. Else what an
    earlier process of this run has noted is kept.
    """

    def __init__(self, path: Path, fresh: bool, overwrite: bool = False):
        self.path, self.unreadable, self.nonfinite = path, path / "unreadable.txt", path / "nonfinite.json"
        self.bad: dict[str, str] = {}
        self.writer, self.curveless = None, False
        if not world().first:
            return
        path.mkdir(parents=True, exist_ok=True)
        claim(path)
        for name in CHECKPOINTS:  # of 100 MB and more, so not left to the next that writes them
            remove_litter(path / name)
        if fresh:
            require_no_run(path, overwrite)
            for name in (*CHECKPOINTS, "log.csv", self.unreadable.name, self.nonfinite.name):
                (path / name).unlink(missing_ok=True)
        elif self.unreadable.exists():
            lines = self.unreadable.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
            self.bad = dict(line.split("\t", 1) for line in lines if "\t" in line)

    def note_unreadable(self, split: Split, unreadable: list[tuple[int, str]]) -> None:
        """Warn of photographs that were skipped, with their count so far, and list each once."""
        self._note({one_line(split.path(index)): one_line(reason) for index, reason in unreadable})

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
            file.write("".join(f"{path}\t{reason}\n" for path, reason in self.bad.items()).encode())
        print(f"warning: {len(self.bad)} unreadable photograph(s) so far, listed in {self.unreadable}", file=sys.stderr)

    def note_nonfinite(self, batches: list[dict]) -> None:
        """nonfinite.json: batches whose loss was no finite number, with the photographs in them."""
        if not world().first:
            return
        with atomic_write(self.nonfinite, "w") as file:
            json.dump(batches, file, indent=1)

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
        if not world().first or self.curveless:
            return
        try:
            if self.writer is None:  # imported when first needed: it costs a second, which --help should not
                from torch.utils.tensorboard import SummaryWriter

                threading.excepthook = _without_tensorboards
                self.writer = SummaryWriter(str(self.path / "tensorboard"))
            for name, value in values.items():
                self.writer.add_scalar(name, value, at)
        except OSError as error:
            self._leave_curves(error)

    def close(self) -> None:
        try:
            if self.writer:
                self.writer.close()
        except OSError as error:
            self._leave_curves(error)
        release_folder(self.path)

    def _leave_curves(self, error: OSError) -> None:
        """A full disk must not cost the run for the sake of a picture of it; the next checkpoint will tell."""
        if not self.curveless:
            print(f"warning: no more curves in {self.path / 'tensorboard'} ({error.strerror})", file=sys.stderr)
        self.curveless = True


def _without_tensorboards(what: threading.ExceptHookArgs) -> None:
    """A thread's traceback, but for a full disk in TensorBoard's: the next `curve` hears of it and tells."""
    if not issubclass(what.exc_type, OSError) or type(what.thread).__module__.split(".")[0] != "tensorboard":
        threading.__excepthook__(what)
