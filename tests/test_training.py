"""The training loop: schedule, average of the weights, exact resumption, photographs that cannot be read."""

import argparse
import copy
import csv
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, TINTS, write_aliproducts, write_photograph

import models
from catalogues import open_catalogue
from common.device import Compute
from common.errors import InputError
from data import Photographs, TrainTransform, train_loader
from data.samplers import EpochBatches
from models import create_model
from models.backbone import Backbone
from models.checkpoint import load_checkpoint, network_of
from training.optimisation import Average, learning_rate

SMALL = ["--arch", "resnet18", "--weights", "none", "--resize", 36, "--crop", 32, "--batch-size", 8, "--workers", 0]
SMALL += ["--lr", 0.02, "--decay-at", "", "--precision", "float32"]  # no decay


def train(script, root, out, *more, code=0):
    return script("train.py", "--data", root, "--out", out, *SMALL, *more, code=code)


def test_compiled_training_differs_only_by_rounding(script, aliproducts, monkeypatch):
    graphs, compile_with = [], torch.compile

    def uncompiled(graph, _):  # compiling takes minutes
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", lambda *args, **options: compile_with(*args, backend=uncompiled, **options))
    train(script, aliproducts, "eager", "--epochs", 2)
    assert not graphs
    train(script, aliproducts, "compiled", "--epochs", 2, "--compile")
    assert graphs
    eager, compiled = (load_checkpoint(f"{out}/last.pt") for out in ("eager", "compiled"))
    assert compiled["settings"]["compile"] and eager["model"].keys() == compiled["model"].keys()
    for name, weights in eager["model"].items():
        torch.testing.assert_close(compiled["model"][name], weights, rtol=1e-3, atol=1e-4)


def test_compiling_needs_a_compiler(script, aliproducts, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    error = train(script, aliproducts, "out", "--compile", code=2).stderr
    assert error == "error: --compile: there is no C++ compiler here; install g++, or leave --compile out\n"
    assert not Path("out").exists()


def without_times(rows: list[dict]) -> list[dict]:
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in rows]


def assert_same_run(a, b):
    """Bit-identical weights, optimizer state, average, log and best."""
    a, b = load_checkpoint(a), load_checkpoint(b)
    for part in ("model", "ema"):
        if a[part] is None:
            assert b[part] is None
            continue
        assert a[part].keys() == b[part].keys()
        assert all(torch.equal(a[part][key], b[part][key]) for key in a[part]), part
    for x, y in zip(*(each["optimizer"].get("state", {}).values() for each in (a, b)), strict=True):
        assert torch.equal(x["momentum_buffer"], y["momentum_buffer"])
    assert without_times(a["log"]) == without_times(b["log"])
    assert (a["epoch"], a["batch"], a["best"]) == (b["epoch"], b["batch"], b["best"])


def test_manual_decay_multiplies_the_rate_after_each_named_epoch():
    rates = [learning_rate(epoch, 10, 0.1, [2, 3], 0.1) for epoch in (0, 1.99, 2, 2.5, 3, 9)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_warmup_rises_linearly_from_zero():
    assert [learning_rate(t, 4, 0.4, [], 0.1, warmup=2) for t in (0, 0.5, 1, 2, 3)] == pytest.approx(
        [0, 0.1, 0.2, 0.4, 0.4]
    )


def test_cosine_falls_from_the_rate_at_the_end_of_the_warmup_to_zero():
    """Against torch's own scheduler, whose steps are epochs here."""
    sgd = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.4)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, 5)
    for epoch in range(5):
        ours = learning_rate(2 + epoch, 7, 0.4, [3], 0.1, warmup=2, schedule="cosine")
        assert ours == pytest.approx(theirs.get_last_lr()[0])
        sgd.step()
        theirs.step()
    assert learning_rate(7, 7, 0.4, [], 0.1, 2, "cosine") == pytest.approx(0)
    assert learning_rate(0.5, 7, 0.4, [], 0.1, 2, "cosine") == pytest.approx(0.1)


@pytest.mark.parametrize("flag", ["--decay-at", "--decay"])
def test_decays_beside_cosine_are_refused(script, aliproducts, flag):
    run = ["--data", aliproducts, "--weights", "none", "--schedule", "cosine", "--out", "run"]
    refused = script("train.py", *run, flag, 0.5, code=2)
    assert refused.stderr == f"error: {flag}: --schedule cosine has no decays; leave one of them out\n"


def test_average_equals_the_recurrence_also_after_a_resumption():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)).double()
    average, expected = Average(net, 0.9), None
    for update in range(6):
        with torch.no_grad():
            for value in (*net.parameters(), net[1].running_mean):
                value += torch.randn_like(value)
        average.update(net)
        current = {key: value.clone() for key, value in net.state_dict().items() if value.is_floating_point()}
        expected = expected or current
        expected = {key: 0.9 * expected[key] + 0.1 * current[key] for key in current}
        if update == 3:
            average = Average(net, 0.9, copy.deepcopy(average.module.state_dict()))
    state = average.module.state_dict()
    assert all(torch.allclose(state[key], expected[key], rtol=1e-12) for key in expected)


def test_two_runs_are_bit_identical_and_another_seed_is_not(script, aliproducts, tmp_path):
    train(script, aliproducts, "a", "--epochs", 1)
    train(script, aliproducts, "b", "--epochs", 1, "--workers", 2)  # the number of workers changes nothing
    train(script, aliproducts, "c", "--epochs", 1, "--seed", 1)
    assert_same_run(tmp_path / "a/last.pt", tmp_path / "b/last.pt")
    with pytest.raises(AssertionError):
        assert_same_run(tmp_path / "a/last.pt", tmp_path / "c/last.pt")


def test_a_run_resumed_after_an_epoch_equals_one_never_stopped(script, aliproducts, tmp_path):
    common = ("--ema", 0.9, "--decay-at", "1,2", "--cutout", 0.5)
    train(script, aliproducts, "whole", "--epochs", 3, *common)
    first = train(script, aliproducts, "parts", "--epochs", 1, *common)
    resumed = script("train.py", "--resume", "--out", "parts", "--epochs", 3)
    assert "parameters, from scratch\n" in first.stdout and "parameters, from parts/last.pt\n" in resumed.stdout
    assert_same_run(tmp_path / "whole/last.pt", tmp_path / "parts/last.pt")
    rows = list(csv.DictReader((tmp_path / "parts/log.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [float(row["lr"]) for row in rows] == pytest.approx([0.02, 0.002, 0.0002])


def stopped_after_a_batch(folder: Path, command: list, signum: int, code: int) -> str:
    """Run a training in folder/parts, stop it by a signal after its first batches, and return what it printed."""
    with subprocess.Popen(
        [sys.executable, *map(str, command), "--out", "parts", "--save-every", "0.0001"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while not (folder / "parts/last.pt").exists():  # the first batch writes it already
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        process.send_signal(signum)
        _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    return err


@pytest.mark.parametrize("signum, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_stopped_inside_an_epoch_goes_on_where_it_stopped(script, tmp_path, signum, code):
    root = write_aliproducts(tmp_path / "catalogue", counts=(30, 26, 24))
    train(script, root, "whole", "--epochs", 2)
    err = stopped_after_a_batch(tmp_path, [ROOT / "train.py", "--data", root, "--epochs", 2, *SMALL], signum, code)
    assert "train.py --resume --out parts" in err and "Traceback" not in err
    assert 0 < load_checkpoint(tmp_path / "parts/last.pt")["batch"] < 10, "stopped inside the first epoch"
    script("train.py", "--resume", "--out", "parts")
    assert_same_run(tmp_path / "whole/last.pt", tmp_path / "parts/last.pt")


def test_a_resumed_run_accepts_a_new_rate_but_no_other_photographs(script, aliproducts, tmp_path):
    train(script, aliproducts, "run", "--epochs", 1, "--decay-at", "none")
    script(
        "train.py", "--resume", "--out", "run", "--epochs", 2, "--lr", 0.5, "--momentum", 0.5, "--weight-decay", 0.25
    )
    group = load_checkpoint(tmp_path / "run/last.pt")["optimizer"]["param_groups"][0]
    assert (group["momentum"], group["weight_decay"]) == (0.5, 0.25)
    assert [row["lr"] for row in load_checkpoint(tmp_path / "run/last.pt")["log"]] == [0.02, 0.5]
    refused = script("train.py", "--resume", "--out", "run", "--epochs", 3, "--balanced", 4, code=2)
    assert refused.stderr.startswith("error: --balanced 4: the run in run has 0") and refused.stderr.count("\n") == 1
    done = script("train.py", "--resume", "--out", "run")
    assert "all 2 epochs are done" in done.stdout
    state = load_checkpoint(tmp_path / "run/last.pt")
    del state["settings"]["loss"]  # as in checkpoints older than --loss
    torch.save(state, tmp_path / "run/last.pt")
    script("train.py", "--resume", "--out", "run", "--epochs", 3)


def test_a_run_is_overwritten_only_with_overwrite(script, aliproducts, tmp_path):
    train(script, aliproducts, "run", "--epochs", 1)
    before = (tmp_path / "run/last.pt").read_bytes()
    refused = train(script, aliproducts, "run", "--epochs", 1, code=2)
    assert "run already holds a run; add --resume" in refused.stderr
    assert (tmp_path / "run/last.pt").read_bytes() == before
    train(script, aliproducts, "run", "--epochs", 1, "--seed", 5, "--overwrite")
    assert load_checkpoint(tmp_path / "run/last.pt")["settings"]["seed"] == 5


def test_the_best_checkpoint_has_the_lowest_mean_class_error(script, aliproducts, tmp_path):
    train(script, aliproducts, "run", "--epochs", 4, "--lr", 0.1)
    errors = [row["val_mean_class_error"] for row in load_checkpoint(tmp_path / "run/last.pt")["log"]]
    assert load_checkpoint(tmp_path / "run/best.pt")["epoch"] == 1 + int(np.argmin(errors))


def test_a_stopped_trick_names_the_command_that_goes_on(script, tmp_path):
    root = write_aliproducts(tmp_path / "catalogue", counts=(30, 26, 24))
    command = ["-m", "tricks.bbn", "--data", root, "--epochs", 1, *SMALL]
    err = stopped_after_a_batch(tmp_path, command, signal.SIGTERM, 143)
    python, *words = shlex.split(err.splitlines()[-1])
    assert [python, *words] == ["python", "-m", "tricks.bbn", "--resume", "--out", "parts"]
    state = load_checkpoint(tmp_path / "parts/last.pt")
    assert state["script"] == "bbn.py" and state["epoch"] == 0
    torch.save(state | {"script": "train_bbn.py"}, tmp_path / "parts/last.pt")  # the script's name in older checkpoints
    other = script("train.py", "--resume", "--out", "parts", code=2)
    assert "the run in parts is one of bbn.py; go on with python -m tricks.bbn --resume --out parts" in other.stderr
    subprocess.run([sys.executable, *words], env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
    state = load_checkpoint(tmp_path / "parts/last.pt")
    assert state["script"] == "bbn.py" and state["epoch"] == 1


def test_init_starts_from_the_network_of_a_checkpoint(script, aliproducts, tmp_path):
    train(script, aliproducts, "base", "--epochs", 1)
    train(script, aliproducts, "tuned", "--epochs", 1, "--balanced", 3, "--init", "base/best.pt", "--lr", 1e-12)
    base, tuned = load_checkpoint(tmp_path / "base/best.pt"), load_checkpoint(tmp_path / "tuned/best.pt")
    for name, _ in create_model("resnet18", 3).named_parameters():
        torch.testing.assert_close(tuned["model"][name], base["model"][name], rtol=0, atol=1e-8)


def test_one_batch_can_be_overfitted(aliproducts):
    torch.manual_seed(0)
    net, split = create_model("resnet18", 3), open_catalogue(aliproducts).split("train")
    batches = EpochBatches(np.arange(len(split)), 18)
    batch = next(iter(train_loader(split, batches, TrainTransform(36, 32), 0, 0, False)))
    optimizer = torch.optim.SGD(net.parameters(), 0.05, 0.9)
    from train import step

    for _ in range(25):
        loss, metrics = step(net, batch._replace(images=batch.images / 128 - 1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert metrics["top1"] == 1 and loss < 0.1


def test_an_augmented_photograph_depends_only_on_its_draw(aliproducts):
    photographs = Photographs(open_catalogue(aliproducts).split("train"), 36, TrainTransform(36, 32), seed=3)
    draws = next(iter(EpochBatches(np.arange(18), 18)))
    forward = [photographs[draw][0] for draw in draws]
    torch.manual_seed(99)
    backward = [photographs[draw][0] for draw in reversed(draws)]
    assert all(torch.equal(a, b) for a, b in zip(forward, reversed(backward), strict=True))
    assert not torch.equal(forward[0], photographs[draws[0]._replace(epoch=1)][0])


def damage(root, *names):
    for name in names:
        path = next(root.glob(f"*/*/{name}"))
        path.write_bytes(path.read_bytes()[:300])


def test_unreadable_photographs_are_skipped_in_training_counted_and_listed(script, aliproducts, tmp_path):
    damage(aliproducts, "train4_0.jpg", "train17_1.jpg", "val103_1.jpg")
    done = train(script, aliproducts, "run", "--epochs", 2)
    listed = (tmp_path / "run/unreadable.txt").read_text()
    assert [line.split("\t")[0].rpartition("/")[2] for line in sorted(listed.splitlines())] == [
        "train4_0.jpg",
        "train17_1.jpg",
        "val103_1.jpg",
    ]
    assert "3 unreadable photograph(s) so far, listed in run/unreadable.txt" in done.stderr


def test_a_catalogue_without_one_readable_photograph_is_an_error(script, aliproducts):
    for path in aliproducts.glob("train/*/*.jpg"):
        path.write_bytes(b"")
    done = train(script, aliproducts, "run", "--epochs", 1, code=2)
    assert "no batch had two training photographs that can be read" in done.stderr


def test_an_unreadable_photograph_has_a_uniform_row_and_is_named(script, aliproducts, tmp_path):
    train(script, aliproducts, "run", "--epochs", 1)
    damage(aliproducts, "val17_0.jpg")
    done = script("predict.py", "run/best.pt", "--workers", 0, "--batch-size", 4)
    from predictions.reading import open_member

    member = open_member(tmp_path / "preds/run.npy")
    assert member.info.unreadable == ["val17_0.jpg"] and "val17_0.jpg cannot be read, its row is uniform" in done.stderr
    rows = member.rows(0, 6)
    place = member.info.image_ids.index("val17_0.jpg")
    np.testing.assert_allclose(rows[place], 1 / 3, atol=1e-3)
    assert abs(rows[[i for i in range(6) if i != place]] - 1 / 3).max(1).min() > 1e-3, "only that row is uniform"


def test_ten_crops_are_averaged_and_rows_have_the_order_of_the_split(script, aliproducts, tmp_path):
    from data import normalise, read_squashed, ten_crop
    from predictions.reading import open_member

    train(script, aliproducts, "run", "--epochs", 1)
    script(
        "predict.py", "run/best.pt", "--dtype", "float32", "--workers", 0, "--batch-size", 4, "--precision", "float32"
    )
    rows = open_member(tmp_path / "preds/run.npy").rows(0, 6)
    net = network_of(load_checkpoint(tmp_path / "run/best.pt"), "").eval()
    split = open_catalogue(aliproducts).split("val")
    for index in range(len(split)):  # one photograph and one crop at a time
        image = normalise(torch.from_numpy(read_squashed(split.path(index), 36)).permute(2, 0, 1)[None])
        with torch.no_grad():
            views = [net(crop[None]).softmax(1)[0] for crop in ten_crop(image, 32)[0]]
        np.testing.assert_allclose(rows[index], torch.stack(views).mean(0), atol=1e-6)
        assert abs(rows[index] - views[4].numpy()).max() > 1e-3, "the centre crop alone gives another row"


def test_predictions_of_other_splits_have_their_own_folders(script, aliproducts, tmp_path):
    train(script, aliproducts, "runs/net", "--epochs", 1)
    for split in ("val", "test"):
        script("predict.py", "runs/net/best.pt", "--split", split, "--crops", 1, "--workers", 0)
    script("predict.py", "runs/net/last.pt", "--crops", 1, "--workers", 0)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("preds/**/*.npy")) == [
        "preds/net-last.npy",
        "preds/net.npy",
        "preds/test/net.npy",
    ]
    done = script("ensemble.py", "preds/test/net.npy", "--submission", "submission.csv")
    assert "no labels" in done.stdout
    lines = (tmp_path / "submission.csv").read_text().splitlines()
    assert lines[0] == "id,predicted" and [line.split(",")[0] for line in lines[1:]] == ["t0.jpg", "t1.jpg", "t2.jpg"]
    assert {line.split(",")[1] for line in lines[1:]} <= {"4", "17", "103"}


def test_without_a_val_split_the_newest_is_the_best_and_test_is_predicted(script, tmp_path):
    for place in range(6):
        write_photograph(tmp_path / f"shop/train/{'ab'[place % 2]}/{place}.jpg", place)
        write_photograph(tmp_path / f"shop/test/{place}.jpg", place)
    assert "no labelled val split" in train(script, "shop", "runs/net", "--epochs", 2).stderr
    assert load_checkpoint(tmp_path / "runs/net/best.pt")["epoch"] == 2
    state = load_checkpoint(tmp_path / "runs/net/last.pt")
    torch.save(state | {"best": -2.0}, tmp_path / "runs/net/last.pt")  # as in older checkpoints without validation
    script("train.py", "--resume", "--out", "runs/net", "--epochs", 3)
    assert load_checkpoint(tmp_path / "runs/net/best.pt")["epoch"] == 3
    done = script("predict.py", "runs/net/best.pt", "--crops", 1, "--workers", 0)
    assert "preds/test/net.npy: test, 6 photographs, centre crop: no labels" in done.stdout


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--arch", "resnet51"], "resnet51"),
        (["--data", "nowhere"], "no such folder"),
        (["--init", "nowhere.pt"], "nowhere.pt: no such checkpoint"),
        (["--weights", "nowhere.pth"], "nowhere.pth"),
        (["--epochs", "0"], "--epochs: '0': expected an integer of at least 1"),
        (["--lr", "nan"], "--lr: 'nan': expected a number above 0"),
        (["--batch-size", "1"], "--batch-size: '1': expected an integer of at least 2"),
        (["--decay-at", "3,x"], "--decay-at: 'x'"),
        (["--crop", "64"], "--crop 64 is larger than --resize 36"),
        (["--device", "abacus"], "--device abacus: not usable here"),
        (["--resume", "--out", "nowhere"], "nowhere/last.pt: no such checkpoint"),
        (["--frobnicate"], "unrecognized arguments: --frobnicate"),
    ],
)
def test_bad_arguments_get_one_clear_line_and_code_2(script, aliproducts, tmp_path, arguments, message):
    done = train(script, aliproducts, "run", "--epochs", 1, *arguments, code=2)
    assert message in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_another_arch_or_class_count_is_refused(script, aliproducts, tmp_path):
    train(script, aliproducts, "run", "--epochs", 1)
    other = train(script, aliproducts, "x", "--epochs", 1, "--init", "run/best.pt", "--arch", "resnet50", code=2)
    assert "run/best.pt holds a resnet18, not a resnet50; add --arch resnet18" in other.stderr
    root = write_aliproducts(tmp_path / "more", counts=(3, 3, 3, 3), ids=(1, 2, 3, 4))
    for done in (
        train(script, root, "x", "--epochs", 1, "--init", "run/best.pt", code=2),
        script("predict.py", "run/best.pt", "--data", root, code=2),
    ):
        assert "was trained on other classes: 3 classes" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_a_damaged_checkpoint_is_refused(tmp_path, content):
    path = tmp_path / "best.pt"
    if content is None:
        torch.save({"some": "dictionary"}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"best\.pt: not a"):
        load_checkpoint(path)


def test_a_checkpoint_with_code_is_refused_and_the_code_is_not_run(tmp_path):
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    torch.save({"model": Payload()}, tmp_path / "best.pt")
    with pytest.raises(InputError, match="not a readable checkpoint"):
        load_checkpoint(tmp_path / "best.pt")
    assert not (tmp_path / "executed").exists()


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_good_checkpoint(script, aliproducts, tmp_path):
    train(script, aliproducts, "run", "--epochs", 1)
    done = script("train.py", "--resume", "--out", "run", "--epochs", 3, "--lr", 1e30, code=2)
    assert "run: the loss of epoch 2, batch 2 is not finite; run/nonfinite.json lists" in done.stderr
    state = load_checkpoint(tmp_path / "run/last.pt")
    assert all(value.isfinite().all() for value in state["model"].values())


def test_settings_of_the_command_line_beat_the_recipe(monkeypatch):
    from train import recipe

    def chosen(**given):
        plain = {"arch": "resnet18", "data": "demo", "init": None, "balanced": 0, "loss": "cross-entropy"}
        plain |= {"weights": None, "epochs": None, "probe": False, "resume": False}
        return recipe(argparse.Namespace(**plain | given))

    kept = {"settings": {"data": "demo", "weights": "imagenet", "resize": 112, "crop": 96}}
    monkeypatch.setitem(vars(models), "load_checkpoint", lambda path: kept)
    monkeypatch.setitem(vars(models), "require_imagenet", lambda arch: None)
    assert chosen()["weights"] == chosen(data="/my/catalogue")["weights"] == "imagenet"
    assert chosen(probe=True)["out"] == "runs/resnet18-probe"
    assert chosen(arch="timm:convnext_tiny")["out"] == "runs/timm-convnext_tiny"
    assert chosen(balanced=30, init="x.pt")["out"] == "runs/resnet18-balanced"
    assert chosen(init="x.pt")["lr"] < chosen()["lr"]
    assert chosen(balanced=30, init="x.pt", loss="accuracy")["out"] == "runs/resnet18-accuracy"
    assert chosen(init="x.pt", loss="accuracy")["epochs"] == 3


def class_folders(root: Path, *counts: int) -> Path:
    for label, count in enumerate(counts):
        for place in range(count):
            write_photograph(root / f"train/class{label}/{place}.jpg", 10 * label + place, tint=TINTS[label])
        write_photograph(root / f"val/class{label}/0.jpg", 10 * label + 9, tint=TINTS[label])
    return root


@pytest.mark.parametrize(
    "counts, more, remedy",
    [
        ([1], [], "add photographs"),
        ([1], ["--balanced", 5], "leave --balanced out, or add photographs"),
        ([4], ["--balanced", 1], "leave --balanced out, or add photographs"),
        ([1, 1], ["--exclude", "some.txt"], "leave --exclude out, or add photographs"),
    ],
)
def test_a_single_training_photograph_is_said_to_be_too_few(script, tmp_path, counts, more, remedy):
    root = class_folders(tmp_path / "few", *counts)
    image_id = open_catalogue(root).split("train").image_id(0)
    (tmp_path / "some.txt").write_text(f"cluster,id,class,exclude\n0,{image_id},class0,1\n")
    done = train(script, root, "run", "--epochs", 1, *more, code=2)
    why = "only one photograph to train on, and batch normalisation needs two in a batch"
    assert done.stderr.splitlines()[-1] == f"error: {root}: {why}; {remedy}"
    assert not Path("run").exists()


def test_two_training_photographs_are_enough_and_the_classifier_alone_needs_one(script, tmp_path):
    train(script, class_folders(tmp_path / "two", 1, 1), "run", "--epochs", 1, "--balanced", 1)
    one = ["train.py", "--data", class_folders(tmp_path / "one", 1), "--resize", 36, "--crop", 32, "--workers", 0]
    assert (
        "features of 1 photographs" in script(*one, "--arch", "efficientnet-lite0", "--out", "probe", "--probe").stdout
    )


def test_a_single_readable_photograph_is_told_from_none(script, tmp_path):
    root = class_folders(tmp_path / "two", 1, 1)
    (root / "train/class0/0.jpg").write_bytes(b"no photograph")
    done = train(script, root, "run", "--epochs", 1, code=2)
    assert "no batch had two training photographs that can be read" in done.stderr
    assert "train/class0/0.jpg" in Path("run/unreadable.txt").read_text()


def test_validation_and_cached_features_go_through_the_network_in_pieces(script, aliproducts, monkeypatch):
    sizes, features = [], Backbone.features

    def noted(net, images):
        if not net.training:
            sizes.append(len(images))
        return features(net, images)

    monkeypatch.setattr(Backbone, "features", noted)
    logs = []
    for most in (100, 4):
        monkeypatch.setattr(Compute, "images_at_once", lambda self, side, most=most: most)
        train(script, aliproducts, f"run{most}", "--epochs", 1, "--head-epochs", 2)
        assert sum(sizes) == 18 + 6 and (max(sizes) <= 4) == (most == 4)
        logs.append(load_checkpoint(f"run{most}/last.pt")["log"][0]["val_top1_error"])
        sizes.clear()
    assert logs[0] == logs[1]
