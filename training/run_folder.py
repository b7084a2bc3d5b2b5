"""The folder of a run and its files other than checkpoints: log.csv, curves, unreadable.txt, nonfinite.json."""

import csv
import io
import json
import os
import sys
import threading
from pathlib import Path

from catalogues import Catalogue, Split
from common.errors import InputError, one_line
from common.files import atomic_write, hold_folder, release_folder, remove_litter
from common.processes import gathered, world

CHECKPOINTS = ("last.pt", "best.pt")
LISTS = ("unreadable.txt", "nonfinite.json", "left_out.txt", "held_back.csv")


def claim(path: Path) -> None:
    """Lock the run's folder for this process, if it exists. Raises InputError if another process holds it."""
    if world().first and path.is_dir():
        hold_folder(path)


def require_no_run(path: Path, overwrite: bool) -> None:
    """Raise InputError if the folder holds a run, unless it may be overwritten."""
    if (path / "last.pt").exists() and not overwrite:
        raise InputError(
            f"{path} already holds a run; add --resume to go on, --overwrite to lose it, or give another --out"
        )


class RunFolder:
    """The folder `path` of a run. Only the first process writes into it.

    fresh: whether a new run begins; otherwise the list of unreadable photographs goes on.
    overwrite: whether a new run deletes the run in this folder; without it, a run there raises InputError.
    """

    def __init__(self, path: Path, fresh: bool, overwrite: bool = False):
        self.path, self.unreadable, self.nonfinite = path, path / "unreadable.txt", path / "nonfinite.json"
        self.bad: dict[str, str] = {}
        self.writer, self.without_curves = None, False
        if not world().first:
            return
        path.mkdir(parents=True, exist_ok=True)
        claim(path)
        for name in CHECKPOINTS:  # temporary files of a killed process: 100 MB and more each
            remove_litter(path / name)
        if fresh:
            require_no_run(path, overwrite)
            for name in (*CHECKPOINTS, "log.csv", *LISTS):
                (path / name).unlink(missing_ok=True)
        elif self.unreadable.exists():
            lines = self.unreadable.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
            self.bad = dict(line.split("\t", 1) for line in lines if "\t" in line)

    def note_catalogue(self, catalogue: Catalogue) -> None:
        """Write left_out.txt, what lies in the catalogue and is not taken, and held_back.csv, its validation split."""
        if len(catalogue.left_out):
            lines = (line.rpartition("\t") for line in catalogue.left_out)
            with atomic_write(self.path / "left_out.txt", "w") as file:
                file.writelines(f"{one_line(path)}\t{reason}\n" for path, _, reason in lines)
        if len(catalogue.held_back):
            val, text = catalogue.split("val"), io.StringIO(newline="")
            rows = ((val.image_id(k), catalogue.class_ids[label]) for k, label in enumerate(val.labels))
            csv.writer(text, lineterminator="\n").writerows([("id", "class"), *rows])
            with atomic_write(self.path / "held_back.csv") as file:
                file.write(os.fsencode(text.getvalue()))  # names that are not UTF-8, too

    def note_unreadable(self, split: Split, unreadable: list[tuple[int, str]]) -> None:
        """Warn about skipped photographs, with their number so far, and list each one once.

        unreadable: pairs (place in the split, reason).
        """
        self._note({one_line(split.path(index)): one_line(reason) for index, reason in unreadable})

    def gather_unreadable(self) -> None:
        """Add the lists of all processes to that of the first one."""
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
        """Write nonfinite.json: the batches with a loss or gradient that is not finite; see `NanGuard.describe`."""
        if not world().first:
            return
        with atomic_write(self.nonfinite, "w") as file:
            json.dump(batches, file, indent=1)

    def write_log(self, rows: list[dict]) -> None:
        """Write log.csv, one line for each epoch, and add the last line to the TensorBoard curves."""
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
        """Add a point to each TensorBoard curve, at step `at`."""
        if not world().first or self.without_curves:
            return
        try:
            if self.writer is None:  # imported here: it takes a second
                from torch.utils.tensorboard import SummaryWriter

                threading.excepthook = _print_unless_tensorboard
                self.writer = SummaryWriter(str(self.path / "tensorboard"))
            for name, value in values.items():
                self.writer.add_scalar(name, value, at)
        except OSError as error:
            self._leave_curves(error)

    def close(self) -> None:
        """Write the curves to the disk and release the lock."""
        try:
            if self.writer:
                self.writer.close()
        except OSError as error:
            self._leave_curves(error)
        release_folder(self.path)

    def _leave_curves(self, error: OSError) -> None:
        """Go on without curves: a full disk must not end the run here. The next checkpoint reports it."""
        if not self.without_curves:
            print(f"warning: no more curves in {self.path / 'tensorboard'} ({error.strerror})", file=sys.stderr)
        self.without_curves = True


def _print_unless_tensorboard(error: threading.ExceptHookArgs) -> None:
    """Print a thread's traceback, except an OSError in TensorBoard's thread: the next `curve` reports that."""
    if not issubclass(error.exc_type, OSError) or type(error.thread).__module__.split(".")[0] != "tensorboard":
        threading.__excepthook__(error)
