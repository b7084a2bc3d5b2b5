"""Photographs of val and test that also stand in train: exact copies are noted at the start of a training."""

import os
import shutil

from conftest import write_aliproducts, write_photograph
from test_held_back import SMALL

from catalogues import open_catalogue
from catalogues.copies import START, exact_copies
from data.pack import Job, pack


def test_exact_copies_are_found_by_their_bytes(tmp_path):
    for place, name in enumerate(("train/a/1.jpg", "train/a/2.jpg", "train/b/3.jpg", "val/a/4.jpg", "val/b/5.jpg")):
        write_photograph(tmp_path / name, place)
    shutil.copy(tmp_path / "train/b/3.jpg", tmp_path / "val/a/copy.jpg")
    shutil.copy(tmp_path / "train/a/2.jpg", tmp_path / "test.jpg")
    (tmp_path / "test").mkdir()
    shutil.move(tmp_path / "test.jpg", tmp_path / "test/9.jpg")
    one, other = bytes(START) + b"a" * 99, bytes(START) + b"b" * 99  # of one size, and alike at the start
    (tmp_path / "train/a/z.jpg").write_bytes(one)
    (tmp_path / "val/b/z.jpg").write_bytes(other)
    (tmp_path / "val/b/y.jpg").write_bytes(one)
    (tmp_path / "val/b/gone.jpg").symlink_to(tmp_path / "nowhere")
    (tmp_path / "train/b/gone.jpg").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "val/b/pipe.jpg")
    for name in ("train/a/empty.jpg", "val/a/empty.jpg"):
        (tmp_path / name).touch()
    catalogue = open_catalogue(tmp_path)
    found = {
        name: [(catalogue.split(name).paths[a], catalogue.split("train").paths[b]) for a, b in copies]
        for name, copies in exact_copies(catalogue).items()
    }
    assert found == {
        "val": [("val/a/copy.jpg", "train/b/3.jpg"), ("val/b/y.jpg", "train/a/z.jpg")],
        "test": [("test/9.jpg", "train/a/2.jpg")],
    }


def test_copies_are_found_in_shards(tmp_path):
    root = write_aliproducts(tmp_path / "shop")
    shutil.copy(root / "train/00017/train17_3.jpg", root / "val/00017/val17_1.jpg")
    pack(Job(open_catalogue(root), tmp_path / "shards", 36, 90, 5, 0), workers=1)
    ((place, original),) = exact_copies(open_catalogue(tmp_path / "shards"))["val"]
    catalogue = open_catalogue(tmp_path / "shards")
    assert catalogue.split("val").image_id(place) == "val17_1.jpg"
    assert catalogue.split("train").image_id(original) == "train17_3.jpg"


def test_a_training_notes_exact_copies(tmp_path, script):
    root = write_aliproducts(tmp_path / "shop")
    assert "exact copies" not in script("train.py", "--data", root, *SMALL, "--out", "a").stderr
    for place in range(2):
        shutil.copy(root / f"train/00017/train17_{place}.jpg", root / f"val/00017/val17_{place}.jpg")
    done = script("train.py", "--data", root, *SMALL, "--out", "b")
    assert (
        "note: 2 of 6 photographs of val are exact copies of ones in train (val17_0.jpg of train17_0.jpg)"
        in done.stderr
    )
