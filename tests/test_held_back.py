"""Validation photographs that are held back from training: stratified, without near-duplicates, the same ever after."""

import csv
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_aliproducts
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from catalogues import open_catalogue
from common.errors import InputError
from data import hold_back, with_held_back
from data.held_back import held_back_places

SMALL = ["--arch", "resnet18", "--weights", "none", "--epochs", 1, "--lr", 0.01, "--resize", 36, "--crop", 32]
SMALL += ["--batch-size", 4, "--workers", 0]


def draw(path: Path, seed: int) -> None:
    """A picture of a few random boxes, unlike those of other seeds."""
    rng = np.random.default_rng(seed)
    pixels = np.zeros((64, 64, 3), np.uint8)
    for _ in range(9):
        top, left = rng.integers(0, 50, 2)
        pixels[top : top + rng.integers(8, 30), left : left + rng.integers(8, 30)] = rng.integers(0, 256, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder of classes; of class `film` every picture has a brighter copy."""
    for seed, (name, count) in enumerate({"a": 20, "b": 7, "c": 1}.items()):
        for place in range(count):
            draw(tmp_path / f"shop/{name}/{place}.png", 100 * seed + place)
    for place in range(6):
        draw(tmp_path / f"shop/film/{place}.png", 900 + place)
        ImageEnhance.Brightness(Image.open(tmp_path / f"shop/film/{place}.png")).enhance(1.1).save(
            tmp_path / f"shop/film/{place}b.png"
        )
    return tmp_path / "shop"


labels_and_clusters = st.lists(st.integers(0, 5), min_size=1, max_size=60).flatmap(
    lambda labels: st.tuples(st.just(labels), st.lists(st.integers(0, 9), min_size=len(labels), max_size=len(labels)))
)


@given(labels_and_clusters, st.floats(0.01, 0.5), st.integers(0, 3))
def test_each_class_gives_its_share_and_keeps_clusters_whole(drawn, share, seed):
    labels, names = drawn
    # photographs of one name are near-duplicates; half of the names stand for single photographs
    clusters = [[k for k, other in enumerate(names) if other == name] for name in sorted(set(names)) if name < 5]
    clusters = [cluster for cluster in clusters if len(cluster) > 1]
    labels = np.array(labels)
    places = held_back_places(labels, clusters, share, seed)
    assert places.tolist() == sorted(set(places.tolist()))
    assert np.array_equal(places, held_back_places(labels, clusters, share, seed))
    val = set(places.tolist())
    assert all(len(val & set(cluster)) in (0, len(cluster)) for cluster in clusters)
    alone = set(range(len(labels))) - {place for cluster in clusters for place in cluster}
    for label, count in Counter(labels.tolist()).items():
        of_class = set(np.flatnonzero(labels == label).tolist())
        held, wanted = len(of_class & val), max(1, round(share * count))
        assert held < count, "something is left to train on"
        if count >= 2 and of_class <= alone:
            assert held == min(wanted, count - 1)
        if count >= 2 and of_class & alone and len(of_class & alone) >= 2:
            assert held >= 1


def test_another_seed_holds_others_back():
    labels = np.repeat(np.arange(4), 30)
    draws = [held_back_places(labels, [], 0.1, seed) for seed in (0, 0, 1)]
    assert np.array_equal(draws[0], draws[1]) and not np.array_equal(draws[0], draws[2])
    assert np.bincount(labels[draws[2]]).tolist() == [3] * 4


def test_near_duplicates_stay_on_one_side(shop):
    catalogue = hold_back(open_catalogue(shop), 0.3, seed=0)
    val = {catalogue.split("val").image_id(place) for place in range(len(catalogue.split("val")))}
    train = {catalogue.split("train").image_id(place) for place in range(len(catalogue.split("train")))}
    assert not val & train and len(val | train) == 40
    film = {name for name in val if name.startswith("film/")}
    assert 2 <= len(film) <= 4
    assert all(
        (name.replace("b.png", ".png") in film) == (name.replace("b.png", ".png")[:-4] + "b.png" in film)
        for name in film
    )
    assert Counter(name[0] for name in val if name[0] in "abc") == {"a": 6, "b": 2}, "of one photograph none"


def test_the_same_photographs_are_held_back_in_resuming_predicting_and_finetuning(shop, script):
    done = script("train.py", "--data", shop, *SMALL, "--val-share", 0.2, "--out", "runs/first")
    assert "held back from train" in done.stdout
    with open("runs/first/held_back.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    ids = [row["id"] for row in rows]
    assert ids == torch.load("runs/first/last.pt")["held_back"] and {row["class"] for row in rows} == {"a", "b", "film"}
    draw(shop / "a/new.png", 5000)  # more photographs: they are for training
    script("train.py", "--resume", "--out", "runs/first", "--epochs", 2, "--data", shop, "--workers", 0)
    assert torch.load("runs/first/last.pt")["held_back"] == ids
    script("predict.py", "runs/first/best.pt", "--out", "first.npy", "--workers", 0)
    assert np.load("first.npy").shape == (len(ids), 4)
    script("predict.py", "runs/first/best.pt", "--split", "train", "--out", "train.npy", "--workers", 0)
    assert len(np.load("train.npy")) == 41 - len(ids)
    finetune = ["train.py", "--data", shop, "--arch", "resnet18", "--init", "runs/first/best.pt", "--balanced", 3]
    finetune += [*SMALL[4:], "--out", "runs/b"]
    script(*finetune)
    assert torch.load("runs/b/last.pt")["held_back"] == ids
    assert "has held photographs back already" in script(*finetune, "--overwrite", "--val-share", 0.3, code=2).stderr
    shutil.rmtree(shop / "a"), shutil.rmtree(shop / "b"), shutil.rmtree(shop / "film")
    for name in ("a", "b", "film"):
        draw(shop / name / "other.png", 3)
    error = script("predict.py", "runs/first/best.pt", "--out", "x.npy", code=2).stderr
    assert f"{len(ids)} of the {len(ids)} photographs that it held back" in error


def test_what_is_split_already_is_not_split_again(tmp_path, script):
    root = write_aliproducts(tmp_path / "shop")
    error = script("train.py", "--data", root, *SMALL, "--val-share", 0.2, code=2).stderr
    assert f"--val-share 0.2: {root} has a validation split; leave it out" in error
    error = script("train.py", "--data", root, *SMALL, "--val-seed", 3, code=2).stderr
    assert "--val-seed 3: no photographs are drawn for validation; leave it out" in error
    shutil.rmtree(root / "val"), (root / "val.json").unlink()
    done = script("train.py", "--data", root, *SMALL, "--out", "without")
    assert "held back" not in done.stdout and "--val-share 0.1 holds a part of train back" in done.stderr
    done = script("train.py", "--data", root, *SMALL, "--out", "with", "--val-share", 0.2)
    assert "val 4 held back from train (1 to 2 a class)" in done.stdout


def test_a_folder_of_classes_is_split_unless_told_otherwise(shop, script):
    done = script("train.py", "--data", shop, *SMALL, "--out", "split")
    assert "train 35" in done.stdout and "held back from train" in done.stdout
    done = script("train.py", "--data", shop, *SMALL, "--out", "whole", "--val-share", 0)
    assert "train 40" in done.stdout and "held back" not in done.stdout


def test_where_every_class_has_one_photograph_nothing_can_be_held_back(tmp_path):
    for place, name in enumerate("ab"):
        draw(tmp_path / name / "1.png", place)
    with pytest.raises(InputError, match="no class has two different photographs"):
        hold_back(open_catalogue(tmp_path), 0.1)


def test_a_table_of_duplicates_may_name_photographs_that_are_held_back(shop, script):
    script("data.duplicates", "--data", shop, "--workers", 1)
    done = script("train.py", "--data", shop, *SMALL, "--val-share", 0.3, "--exclude", "duplicates.csv", "--out", "run")
    assert "held back from train" in done.stdout


def test_a_validation_split_that_comes_later_stops_a_run_that_holds_photographs_back(shop, script):
    root = shop.rename(shop.with_name("old")) and shop
    shutil.copytree(root.with_name("old"), root / "train")
    script("train.py", "--data", root, *SMALL, "--val-share", 0.2, "--out", "run")
    draw(root / "val/a/1.png", 77)
    error = script("train.py", "--resume", "--out", "run", "--epochs", 2, "--data", root, code=2).stderr
    assert "has a validation split, while run/last.pt has held photographs back" in error


def test_a_few_photographs_that_are_gone_are_noted(shop, capsys):
    catalogue = hold_back(open_catalogue(shop), 0.3)
    ids = list(catalogue.held_back)
    with_held_back(open_catalogue(shop), [*ids, "gone.jpg"], "x.pt")
    assert "note: 1 of the" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"3 of the \d+ photographs that it held back"):
        with_held_back(open_catalogue(shop), [*ids, "1", "2", "3"], "x.pt")


def test_what_an_earlier_network_was_trained_on_is_not_held_back(shop, script):
    script("train.py", "--data", shop, *SMALL, "--val-share", 0, "--out", "all")
    later = ["train.py", "--data", shop, "--arch", "resnet18", "--init", "all/last.pt", *SMALL[4:], "--out", "later"]
    done = script(*later)
    assert "note: --init all/last.pt was trained on all of" in done.stderr and "train 40" in done.stdout
    done = script(*later[:2], f"{shop}/../{shop.name}/", *later[3:], "--overwrite")  # the same folder
    assert "note: --init all/last.pt was trained on all of" in done.stderr and "train 40" in done.stdout
    assert "was trained on all of" in script(*later, "--overwrite", "--val-share", 0.2, code=2).stderr
    done = script("train.py", "--data", shop, *SMALL, "--teacher", "all/last.pt", "--out", "student")
    assert "note: --teacher all/last.pt may know photographs that are held back here" in done.stderr


def test_a_network_of_another_catalogue_may_be_finetuned(shop, script):
    script("train.py", "--data", shop, *SMALL, "--val-share", 0.2, "--out", "first")
    for place in range(5):
        for name in ("a", "b", "c", "film"):
            draw(shop.with_name("other") / name / f"new{place}.png", 7000 + 10 * place + ord(name[0]))
    later = ["--arch", "resnet18", "--init", "first/last.pt", *SMALL[4:], "--out", "later"]
    done = script("train.py", "--data", shop.with_name("other"), *later)
    assert f"first/last.pt was trained on {shop}; where that has photographs that are held back here" in done.stderr
    assert "held back from train" in done.stdout
    script("train.py", "--data", shop.with_name("other"), *later, "--overwrite", "--val-share", 0.3, "--val-seed", 5)
    shutil.copytree(shop.with_name("other"), shop.with_name("divided") / "train")
    draw(shop.with_name("divided") / "val/a/1.png", 77)
    done = script("train.py", "--data", shop.with_name("divided"), *later, "--overwrite")
    assert "val 1 (0 to 1 a class)" in done.stdout and "note" not in done.stderr
