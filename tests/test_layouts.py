"""Catalogues as people have them: every layout is read, every file is taken or told, all faults are told at once."""

import io
import os
import shutil
import tarfile
import tempfile
import unicodedata
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from bad_input import JPEG, PNG
from conftest import write_photograph
from hypothesis import given, settings
from hypothesis import strategies as st

import catalogues.index as index
from catalogues import open_catalogue
from catalogues.formats.scanning import LINK
from common.errors import Faults, InputError, InputErrors


def touch(root: Path, *names: str) -> Path:
    """Files with these names: pictures, in which nothing is drawn."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"\xff\xd8\xff" if name.endswith("jpg") else b"x")
    return root


def told(catalogue) -> dict[str, str]:
    return dict(line.split("\t") for line in catalogue.left_out)


def taken(catalogue, split="train") -> dict[str, str | None]:
    """id -> class, for every photograph of a split."""
    found = catalogue.split(split)
    names = [None] * len(found) if found.labels is None else [catalogue.classes[label] for label in found.labels]
    return {found.image_id(place): name for place, name in enumerate(names)}


# Nothing vanishes ----------------------------------------------------------------------------------------------------


def test_what_is_left_out_is_counted_and_listed(script, tmp_path):
    files = [f"train/{name}/{place}.jpg" for name in "ab" for place in range(6)]
    for place, name in enumerate([*files, "val/a/v.jpg", "val/b/v.jpg"]):
        write_photograph(tmp_path / "shop" / name, place)
    touch(tmp_path / "shop", "train/a/1.raw", "train/a/2.raw", "train/b/README", "train/loose.jpg", "notes.txt")
    (tmp_path / "shop/train/empty").mkdir()
    done = script("train.py", "--data", "shop", "--arch", "resnet18", "--weights", "none", "--epochs", 1, "--lr", 0.01,
                  "--resize", 36, "--crop", 32, "--batch-size", 4, "--workers", 0, "--out", "run")  # fmt: skip
    line = next(line for line in done.stdout.splitlines() if line.startswith("catalogue"))
    assert "6 left out: 2 .raw, 1 " in line and "1 without a known ending" in line and "1 in no class folder" in line
    assert Path("run/left_out.txt").read_text().splitlines() == [
        "notes.txt\tbeside the splits' folders",
        "train/a/1.raw\t.raw",
        "train/a/2.raw\t.raw",
        "train/b/README\twithout a known ending",
        "train/empty\twithout photographs",
        "train/loose.jpg\tin no class folder",
    ]


def test_an_index_tells_what_is_left_out_again(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "SMALLEST", 1)
    touch(tmp_path, "train/a/1.jpg", "train/a/1.raw", "train/b/1.jpg", "val/x/1.txt")
    first = open_catalogue(tmp_path)
    assert (tmp_path / ".index/facts.json").exists()
    second = open_catalogue(tmp_path)
    assert (
        told(first) == told(second) == {"train/a/1.raw": ".raw", "val/x": "without photographs", "val/x/1.txt": ".txt"}
    )
    assert second.broken == first.broken and "val: holds no photographs" in second.broken["val"]


names = st.sampled_from(["a", "b", "Drink", "front", ".git", "@eaDir", "value", "x y"])
files = st.sampled_from(["1.jpg", "2.PNG", "3.heic", "4.txt", "5", "6.jpg?w=600", "Thumbs.db", ".DS_Store", "7.2024"])
trees = st.lists(st.tuples(st.lists(names, max_size=4), files), min_size=1, max_size=14)


@settings(deadline=None, max_examples=150)
@given(trees, st.booleans())
def test_every_file_of_a_tree_is_taken_or_told(tree, split):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        touch(root, "train/sure/0.jpg" if split else "sure/0.jpg")
        for folders, name in tree:
            place = root.joinpath("train" if split else "", *folders, name)
            if not any(part.is_file() for part in place.parents) and not place.is_dir():
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(JPEG if len(folders) % 2 else b"text")
        catalogue = open_catalogue(root)
        known = set(told(catalogue))
        photographs = {path for each in catalogue.splits.values() for path in each.paths}
        for path in (path for path in root.rglob("*") if path.is_file()):
            below = path.relative_to(root).as_posix()
            above = {below, *(str(part) for part in PurePosixPath(below).parents)}
            assert (below in photographs) != bool(above & known), below


def test_a_file_whose_name_says_nothing_is_known_by_its_first_bytes(tmp_path):
    touch(tmp_path, "a/0.jpg")
    for name, content in {
        "x.jpg?width=600": JPEG,
        "noending": PNG,
        "Nr. 5": JPEG,
        "text": b"a long text",
        "e": b"",
    }.items():
        (tmp_path / "a" / name).write_bytes(content)
    (tmp_path / "a/known.txt").write_bytes(JPEG)
    catalogue = open_catalogue(tmp_path)
    assert set(taken(catalogue)) == {"a/0.jpg", "a/x.jpg?width=600", "a/noending", "a/Nr. 5"}
    assert told(catalogue) == {
        "a/text": "without a known ending",
        "a/e": "without a known ending",
        "a/known.txt": ".txt",
    }


def test_all_faults_are_told_in_one_run_the_worst_first(script, tmp_path):
    rows = [f"{k}.jpg,{k % 3 - 3},1" if k % 2 else f"../{k}.jpg,1,1" for k in range(50)]
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/train.csv").write_text("\n".join(["name,class,group", *rows, *["same.jpg,1,1"] * 2]))
    error = script("train.py", "--data", "shop", code=2).stderr.splitlines()
    assert error[0].startswith("error: ") and error[0].endswith("shop/train.csv: 26 faults, the worst first")
    assert len(error) == 22 and error[-1] == "  and 6 more" and "'../0.jpg'" in error[1] and "'../2.jpg'" in error[2]


def test_faults_are_ordered_by_rank_and_counted():
    faults = Faults("shop", most=3)
    faults.require_none()
    for number in range(4):
        faults.add(f"class {number}", 2)
    faults.add("no file", 0)
    with pytest.raises(InputErrors, match="shop: 5 faults") as raised:
        faults.require_none()
    assert raised.value.lines == ["no file", "class 0", "class 1", "and 2 more"]
    one = Faults("shop")
    one.add("only this")
    with pytest.raises(InputError, match=r"^only this$"):
        one.require_none()


# What is not needed cannot veto --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["__MACOSX/._a.jpg", "@eaDir/a.jpg", ".ipynb_checkpoints/a.jpg", "Thumbs.db", "desktop.ini"]
)
def test_what_systems_leave_behind_is_no_class(tmp_path, name):
    touch(tmp_path, "train/a/1.jpg", "train/b/1.jpg", f"train/{name}", f"train/a/{name}", name)
    catalogue = open_catalogue(tmp_path)
    assert taken(catalogue) == {"a/1.jpg": "a", "b/1.jpg": "b"}
    assert set(told(catalogue).values()) == {"hidden or of the system", "beside the splits' folders"}


def test_an_empty_class_folder_is_told_and_no_fault(tmp_path):
    touch(tmp_path, "train/a/1.jpg")
    (tmp_path / "train/b/c").mkdir(parents=True)
    catalogue = open_catalogue(tmp_path)
    assert catalogue.classes == ["a"] and told(catalogue) == {"train/b": "without photographs"}


def test_a_test_folder_without_classes_has_no_labels(tmp_path):
    touch(tmp_path, "train/a/1.jpg", "test/unknown/2.jpg", "test/unknown/1.jpg", "val/1.jpg")
    catalogue = open_catalogue(tmp_path)
    assert taken(catalogue, "test") == {"unknown/1.jpg": None, "unknown/2.jpg": None}
    assert taken(catalogue, "val") == {"1.jpg": None}


@pytest.mark.parametrize("fault", ["val", "test"])
def test_a_broken_split_stops_only_who_needs_it(fault, aliproducts, script):
    (aliproducts / f"{fault}.json").write_text("{")
    options = ["--arch", "resnet18", "--weights", "none", "--epochs", 1, "--lr", 0.01, "--resize", 36, "--crop", 32]
    done = script("train.py", "--data", aliproducts, *options, "--batch-size", 4, "--workers", 0, "--out", "run")
    assert f"note: {aliproducts}/{fault}.json: cannot be read as JSON" in done.stderr
    assert f"going on without {fault}" in done.stderr
    done = script("predict.py", "run/best.pt", "--split", fault, "--workers", 0, code=2)
    assert done.stderr.startswith(f"error: {aliproducts}/{fault}.json: cannot be read as JSON")
    if fault == "val":  # it is the default of predict.py, also while it is broken
        assert script("predict.py", "run/best.pt", "--workers", 0, code=2).stderr == done.stderr


def test_classes_that_train_lacks_are_an_error_with_a_remedy(tmp_path, script):
    for place, name in enumerate(("train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg", "val/new/1.jpg", "val/other/x.jpg")):
        write_photograph(tmp_path / "shop" / name, place)
    error = script("train.py", "--data", "shop", code=2).stderr.splitlines()
    assert "2 faults" in error[0] and "class new of val/new/1.jpg has no photograph in train" in error[1]
    assert "--ignore-unknown-classes" in error[1] and "class other" in error[2]
    catalogue = open_catalogue("shop", ignore_unknown_classes=True)
    assert taken(catalogue, "val") == {"a/1.jpg": "a"}
    assert told(catalogue) == dict.fromkeys(["val/new/1.jpg", "val/other/x.jpg"], "of classes that are not in train")
    shutil.rmtree("shop/val/a")
    assert "no photograph is of a class" in open_catalogue("shop", ignore_unknown_classes=True).broken["val"]
    shutil.move("shop/val", "shop/test")
    assert taken(open_catalogue("shop"), "test") == {"new/1.jpg": None, "other/x.jpg": None}
    write_photograph(tmp_path / "shop/test/a/1.jpg", 9)
    assert "class new of test/new/1.jpg" in open_catalogue("shop").broken["test"], "training needs no test split"


def test_an_index_of_known_classes_is_not_one_of_all(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "SMALLEST", 1)
    touch(tmp_path, "train/a/1.jpg", "val/a/1.jpg", "val/new/1.jpg")
    assert len(open_catalogue(tmp_path, ignore_unknown_classes=True).split("val")) == 1
    with pytest.raises(InputError, match="class new"):
        open_catalogue(tmp_path)


def test_unicode_forms_of_a_name_are_one_class(tmp_path):
    composed, apart = "Müsli", unicodedata.normalize("NFD", "Müsli")
    touch(tmp_path, f"train/{composed}/1.jpg", f"train/{apart}/2.jpg", f"val/{apart}/3.jpg", "train/z/1.jpg")
    catalogue = open_catalogue(tmp_path)
    assert catalogue.classes == [composed, "z"]
    assert sorted(taken(catalogue).values()) == [composed, composed, "z"]
    assert list(taken(catalogue, "val").values()) == [composed]
    assert all(os.path.exists(catalogue.split("train").path(place)) for place in range(3)), "names on the disk stay"


# Layouts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("train", ["train", "Train", "TRAINING"])
@pytest.mark.parametrize("val", ["val", "Val", "valid", "Validation", "DEV"])
def test_splits_are_known_by_their_usual_names(tmp_path, train, val):
    touch(tmp_path, f"{train}/a/1.jpg", f"{val}/a/2.jpg", "Testing/a/3.jpg")
    catalogue = open_catalogue(tmp_path)
    assert [taken(catalogue, split) for split in ("train", "val", "test")] == [{f"a/{k}.jpg": "a"} for k in (1, 2, 3)]


def test_two_folders_for_one_split_are_an_error(tmp_path):
    touch(tmp_path, "train/a/1.jpg", "val/a/2.jpg", "validation/a/3.jpg")
    with pytest.raises(InputError, match="val and validation are both the val split; rename or remove one"):
        open_catalogue(tmp_path)


def test_lists_are_known_by_their_usual_names(aliproducts):
    for name in ("train", "val", "test"):
        (aliproducts / f"{name}.json").rename(aliproducts / f"{ {'val': 'Valid'}.get(name, name.title()) }.json")
        (aliproducts / name).rename(aliproducts / {"val": "valid"}.get(name, name.title()))
    catalogue = open_catalogue(aliproducts)
    assert {name: len(split) for name, split in catalogue.splits.items()} == {"train": 18, "val": 6, "test": 3}
    assert all(os.path.exists(split.path(0)) for split in catalogue.splits.values())


def test_classes_in_folders_of_folders(tmp_path):
    top = "train/Drink/Juice/Trop"
    touch(tmp_path, f"{top}/1.jpg", f"{top}/front/2.jpg", f"{top}/front/near/3.jpg", "train/Drink/Milk/1.jpg")
    touch(tmp_path, "train/Bread/1.jpg", "train/Snack/front/1.jpg", "train/Snack/back/1.jpg")
    touch(tmp_path, "val/Drink/Juice/Trop/back/9.jpg", "val/Bread/9.jpg")
    catalogue = open_catalogue(tmp_path)
    assert catalogue.classes == ["Bread", "Drink/Juice/Trop", "Drink/Milk", "Snack/back", "Snack/front"]
    assert catalogue.tree == [(), ("Drink", "Juice"), ("Drink",), ("Snack",), ("Snack",)]
    assert taken(catalogue)["Drink/Juice/Trop/front/near/3.jpg"] == "Drink/Juice/Trop"
    assert taken(catalogue, "val") == {"Drink/Juice/Trop/back/9.jpg": "Drink/Juice/Trop", "Bread/9.jpg": "Bread"}
    assert catalogue.levels().tolist() == [[0, 1, 1, 2, 2], [0, 1, 2, 3, 4]]
    assert ["train/Drink/Juice/Trop: holds photographs itself" in note for note in catalogue.notes] == [True]


def test_a_circle_of_links_ends(tmp_path):
    touch(tmp_path, "train/a/1.jpg", "elsewhere/b/2.jpg")
    (tmp_path / "train/a/loop").symlink_to(tmp_path / "train")
    (tmp_path / "train/b").symlink_to(tmp_path / "elsewhere/b")
    catalogue = open_catalogue(tmp_path)
    assert taken(catalogue) == {"a/1.jpg": "a", "b/2.jpg": "b"}
    assert told(catalogue)["train/a/loop"] == LINK


def test_a_folder_is_taken_once_however_many_links_lead_to_it(tmp_path):
    touch(tmp_path, "train/a/1.jpg", "elsewhere/2.jpg")
    (tmp_path / "train/b").symlink_to("a")
    (tmp_path / "train/c").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "train/d").symlink_to(tmp_path / "elsewhere")
    catalogue = open_catalogue(tmp_path)
    assert taken(catalogue) == {"a/1.jpg": "a", "c/2.jpg": "c"}
    assert told(catalogue) == {"train/b": LINK, "train/d": LINK, "elsewhere": "beside the splits' folders"}


def test_a_file_known_by_its_content_is_seen_when_the_content_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "SMALLEST", 1)
    touch(tmp_path, "train/a/1.jpg")
    (tmp_path / "train/a/half").write_bytes(b"")
    assert len(open_catalogue(tmp_path).split("train")) == 1
    (tmp_path / "train/a/half").write_bytes(JPEG)
    assert len(open_catalogue(tmp_path).split("train")) == 2


def test_a_test_split_without_known_classes_is_noted(tmp_path):
    touch(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "test/A/1.jpg", "test/B/1.jpg")
    catalogue = open_catalogue(tmp_path)
    assert catalogue.notes == [
        f"{tmp_path}/test: none of its folders is a class of train, so its photographs have no labels"
    ]


@pytest.mark.parametrize("below", ["dataset/train/a", "dataset/val/a", "val/a"])
def test_splits_are_never_classes(tmp_path, below):
    touch(tmp_path, f"{below}/1.jpg", "a/1.jpg")
    with pytest.raises(InputError, match="the name of a split, while there is no training split"):
        open_catalogue(tmp_path)


def test_a_link_that_leads_nowhere_vetoes_nothing(tmp_path):
    touch(tmp_path, "train/a/1.jpg")
    (tmp_path / "loop").symlink_to("loop")
    assert taken(open_catalogue(tmp_path)) == {"a/1.jpg": "a"}


# Tables --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize(
    "header", ["path,label", "Label,File Name", "image_path,extra,Category", "filename,SKU", "url,product"]
)
def test_a_table_is_read_whatever_its_columns_are_called(tmp_path, delimiter, header):
    touch(tmp_path, "img/1.jpg", "img/2.jpg")
    columns = header.split(",")
    kind = ["label", "category", "sku", "product"]
    rows = [["img/1.jpg", "tea"], ["img\\2.jpg", "cup, blue"]]
    lines = [columns] + [[row[1] if name.casefold() in kind else "x" if name == "extra" else row[0] for name in columns]
                         for row in rows]  # fmt: skip
    text = "\n".join(delimiter.join(f'"{cell}"' if "," in cell else cell for cell in line) for line in lines)
    (tmp_path / "things.csv").write_text(text, encoding="utf-8-sig")
    catalogue = open_catalogue(tmp_path / "things.csv")
    assert taken(catalogue) == {"img/1.jpg": "tea", "img/2.jpg": "cup, blue"}
    assert catalogue.classes == catalogue.class_ids == ["cup, blue", "tea"] and not catalogue.divided
    assert ("extra" in "".join(catalogue.notes)) == ("extra" in header)


def test_a_table_with_splits_and_numbers(tmp_path):
    rows = ["a.jpg,3,Train", "b.jpg,3.0,train", "c.jpg,12,training", "d.jpg,12,VALID", "e.jpg,,test"]
    touch(tmp_path, *(f"{name}.jpg" for name in "abcde"))
    (tmp_path / "labels.csv").write_text("\n".join(["path,class,split", *rows]))
    catalogue = open_catalogue(tmp_path)
    assert catalogue.format == "table labels.csv" and catalogue.divided
    assert catalogue.class_ids == ["3", "12"] and catalogue.classes == ["00003", "00012"]
    assert taken(catalogue) == {"a.jpg": "00003", "b.jpg": "00003", "c.jpg": "00012"}
    assert taken(catalogue, "val") == {"d.jpg": "00012"} and taken(catalogue, "test") == {"e.jpg": None}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no column of photographs in ''"),
        ("path," + "x" * 200_000, "no column of photographs in"),
        ('path,label\na.jpg,"tea\nb.jpg,cup', "cannot be read as a table (unexpected end of data)"),
        ('path,label\na.jpg,"tea\nb.jpg,cup"', "line 2: 'tea\\nb.jpg,cup' is no name of a product"),
        ("path,label\na.jpg,tea\nb.jpg,nan", "some have none, such as 'b.jpg'"),
        ("path,label\na.jpg,\0", "line 2: '\\x00' is no name of a product"),
        ("a.jpg,tea", "no column of photographs in 'a.jpg,tea'; name one `path`"),
        ("path,size", "no column of products; name one `label`"),
        ("path,label\na.jpg", "line 2: 1 cells under 2 columns"),
        ("path,label\n../a.jpg,tea", "does not name a file inside"),
        ("path,label\nhttps://shop/a.jpg,tea", "is an address; download the photograph"),
        ("path,label\na.jpg,tea\nb.jpg,", "some photographs have a class and some have none"),
        ("path,label\na.jpg,tea\na.jpg,cup", "lists 'a.jpg' twice"),
        ("path,label,split\na.jpg,tea,holdout", "split 'holdout' is none of train, val, test"),
        ("path,label,split\na.jpg,tea,val", "lists no photographs of the training split"),
        ("path,label\nimages/a.jpg,tea", "'images/a.jpg' and others do not exist below"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(tmp_path, text, fault):
    touch(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "things.csv").write_text(text)
    with pytest.raises(InputError) as raised:
        open_catalogue(tmp_path / "things.csv")
    assert str(raised.value).startswith(f"{tmp_path}/things.csv") and fault in str(raised.value)


def test_paths_of_a_table_may_be_absolute(tmp_path):
    touch(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "things.tsv").write_text(f"path\tlabel\n{tmp_path}/a.jpg\ttea\n./b.jpg\tcup\n")
    assert set(taken(open_catalogue(tmp_path / "things.tsv"))) == {"a.jpg", "b.jpg"}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_products_10k_as_people_save_it(tmp_path, delimiter):
    rows = [["Name", "Class", "Group"], ["1.jpg", "tea", "4"], ["2.jpg", "cup", "4"]]
    (tmp_path / "train.csv").write_text("\n".join(delimiter.join(row) for row in rows), encoding="utf-8-sig")
    (tmp_path / "test_kaggletest.csv").write_text("name\nx.jpg\n")
    catalogue = open_catalogue(tmp_path)
    assert catalogue.format == "Products-10K" and taken(catalogue) == {"1.jpg": "tea", "2.jpg": "cup"}
    assert list(catalogue.split("train").paths) == ["train/1.jpg", "train/2.jpg"]
    assert taken(catalogue, "test") == {"x.jpg": None}


def test_a_train_csv_that_is_not_products_10k_s_is_a_table(tmp_path):
    touch(tmp_path, "train/a/0.jpg", "train/b/0.jpg", "loose.jpg")
    (tmp_path / "train.csv").write_text("path,label,split\ntrain/a/0.jpg,x,train\ntrain/b/0.jpg,x,val\n")
    assert taken(open_catalogue(tmp_path)) == {"train/a/0.jpg": "x"}
    assert taken(open_catalogue(tmp_path), "val") == {"train/b/0.jpg": "x"}
    for paths in ("train/a/0.jpg,x\ntrain/b/0.jpg,y", "a/0.jpg,x\nb/0.jpg,y"):
        (tmp_path / "train.csv").write_text(f"image,label\n{paths}\n")
        (tmp_path / "test.csv").write_text("image\nloose.jpg\n")
        catalogue = open_catalogue(tmp_path)
        assert taken(catalogue) == {"train/a/0.jpg": "x", "train/b/0.jpg": "y"}
        assert taken(catalogue, "test") == {"loose.jpg": None}
    (tmp_path / "train.csv").write_text("id,label\n0,x\n1,y\n")
    with pytest.raises(InputError, match="'0' and others do not exist"):
        open_catalogue(tmp_path)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["3", "3.0", "3.00", "12"], ["00003", "00012"]),
        (["3", "3.0", "tea", "12"], ["12", "3", "tea"]),
        (["007", "7", "7.0", "bond"], ["007", "7", "bond"]),
        (["0012", "12", "A7"], ["0012", "12", "A7"]),
        (["012", "12"], ["012", "12"]),
        (["4006381333931", "4006381333931.0", "12"], ["12", "4006381333931"]),
    ],
)
def test_a_number_is_one_class_however_it_is_written(tmp_path, labels, classes):
    names = [f"{place}.jpg" for place in range(len(labels))]
    touch(tmp_path, *names)
    lines = [f"{name},{label}" for name, label in zip(names, labels, strict=True)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *lines]))
    catalogue = open_catalogue(tmp_path)
    assert catalogue.classes == classes
    assert len(catalogue.notes) == (classes != ["00003", "00012"])


def test_an_odd_label_of_another_split_does_not_rename_the_classes(tmp_path):
    touch(tmp_path, "0.jpg", "1.jpg", "2.jpg")
    lines = ["0.jpg,3,train", "1.jpg,12,train", "2.jpg,?,val"]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label,split", *lines]))
    with pytest.raises(InputError, match=r"class \? of 2\.jpg has no photograph"):
        open_catalogue(tmp_path)
    assert open_catalogue(tmp_path, ignore_unknown_classes=True).class_ids == ["3", "12"]


@pytest.mark.parametrize("path", ["x//0.jpg", "x/./0.jpg", "./x/0.jpg", "x\\0.jpg"])
def test_a_photograph_is_one_however_its_path_is_written(tmp_path, path):
    touch(tmp_path, "x/0.jpg")
    (tmp_path / "labels.csv").write_text(f"path,label\nx/0.jpg,a\n{path},b\n")
    with pytest.raises(InputError, match=r"lists 'x/0\.jpg' twice"):
        open_catalogue(tmp_path)


def test_a_fault_of_another_split_in_one_table_stops_no_training(tmp_path):
    touch(tmp_path, "0.jpg", "1.jpg")
    (tmp_path / "labels.csv").write_text("path,label,split\n0.jpg,a,train\n1.jpg,a,test\n../2.jpg,a,test\n")
    catalogue = open_catalogue(tmp_path)
    assert len(catalogue.split("train")) == 1 and "line 4: '../2.jpg' does not name" in catalogue.broken["test"]


def test_two_tables_of_one_split_lose_no_photograph(tmp_path):
    touch(tmp_path, "0.jpg", "1.jpg", "2.jpg", "3.jpg")
    (tmp_path / "train.csv").write_text("path,label\n0.jpg,a\n1.jpg,b\n")
    (tmp_path / "val.csv").write_text("path,label,split\n2.jpg,a,train\n3.jpg,a,val\n")
    catalogue = open_catalogue(tmp_path)
    assert taken(catalogue) == {"0.jpg": "a", "1.jpg": "b"}
    assert "val.csv: photographs of train stand in another table too" in catalogue.broken["val"]
    (tmp_path / "train.csv").write_text("path,label,split\n0.jpg,a,train\n1.jpg,a,val\n")
    (tmp_path / "val.csv").unlink()
    (tmp_path / "test.csv").write_text("path\n3.jpg\n")
    catalogue = open_catalogue(tmp_path)
    assert taken(catalogue) == {"0.jpg": "a"} and taken(catalogue, "val") == {"1.jpg": "a"}
    assert taken(catalogue, "test") == {"3.jpg": None}


def test_a_split_without_one_good_line_is_told(tmp_path):
    touch(tmp_path, "0.jpg")
    (tmp_path / "labels.csv").write_text("path,label,split\n0.jpg,a,train\n/x/1.jpg,a,val\n.,a,test\n")
    catalogue = open_catalogue(tmp_path)
    assert set(catalogue.broken) == {"val", "test"} and "line 3: '/x/1.jpg'" in catalogue.broken["val"]


def test_one_missing_photograph_does_not_move_the_others(tmp_path):
    touch(tmp_path, "img/1.jpg", "img/2.jpg", "val/img/2.jpg")
    (tmp_path / "train.csv").write_text("path,label\nimg/0.jpg,a\nimg/1.jpg,a\n")
    (tmp_path / "val.csv").write_text("path,label\nimg/0.jpg,a\nimg/2.jpg,a\n")
    catalogue = open_catalogue(tmp_path)
    assert set(taken(catalogue)) == {"img/0.jpg", "img/1.jpg"} and set(taken(catalogue, "val")) == {
        "img/0.jpg",
        "img/2.jpg",
    }


def test_a_line_is_named_by_where_it_begins(tmp_path):
    touch(tmp_path, "0.jpg", "1.jpg")
    (tmp_path / "labels.csv").write_text('path,label,note\n0.jpg,a,"x\ny\nz"\n\n../1.jpg,a,\n')
    with pytest.raises(InputError, match=r"labels\.csv, line 6: '\.\./1\.jpg'"):
        open_catalogue(tmp_path)
    (tmp_path / "labels.csv").write_text('path,label,\n0.jpg,a,\n1.jpg,"a,\n')
    with pytest.raises(InputError, match=r"labels\.csv, line 3: cannot be read as a table \(unexpected end of data\)"):
        open_catalogue(tmp_path)
    (tmp_path / "labels.csv").write_text("path,label,\n0.jpg,a,\n")
    assert not open_catalogue(tmp_path).notes  # of a column without a name, as pandas writes its index


def test_photographs_beside_those_of_a_table_are_told(tmp_path):
    touch(tmp_path, "a/0.jpg", "a/1.JPG", "a/2", "a/notes.txt", "b/0.jpg", "b/deeper/0.jpg", "c/0.jpg", "d/0.jpg")
    (tmp_path / "a/2").write_bytes(JPEG)  # without an ending
    (tmp_path / "labels.csv").write_text(
        "path,label,split\na/0.jpg,x,train\nb/0.jpg,y,val\nd/0.jpg,z,val\ne/0.jpg,x,train\n"
    )
    catalogue = open_catalogue(tmp_path, ignore_unknown_classes=True)
    unknown = "of classes that are not in train"
    assert told(catalogue) == {"a/1.JPG": "not in the table", "a/2": "not in the table"} | dict.fromkeys(
        ("b/0.jpg", "d/0.jpg"), unknown
    )
    assert taken(catalogue) == {"a/0.jpg": "x", "e/0.jpg": "x"}


def test_the_line_of_a_catalogue_says_how_large_its_classes_are(tmp_path):
    touch(tmp_path, "train/a/0.jpg", "train/a/1.jpg", "train/b/0.jpg", "val/a/0.jpg", "val/b/0.jpg", "test/0.jpg")
    line = open_catalogue(tmp_path).describe()
    assert line.endswith("[class folders]: 2 classes; train 3 (1 to 2 a class), val 2 (1 a class), test 1")


def test_photographs_beside_products_10k_are_told(tmp_path):
    touch(tmp_path, "train/0.jpg", "train/1.jpg", "test/0.jpg", "test/1.jpg", "0.jpg")
    (tmp_path / "train.csv").write_text("name,class,group\n0.jpg,3,1\n")
    (tmp_path / "test.csv").write_text("name,class,group\n1.jpg,3,1\n")
    catalogue = open_catalogue(tmp_path)
    assert catalogue.format == "Products-10K"
    assert told(catalogue) == dict.fromkeys(("train/1.jpg", "test/0.jpg"), "not in the table")


# Shards and archives -------------------------------------------------------------------------------------------------


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize("kind", ["cls", "txt", "json"])
def test_shards_of_others_are_read(tmp_path, kind):
    label = {
        "cls": lambda k: b"%d" % (7 * k),
        "txt": lambda k: b"tea %d\n" % k,
        "json": lambda k: b'{"label": "tea %d"}' % k,
    }
    pictures = {}
    for place in range(5):
        write_photograph(tmp_path / "one.jpg", place)
        pictures[place] = (tmp_path / "one.jpg").read_bytes()
    for shard, places in {"train-0000": (0, 1), "train-0001": (2, 3), "val/0": (4,)}.items():
        members = {}
        for place in places:
            members |= {f"{place:03}.jpg": pictures[place], f"{place:03}.{kind}": label[kind](place % 2)}
        write_tar(tmp_path / f"shards/{shard}.tar", members)
    catalogue = open_catalogue(tmp_path / "shards")
    assert catalogue.format == "WebDataset" and catalogue.num_classes == 2 and catalogue.divided
    train, val = catalogue.split("train"), catalogue.split("val")
    assert train.labels.tolist() == [0, 1, 0, 1] and val.labels.tolist() == [0]
    assert [train.path(place).read() for place in range(4)] == [pictures[place] for place in range(4)]
    assert val.path(0).read() == pictures[4]


def test_shards_of_others_train_and_give_the_pictures_that_webdataset_reads(tmp_path, script):
    import webdataset

    for shard in range(2):
        members = {}
        for place in range(6):
            write_photograph(tmp_path / "one.jpg", 6 * shard + place, tint=((place % 2) * 150, 0, 0))
            content = (tmp_path / "one.jpg").read_bytes()
            members |= {f"s{shard}/{place}.cls": b"%d" % (place % 2), f"s{shard}/{place}.jpg": content}
        write_tar(tmp_path / f"shards/{shard}.tar", members)
    urls = [str(tmp_path / f"shards/{shard}.tar") for shard in range(2)]
    theirs = [(sample["jpg"], int(sample["cls"])) for sample in webdataset.WebDataset(urls, shardshuffle=False)]
    train = open_catalogue(tmp_path / "shards").split("train")
    assert [(train.path(place).read(), int(train.labels[place])) for place in range(12)] == theirs
    options = ["--arch", "resnet18", "--weights", "none", "--epochs", 1, "--lr", 0.01, "--resize", 36, "--crop", 32]
    options += ["--batch-size", 4, "--workers", 0, "--stream", 2, "--val-share", 0.2]
    done = script("train.py", "--data", "shards", *options)
    assert "[WebDataset]: 2 classes; train 10" in done.stdout and "packed at" not in done.stderr


@pytest.mark.parametrize("name", ["shop.zip", "shop.tar", "shop.tar.gz", "shop.7z"])
def test_an_archive_is_to_be_unpacked(tmp_path, name):
    touch(tmp_path / "there", name)
    if name == "shop.tar":
        write_tar(tmp_path / "there" / name, {"train/a/1.jpg": JPEG, "train/b/1.jpg": JPEG})
    for data in (tmp_path / "there", tmp_path / "there" / name):
        with pytest.raises(InputError, match=f"{name}: is an archive; unpack it"):
            open_catalogue(data)


def test_a_folder_that_may_not_be_listed_is_one_line(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied", str(tmp_path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"cannot be read \(\[Errno 13\] Permission denied"):
        open_catalogue(tmp_path)


def samples(*keys: str) -> dict[str, bytes]:
    return {f"{key}.{ending}": content for key in keys for ending, content in (("jpg", JPEG), ("cls", b"0"))}


def test_a_shard_that_was_cut_or_joined_is_a_fault(tmp_path):
    write_tar(tmp_path / "whole.tar", samples("0", "1", "2"))
    whole, step = (tmp_path / "whole.tar").read_bytes(), 512 * (2 + -(-len(JPEG) // 512) + 1)
    (tmp_path / "whole.tar").unlink()
    damaged = bytearray(whole)
    damaged[step + 148 : step + 154] = b"999999"  # the checksum of the second sample's header
    for content, fault in {
        whole[:step]: f"cut.tar: is cut or damaged at byte {step:,}",
        whole[: step + 300]: "cut.tar: is cut or damaged",
        bytes(damaged): f"cut.tar: is cut or damaged at byte {step:,}",
        whole + whole: "cut.tar: goes on behind its end",
    }.items():
        (tmp_path / "cut.tar").write_bytes(content)
        with pytest.raises(InputError, match=fault):
            open_catalogue(tmp_path)
    write_tar(tmp_path / "train-0.tar", samples("0"))
    (tmp_path / "cut.tar").rename(tmp_path / "val-0.tar")
    assert "val-0.tar: goes on behind its end" in open_catalogue(tmp_path).broken["val"]


def test_what_is_left_out_of_shards_is_told(tmp_path):
    more = {"._0.jpg": b"x", "0.left.jpg": JPEG, "0.png": PNG, "3.cls": b"0", "readme": b"x", "__MACOSX/1.jpg": b"x"}
    write_tar(tmp_path / "a.tar", samples("0") | more | samples("9"))
    with tarfile.open(tmp_path / "a.tar", "a") as tar:
        link = tarfile.TarInfo("10.jpg")
        link.type, link.linkname = tarfile.LNKTYPE, "9.jpg"
        tar.addfile(link)
    touch(tmp_path, "a.tar.gz", "class/1.jpg")
    catalogue = open_catalogue(tmp_path)
    assert set(taken(catalogue)) == {"a.tar/0", "a.tar/9"}
    assert told(catalogue) == {
        "a.tar/._0.jpg": "hidden or of the system",
        "a.tar/__MACOSX/1.jpg": "hidden or of the system",
        "a.tar/0.left.jpg": "with several dots in the name",
        "a.tar/0.png": "a second photograph of one sample",
        "a.tar/3.cls": "a label without a photograph",
        "a.tar/readme": "without a known ending",
        "a.tar/10.jpg": "links and other members that hold no bytes",
        "a.tar.gz": "beside the shards",
        "class": "beside the shards",
    }


def test_an_index_of_shards_in_folders_is_kept_and_sees_new_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "SMALLEST", 1)
    write_tar(tmp_path / "train/0.tar", samples("0", "1"))
    (tmp_path / "val").mkdir()
    first = open_catalogue(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("catalogues.formats.webdataset.samples", None)
        assert list(open_catalogue(tmp_path).split("train").paths) == list(first.split("train").paths)
    write_tar(tmp_path / "val/0.tar", samples("2"))
    assert len(open_catalogue(tmp_path).split("val")) == 1


def test_shards_are_known_also_behind_another_tar(tmp_path):
    write_tar(tmp_path / "aaa-notes.tar", {"notes.md": b"x"})
    write_tar(tmp_path / "train-0.tar", samples("0"))
    catalogue = open_catalogue(tmp_path)
    assert len(catalogue.split("train")) == 1 and told(catalogue) == {"aaa-notes.tar/notes.md": ".md"}


def test_half_a_character_is_no_name(tmp_path):
    write_tar(tmp_path / "a.tar", {"0.jpg": JPEG, "0.json": b'{"label": "\\ud800"}'})
    with pytest.raises(InputError, match=r"a\.tar, '0'\.json: cannot be read"):
        open_catalogue(tmp_path)


def test_a_member_larger_than_any_photograph_is_a_fault(tmp_path):
    write_tar(tmp_path / "a.tar", {"1.jpg": JPEG, "1.cls": b"0"})
    content = bytearray((tmp_path / "a.tar").read_bytes())
    info = tarfile.TarInfo("2.jpg")
    info.size = 2**33
    with open(tmp_path / "a.tar", "wb") as file:
        file.write(content[:-1024].rstrip(b"\0").ljust(-(-len(content[:-1024].rstrip(b"\0")) // 512) * 512, b"\0"))
        file.write(info.tobuf())
        file.truncate(file.tell() + 2**33 + 1024)
    with pytest.raises(InputError, match=r"'2\.jpg': 8,589,934,592 bytes are more than any photograph has"):
        open_catalogue(tmp_path)


def test_another_file_is_no_catalogue(tmp_path):
    touch(tmp_path, "x.jpg")
    with pytest.raises(InputError, match=r"x\.jpg: is no table; give a \.csv or \.tsv file"):
        open_catalogue(tmp_path / "x.jpg")


def test_strings_at_some_places():
    from catalogues import Strings

    strings = Strings(["a", "", "größe", "\udcff", "xyz"])
    for places in ([], [4], [2, 0, 0, 1, 3], [1, 1]):
        assert list(strings.take(np.array(places, np.int64))) == [strings[place] for place in places]


def test_unlabelled_shards_of_test_do_not_hide_the_others(tmp_path):
    for number in range(8):
        write_tar(tmp_path / f"test-{number}.tar", {"0.jpg": JPEG})
    write_tar(tmp_path / "train-0.tar", samples("0"))
    catalogue = open_catalogue(tmp_path)
    assert len(catalogue.split("train")) == 1 and len(catalogue.split("test")) == 8 and not catalogue.notes


def test_the_folder_of_a_shard_says_its_split_before_its_name(tmp_path):
    write_tar(tmp_path / "train/valid-products-0.tar", samples("0"))
    write_tar(tmp_path / "val/0.tar", samples("1"))
    write_tar(tmp_path / "trainval.tar", samples("2"))
    touch(tmp_path, "train/y.jpg")
    catalogue = open_catalogue(tmp_path)
    assert set(taken(catalogue)) == {"train/valid-products-0.tar/0", "trainval.tar/2"}
    assert "1 shard without a split in the name, such as trainval.tar, taken for train" in catalogue.notes[0]
    assert told(catalogue) == {"train/y.jpg": "beside the shards"}


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (b"\xef\xbb\xbftea\n", "tea"),
        (b'{"label": " tea "}', "tea"),
        (b'{"label": 3}', "00003"),
        (b'{"label": 3.0}', "00003"),
        (b'{"label": {"id": 3}}', "json: cannot be read ({'id': 3} is no label)"),
        (b'{"label": NaN}', "have no class"),
        (b"nan", "have no class"),
        (b"x" * (2**20 + 1), "1,048,577 bytes are more than any label has"),
    ],
)
def test_a_label_in_a_shard_is_a_text_or_a_number(tmp_path, label, expected):
    write_tar(tmp_path / "a.tar", {"0.jpg": JPEG, "0.json" if label[:1] == b"{" else "0.txt": label})
    try:
        assert open_catalogue(tmp_path).classes == [expected]
    except InputError as error:
        assert expected in " ".join([str(error), *getattr(error, "lines", [])])


def test_an_empty_shard_is_told_with_its_split(tmp_path):
    write_tar(tmp_path / "train-0.tar", samples("0"))
    write_tar(tmp_path / "val-0.tar", {})
    assert open_catalogue(tmp_path).broken["val"].endswith("shards of val: lists no photographs; fill it or remove it")


def test_a_link_in_a_linked_folder_takes_no_photograph_twice(tmp_path):
    touch(tmp_path / "elsewhere", "x/0.jpg", "x/deep/1.jpg")
    (tmp_path / "elsewhere/x/again").symlink_to(tmp_path / "elsewhere/x/deep")
    touch(tmp_path / "shop", "train/a/0.jpg")
    (tmp_path / "shop/train/b").symlink_to(tmp_path / "elsewhere/x")
    assert set(taken(open_catalogue(tmp_path / "shop"))) == {"a/0.jpg", "b/0.jpg", "b/deep/1.jpg"}
