"""The index beside a catalogue: the same catalogue, and never an old one."""

import json
import os
import time
from dataclasses import replace

import numpy as np
import pytest
from conftest import write_aliproducts, write_photograph

import catalogues.index as index
from catalogues import Strings, open_catalogue
from catalogues.formats import FORMATS


@pytest.fixture(autouse=True)
def even_small_catalogues(monkeypatch):
    monkeypatch.setattr(index, "SMALLEST", 1)


def aliproducts(root):
    write_aliproducts(root)
    (root / "product_tree.json").write_text(json.dumps({"drinks": {"red": 4, "blue": 17}, "shoes": {"brown": 103}}))


def class_folders(root):
    for name in ("train/b/1.png", "train/b/2.JPG", "train/a/x.jpg", "val/b/v.jpg", "test/t2.jpg", "test/t1.jpg"):
        write_photograph(root / name, 0)


def products10k(root):
    root.mkdir(parents=True)
    (root / "train.csv").write_text("name,class,group\n1.jpg,7,1\n2.jpg,3,1\n")
    (root / "test.csv").write_text("name\nx.jpg\n")


def grocery(root):
    (root / "dataset").mkdir(parents=True)
    (root / "dataset/classes.csv").write_text("Class,ID,Coarse\nKiwi,1,Fruit\nFuji,0,Apple\n")
    (root / "dataset/train.txt").write_text("train/k/1.jpg, 1, 0\ntrain/f/1.jpg, 0, 0\n")


WRITERS = {"aliproducts": aliproducts, "folders": class_folders, "products10k": products10k, "grocery": grocery}


@pytest.fixture(params=WRITERS)
def root(request, tmp_path):
    WRITERS[request.param](tmp_path / "shop")
    return tmp_path / "shop"


def facts(catalogue):
    """Everything in it, as plain Python."""
    splits = {
        name: (list(s.paths), None if s.labels is None else s.labels.tolist(), s.root, s.names_are_ids, s.id_root)
        for name, s in catalogue.splits.items()
    }
    return replace(catalogue, splits=splits)


def no_reading(monkeypatch):
    """Whoever reads a catalogue anew fails."""

    def refuse(root):
        raise AssertionError("read anew")

    monkeypatch.setattr("catalogues.formats.FORMATS", [format._replace(read=refuse) for format in FORMATS])


def test_the_second_opening_reads_nothing_and_gives_the_same(root, monkeypatch):
    first = open_catalogue(root)
    with monkeypatch.context() as patch:
        no_reading(patch)
        second = open_catalogue(root)
    assert facts(second) == facts(first)
    train = second.split("train")
    assert isinstance(train.paths.buffer, np.memmap) and train.labels.dtype == np.int32
    assert train.image_id(0) == first.split("train").image_id(0)


def test_what_has_changed_is_read_anew(tmp_path):
    root = tmp_path / "shop"
    aliproducts(root)
    open_catalogue(root)
    content = json.loads((root / "train.json").read_text())
    content["images"].pop()
    (root / "train.json").write_text(json.dumps(content))
    assert len(open_catalogue(root).split("train")) == 17
    text = (root / "train.json").read_text()
    (root / "train.json").write_text(text.replace("train4_0.jpg", "train4_9.jpg"))  # as many bytes
    os.utime(root / "train.json", ns=(1, 1))
    assert "train/00004/train4_9.jpg" in open_catalogue(root).split("train").paths
    (root / "product_tree.json").unlink()
    assert open_catalogue(root).classes == ["00004", "00017", "00103"]
    (root / "val.json").unlink()  # then its folders are what is read
    assert len(open_catalogue(root).split("val")) == 6
    write_photograph(root / "val/00004/new.jpg", 0)
    assert len(open_catalogue(root).split("val")) == 7


def test_a_photograph_added_to_a_class_folder_is_seen(tmp_path):
    root = tmp_path / "shop"
    class_folders(root)
    open_catalogue(root)
    time.sleep(0.01)
    write_photograph(root / "train/a/y.jpg", 0)
    assert len(open_catalogue(root).split("train")) == 4
    write_photograph(root / "train/c/z.jpg", 0)
    assert open_catalogue(root).classes == ["a", "b", "c"]


def test_an_index_of_a_time_that_knew_fewer_formats_is_made_again(tmp_path, monkeypatch):
    class_folders(tmp_path / "shop")
    (tmp_path / "shop/train/a/phone.HEIC").write_bytes(b"")
    with monkeypatch.context() as before:
        for module in ("catalogues.index", "catalogues.formats.scanning"):
            before.setattr(f"{module}.endings", lambda: (".jpg", ".png"))
        assert "train/a/phone.HEIC" not in open_catalogue(tmp_path / "shop").split("train").paths
    assert "train/a/phone.HEIC" in open_catalogue(tmp_path / "shop").split("train").paths


@pytest.mark.parametrize("damage", ["[]", "{", '{"version": 0}', ""])
def test_a_damaged_index_is_made_again(root, damage, monkeypatch):
    first = facts(open_catalogue(root))
    (root / ".index/facts.json").write_text(damage)
    assert facts(open_catalogue(root)) == first
    with monkeypatch.context() as patch:
        no_reading(patch)
        assert facts(open_catalogue(root)) == first
    for left in (20, 0):
        for path in (root / ".index").glob("train.*.npy"):
            path.write_bytes(path.read_bytes()[:left])
        assert facts(open_catalogue(root)) == first


def test_a_folder_that_takes_no_index_is_read_all_the_same(root, monkeypatch, capsys):
    first = facts(open_catalogue(root))
    for path in (root / ".index").iterdir():
        path.unlink()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    assert facts(open_catalogue(root)) == first
    assert "takes no index (No space left on device); it is read anew each time" in capsys.readouterr().err
    assert [path.name for path in root.glob(".index-*")] == [], "nothing half-written is left"


def test_a_small_catalogue_has_none(root, monkeypatch):
    monkeypatch.setattr(index, "SMALLEST", 20_000)
    open_catalogue(root)
    assert not (root / ".index").exists()


def test_two_lists_of_strings_one_behind_the_other():
    a, b = ["x", "", "größe"], ["y.jpg", "\udcff"]
    assert list(Strings(a) + Strings(b)) == a + b and list(Strings() + Strings(b)) == b
