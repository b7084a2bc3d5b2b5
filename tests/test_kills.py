"""Scripts that are killed at any moment, again and again, end with the same results as scripts that are not.

`pytest -m kills --kills 20` kills each of the jobs 20 times (default: 2).
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, write_aliproducts
from test_training import SMALL, assert_same_run

pytestmark = pytest.mark.kills


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    """A catalogue, and in `start0/` a network trained on it."""
    folder = tmp_path_factory.mktemp("kills")
    write_aliproducts(folder / "catalogue", counts=(9, 9, 8, 8), ids=(4, 17, 103, 200), val=3)
    kill_loop(
        folder, ["train.py", "--data", "catalogue", *map(str, SMALL), "--epochs", "1", "--out", "startOUT"], kills=0
    )
    return folder


def kill_loop(folder: Path, first, kills, longest=1.0, again=None, last="nothing", workers_write=False) -> None:
    """Run kill_loop.py: jobs 1, 2, … with so many kills, and job 0 without any, in the folder `folder`."""
    job = dict(folder=str(folder), first=first, again=again or first, last=last, kills=kills, seed=kills)
    job |= dict(longest=longest, workers_write=workers_write)
    command = [sys.executable, ROOT / "tests/kill_loop.py", json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    killed = json.loads(done.stdout.splitlines()[-1])
    print(f"killed: {killed}")
    assert sum(killed.values()) >= kills


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("script", ["train.py", "finetune_dcl.py", "train_lio.py"])
def test_a_training_killed_at_any_moment_ends_with_the_same_bits(start, tmp_path, script, kills):
    common = [*map(str, SMALL), "--data", f"{start}/catalogue", "--epochs", "2", "--ema", "0.9", "--cutout", "0.3"]
    if script == "finetune_dcl.py":
        common = [word for word in common if word not in ("--arch", "resnet18", "--weights", "none")]
        common += ["--init", f"{start}/start0/best.pt", "--grid", "4"]
    elif script == "train_lio.py":
        common += ["--positives", "1", "--grid", "2", "--stage", "2"]
    else:
        common += ["--workers", "1"]
    # --save-every 1e-9: every batch is saved.
    first, again = [script, *common, "--save-every", "1e-9", "--out", "OUT"], [script, "--resume", "--out", "OUT"]
    kill_loop(tmp_path, first, kills, again=again, last="OUT/last.pt")
    whole, *killed = sorted(tmp_path.iterdir())
    assert killed
    for folder in killed:
        assert_same_run(whole / "last.pt", folder / "last.pt")
        assert_same_run(whole / "best.pt", folder / "best.pt")
        logs = [(each / "log.csv").read_text().splitlines() for each in (whole, folder)]
        assert len(logs[0]) == len(logs[1]) == 3
        for a, b in zip(*logs, strict=True):
            assert a.split(",")[:-2] == b.split(",")[:-2], "all columns but the two that are timed"
        assert not list(folder.glob(".*")), "no temporary file and no lock is left"


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_a_prediction_killed_at_any_moment_ends_with_the_same_bytes(start, tmp_path, name, kills):
    common = ["predict.py", f"{start}/start0/best.pt", "--workers", "1", "--batch-size", "1", "--save-every", "0"]
    top = ["--top-k", "2"] if name.endswith("z") else []
    kill_loop(tmp_path, [*common, *top, "--out", f"OUT/{name}"], kills, longest=0.6)
    whole, *killed = sorted(tmp_path.iterdir())
    assert killed and len(files(whole)) == 2
    for folder in killed:
        assert files(folder) == files(whole)


def test_packing_killed_at_any_moment_ends_with_the_same_bytes(start, tmp_path, kills):
    common = ["data.pack", "--data", f"{start}/catalogue", "--size", "32", "--per-shard", "3", "--workers", "1"]
    kill_loop(tmp_path, [*common, "--out", "OUT"], kills, longest=0.4, workers_write=True)
    whole, *killed = sorted(tmp_path.iterdir())
    assert killed and len(files(whole)) > 20
    for folder in killed:
        assert files(folder) == files(whole)
