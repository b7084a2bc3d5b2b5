"""After any failure around a run, the last good checkpoint remains and a message names the cause."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, write_aliproducts
from test_training import assert_same_run, damage, train

import data.loader
import train as train_script
import training.validation
from catalogues import open_catalogue
from common.errors import InputError
from common.files import atomic_write, hold_folder, lock, release_folder
from models.checkpoint import load_checkpoint
from training.loop import Trainer
from training.run_folder import RunFolder

EVERY_BATCH = ("--save-every", "1e-9")


@pytest.fixture
def large(tmp_path) -> Path:
    """A catalogue of four batches an epoch."""
    return write_aliproducts(tmp_path / "large", counts=(12, 10, 8))


def refusal(done) -> str:
    """The error message, which must be the only line of it."""
    line = done.stderr.splitlines()[-1]
    assert line.startswith("error: ") and "Traceback" not in done.stderr
    return line


# ------------------------------------------------------------------------------------------------ one folder, one run


@contextmanager
def elsewhere(code: str):
    """Another process that runs this code, prints `ready`, and waits."""
    command = [sys.executable, "-c", f"{code}\nprint('ready', flush=True)\nimport time\ntime.sleep(600)"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def test_a_second_run_in_one_folder_is_refused_with_the_first_process_id(script, aliproducts, tmp_path):
    train(script, aliproducts, "run", "--epochs", 1)
    before = (tmp_path / "run/last.pt").read_bytes()
    with elsewhere(f"from common import files; files.hold_folder({str(tmp_path / 'run')!r})") as first:
        for how in (["--resume"], ["--overwrite"]):
            done = script("train.py", "--data", aliproducts, "--out", "run", "--arch", "resnet18", *how, code=2)
            assert (
                f"run: process {first.pid} on " in refusal(done) and "choose another folder with --out" in done.stderr
            )
        assert (tmp_path / "run/last.pt").read_bytes() == before
    script("train.py", "--resume", "--out", "run", "--epochs", 2)  # it was killed, and its lock with it
    assert not (tmp_path / "run/.lock").exists()


def test_a_run_that_starts_at_the_same_moment_is_refused_and_deletes_nothing(script, aliproducts, tmp_path):
    """The folder did not exist when the second run checked it, and held a run when it wanted to make it."""
    train(script, aliproducts, "run", "--epochs", 1)
    before = (tmp_path / "run/last.pt").read_bytes()
    with pytest.raises(InputError, match="run already holds a run; add --resume"):
        RunFolder(tmp_path / "run", fresh=True)
    assert (tmp_path / "run/last.pt").read_bytes() == before


def test_two_packings_into_one_folder_are_refused(script, aliproducts, tmp_path):
    (tmp_path / "shards").mkdir()
    with elsewhere(f"from common import files; files.hold_folder({str(tmp_path / 'shards')!r})") as first:
        done = script("data.pack", "--data", aliproducts, "--out", "shards", "--size", 32, code=2)
        assert f"shards: process {first.pid} on " in refusal(done)


def test_a_worker_that_survives_its_process_does_not_keep_the_lock(tmp_path):
    code = f"""
import os
from common import files
files.hold_folder({str(tmp_path)!r})
forked, tell = os.pipe()
if not os.fork():
    os.write(tell, b"!")
    import time
    time.sleep(600)
os.read(forked, 1)  # the worker runs
"""
    with elsewhere(code) as process:
        child = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        with pytest.raises(InputError, match=f"process {process.pid} on"):
            hold_folder(tmp_path)
        process.kill()
        process.wait()
        hold_folder(tmp_path)
        release_folder(tmp_path)
        os.kill(int(child[0]), signal.SIGKILL)


# ------------------------------------------------------------------------------------------------------ files


def test_temporary_files_of_killed_processes_are_removed_and_those_of_running_ones_are_not(tmp_path):
    code = f"""
from common import files
writing = files.atomic_write({str(tmp_path / "a.csv")!r})
writing.__enter__().write(b"half")
"""
    with elsewhere(code) as process:
        litter = next(tmp_path.glob(".a.csv.*.tmp"))
        with atomic_write(tmp_path / "a.csv") as file:
            file.write(b"1")
        assert litter.exists()
        process.kill()
        process.wait()
        with atomic_write(tmp_path / "a.csv") as file:
            file.write(b"2")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"] and (tmp_path / "a.csv").read_bytes() == b"2"


def test_a_file_is_flushed_before_it_is_renamed_and_its_folder_is_flushed_after_that(tmp_path, monkeypatch):
    order, fsync, replace = [], os.fsync, os.replace

    def synced(file):
        order.append("folder" if os.path.isdir(f"/proc/self/fd/{file}") else "file")
        fsync(file)

    def named(*paths):
        order.append("name")
        replace(*paths)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", named)
    with atomic_write(tmp_path / "a") as file:
        file.write(b"x")
    assert order == ["file", "name", "folder"]


def test_a_temporary_file_that_another_process_removes_is_made_again(tmp_path, monkeypatch):
    from common import files

    taken = []

    def first_removed(file):
        if not taken:
            os.unlink(file.name)
        taken.append(file.name)
        return lock(file)

    monkeypatch.setattr(files, "lock", first_removed)
    with atomic_write(tmp_path / "a") as file:
        file.write(b"x")
    assert len(taken) == 2 and (tmp_path / "a").read_bytes() == b"x"


# -------------------------------------------------------------------------------------------------------- full disks


@contextmanager
def largest_file(size: int):
    """Files cannot grow beyond so many bytes: a longer write is cut short, and the next one fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_good_one(script, aliproducts, tmp_path):
    train(script, aliproducts, "run", "--epochs", 1)
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").glob("*.pt")}
    with largest_file(20 * 2**20):
        done = script("train.py", "--resume", "--out", "run", "--epochs", 2, code=2)
    assert ".pt: cannot be written (File too large); choose another place or make room" in refusal(done)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").glob("*.pt")} == before
    assert not list((tmp_path / "run").glob(".*")), "no temporary file is left"
    train(script, aliproducts, "whole", "--epochs", 2)
    script("train.py", "--resume", "--out", "run", "--epochs", 2)
    assert_same_run(tmp_path / "whole/last.pt", tmp_path / "run/last.pt")


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 140 MB: it has room for one checkpoint of 90 MB, not for two."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=140m", "none", disk]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small disk can only be mounted by root")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_is_reported_and_the_run_goes_on_when_there_is_room(script, aliproducts, tmp_path, small_disk):
    (tmp_path / "run").symlink_to(small_disk)
    done = train(script, aliproducts, "run", "--epochs", 2, code=2)
    assert "run/last.pt: cannot be written (No space left on device)" in refusal(done)
    assert not list(small_disk.glob(".*"))
    assert load_checkpoint(small_disk / "best.pt")["epoch"] == 1
    subprocess.run(["mount", "-o", "remount,size=600m", small_disk], check=True)
    train(script, aliproducts, "run", "--epochs", 1)
    last = (small_disk / "last.pt").read_bytes()
    used = sum(path.stat().st_size for path in small_disk.glob("*.pt"))
    (small_disk / "other").write_bytes(bytes(600 * 2**20 - used - 40 * 2**20))
    done = script("train.py", "--resume", "--out", "run", "--epochs", 2, code=2)
    assert "cannot be written (No space left on device)" in refusal(done)
    assert (small_disk / "last.pt").read_bytes() == last
    (small_disk / "other").unlink()
    script("train.py", "--resume", "--out", "run", "--epochs", 2)
    train(script, aliproducts, "whole", "--epochs", 2)
    assert_same_run(tmp_path / "whole/last.pt", small_disk / "last.pt")


@pytest.mark.parametrize("when", ["at the start", "while they are written"])
def test_curves_that_cannot_be_written_do_not_end_the_run(script, aliproducts, tmp_path, monkeypatch, when):
    import torch.utils.tensorboard as tensorboard

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    target = (tensorboard, "SummaryWriter") if when == "at the start" else (tensorboard.SummaryWriter, "add_scalar")
    monkeypatch.setattr(*target, full)
    done = train(script, aliproducts, "run", "--epochs", 2)
    assert done.stderr.count("warning: no more curves in run/tensorboard (No space left on device)") == 1
    assert load_checkpoint(tmp_path / "run/last.pt")["epoch"] == 2


def test_a_disk_that_fills_up_while_curves_are_written_gives_one_warning(small_disk, capsys):
    folder = RunFolder(small_disk / "run", fresh=True)
    folder.curve({"loss": 1.0}, 0)
    with suppress(OSError), open(small_disk / "other", "wb") as file:
        file.write(bytes(200 * 2**20))
    for batch in range(2000):  # TensorBoard writes them later, in its own thread
        folder.curve({"loss": 1.0}, batch)
    folder.close()
    where = small_disk / "run/tensorboard"
    assert capsys.readouterr().err == f"warning: no more curves in {where} (No space left on device)\n"


# ----------------------------------------------------------------------------------------------------------- signals


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_validation_stops_the_run_and_nothing_is_lost(script, large, tmp_path, monkeypatch, signum):
    train(script, large, "whole", "--epochs", 2)
    plain, batches = training.validation.centre_crop, []

    def interrupted(*arguments):
        batches.append(arguments)
        os.kill(os.getpid(), signum)
        return plain(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(training.validation, "centre_crop", interrupted)
        done = train(script, large, "parts", "--epochs", 2, code=128 + signum)
    assert "everything is saved. Go on with:\n  python train.py --resume --out parts\n" in done.stderr
    state = load_checkpoint(tmp_path / "parts/last.pt")
    assert (state["epoch"], state["batch"], len(batches)) == (0, 4, 1), "the epoch is trained, not yet validated"
    script("train.py", "--resume", "--out", "parts")
    assert_same_run(tmp_path / "whole/last.pt", tmp_path / "parts/last.pt")
    assert_same_run(tmp_path / "whole/best.pt", tmp_path / "parts/best.pt")


def test_the_list_of_unreadable_photographs_goes_on_after_a_resumption(script, large, tmp_path):
    damage(large, "train4_0.jpg", "train17_1.jpg")
    train(script, large, "run", "--epochs", 1)
    listed = (tmp_path / "run/unreadable.txt").read_text()
    assert listed.count("\n") == 2
    damage(large, "val4_0.jpg")
    script("train.py", "--resume", "--out", "run", "--epochs", 2)
    assert (tmp_path / "run/unreadable.txt").read_text().startswith(listed)
    assert (tmp_path / "run/unreadable.txt").read_text().count("\n") == 3


# ------------------------------------------------------------------------------------------------------------ workers


def fails_at(monkeypatch, name: str, failure) -> None:
    plain = data.loader.read_squashed

    def read(path, *more):
        if str(path).endswith(name):
            failure()
        return plain(path, *more)

    monkeypatch.setattr(data.loader, "read_squashed", read)


@pytest.mark.parametrize(
    "end, how, remedy",
    [
        (signal.SIGKILL, "died of SIGKILL", "memory may have run out: give fewer --workers"),
        (
            signal.SIGBUS,
            "died of SIGBUS",
            "shared memory may be full: give --workers 0, or make /dev/shm larger (docker's --shm-size)",
        ),
        (None, "died", "mend or remove what it was at"),
    ],
)
def test_a_worker_that_dies_is_reported_with_its_photograph_and_nothing_is_lost(
    script, large, tmp_path, monkeypatch, end, how, remedy
):
    train(script, large, "whole", "--epochs", 1)
    with monkeypatch.context() as patch:
        patch.setattr(data.loader, "POLL", 0.2)
        fails_at(patch, "train17_3.jpg", lambda: os.kill(os.getpid(), end) if end else os._exit(3))
        done = train(script, large, "parts", "--epochs", 1, "--workers", 1, code=2)
    assert f"photographs {how} at {large}/train/00017/train17_3.jpg; {remedy}; all is saved" in refusal(done)
    script("train.py", "--resume", "--out", "parts", "--workers", 0)
    assert_same_run(tmp_path / "whole/last.pt", tmp_path / "parts/last.pt")


def test_a_broken_connection_to_a_worker_is_reported_as_its_death(script, large, tmp_path, monkeypatch):
    """A worker hands over its batch itself. If it dies before, the connection breaks."""

    def broken(self):
        self._workers[0].kill()
        self._workers[0].join()
        raise ConnectionResetError(104, "Connection reset by peer")

    with monkeypatch.context() as patch:
        patch.setattr(torch.utils.data.dataloader._MultiProcessingDataLoaderIter, "_next_data", broken)
        done = train(script, large, "run", "--epochs", 1, "--workers", 1, code=2)
    assert "a process that reads photographs died of SIGKILL at " in refusal(done) and "all is saved" in done.stderr


def test_a_worker_that_hangs_is_reported_with_its_photograph(script, large, tmp_path, monkeypatch):
    monkeypatch.setattr(data.loader, "POLL", 0.2)
    with monkeypatch.context() as patch:
        fails_at(patch, "train17_3.jpg", lambda: time.sleep(600))
        done = train(script, large, "run", "--epochs", 1, "--workers", 2, "--worker-timeout", 1, code=2)
    assert f"a process that reads photographs hangs at {large}/train/00017/train17_3.jpg for " in refusal(done)
    assert "--worker-timeout; all is saved, go on with python train.py --resume --out run" in done.stderr
    assert load_checkpoint(tmp_path / "run/last.pt")["epoch"] == 0


def test_predict_py_reports_the_photograph_of_a_dead_worker_and_goes_on(script, aliproducts, tmp_path, monkeypatch):
    train(script, aliproducts, "run", "--epochs", 1)
    monkeypatch.setattr(data.loader, "POLL", 0.2)
    common = ("predict.py", "run/best.pt", "--workers", 1, "--batch-size", 2, "--out")
    with monkeypatch.context() as patch:
        fails_at(patch, "val103_0.jpg", lambda: os.kill(os.getpid(), signal.SIGSEGV))
        assert f"at {aliproducts}/val/00103/val103_0.jpg; mend" in refusal(script(*common, "a.npy", code=2))
    script(*common, "a.npy")
    script(*common, "whole.npy")
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


@pytest.mark.parametrize("crops, goes_on", [(10, True), (1, False)])
def test_a_prediction_goes_on_with_another_batch_size_where_its_rows_do_not_depend_on_it(
    script, aliproducts, tmp_path, monkeypatch, crops, goes_on
):
    train(script, aliproducts, "run", "--epochs", 1)
    monkeypatch.setattr(data.loader, "POLL", 0.2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    common = ("predict.py", "run/best.pt", "--resize", 180, "--crop", 176, "--precision", "float32", "--crops", crops)
    common += ("--save-every", 0, "--workers", 1, "--out")
    with monkeypatch.context() as patch:
        fails_at(patch, "val103_0.jpg", lambda: os.kill(os.getpid(), signal.SIGSEGV))
        script(*common, "a.npy", "--batch-size", 2, code=2)
    done = script(*common, "a.npy", "--batch-size", 3)
    assert ("going on at photograph " in done.stderr) == goes_on
    assert ("is made anew: it has batch_size 2, not 3" in done.stderr) != goes_on
    script(*common, "whole.npy", "--batch-size", 6 if goes_on else 3)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_an_error_in_a_worker_is_a_bug_and_keeps_its_traceback(script, large, monkeypatch):
    def bug():
        raise RuntimeError("a bug")

    fails_at(monkeypatch, "train17_3.jpg", bug)
    with pytest.raises(RuntimeError, match="a bug"):
        train(script, large, "run", "--epochs", 1, "--workers", 1)


# --------------------------------------------------------------------------------------------------------- NaN guard


def spoiled(step, places, how: str):
    """A step whose loss, or only its gradient, is NaN in the batches that hold one of these photographs."""

    def spoil(model, batch, **options):
        loss, metrics = step(model, batch, **options)
        if np.isin(batch.index, places).any():
            weight = model.classifier.weight
            loss = loss * torch.nan if how == "loss" else loss + 0 * (0 * weight).sqrt().sum()  # its gradient: 0 · ∞
        return loss, metrics

    return spoil


def place_of(root: Path, name: str) -> int:
    split = open_catalogue(root).split("train")
    return [split.image_id(place) for place in range(len(split))].index(name)


@pytest.mark.parametrize("how", ["loss", "gradient"])
@pytest.mark.parametrize("saving", [(), EVERY_BATCH])
def test_nan_is_never_saved_and_the_photographs_of_its_batch_are_listed(
    script, large, tmp_path, monkeypatch, how, saving
):
    train(script, large, "run", "--epochs", 1)
    good = (tmp_path / "run/last.pt").read_bytes()
    monkeypatch.setattr(train_script, "step", spoiled(train_script.step, [place_of(large, "train17_3.jpg")], how))
    done = script("train.py", "--resume", "--out", "run", "--epochs", 3, *saving, code=2)
    assert "run/nonfinite.json lists the photographs; go on from run/last.pt, which is good" in refusal(done)
    state = load_checkpoint(tmp_path / "run/last.pt")
    momenta = [value["momentum_buffer"] for value in state["optimizer"]["state"].values()]
    assert all(tensor.isfinite().all() for tensor in [*state["model"].values(), *momenta])
    assert state["epoch"] == 1 and (saving or (tmp_path / "run/last.pt").read_bytes() == good)
    batches = json.loads((tmp_path / "run/nonfinite.json").read_text())
    assert f"{large}/train/00017/train17_3.jpg" in [name for batch in batches for name in batch["photographs"]]
    assert all(1 <= len(batch["photographs"]) <= 8 and batch["epoch"] == 2 for batch in batches)
    bad = [batch for batch in batches if batch["loss"] == "nan"]
    if how == "loss":
        assert f"{large}/train/00017/train17_3.jpg" in bad[0]["photographs"]
        assert bad[0]["batch"] == state["batch"] + 1 or not saving, "no batch before it is lost"


@pytest.mark.parametrize("how", ["loss", "gradient"])
def test_a_batch_that_is_left_out_changes_nothing(script, large, tmp_path, monkeypatch, how):
    """The run equals one that never had this batch, also if it is stopped and goes on."""
    plain, place = train_script.step, place_of(large, "train17_3.jpg")
    common = ("--epochs", 2, "--ema", 0.9, "--accumulate", 2)
    with monkeypatch.context() as patch:
        whole = Trainer._train_batch

        def without(self, step, batch, *rest):
            if place not in batch.index:
                whole(self, step, batch, *rest)

        patch.setattr(Trainer, "_train_batch", without)
        train(script, large, "without", *common)
    monkeypatch.setattr(train_script, "step", spoiled(plain, [place], how))
    done = train(script, large, "skipped", *common, "--skip-nonfinite", 2)
    assert "batch" in done.stderr and "(2 of 2, listed in skipped/nonfinite.json)" in done.stderr
    train(script, large, "parts", "--epochs", 1, *common[2:], "--skip-nonfinite", 2)
    script("train.py", "--resume", "--out", "parts", "--epochs", 2)
    for run in ("skipped", "parts"):
        assert_same_run(tmp_path / "without/last.pt", tmp_path / run / "last.pt")
        batches = json.loads((tmp_path / run / "nonfinite.json").read_text())
        assert [batch["epoch"] for batch in batches] == [1, 2]
    done = train(script, large, "more", "--epochs", 2, "--skip-nonfinite", 1, code=2)
    assert "more: loss or gradient of 2 batches was not finite; more/nonfinite.json lists" in refusal(done)
