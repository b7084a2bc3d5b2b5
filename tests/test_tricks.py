"""The report's tricks from end to end: losses by name, pseudo labels, distillation, BBN, near-duplicates."""

import csv
import io
import json
import os
import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import GROCERY, write_aliproducts
from PIL import Image, ImageEnhance
from test_training import SMALL, assert_same_run, train

import data.duplicates as duplicates
from catalogues import excluded_places, open_catalogue, with_extra_labels
from common.errors import InputError
from data import Batch, ReversedPairs
from drawings import draw_photograph
from losses import LOSSES, annealed_lambda, asoftmax_loss, choose_loss, distillation_loss, soften
from models import ARCHS, BBN, Angular, create_model
from models.checkpoint import load_checkpoint, network_of
from predictions.reading import PredictionInfo, open_member
from predictions.writer import write_predictions
from training.loop import Trainer
from tricks.bbn import step as bbn_step
from tricks.pseudo_label import chosen_places

TREE = {"drinks": {"bottle": {"red cap": 4, "blue cap": "17"}}, "shoes": {"brown": 103}}


@pytest.fixture
def with_tree(aliproducts):
    (aliproducts / "product_tree.json").write_text(json.dumps(TREE))
    return aliproducts


def loss_of(path) -> list[float]:
    return [row["train_loss"] for row in load_checkpoint(path)["log"]]


# losses by name --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
def test_train_py_trains_with_every_loss_and_predict_py_takes_the_result(script, with_tree, tmp_path, name):
    done = script("train.py", "--data", with_tree, *SMALL, "--loss", name, "--epochs", 1)
    out = "runs/resnet18" + (f"-{name}" if name != "cross-entropy" else "")
    assert f"run        {out}\n" in done.stdout
    script("predict.py", f"{out}/best.pt", "--workers", 0, "--crops", 1, "--out", "p.npy")
    state = load_checkpoint(tmp_path / f"{out}/best.pt")
    assert (state["heads"] or {}).get("kind") == ("Angular" if name == "asoftmax" else None)
    if name != "cross-entropy":
        script("train.py", "--data", with_tree, *SMALL, "--epochs", 1, "--out", "plain")
        assert loss_of(tmp_path / f"{out}/last.pt") != loss_of(tmp_path / "plain/last.pt")


def stopped_after_an_epoch(script, monkeypatch, *arguments) -> None:
    """The run that these arguments start, killed when its first epoch was saved."""
    close = Trainer._close_epoch

    def close_and_stop(self, *rest):
        close(self, *rest)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_close_epoch", close_and_stop)
        script(*arguments, code=130)


def test_a_run_goes_on_with_its_own_loss_where_the_margin_had_got_to(script, aliproducts, tmp_path, monkeypatch):
    common = ("train.py", "--data", aliproducts, *SMALL, "--loss", "asoftmax", "--epochs", 2, "--ema", 0.5, "--out")
    script(*common, "whole")
    stopped_after_an_epoch(script, monkeypatch, *common, "parts")
    script("train.py", "--resume", "--out", "parts")
    assert_same_run(tmp_path / "whole/last.pt", tmp_path / "parts/last.pt")
    refused = script("train.py", "--resume", "--out", "whole", "--epochs", 3, "--loss", "focal", code=2)
    assert "--loss focal: the run in whole has asoftmax; leave --loss out" in refused.stderr


def test_the_angular_classifier_gives_cosines_times_the_features_length():
    torch.manual_seed(0)
    net, images = Angular(create_model("resnet18", 5)).double().eval(), torch.randn(3, 3, 64, 64).double()
    with torch.no_grad():
        logits, norm = net(images)
        x, w = net.net.pool(net.net.features(images)), net.classifier.weight.detach()
    for b in range(3):
        assert norm[b].item() == pytest.approx(float((x[b] @ x[b]).sqrt()), rel=1e-5)
        for k in range(5):
            assert logits[b, k].item() == pytest.approx(float(x[b] @ w[k] / (w[k] @ w[k]).sqrt()), rel=1e-9)
    assert torch.equal(net.predict(images), logits)


def test_the_margin_grows_with_the_progress_of_the_run():
    criterion, outputs = choose_loss("asoftmax"), (torch.tensor([[1.0, 0.5]]), torch.tensor([1.2]))
    losses = [criterion(outputs, torch.tensor([0]), None, progress).item() for progress in (0, 0.5, 1)]
    expected = [asoftmax_loss(outputs[0], torch.tensor([0]), outputs[1], 4, annealed_lambda(p)).item() for p in (0, 1)]
    assert losses[0] == expected[0] < losses[1] == losses[2] == expected[1]


def test_an_unknown_loss_is_refused():
    with pytest.raises(ValueError, match="loss 'hinge': expected one of cross-entropy"):
        choose_loss("hinge")


# the product tree ------------------------------------------------------------------------------------------------


def test_the_levels_of_a_tree_number_its_nodes_from_the_root_down(with_tree):
    levels = open_catalogue(with_tree).levels()
    assert levels.tolist() == [[0, 0, 1], [0, 0, 1]]  # drinks, drinks, shoes; bottle, bottle, itself


def test_the_demo_has_departments_and_families():
    levels = open_catalogue("demo").levels()
    assert levels.shape == (2, 32) and [len(set(row)) for row in levels.tolist()] == [4, 8]


@pytest.mark.skipif(not GROCERY.is_dir(), reason="the Grocery Store photographs are not beside this checkout")
def test_grocery_has_its_43_coarse_classes():
    levels = open_catalogue(GROCERY).levels()
    assert levels.shape == (1, 81) and len(set(levels[0].tolist())) == 43


def test_without_a_tree_the_hierarchy_loss_is_refused(script, aliproducts, with_tree, tmp_path):
    refused = train(script, with_tree, "x", "--loss", "hierarchy", "--level-weights", "1,2,3", "--epochs", 1, code=2)
    assert "--level-weights: 3 weights for 2 levels; give one for each" in refused.stderr
    (aliproducts / "product_tree.json").unlink()
    refused = train(script, aliproducts, "x", "--loss", "hierarchy", "--epochs", 1, code=2)
    assert "the catalogue has no product tree; add product_tree.json" in refused.stderr
    assert not (tmp_path / "x").exists()


# pseudo labels ---------------------------------------------------------------------------------------------------


def write_test_predictions(root, path, rows, split="test", **facts):
    catalogue = open_catalogue(root)
    ids = [catalogue.split(split).image_id(n) for n in range(len(rows))]
    info = PredictionInfo(split, "ensemble", None, ids, catalogue.classes, catalogue.class_ids, **facts)
    with write_predictions(path, info, "float32") as file:
        file.append(np.array(rows))


def test_pseudo_labels_are_the_probable_winners_and_train_py_adds_them(script, aliproducts, tmp_path):
    write_test_predictions(aliproducts, tmp_path / "e/test.npy", [[0.08, 0.92, 0], [0.2, 0.2, 0.6], [0, 0.03, 0.97]])
    done = script("tricks/pseudo_label.py", "e/test.npy", "--threshold", 0.9)
    assert done.stdout == "pseudo_labels.csv: 2 of 3 photographs (67%) at 0.9 or more\n"
    rows = list(csv.DictReader((tmp_path / "pseudo_labels.csv").read_text().splitlines()))
    assert [(r["id"], r["class"], float(r["probability"])) for r in rows] == [
        ("t0.jpg", "17", pytest.approx(0.92)),
        ("t2.jpg", "103", pytest.approx(0.97)),
    ]
    catalogue, weights = with_extra_labels(open_catalogue(aliproducts), tmp_path / "pseudo_labels.csv")
    split = catalogue.split("train")
    assert len(split) == 20 and split.labels.tolist() == [0] * 9 + [1] * 6 + [2] * 3 + [1, 2]
    assert Path(split.path(18)) == aliproducts / "test/t0.jpg"
    assert Path(split.path(0)).is_file() and Path(split.path(19)).is_file()
    assert weights[:18].tolist() == [1] * 18 and weights[18:].tolist() == pytest.approx([0.92, 0.97])

    train(script, aliproducts, "plain", "--epochs", 1)
    for name, more in (("extra", []), ("weighted", ["--extra-weighted"])):
        train(script, aliproducts, name, "--epochs", 1, "--extra", "pseudo_labels.csv", *more)
    losses = [loss_of(tmp_path / f"{name}/last.pt") for name in ("plain", "extra", "weighted")]
    assert losses[0] != losses[1] != losses[2]


def test_the_most_probable_of_a_class_are_kept_and_the_unreadable_never(script, aliproducts, tmp_path):
    label, probability = np.array([0, 1, 0, 0, 1]), np.array([0.9, 0.99, 0.95, 0.97, 0.4])
    assert chosen_places(label, probability, 0.5, 2).tolist() == [1, 2, 3]
    assert chosen_places(label, probability, 0.5, None).tolist() == [0, 1, 2, 3]
    assert chosen_places(label, probability, 1.0, 2).tolist() == []
    write_test_predictions(aliproducts, tmp_path / "t.npy", [[1, 0, 0]] * 3, unreadable=["t1.jpg"])
    assert "2 of 3" in script("tricks/pseudo_label.py", "t.npy", "--out", "p.csv").stdout


@pytest.mark.parametrize(
    "line, message",
    [
        ("nobody.jpg,17,0.9", "'nobody.jpg' is no photograph of"),
        ("train4_0.jpg,17,0.9", "'train4_0.jpg' is no photograph of"),
        ("t0.jpg,99,0.9", "'99' is no class of"),
        ("t0.jpg,17,1.5", "'1.5' is no probability"),
        ("t0.jpg,17,nan", "'nan' is no probability"),
        ("t0.jpg,17,0.9\nt0.jpg,4,0.9", "'t0.jpg' is labelled for the second time"),
        ("t0.jpg,17", "expected id,class,probability; mend that line"),
    ],
)
def test_a_label_that_cannot_be_is_refused_with_its_line(script, aliproducts, tmp_path, line, message):
    (tmp_path / "labels.csv").write_text(f"id,class,probability\n{line}\n")
    refused = train(script, aliproducts, "run", "--epochs", 1, "--extra", "labels.csv", code=2)
    assert message in refused.stderr and "labels.csv, line " in refused.stderr and refused.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_files_that_are_no_label_files_and_other_splits_are_refused(script, aliproducts, tmp_path):
    (tmp_path / "labels.csv").write_text("name,label\n")
    refused = train(script, aliproducts, "run", "--epochs", 1, "--extra", "labels.csv", code=2)
    assert "expected the first line id,class,probability" in refused.stderr
    assert "nowhere.csv" in train(script, aliproducts, "run", "--extra", "nowhere.csv", code=2).stderr
    write_test_predictions(aliproducts, tmp_path / "val.npy", [[1, 0, 0]] * 6, split="val")
    assert (
        "of the val split; pseudo labels are for the test split"
        in script("tricks/pseudo_label.py", "val.npy", code=2).stderr
    )
    assert "ends in .csv" in script("tricks/pseudo_label.py", "val.npy", "--out", "x.npy", code=2).stderr


# distillation ----------------------------------------------------------------------------------------------------


def test_the_distillation_loss_is_hinton_s_with_the_teacher_s_entropy_taken_off():
    torch.manual_seed(0)
    logits, teacher = torch.randn(4, 5).double().requires_grad_(), torch.randn(4, 5).double()
    for temperature in (1.0, 3.0):
        soft = (teacher / temperature).softmax(1)
        cross = -(soft * (logits / temperature).log_softmax(1)).sum(1).mean()
        entropy = -(soft * soft.log()).sum(1).mean()
        loss = distillation_loss(logits, soft, temperature)
        assert loss.item() == pytest.approx(temperature**2 * (cross - entropy).item(), rel=1e-12)
        assert distillation_loss(teacher, soft, temperature).item() == pytest.approx(0, abs=1e-12)
        torch.testing.assert_close(soften(teacher.softmax(1), temperature), soft)
    assert torch.autograd.gradcheck(lambda x: distillation_loss(x, soft, 3.0), logits)
    sure = torch.eye(5)[:4]
    assert distillation_loss(1e4 * torch.randn(4, 5), sure, 2.0).isfinite()


def test_a_student_learns_from_checkpoints_and_from_stored_predictions(script, aliproducts, tmp_path):
    for seed in (0, 1):
        train(script, aliproducts, f"teacher{seed}", "--epochs", 2, "--seed", seed)
        script("predict.py", f"teacher{seed}/best.pt", "--split", "train", "--workers", 0, "--out", f"t/{seed}.npy")
    script("ensemble.py", "t/0.npy", "t/1.npy", "--out", "e/train.npy")
    common = ("--epochs", 1, "--mix", 1, "--temperature", 3)
    train(script, aliproducts, "online", *common, "--teacher", "teacher0/best.pt,teacher1/best.pt")
    train(script, aliproducts, "stored", *common, "--teacher", "e/train.npy")
    train(script, aliproducts, "plain", "--epochs", 1)
    losses = [loss_of(tmp_path / f"{name}/last.pt")[0] for name in ("online", "stored", "plain")]
    assert len(set(losses)) == 3

    refused = train(script, aliproducts, "x", "--teacher", "t/2.npy", code=2)
    assert "t/2.json: no such file" in refused.stderr or "t/2.npy: no such file" in refused.stderr
    script("predict.py", "teacher0/best.pt", "--workers", 0, "--out", "val.npy")
    refused = train(script, aliproducts, "x", "--teacher", "val.npy", code=2)
    assert "--teacher val.npy: holds other photographs (val, 6) than the training split (18)" in refused.stderr
    other = write_aliproducts(tmp_path / "other", ids=(1, 2, 3))
    assert (
        "teacher0/best.pt was trained on other classes"
        in train(script, other, "x", "--teacher", "teacher0/best.pt", code=2).stderr
    )
    assert not (tmp_path / "x").exists()


def test_a_teacher_that_the_student_already_equals_teaches_nothing(script, aliproducts, tmp_path):
    train(script, aliproducts, "base", "--epochs", 1)
    student = network_of(load_checkpoint(tmp_path / "base/best.pt"), "").eval()
    images = torch.randn(3, 3, 64, 64)
    soft = (student(images) / 2).softmax(1).detach()
    loss = distillation_loss(student(images), soft, 2.0)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert max(p.grad.abs().max() for p in student.parameters()) < 1e-5


def test_rows_of_any_places_are_those_of_the_file(tmp_path, aliproducts):
    rows = np.random.default_rng(0).dirichlet(np.ones(3), 3)
    write_test_predictions(aliproducts, tmp_path / "t.npy", rows)
    assert np.allclose(open_member(tmp_path / "t.npy").take(np.array([2, 0, 2])), rows[[2, 0, 2]])


def test_pseudo_labels_and_distillation_on_the_demo(script, tmp_path):
    small = ("--arch", "resnet18", "--balanced", 2, "--epochs", 1, "--workers", 0, "--precision", "float32")
    script("train.py", *small, "--out", "base")
    script("predict.py", "base/best.pt", "--split", "test", "--crops", 1, "--workers", 0, "--out", "t/base.npy")
    script("ensemble.py", "t/base.npy", "--out", "e/test.npy")
    script("tricks/pseudo_label.py", "e/test.npy", "--threshold", 0, "--per-class", 2)
    labels = [row["class"] for row in csv.DictReader((tmp_path / "pseudo_labels.csv").read_text().splitlines())]
    assert 0 < len(labels) <= 64 and max(Counter(labels).values()) <= 2
    more = ("--init", "base/best.pt", "--extra", "pseudo_labels.csv", "--teacher", "base/best.pt")
    script("train.py", *small, *more, "--out", "more")
    settings = load_checkpoint(tmp_path / "more/best.pt")["settings"]
    assert settings["extra"] == "pseudo_labels.csv" and settings["teacher"] == "base/best.pt"


# BBN -------------------------------------------------------------------------------------------------------------


def test_the_second_of_a_pair_is_of_a_rare_class_the_more_often():
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    batches, seen, visited = ReversedPairs(np.arange(100), labels, 20, seed=3), Counter(), Counter()
    for epoch in range(100):
        batches.epoch = epoch
        drawn = [draw for batch in batches for draw in batch]
        assert sorted(draw.index for draw in drawn[0::2]) == list(range(100)), "the first visits each image once"
        assert len({(draw.epoch, draw.position) for draw in drawn}) == 200, "every visit is augmented differently"
        seen.update(labels[draw.index] for draw in drawn[1::2])
        visited.update(draw.index for draw in drawn[1::2])
    expected = np.array([1 / 60, 1 / 30, 1 / 10])
    expected *= 10_000 / expected.sum()
    assert ((np.array([seen[k] for k in range(3)]) - expected) ** 2 / expected).sum() < 13.8  # 99.9th percentile
    assert set(visited) == set(range(100))


def test_an_epoch_of_pairs_resumed_at_a_batch_goes_on_with_that_batch():
    batches = ReversedPairs(np.arange(40), np.repeat([0, 1], 20), 8, seed=1)
    batches.epoch = 2
    whole = list(batches)
    batches.start = 4
    assert list(batches) == whole[4:] and len(whole) == len(batches) == 10
    with pytest.raises(InputError, match="--batch-size 7: pairs need an even number"):
        ReversedPairs(np.arange(4), np.zeros(4, int), 7)


@pytest.mark.parametrize("arch", ARCHS)
def test_bbn_weighs_its_branches_by_the_progress_squared(arch):
    torch.manual_seed(0)
    net = BBN(create_model(arch, 3)).eval()
    images = torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        conventional = net(images, images, 1.0)
        rebalanced = net(images, images, 0.0)
        torch.testing.assert_close(conventional, net.net(images))
        torch.testing.assert_close(rebalanced, conventional, msg="a fresh second branch is a copy of the first")
        net.rebalancing.classifier.weight += 0.1
        rebalanced = net(images, images, 0.0)
        torch.testing.assert_close(net(images, images, 0.3), 0.3 * conventional + 0.7 * rebalanced)
        torch.testing.assert_close(net.predict(images), (conventional + rebalanced) / 2)
    extra = sum(p.numel() for p in net.rebalancing.parameters())
    top = sum(p.numel() for p in net.net.parameters()) - extra
    assert top > 0, "the trunk is there once"

    def loss_at(progress):
        batch = Batch(images, torch.tensor([0, 1, 2, 0]), torch.arange(4), [], progress)
        return bbn_step(net, batch)[0].item()

    logits = net(images[0::2], images[1::2], 0.75)
    uniform, reverse = (
        torch.nn.functional.cross_entropy(logits, torch.tensor(target)).item() for target in ([0, 2], [1, 0])
    )
    assert loss_at(0.5) == pytest.approx(0.75 * uniform + 0.25 * reverse, rel=1e-4)


def test_train_bbn_resumes_where_alpha_had_got_to_and_is_predicted_with_both_branches(
    script, aliproducts, tmp_path, monkeypatch
):
    common = ("tricks/bbn.py", "--data", aliproducts, *SMALL, "--epochs", 2, "--out")
    script(*common, "whole")
    stopped_after_an_epoch(script, monkeypatch, *common, "parts")
    script("tricks/bbn.py", "--resume", "--out", "parts")
    assert_same_run(tmp_path / "whole/last.pt", tmp_path / "parts/last.pt")
    for head in ("auto", "plain"):
        more = ("--workers", 0, "--crops", 1, "--dtype", "float32")
        script("predict.py", "whole/best.pt", "--head", head, "--out", f"{head}.npy", *more)
    both, plain = (open_member(tmp_path / f"{head}.npy").rows(0, 6) for head in ("auto", "plain"))
    assert abs(both - plain).max() > 1e-5
    refused = script(*common, "odd", "--batch-size", 7, code=2)
    assert "--batch-size 7: pairs need an even number; take 8" in refused.stderr


# near-duplicates -------------------------------------------------------------------------------------------------


def slow_pairs(hashes: np.ndarray, distance: int) -> set[tuple[int, int]]:
    n = len(hashes)
    return {(a, b) for a in range(n) for b in range(a) if bin(int(hashes[a]) ^ int(hashes[b])).count("1") <= distance}


def test_candidates_are_nearly_all_pairs_within_the_distance_and_no_others():
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, 3000, dtype=np.uint64)
    for place in range(300):  # a third of the hundreds at each distance from 0 to 9
        flips = rng.choice(64, place % 10, replace=False).astype(np.uint64)
        hashes[1000 + place] = hashes[place] ^ np.bitwise_or.reduce(np.uint64(1) << flips, initial=np.uint64(0))
    found = {(int(b), int(a)) for a, b in duplicates.candidate_pairs(hashes, 9)}
    true = slow_pairs(hashes, 9)
    assert found <= true and len(true) == 300 and len(found) > 0.97 * len(true)


def test_many_equal_hashes_make_a_chain_and_not_all_pairs():
    pairs = duplicates.candidate_pairs(np.full(5000, 7, np.uint64), 4)
    assert len(pairs) == 4999 and (pairs[:, 0] < pairs[:, 1]).all()


def edited(image: Image.Image, path, quality=60) -> str:
    """Cropped, brightened and saved again."""
    image = ImageEnhance.Brightness(image.crop((3, 4, *image.size))).enhance(1.08)
    file = io.BytesIO()
    image.save(file, "jpeg", quality=quality)
    path.write_bytes(file.getvalue())
    return str(path)


def test_the_residual_tells_an_edited_photograph_from_another_of_the_same_product(tmp_path):
    for product in (0, 9, 21):
        image, other = (draw_photograph(product, np.random.default_rng([product, n]))[0] for n in (0, 1))
        paths = [str(tmp_path / f"{product}-{name}.png") for name in ("a", "b")]
        image.save(paths[0])
        other.save(paths[1])
        copy = edited(image, tmp_path / f"{product}-copy.jpg")
        assert duplicates.residual((paths[0], paths[0])) < 0.01
        assert duplicates.residual((paths[0], copy)) < 0.25 < duplicates.residual(tuple(paths))
    for colour, name in (("white", "w"), ("white", "v"), ("black", "k")):
        Image.new("RGB", (60, 60), colour).save(tmp_path / f"{name}.png")
    blank = [str(tmp_path / f"{name}.png") for name in "wvk"]
    assert duplicates.residual((blank[0], blank[1])) == 0 and duplicates.residual((blank[0], blank[2])) == 1


def test_of_a_contradiction_the_minority_is_marked_and_all_where_there_is_no_majority():
    assert duplicates.excluded([3, 3]) == [False, False]
    assert duplicates.excluded([3, 3, 5]) == [False, False, True]
    assert duplicates.excluded([3, 5]) == [True, True]
    assert duplicates.excluded([3, 3, 5, 5]) == [True] * 4


def test_duplicates_are_found_written_shown_and_left_out_of_training(script, tmp_path, monkeypatch, capsys):
    root = write_aliproducts(tmp_path / "catalogue", counts=(6, 5, 4))
    for label, number in enumerate((4, 17, 103)):
        for place, path in enumerate(sorted((root / f"train/{number:05d}").iterdir())):
            draw_photograph(8 * label, np.random.default_rng([label, place]))[0].save(path, "jpeg", quality=95)
    original = Image.open(root / "train/00004/train4_2.jpg")
    edited(original, root / "train/00017/train17_1.jpg")  # another class: a contradiction
    edited(Image.open(root / "train/00103/train103_0.jpg"), root / "train/00103/train103_3.jpg")
    (root / "train/00004/train4_5.jpg").write_bytes(b"nothing")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["x", "--data", str(root), "--sheet", "sheet.png", "--workers", "1"])
    (root / "val/00103/val103_1.jpg").write_bytes((root / "train/00103/train103_1.jpg").read_bytes())
    duplicates.main()
    printed = capsys.readouterr().out
    assert "6 of 24 photographs in 3 clusters, 3 marked for --exclude, 1 unreadable" in printed
    assert "val: 1 of 6 have a near-duplicate in train, 1 an exact copy\ntest: 0 of 3" in printed
    rows = list(csv.reader((tmp_path / "duplicates.csv").read_text().splitlines()))
    assert rows == [
        ["cluster", "split", "id", "class", "exclude"],
        ["0", "train", "train4_2.jpg", "4", "1"],
        ["0", "train", "train17_1.jpg", "17", "1"],
        ["1", "train", "train103_0.jpg", "103", "0"],
        ["1", "train", "train103_3.jpg", "103", "0"],
        ["2", "train", "train103_1.jpg", "103", "1"],
        ["2", "val", "val103_1.jpg", "103", "0"],
    ]
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (2 * 168 + 8, 2 * 188 + 8)
    split = open_catalogue(root).split("train")
    marked = [split.image_id(place) for place in excluded_places(split, "duplicates.csv")]
    assert marked == ["train4_2.jpg", "train17_1.jpg", "train103_1.jpg"]
    monkeypatch.setattr("sys.argv", ["x", "--data", str(root), "--splits", "train", "--workers", "1"])
    duplicates.main()
    assert "4 of 15 photographs in 2 clusters, 2 marked" in capsys.readouterr().out
    train(script, root, "run", "--epochs", 1, "--exclude", "duplicates.csv")
    assert loss_of(tmp_path / "run/last.pt") and load_checkpoint(tmp_path / "run/last.pt")["settings"]["exclude"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--data", "nowhere"], "--data nowhere: no such folder"),
        (["--distance", "65"], "--distance: '65': expected an integer of at least 0, at most 64"),
        (["--residual", "nan"], "--residual: "),
        (["--workers", "0"], "--workers: "),
        (
            ["--distance", "x"],
            "--distance: 'x': expected an integer of at least 0, at most 64 (see python -m data.duplicates --help)",
        ),
        (["--out", "found.txt"], "--out found.txt: expected a name that ends in .csv"),
        (["--sheet", "found.xyz"], "found.xyz: .xyz names no picture format"),
        (["--sheet", "away/found.png"], "away/found.png: no such folder"),
    ],
)
def test_bad_arguments_of_the_search_get_one_clear_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["x", *arguments])
    with pytest.raises(SystemExit) as stop:
        duplicates.run()
    error = capsys.readouterr().err
    assert stop.value.code == 2 and message in error and error.startswith("error: ") and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content, message",
    [
        ("cluster,id,class,exclude\n0,nobody.jpg,4,1\n", "'nobody.jpg' is no photograph of the train split"),
        ("cluster,id,class,exclude\n0,train4_0.jpg,4,yes\n", "exclude is 'yes', expected 0 or 1"),
        ("id\n", "expected the first line cluster,split,id,class,exclude"),
        (
            "cluster,split,id,class,exclude\n0,train,nobody.jpg,4,1\n",
            "'nobody.jpg' is no photograph of the train split",
        ),
    ],
)
def test_an_exclusion_that_cannot_be_is_refused(script, aliproducts, tmp_path, content, message):
    (tmp_path / "d.csv").write_text(content)
    assert message in train(script, aliproducts, "run", "--epochs", 1, "--exclude", "d.csv", code=2).stderr


def test_to_leave_out_everything_is_refused(script, aliproducts, tmp_path):
    split = open_catalogue(aliproducts).split("train")
    lines = "".join(f"0,{split.image_id(n)},4,1\n" for n in range(len(split)))
    (tmp_path / "d.csv").write_text("cluster,id,class,exclude\n" + lines)
    refused = train(script, aliproducts, "run", "--epochs", 1, "--exclude", "d.csv", code=2)
    assert "leaves no photograph to train on" in refused.stderr


def test_a_search_whose_worker_is_killed_ends_in_one_line(script, aliproducts, monkeypatch):
    monkeypatch.setattr(duplicates, "read_photograph", lambda path: os.kill(os.getpid(), signal.SIGKILL))
    done = script("data.duplicates", "--data", aliproducts, code=2)
    assert done.stderr.startswith("error: a worker process was killed, memory may have run out; run the same command")
