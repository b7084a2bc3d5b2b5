"""A system with little shared memory, or with few file handles: a run goes on, or says in one line what to do."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, write_aliproducts
from test_faults import fails_at, refusal
from test_training import SMALL, assert_same_run, train

import catalogues.shards
import data.handover
from catalogues import open_catalogue
from common.workers import OTHER_HANDLES, WORKER_HANDLES, cause_not_to_share, free_handles, hang, lacking_for
from data import Batch, UnreadablePhotograph, eval_loader, read_squashed

NO_ROOM = "unable to allocate shared memory(shm) for file </torch_1_2_3>: No space left on device (28)"


@pytest.fixture
def large(tmp_path) -> Path:
    """A catalogue of four batches an epoch."""
    return write_aliproducts(tmp_path / "large", counts=(12, 10, 8))


@pytest.fixture(autouse=True)
def untold(monkeypatch):
    monkeypatch.setattr(data.handover, "_told", [])


def in_shell(before: str, *command: object, cwd: Path) -> subprocess.CompletedProcess:
    """A script in a shell of its own, after the command `before`."""
    words = [sys.executable, str(ROOT / command[0]), *map(str, command[1:])]
    shell = ["sh", "-c", f'{before} && exec "$@"', "sh", *words]
    if before.startswith("mount"):
        shell = ["unshare", "--mount", *shell]
    return subprocess.run(shell, cwd=cwd, capture_output=True, text=True, timeout=300)


# ------------------------------------------------------------------------------------------------------ shared memory


def test_a_small_shared_memory_is_told_in_one_line_and_changes_nothing(script, large, tmp_path):
    small = "mount -t tmpfs -o size=160k none /dev/shm"
    if subprocess.run(["unshare", "--mount", "sh", "-c", small], capture_output=True).returncode:
        pytest.skip("/dev/shm can only be made smaller by root")
    train(script, large, "whole", "--epochs", 2)
    settings = ["--data", large, *SMALL, "--workers", 2, "--epochs", 2, "--out", "small"]
    done = in_shell(small, "train.py", *settings, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (note,) = (line for line in done.stderr.splitlines() if "/dev/shm" in line)
    # five batches of eight crops of 32 pixels, 5 · 8 · 3 · 32 · 32 bytes, and a page for each of 14 semaphores
    cause = "they need 0.18 MB of shared memory, and /dev/shm has 0.1"
    assert note.startswith(f"note: batches of workers go through pipes, which is slower: {cause}")
    assert "--shm-size" in note and "--workers 0" in note
    assert "Traceback" not in done.stderr
    assert_same_run(tmp_path / "whole/last.pt", tmp_path / "small/last.pt")


@pytest.mark.parametrize("error", [RuntimeError(NO_ROOM), OSError(errno.EMFILE, "Too many open files")])
def test_shared_memory_that_fills_up_later_loses_no_batch(script, large, tmp_path, monkeypatch, error):
    train(script, large, "whole", "--epochs", 2)
    share, calls = torch.UntypedStorage._share_fd_cpu_, []

    def fails_at_the_second(storage):
        calls.append(storage)
        if len(calls) > 1:
            raise error
        return share(storage)

    with monkeypatch.context() as patch:
        patch.setattr(torch.UntypedStorage, "_share_fd_cpu_", fails_at_the_second)
        done = train(script, large, "full", "--epochs", 2, "--workers", 1, "--worker-timeout", 20)
    assert done.stderr.count("note: ") == 1 and str(error) in done.stderr and "through pipes" in done.stderr
    assert "Traceback" not in done.stderr
    assert_same_run(tmp_path / "whole/last.pt", tmp_path / "full/last.pt")


@pytest.mark.parametrize("cause", ["", "no room"])
def test_a_batch_comes_out_of_a_worker_as_it_went_in(aliproducts, monkeypatch, cause):
    monkeypatch.setattr(data.handover, "cause_not_to_share", lambda *_: cause)
    split = open_catalogue(aliproducts).split("train")
    Path(split.path(3)).write_bytes(b"no photograph")
    for ours, plain in zip(*(data.batches(eval_loader(split, 20, 4, n, False)) for n in (2, 0)), strict=True):
        assert type(ours) is Batch and ours.unreadable == plain.unreadable
        assert ours.images.is_shared() == (not cause)
        assert ours.images.stride() == plain.images.stride(), "channels last"
        for name in ("images", "target", "index", "seeds"):
            mine, theirs = getattr(ours, name), getattr(plain, name)
            assert mine.dtype == theirs.dtype and mine.equal(theirs)


def test_what_batches_need_is_compared_with_the_room(monkeypatch):
    class Room:
        f_bavail, f_frsize = 16_384, 4096  # 64 MiB, docker's default

    monkeypatch.setattr(os, "statvfs", lambda place: Room)
    assert cause_not_to_share(1, 22 * 10**6) == ""
    assert cause_not_to_share(1, 23 * 10**6) == "they need 69 MB of shared memory, and /dev/shm has 67.1 MB"
    assert cause_not_to_share(2, 22 * 10**6).startswith("they need 110 MB")
    assert cause_not_to_share(1, 22 * 10**6, processes=2).startswith("they need 132 MB")


def test_a_shared_memory_without_room_for_the_workers_themselves_is_one_line(script, large, tmp_path, monkeypatch):
    class Full:
        f_bavail, f_frsize = 1, 4096

    with monkeypatch.context() as patch:
        patch.setattr(os, "statvfs", lambda place: Full)
        done = train(script, large, "run", "--epochs", 1, "--workers", 1, code=2)
    assert "error: --workers 1: they need 0.0451 MB of shared memory, and /dev/shm has 0.0041 MB; " in refusal(done)
    assert "give --workers 0, or make it larger (docker's --shm-size); all is saved" in done.stderr


def test_a_system_that_does_not_tell_its_room(monkeypatch):
    def unknown(place):
        raise FileNotFoundError

    monkeypatch.setattr(os, "statvfs", unknown)
    assert cause_not_to_share(1, 10**12) == ""


# ------------------------------------------------------------------------------------------------------- file handles


def test_too_few_file_handles_for_the_workers_are_one_line_and_nothing_is_lost(script, large, tmp_path):
    train(script, large, "whole", "--epochs", 1)
    settings = ["--data", large, *SMALL, "--epochs", 1, "--workers", 16, "--out", "few"]
    done = in_shell("ulimit -n 48", "train.py", *settings, cwd=tmp_path)
    assert done.returncode == 2 and "error: --workers 16: this needs 80 file handles, and " in refusal(done)
    assert "raise the limit with ulimit -n, or give --workers 0; all is saved, go on with python " in done.stderr
    done = in_shell("ulimit -n 48", "train.py", "--resume", "--out", "few", "--workers", 1, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path / "whole/last.pt", tmp_path / "few/last.pt")


def test_few_file_handles_leave_out_shared_memory_before_workers():
    opened, (soft, hard) = len(os.listdir("/proc/self/fd")), resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 10, hard))
        assert free_handles(1000) >= 1000, "the soft limit is raised"
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] == hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("left, starts, shares", [(19, False, False), (20, True, False), (26, True, True)])
def test_what_workers_need_is_compared_with_the_file_handles(monkeypatch, left, starts, shares):
    assert (WORKER_HANDLES, OTHER_HANDLES) == (4, 16)
    monkeypatch.setattr("common.workers.free_handles", lambda needed: left)
    assert (lacking_for(1) == "") == starts
    assert (cause_not_to_share(1, 100) == "") == shares


def test_a_worker_without_a_file_handle_is_one_line_and_no_photograph_is_left_out(script, large, tmp_path, monkeypatch):
    train(script, large, "whole", "--epochs", 1)

    def refused():
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), "train17_3.jpg")

    for workers in (0, 1):
        with monkeypatch.context() as patch:
            fails_at(patch, "train17_3.jpg", refused)
            done = train(script, large, f"few{workers}", "--epochs", 1, "--workers", workers, code=2)
        assert "error: too many open files while photographs are read; raise the limit with ulimit" in refusal(done)
        script("train.py", "--resume", "--out", f"few{workers}", "--workers", 0)
        assert_same_run(tmp_path / "whole/last.pt", tmp_path / f"few{workers}/last.pt")
        assert not (tmp_path / f"few{workers}/unreadable.txt").exists()


def test_a_photograph_for_which_there_is_no_file_handle_is_not_unreadable(aliproducts, monkeypatch):
    path = open_catalogue(aliproducts).split("train").path(0)

    def refused(*_, **__):
        raise OSError(errno.ENFILE, os.strerror(errno.ENFILE), path)

    monkeypatch.setattr("builtins.open", refused)
    with pytest.raises(OSError, match="Too many open files in system"):
        read_squashed(path, 20)


def test_a_photograph_whose_name_is_an_error_is_unreadable(tmp_path):
    with pytest.raises(UnreadablePhotograph):
        read_squashed(tmp_path / "Too many open files.jpg", 20)


def test_open_shards_are_closed_when_file_handles_run_out(aliproducts, tmp_path, script):
    script("data.pack", "--data", aliproducts, "--out", "packed", "--size", 32, "--per-shard", 3)
    split = open_catalogue(tmp_path / "packed").split("train")
    whole = [read_squashed(split.path(place), 32) for place in range(len(split))]
    shards = len(set(split.path(place).shard for place in range(len(split))))
    catalogues.shards._opened.cache_clear()
    opened, (soft, hard) = len(os.listdir("/proc/self/fd")), resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 1, hard))
        few = [read_squashed(split.path(place), 32) for place in range(len(split))]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert shards > 2 and np.array_equal(whole, few)


def test_other_programs_that_run_out_of_file_handles_say_it_in_one_line(script, aliproducts, monkeypatch):
    def refused(*_, **__):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), "a.tar")

    monkeypatch.setattr("train.main", refused)
    error = refusal(script("train.py", code=2))
    assert "Too many open files: 'a.tar'; raise the limit of file handles with ulimit -n" in error


def test_a_silence_in_which_nothing_is_read_blames_no_photograph():
    assert hang(20, None) == (
        "no batch has come from the processes that read photographs for 20 s, and none of them is reading; give "
        "--workers 0, or a larger --worker-timeout"
    )
