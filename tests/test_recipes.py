"""Every setting of every step, as its script's own parser gives it, beside the source that it is from.

"report": the winning solution's report, by section. "release": JDAI-CV's code. "ours": chosen here; what it was chosen
by stands in recipes.py and in the results.
"""

import importlib
import re
from pathlib import Path

import pytest
import torch
from conftest import ROOT

import models
import recipes
from common.command_line import parse
from common.errors import InputError
from models import ARCHS, create_model

# What all steps share, unless a recipe says else: the report's section 1, and torch's and torchvision's usual values.
SHARED = dict(
    resize=256,  # report 1: "Resize all image to 256*256"
    crop=224,  # report 1: "random crop 224*224 for training"
    min_scale=0.08,  # report 1, RandomResizedCrop: Szegedy et al. 2015, torchvision's default
    autoaugment=True,  # report 1
    cutout=0.25,  # report 1; its side, a quarter of the crop's, is ours
    momentum=0.9,  # report 1, SGD; He et al. 2016
    weight_decay=1e-4,  # He et al. 2016
    decay=0.1,  # report 1, "manual learning rate decay"; the factor of He et al. 2016
    warmup=0.0,
    ema=0.0,
    drop_connect=0.2,  # Tan and Le 2019; efficientnet_pytorch's default
    accumulate=1,
    sync_bn=False,
    stream=0,
    seed=0,
    skip_nonfinite=0,
    schedule="manual",  # report 1
    layer_decay=1.0,
    head_rate=1.0,
)
DCL = SHARED | dict(
    resize=512,  # release: crops of 448 out of 512
    crop=448,  # report 2: "higher resolution training images (448*448)"
    grid=7,  # paper, section 4: 7 × 7 regions
    reach=2.0,  # paper, section 4: k = 2
    adversary="2k",  # release, cls_2xmul
    beta=1.0,  # paper, section 4, and release
    gamma=1.0,  # paper, section 4, and release
    head_rate=10.0,  # release: heads and classifier at ten times the backbone's rate
    balanced=30,  # report 1: "all the categories contains 30 images"; report 2 goes on from there
)
LIO = SHARED | dict(
    positives=3,  # release
    extent=0.1,  # release
    context=0.1,  # release
    grid=7,  # paper and release: 7 × 7 regions
    stage=3,  # paper: the last stage
)
PLAIN = SHARED | dict(
    loss="cross-entropy", label_smoothing=0.0, head_epochs=0, probe=False
)  # report 1: "Loss function: CrossEntropy"
# ours, all of the demo's: small drawings, on two cores
SMALL = dict(resize=112, crop=96, min_scale=0.5, autoaugment=False, cutout=0.25, batch_size=32)
SCRATCH = SMALL | dict(weights="none", resize=56, crop=48, drop_connect=0.0)
SCRATCH_LIO = SCRATCH | dict(resize=72, crop=64, stage=2, grid=4, positives=1, batch_size=64)
INHERITED = dict(resize=112, crop=96, min_scale=0.5, autoaugment=False, cutout=0.25)  # of the network in --init
IMAGENET = dict(weights="imagenet")  # report 1: "All networks are trained from ImageNet weights"

FULL, NONE, OLD = ["--data", "/catalogue"], ["--weights", "none"], ["--data", "/catalogue", "--weights", "none"]
EXPECTED = {
    # step 1, report 1: the whole set; epochs, rate and its decay are ours
    "train.py": (FULL, PLAIN | IMAGENET | dict(balanced=0, epochs=12, lr=0.015, decay_at=[7, 10], batch_size=32)),
    # step 1b, report 1: "a balanced training set, in which all the categories contains 30 images"
    "train.py --init x.pt --balanced 30": (
        FULL,
        PLAIN | IMAGENET | dict(balanced=30, epochs=8, lr=0.005, decay_at=[4, 6], batch_size=32),
    ),
    # step 4, report 4: "2-3 epoch in balanced train set"
    "train.py --init x.pt --balanced 30 --loss accuracy": (
        FULL,
        PLAIN | IMAGENET | dict(loss="accuracy", balanced=30, epochs=3, lr=0.002, decay_at=[2], batch_size=32),
    ),
    # step 2: the release's rate is 0.0008 for a batch of 16, twice that for 32 (Goyal et al. 2017)
    "finetune_dcl.py --init x.pt": (
        FULL,
        DCL | IMAGENET | dict(epochs=8, lr=0.0016, decay_at=[4, 6], batch_size=32) | dict(accumulate=4),
    ),
    # step 3
    "train_lio.py": (FULL, LIO | IMAGENET | dict(balanced=0, epochs=3, lr=0.02, decay_at=[1.5, 2.25], batch_size=64)),
    "train_lio.py --init x.pt": (FULL, LIO | IMAGENET | dict(epochs=2, lr=0.005, decay_at=[1, 1.5], batch_size=64)),
    # BBN, report 6
    "tricks.bbn": (FULL, SHARED | IMAGENET | dict(balanced=0, epochs=12, lr=0.02, decay_at=[6, 9], batch_size=128)),
    "tricks.bbn --init x.pt": (FULL, SHARED | IMAGENET | dict(epochs=8, lr=0.005, decay_at=[4, 6], batch_size=128)),
    # ours: a linear classifier on frozen features
    "train.py --probe": (FULL, PLAIN | IMAGENET | dict(epochs=1, head_epochs=20, probe=True)),
    # ours, from scratch: He et al. 2016 in proportion to the batch
    "train.py (scratch)": (OLD, PLAIN | dict(epochs=60, lr=0.025, decay_at=[30, 50], batch_size=64, warmup=1)),
    "train_lio.py (scratch)": (OLD, LIO | dict(epochs=15, lr=0.025, decay_at=[7.5, 12.5], batch_size=64, warmup=0.25)),
    "tricks.bbn (scratch)": (OLD, SHARED | dict(epochs=60, lr=0.025, decay_at=[30, 50], batch_size=128, warmup=1)),
    # the demo, from ImageNet weights
    "train.py --data demo": ([], PLAIN | IMAGENET | SMALL | dict(epochs=5, lr=0.015, decay_at=[3, 4])),
    "train.py --data demo --init x.pt --balanced 30": (
        [],
        PLAIN | IMAGENET | SMALL | dict(balanced=30, epochs=4, lr=0.005, decay_at=[2, 3]),
    ),
    "train.py --data demo --init x.pt --loss accuracy": (
        [],
        PLAIN | IMAGENET | SMALL | dict(loss="accuracy", epochs=3, lr=0.002, decay_at=[2]),
    ),
    "finetune_dcl.py --data demo --init x.pt": (
        [],
        DCL | IMAGENET | SMALL | dict(resize=184, crop=160, grid=5, epochs=4, lr=0.0016, decay_at=[2, 3]),
    ),
    "train_lio.py --data demo": (
        [],
        LIO | IMAGENET | SMALL | dict(epochs=3, lr=0.015, decay_at=[2, 2.5], grid=3, positives=1),
    ),
    "train_lio.py --data demo --init x.pt": (
        [],
        LIO | IMAGENET | SMALL | dict(epochs=2, lr=0.005, decay_at=[1, 1.5], grid=3, positives=1),
    ),
    "tricks.bbn --data demo": (
        [],
        SHARED | IMAGENET | SMALL | dict(epochs=5, lr=0.015, decay_at=[3, 4], batch_size=64),
    ),
    "tricks.bbn --data demo --init x.pt": (
        [],
        SHARED | IMAGENET | SMALL | dict(epochs=4, lr=0.005, decay_at=[2, 3], batch_size=64),
    ),
    "train.py --data demo --probe": ([], PLAIN | IMAGENET | SMALL | dict(batch_size=64, head_epochs=20, probe=True)),
    # the demo, from scratch
    "train.py --data demo (scratch)": (
        NONE,
        PLAIN | SCRATCH | dict(epochs=10, lr=0.1, decay_at=[7, 9], batch_size=32, warmup=0.5),
    ),
    "train.py --data demo --init x.pt --balanced 30 (scratch)": (
        NONE,
        PLAIN | SCRATCH | INHERITED | dict(balanced=30, epochs=6, lr=0.07, decay_at=[4, 5], batch_size=32, warmup=0.0),
    ),
    "train.py --data demo --init x.pt --loss accuracy (scratch)": (
        NONE,
        PLAIN | SCRATCH | INHERITED | dict(loss="accuracy", epochs=3, lr=0.02, decay_at=[2], batch_size=32, warmup=0.0),
    ),
    "finetune_dcl.py --data demo --init x.pt (scratch)": (
        [],
        DCL | SCRATCH | dict(resize=64, crop=56, grid=2, epochs=10, lr=0.02, decay_at=[7, 9], batch_size=32),
    ),
    "train_lio.py --data demo (scratch)": (
        NONE,
        LIO | SCRATCH_LIO | dict(epochs=6, lr=0.1, decay_at=[4, 5.4], warmup=0.3),
    ),
    "train_lio.py --data demo --init x.pt (scratch)": (
        NONE,
        LIO | SCRATCH_LIO | INHERITED | dict(epochs=4, lr=0.07, decay_at=[2.6, 3.4]),
    ),
    "tricks.bbn --data demo (scratch)": (
        NONE,
        SHARED | SCRATCH | dict(epochs=10, lr=0.1, decay_at=[7, 9], batch_size=64, warmup=0.5),
    ),
    "tricks.bbn --data demo --init x.pt (scratch)": (
        NONE,
        SHARED | SCRATCH | INHERITED | dict(epochs=3, lr=0.07, decay_at=[2, 2.5], batch_size=64),
    ),
    "train.py --data demo --probe (scratch)": (NONE, PLAIN | SCRATCH | dict(batch_size=64, head_epochs=20, probe=True)),
}


@pytest.fixture
def settings(monkeypatch):
    """settings("train.py --init x.pt", "--arch", …): what the script would train with.

    The network in x.pt has started from ImageNet weights, or, of a command with "(scratch)" behind it, from none.
    """
    monkeypatch.setitem(vars(models), "require_imagenet", lambda arch: None)

    def call(command: str, *arguments: str) -> dict:
        command, scratch, _ = command.partition(" (scratch)")
        name, *words = command.split()
        demo = "demo" in words
        sides = INHERITED if demo else dict(resize=256, crop=224, min_scale=0.08, autoaugment=True, cutout=0.25)
        kept = dict(data="demo" if demo else "/catalogue", weights="none" if scratch else "imagenet") | sides
        monkeypatch.setitem(vars(models), "load_checkpoint", lambda path: {"arch": "resnet50", "settings": kept})
        module = importlib.import_module(name.removesuffix(".py"))
        monkeypatch.setattr("sys.argv", [name, *words, *arguments])
        return vars(parse(module.arguments(), module.recipe))

    return call


def wrong(found: dict, expected: dict) -> dict:
    return {name: found[name] for name, value in expected.items() if found[name] != value}


@pytest.mark.parametrize("command", EXPECTED)
def test_every_setting_of_every_step_is_that_of_its_source(settings, command):
    more, expected = EXPECTED[command]
    assert not wrong(settings(command, *more), expected)


@pytest.mark.parametrize(
    ("arguments", "processes", "pieces"),
    [
        (["--batch-size", 8], 1, 1),
        (["--batch-size", 9], 1, 2),
        (["--crop", 224, "--resize", 256], 1, 1),
        (["--crop", 336], 1, 3),  # 32 · 336² = 2.25 · 8 · 448²
        ([], 4, 1),
        ([], 3, 2),
        (["--accumulate", 5], 1, 5),
    ],
)
def test_dcl_takes_eight_photographs_of_448_pixels_at_once(settings, monkeypatch, arguments, processes, pieces):
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    found = settings("finetune_dcl.py --init x.pt", *FULL, *map(str, arguments))
    assert found["accumulate"] == pieces


SCRATCH_RATES = [name for name in EXPECTED if "demo" in name and "scratch" in name]


@pytest.mark.parametrize("command", [name for name in SCRATCH_RATES if not re.search("dcl|probe", name)])
def test_an_efficientnet_learns_the_demo_at_a_lower_rate(settings, command):
    """Ours: at 0.1 it diverges. Nothing else differs."""
    slow, other = settings(command, *NONE, "--arch", "efficientnet-b3"), settings(command, *NONE)
    assert slow["lr"] == 0.02
    assert {name for name in slow if slow[name] != other[name]} <= {"arch", "lr", "out"}


def test_on_a_catalogue_of_one_s_own_every_network_has_the_report_s_rate(settings):
    for arch in ARCHS:
        assert settings("train.py", *FULL, "--arch", arch)["lr"] == 0.015


def test_the_command_line_wins_over_the_recipe(settings):
    given = settings("train.py", "--lr", "0.5", "--cutout", "0", "--decay-at", "none")
    assert (given["lr"], given["cutout"], given["decay_at"], given["epochs"]) == (0.5, 0, [], 5)


def same_as_report(table: str, change: tuple) -> bool:
    """Whether a step of REPORT_SCRATCH is REPORT's own: it is tested there."""
    return table == "REPORT_SCRATCH" and recipes.REPORT_SCRATCH[change[0]] is recipes.REPORT[change[0]]


def mutations(table: dict):
    """Each number and switch of a table of recipes, changed a little."""
    for step, values in table.items():
        for name, value in values.items():
            other = {bool: lambda v: not v, int: lambda v: v + 1, float: lambda v: 10 * v + 0.1}
            other |= {list: lambda v: [v[0] + 1, *v[1:]] if v else [1]}
            yield step, name, other[type(value)](value)


# Sides and augmentation of a step that goes on from a network are the network's.
UNUSED = {("balanced", name) for name in INHERITED} | {("accuracy", name) for name in INHERITED}
UNUSED |= {(f"{step} from a network", name) for step in ("lio", "bbn") for name in INHERITED}
UNUSED |= {("dcl", name) for name in ("min_scale", "autoaugment", "cutout")}
UNUSED |= {("probe", name) for name in ("epochs", "lr", "decay_at", "batch_size", "drop_connect", "warmup", "cutout")}
UNUSED |= {("probe", name) for name in ("min_scale", "autoaugment")}


@pytest.mark.parametrize("table", ["REPORT", "REPORT_SCRATCH", "DEMO", "DEMO_SCRATCH"])
def test_no_recipe_can_change_unnoticed(settings, monkeypatch, table):
    """Of every single change of a recipe, the test above would say so."""
    recipe = getattr(recipes, table)
    changes = [change for change in mutations(recipe) if change[:2] not in UNUSED and not same_as_report(table, change)]
    assert len(changes) > (10 if table == "REPORT_SCRATCH" else 25)
    for step, name, value in changes:
        with monkeypatch.context() as patch:
            patch.setitem(getattr(recipes, table)[step], name, value)
            assert any(wrong(settings(each, *more), expected) for each, (more, expected) in EXPECTED.items()), name


def test_the_report_s_backbones_are_there_with_its_test_crops():
    """Report, sections 1, 4.1 and 5."""
    assert set(ARCHS) >= {"resnet50", "seresnext50", "seresnet101", "efficientnet-b3", "efficientnet-b4"}
    import predict

    text = Path(predict.__file__).read_text()
    assert re.search(r'"--crops", type=int, choices=\[1, 10\], default=10', text), (
        "all models are tested with ten crops"
    )


def test_reproduce_paper_calls_the_steps_as_the_report_tells():
    """Report, sections 1 to 4.1: balanced sets of 30, DCL after the balanced training, its eleven members."""
    text = (ROOT / "reproduce_paper.sh").read_text()
    assert len(re.findall(r"--balanced 30\b", text)) == 3 and "--balanced" in text  # steps 1b, 3 and 4
    assert 'finetune_dcl.py --init "$runs/$arch-balanced/best.pt"' in text
    assert "archs+=(resnet50 seresnext50 seresnet101 efficientnet-b3 efficientnet-b4)" in text
    assert "dcl_archs+=(resnet50 seresnext50) lio_archs+=(resnet50)" in text
    assert "accuracy_archs+=(efficientnet-b3 resnet50 seresnext50)" in text


def test_batch_norm_and_dropout_are_the_original_packages():
    """torchvision, pretrainedmodels: momentum 0.1; efficientnet_pytorch: dropout 0.3 and 0.4 (Tan and Le 2019)."""
    for arch, dropout in (("efficientnet-b3", 0.3), ("efficientnet-b4", 0.4)):
        net = create_model(arch, 2)
        assert net._dropout.p == dropout
    assert {m.momentum for m in create_model("resnet18", 2).modules() if isinstance(m, torch.nn.BatchNorm2d)} == {0.1}


def test_epochs_alone_scale_the_whole_schedule(settings):
    given = settings("train.py", *OLD, "--epochs", "30")
    assert (given["epochs"], given["decay_at"], given["warmup"]) == (30, [15, 25], 0.5)
    given = settings("train.py", *FULL, "--epochs", "6", "--decay-at", "5")
    assert (given["epochs"], given["decay_at"]) == (6, [5])


def test_a_network_in_init_hands_on_its_sides_and_augmentation(settings, monkeypatch):
    demo = settings("train.py --data demo --init x.pt --balanced 30")
    assert {name: demo[name] for name in INHERITED} == INHERITED
    given = settings("train.py --data demo --init x.pt --balanced 30", "--crop", "64")
    assert (given["resize"], given["crop"]) == (112, 64)


def test_weights_beside_init_are_refused_unless_they_are_its_own(settings):
    with pytest.raises(InputError, match=r"--weights none: --init x\.pt has weights already; leave one of them out"):
        settings("train.py --data demo --init x.pt", "--weights", "none")
    settings("train.py --data demo --init x.pt", "--weights", "imagenet")


def test_without_weights_the_demo_is_trained_from_scratch_and_ones_own_catalogue_is_not(settings, monkeypatch, capsys):
    def missing(arch):
        raise InputError(f"no ImageNet weights for {arch}")

    monkeypatch.setitem(vars(models), "require_imagenet", missing)
    given = settings("train.py --data demo")
    assert (given["weights"], given["crop"], given["lr"]) == ("none", 48, 0.1)
    assert capsys.readouterr().err == "note: no ImageNet weights for resnet50; training from scratch\n"
    assert settings("train.py", *FULL)["weights"] == "imagenet"
