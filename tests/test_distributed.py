"""Several processes of torchrun on this machine, connected by gloo."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, write_aliproducts
from hypothesis import given
from hypothesis import strategies as st
from test_training import SMALL, assert_same_run

from catalogues import open_catalogue
from common.processes import World
from data import Batch, EpochBatches, GroupBatches, ReversedPairs, ShardedBatches, cutout, eval_loader, shuffle_regions
from models.checkpoint import load_checkpoint

TRAINING = [*map(str, SMALL), "--batch-size", "12", "--epochs", "1", "--sync-bn"]


def torchrun(processes: int, *command: str, more: tuple[str, ...] = (), **options) -> subprocess.Popen:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", *more]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}
    return subprocess.Popen([*launcher, *command], env=environment, text=True, **options)


def methods(root: Path, out: Path) -> list[list[str]]:
    """A command of every method; no number of processes divides the batches evenly."""
    where = ["--data", str(root), *TRAINING]
    finetuned = [word for word in where if word not in ("--arch", "resnet18", "--weights", "none")]
    return [
        ["train.py", *where, "--out", f"{out}/plain", "--ema", "0.9"],
        ["finetune_dcl.py", *finetuned, "--out", f"{out}/dcl", "--init", f"{root}/start/best.pt", "--grid", "4"],
        ["train_lio.py", *where, "--out", f"{out}/lio", "--positives", "1", "--grid", "2", "--stage", "2"],
        ["tricks/bbn.py", *where, "--out", f"{out}/bbn"],
        ["train.py", *where, "--out", f"{out}/head", "--head-epochs", "5"],
    ]


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    """A catalogue; in `start/` a network for DCL, in `one/` the run of each method in one process."""
    root = write_aliproducts(
        tmp_path_factory.mktemp("several") / "catalogue", counts=(12, 12, 12, 11), ids=(4, 17, 103, 200)
    )
    first = ["train.py", "--data", str(root), "--out", f"{root}/start", *map(str, SMALL), "--epochs", "1"]
    alone([first, *methods(root, root / "one")])
    return root


def alone(commands: list[list[str]]) -> None:
    subprocess.run([sys.executable, ROOT / "tests/in_turn.py", json.dumps(commands)], check=True, capture_output=True)


def difference(a: Path, b: Path) -> float:
    """Largest difference of any weight or running statistic."""
    a, b = load_checkpoint(a), load_checkpoint(b)
    heads = [(a["heads"]["model"], b["heads"]["model"])] if a["heads"] else []
    averages = [(a["ema"], b["ema"])] if a["ema"] else []
    pairs = [(x[name], y[name]) for x, y in [(a["model"], b["model"]), *heads, *averages] for name in x]
    return max(float((x.double() - y.double()).abs().max()) for x, y in pairs)


@pytest.mark.parametrize("processes, names", [(2, ("plain", "dcl", "lio", "bbn", "head")), (3, ("plain",))])
def test_several_processes_train_as_one_with_every_method(start, tmp_path, processes, names):
    commands = json.dumps(methods(start, tmp_path)[: len(names)])
    done = torchrun(processes, str(ROOT / "tests/in_turn.py"), commands, stdout=subprocess.PIPE)
    output = done.communicate()[0]
    assert done.returncode == 0
    assert output.count("epoch 1/1") == len(names)  # by the first process alone
    for method in names:
        assert difference(start / "one" / method / "last.pt", tmp_path / method / "last.pt") < 1e-7, method
        ours, theirs = (load_checkpoint(f / method / "last.pt")["log"] for f in (tmp_path, start / "one"))
        for row, other in zip(ours, theirs, strict=True):
            assert row["val_top1_error"] == other["val_top1_error"]
            assert row["train_loss"] == pytest.approx(other["train_loss"], abs=1e-5)


def test_without_synced_batch_norm_several_processes_train_differently(start, tmp_path):
    command = [word for word in methods(start, tmp_path)[0] if word != "--sync-bn"]
    assert torchrun(2, str(ROOT / command[0]), *command[1:], stdout=subprocess.DEVNULL).wait() == 0
    assert difference(start / "one/plain/last.pt", tmp_path / "plain/last.pt") > 1e-4


def test_after_a_process_is_killed_torchrun_restarts_and_the_weights_are_the_same(start, tmp_path):
    command = methods(start, tmp_path)[0]
    command[command.index("--epochs") + 1] = "3"
    whole = torchrun(2, str(ROOT / command[0]), *command[1:], stdout=subprocess.DEVNULL)
    assert whole.wait() == 0
    command[command.index("--out") + 1] = f"{tmp_path}/killed"
    run = torchrun(2, str(ROOT / command[0]), *command[1:], more=("--max-restarts=2",), stdout=subprocess.DEVNULL)
    while not (tmp_path / "killed/last.pt").exists():
        assert run.poll() is None
        time.sleep(0.05)
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    assert run.wait() == 0
    assert_same_run(tmp_path / "plain/last.pt", tmp_path / "killed/last.pt")


def test_a_signal_to_one_process_stops_all_and_the_run_goes_on_with_another_number_of_them(start, tmp_path):
    command = methods(start, tmp_path)[0]
    command[command.index("--epochs") + 1] = "30"
    run = torchrun(2, str(ROOT / command[0]), *command[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while not (tmp_path / "plain/last.pt").exists():
        assert run.poll() is None
        time.sleep(0.05)
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGTERM)
    output = run.communicate()[1]
    assert run.returncode != 0
    assert output.count("everything is saved") == 1
    done = load_checkpoint(tmp_path / "plain/last.pt")["epoch"]
    assert 1 <= done < 30
    subprocess.run(
        [sys.executable, ROOT / command[0], "--resume", "--out", tmp_path / "plain", "--epochs", str(done + 1)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    assert load_checkpoint(tmp_path / "plain/last.pt")["epoch"] == done + 1


@pytest.mark.parametrize("processes, kept, name", [(3, [], "a.npy"), (2, ["--top-k", "2"], "a.npz")])
def test_several_processes_write_the_same_prediction_files_as_one(start, tmp_path, processes, kept, name):
    command = [str(ROOT / "predict.py"), f"{start}/start/best.pt", "--batch-size", "2", "--workers", "0", *kept]
    subprocess.run([sys.executable, *command, "--out", tmp_path / "one" / name], check=True, stdout=subprocess.DEVNULL)
    run = torchrun(processes, *command, "--out", str(tmp_path / "several" / name), stdout=subprocess.PIPE)
    output = run.communicate()[0]
    assert run.returncode == 0
    assert output.count("top-1 error") == 1
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert sorted(path.name for path in (tmp_path / "several").iterdir()) == names
    for each in names:
        assert (tmp_path / "several" / each).read_bytes() == (tmp_path / "one" / each).read_bytes()


def test_bad_arguments_get_one_line_from_all_processes_together(start, tmp_path):
    run = torchrun(2, str(ROOT / "train.py"), "--data", str(tmp_path / "nowhere"), stderr=subprocess.PIPE)
    output = run.communicate()[1]
    assert output.count("error: --data") == 1
    assert "Traceback" not in output.split("error: --data")[0]


def test_too_small_a_batch_for_so_many_processes_is_refused(start, tmp_path):
    command = ["--data", str(start), *TRAINING, "--batch-size", "3", "--out", str(tmp_path / "run")]
    output = torchrun(2, str(ROOT / "train.py"), *command, stderr=subprocess.PIPE).communicate()[1]
    assert "error: --batch-size 3: some batches have only 2 photographs for 2 processes; start fewer" in output


# ---------------------------------------------------------------------------------------------------- the shares


@given(st.integers(0, 200), st.integers(1, 9), st.integers(1, 7))
def test_every_place_is_in_the_share_of_exactly_one_process(n, size, unit):
    shares = [World(rank, size, 0, 1, 0).share(n, unit) for rank in range(size)]
    assert [place for share in shares for place in share] == list(range(n))
    assert all(share.start % unit == 0 for share in shares if share)
    assert max(map(len, shares)) - min(map(len, shares)) < 2 * unit


@given(st.integers(1, 5), st.integers(0, 1000), st.sampled_from(["plain", "groups", "pairs"]))
def test_the_parts_of_all_processes_make_up_the_batches_of_one(size, seed, kind):
    labels = np.random.default_rng(seed).integers(0, 5, 47)

    def batches():
        if kind == "groups":
            return GroupBatches(np.arange(47), labels, 12, 2, seed)
        return (ReversedPairs if kind == "pairs" else EpochBatches)(
            *((np.arange(47), labels) if kind == "pairs" else (np.arange(47),)), batch_size=10, seed=seed
        )

    whole, shares = batches(), [ShardedBatches(batches(), rank, size) for rank in range(size)]
    for epoch, first in ((0, 0), (1, 2)):
        whole.epoch, whole.start = epoch, first
        for share in shares:
            share.go_to(epoch, first)
        for batch, *parts in zip(whole, *shares, strict=True):
            assert [draw._replace(whole=0) for part in parts for draw in part] == batch
            assert {draw.whole for part in parts for draw in part} == {len(batch)}
            assert all(len(part) % whole.group == 0 for part in parts)


def test_an_evaluation_reads_every_photograph_once(start):
    split, seen = open_catalogue(start).split("val"), Counter()
    for rank in range(4):
        places = World(rank, 4, 0, 1, 0).share(len(split))
        for batch in eval_loader(split, 32, 2, 0, False, places):
            seen.update(batch.index.tolist())
    assert seen == Counter(range(len(split)))


def test_a_part_of_a_batch_has_the_same_random_draws_as_in_the_whole():
    images = torch.randn(9, 3, 28, 28)

    def generators(first: int, stop: int) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in range(first, stop)]

    whole, source = shuffle_regions(images, 7, 2, generators(0, 9))
    holes = cutout(images.clone(), 6, generators(20, 29))
    assert len(source.unique(dim=0)) == 9
    for first, stop in ((0, 4), (4, 5), (5, 9)):
        moved, places = shuffle_regions(images[first:stop], 7, 2, generators(first, stop))
        assert torch.equal(moved, whole[first:stop])
        assert torch.equal(places, source[first:stop])
        part = cutout(images[first:stop].clone(), 6, generators(20 + first, 20 + stop))
        assert torch.equal(part, holes[first:stop])


@given(st.integers(1, 12), st.integers(1, 6), st.integers(1, 3))
def test_pieces_make_up_the_batch_and_have_at_least_two_groups(groups, count, group):
    n = groups * group
    seeds = 3 * torch.arange(n)
    batch = Batch(torch.arange(n).view(n, 1, 1, 1), torch.arange(n), torch.arange(n), [], 0.25, seeds, 50)
    pieces = list(batch.pieces(count, group))
    assert torch.equal(torch.cat([piece.index for piece in pieces]), batch.index)
    assert torch.equal(torch.cat([piece.images for piece in pieces]), batch.images)
    assert all(torch.equal(piece.seeds, 3 * piece.index) for piece in pieces)
    assert {piece.whole for piece in pieces} == {50}
    assert {piece.progress for piece in pieces} == {0.25}
    assert len(pieces) == max(1, min(count, groups // 2))
    assert all(len(piece.index) >= min(2, groups) * group for piece in pieces)


def test_a_batch_in_pieces_has_the_gradient_of_the_whole(start, tmp_path, monkeypatch):
    """Without batch statistics, which are switched off here."""
    import train

    monkeypatch.setattr(torch.nn.BatchNorm2d, "forward", lambda self, x: x * self.weight[:, None, None])
    weights = []
    for pieces in ("1", "3"):
        out = tmp_path / pieces
        words = [word for word in methods(start, out)[0] if word != "--sync-bn"]
        monkeypatch.setattr(sys, "argv", [*words, "--accumulate", pieces, "--lr", "1e-4"])
        train.main()
        weights.append(out / "plain/last.pt")
    assert difference(*weights) < 1e-5


def test_an_unreadable_photograph_of_another_process_is_listed_too(tmp_path):
    root = write_aliproducts(tmp_path / "catalogue", counts=(4, 4, 4))
    for path in sorted((root / "train").glob("*/*0.jpg")):
        path.write_bytes(b"no photograph")
    command = ["--data", str(root), *TRAINING, "--epochs", "1", "--out", str(tmp_path / "run")]
    assert torchrun(2, str(ROOT / "train.py"), *command, stdout=subprocess.DEVNULL).wait() == 0
    listed = (tmp_path / "run/unreadable.txt").read_text().splitlines()
    assert sorted(line.split("\t")[0] for line in listed) == sorted(map(str, (root / "train").glob("*/*0.jpg")))
