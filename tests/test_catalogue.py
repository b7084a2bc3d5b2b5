"""Every kind of catalogue on a tiny instance, and what makes each of them refuse."""

import gc
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from conftest import GROCERY, write_photograph

from catalogues import Strings, open_catalogue
from common.errors import InputError


def test_aliproducts_labels_are_contiguous_in_the_order_of_class_numbers(aliproducts):
    catalogue = open_catalogue(aliproducts)
    assert catalogue.format == "AliProducts"
    assert catalogue.class_ids == ["4", "17", "103"] and catalogue.classes == ["00004", "00017", "00103"]
    train = catalogue.split("train")
    assert train.labels.dtype == np.int32 and train.labels.tolist() == [0] * 9 + [1] * 6 + [2] * 3
    assert catalogue.split("val").labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert all(Path(train.path(index)).is_file() for index in range(len(train)))
    assert train.image_id(9) == "train17_0.jpg"


def test_aliproducts_test_split_has_ids_in_the_order_of_its_file_and_no_labels(aliproducts):
    test = open_catalogue(aliproducts).split("test")
    assert test.labels is None
    assert [test.image_id(index) for index in range(len(test))] == ["t0.jpg", "t1.jpg", "t2.jpg"]
    assert Path(test.path(0)) == aliproducts / "test/t0.jpg"


def test_aliproducts_without_val_json_takes_the_folders(aliproducts):
    with_file = open_catalogue(aliproducts).split("val")
    (aliproducts / "val.json").unlink()
    from_folders = open_catalogue(aliproducts).split("val")
    assert list(from_folders.paths) == sorted(with_file.paths)


def test_aliproducts_tree_names_the_classes(aliproducts):
    tree = {"drinks": {"bottle": {"red cap": 4, "blue cap": "17"}}, "shoes": {"boot": {"brown": 103}}}
    (aliproducts / "product_tree.json").write_text(json.dumps(tree))
    assert open_catalogue(aliproducts).classes == ["red cap", "blue cap", "brown"]


def test_class_folders(tmp_path):
    for name in ("train/b/1.png", "train/b/2.JPG", "train/a/x.jpg", "val/b/v.jpg", "test/t2.jpg", "test/t1.jpg"):
        write_photograph(tmp_path / name, 0)
    (tmp_path / "train/a/notes.txt").write_text("not a photograph")
    catalogue = open_catalogue(tmp_path)
    assert catalogue.format == "class folders" and catalogue.classes == catalogue.class_ids == ["a", "b"]
    assert list(catalogue.split("train").paths) == ["train/a/x.jpg", "train/b/1.png", "train/b/2.JPG"]
    assert catalogue.split("train").labels.tolist() == [0, 1, 1]
    assert catalogue.split("val").labels.tolist() == [1] and catalogue.split("val").image_id(0) == "b/v.jpg"
    assert catalogue.split("test").labels is None and list(catalogue.split("test").paths) == [
        "test/t1.jpg",
        "test/t2.jpg",
    ]


def grocery(root):
    root.mkdir()
    (root / "classes.csv").write_text("Class Name (str),Class ID (int),Coarse\nKiwi,1,F\nFuji,0,F\nUnused,2,F\n")
    (root / "train.txt").write_text("train/k/1.jpg, 1, 0\ntrain/f/1.jpg, 0, 0\n")
    (root / "val.txt").write_text("val/k/1.jpg, 1, 0\n")
    return root


@pytest.mark.parametrize("between", ["", "dataset"])
def test_grocery_with_and_without_the_folder_in_between(tmp_path, between):
    root = tmp_path / "store"
    root.mkdir()
    folder = grocery(root / between) if between else grocery(tmp_path / "plain")
    catalogue = open_catalogue(root if between else folder)
    assert catalogue.format == "Grocery Store" and catalogue.classes == ["Fuji", "Kiwi"]
    assert catalogue.split("train").labels.tolist() == [1, 0]
    assert Path(catalogue.split("val").path(0)) == folder / "val/k/1.jpg"


@pytest.mark.skipif(not GROCERY.is_dir(), reason="the Grocery Store photographs are not beside this checkout")
def test_the_real_grocery_store():
    catalogue = open_catalogue(GROCERY)
    train, val = catalogue.split("train"), catalogue.split("val")
    listed = (GROCERY / "dataset/val.txt").read_text().splitlines()  # 296 as published; more in an enlarged split
    assert (len(train), len(val), catalogue.num_classes) == (2640, len(listed), 81) and len(listed) >= 296
    counts = np.bincount(train.labels)
    assert (counts.min(), counts.max()) == (16, 70) and catalogue.classes[0] == "Golden-Delicious"
    assert all(Path(split.path(index)).is_file() for split in (train, val) for index in range(len(split)))


def test_products_10k(tmp_path):
    (tmp_path / "train.csv").write_text("name,class,group\na.jpg,7,0\nb.jpg,3,0\n")
    (tmp_path / "test.csv").write_text("name\nt.jpg\n")
    catalogue = open_catalogue(tmp_path)
    assert catalogue.format == "Products-10K" and catalogue.class_ids == ["3", "7"]
    assert catalogue.split("train").labels.tolist() == [1, 0]
    assert Path(catalogue.split("train").path(0)) == tmp_path / "train/a.jpg"
    assert catalogue.split("test").labels is None


def test_memory_does_not_hold_an_object_per_photograph(tmp_path):
    def objects(photographs: int) -> int:
        root = tmp_path / str(photographs)
        root.mkdir()
        images = [{"image_id": f"{place}.jpg", "class_id": place % 7} for place in range(photographs)]
        (root / "train.json").write_text(json.dumps({"images": images}))
        del images
        gc.collect()
        before = len(gc.get_objects())
        split = open_catalogue(root).split("train")
        gc.collect()
        assert len(split) == photographs and split.labels.nbytes == 4 * photographs
        # what a worker that is started afresh receives: the bytes themselves and next to nothing else
        flat = split.paths.buffer.nbytes + split.paths.offsets.nbytes + split.labels.nbytes
        assert len(pickle.dumps(split)) < flat + 2000
        return len(gc.get_objects()) - before

    assert objects(20_000) <= objects(200) + 100


def test_strings_survive_whatever_a_file_may_be_called():
    names = ["a", "", "ü/漢字.jpg", "new\nline", "caf\udce9.jpg"]
    strings = Strings(names)
    assert list(strings) == names and strings[-1] == names[-1] and len(strings) == 5
    with pytest.raises(IndexError):
        strings[5]


def test_a_missing_folder_is_named():
    with pytest.raises(InputError, match="/nowhere: no such folder"):
        open_catalogue("/nowhere")


def test_a_folder_without_a_catalogue_says_what_is_expected(tmp_path):
    with pytest.raises(InputError, match=r"no catalogue is recognised there; expected train\.json"):
        open_catalogue(tmp_path)


def test_a_class_in_val_that_train_does_not_know_is_named(tmp_path, aliproducts):
    for name in ("train/a/x.jpg", "val/a/x.jpg", "val/new/x.jpg"):
        write_photograph(tmp_path / "folders" / name, 0)
    with pytest.raises(InputError, match=r"val: class new of val/new/x\.jpg has no photograph in train"):
        open_catalogue(tmp_path / "folders")
    images = [{"image_id": "x.jpg", "class_id": 5}]
    (aliproducts / "val.json").write_text(json.dumps({"images": images}))
    with pytest.raises(InputError, match=r"val\.json: class 5 of val/00005/x\.jpg has no photograph in"):
        open_catalogue(aliproducts)


@pytest.mark.parametrize("label", [-1, 2**31, 1.5, True, None, "x", "1.0", [], {}])
def test_a_class_number_out_of_range_is_named(aliproducts, label):
    (aliproducts / "train.json").write_text(json.dumps({"images": [{"image_id": "x.jpg", "class_id": label}]}))
    with pytest.raises(InputError, match=r"train.json.*(is not a number from 0|expected)"):
        open_catalogue(aliproducts)


@pytest.mark.parametrize("image_id", ["../x.jpg", "/etc/passwd", "..", "a/b.jpg", "", 7, None, "a\0b"])
def test_an_image_id_cannot_leave_the_folder(aliproducts, image_id):
    (aliproducts / "train.json").write_text(json.dumps({"images": [{"image_id": image_id, "class_id": 1}]}))
    with pytest.raises(InputError, match=r"train\.json"):
        open_catalogue(aliproducts)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"images": {}}',
        '{"images": []}',
        '{"images": [1]}',
        '{"images": [{"class_id": 1}]}',
        '{"images": [{"image_id": "x.jpg"}]}',
        "\xff",
        "[" * 100_000,
    ],
    ids=range(11),
)
def test_malformed_json_is_named(aliproducts, text):
    (aliproducts / "train.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"train\.json"):
        open_catalogue(aliproducts)


def test_a_byte_order_mark_is_no_fault(aliproducts):
    path = aliproducts / "train.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(open_catalogue(aliproducts).split("train")) == 18


@pytest.mark.parametrize(
    "line, fault",
    [
        ("train/x.jpg, 9, 0", "label 9 is not in"),
        ("train/x.jpg, 0", "expected `path"),
        ("../../x.jpg, 0, 0", "does not name"),
    ],
)
def test_a_bad_line_of_a_grocery_list_is_named_with_its_number(tmp_path, line, fault):
    root = grocery(tmp_path / "store")
    with open(root / "train.txt", "a") as file:
        file.write(line + "\n")
    with pytest.raises(InputError, match=f"train.txt, line 3: .*{fault}"):
        open_catalogue(root)


def test_classes_of_a_checkpoint_must_be_the_catalogue_s_own(aliproducts):
    catalogue = open_catalogue(aliproducts)
    catalogue.require_classes(["00004", "00017", "00103"], "best.pt")
    with pytest.raises(InputError, match=r"best.pt was trained on other classes: 2 classes.*has 3"):
        catalogue.require_classes(["00004", "00017"], "best.pt")
    with pytest.raises(InputError, match="class 1 is '00018'"):
        catalogue.require_classes(["00004", "00018", "00103"], "best.pt")


def test_a_missing_split_is_named(aliproducts):
    (aliproducts / "test.json").unlink()
    with pytest.raises(InputError, match=r"has no test split \(it has: train, val\)"):
        open_catalogue(aliproducts).split("test")
