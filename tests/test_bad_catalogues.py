"""Strangers' catalogues and tables: each is read, or refused with exit code 2 and one line that names it."""

import os
from pathlib import Path

import pytest
from bad_input import (
    DEEP,
    aliproducts,
    entry,
    listing,
    make,
    refused,
)
from test_training import SMALL

from catalogues import open_catalogue
from common.errors import InputError

LABELS, MARKS = "id,class,probability", "cluster,id,class,exclude"


def one(image_id: object = "a.jpg", class_id: object = 4) -> bytes:
    return listing(entry("z.jpg", 17), entry(image_id, class_id))


def grocery(root: Path) -> None:
    (root / "classes.csv").write_text("Class Name,Class ID,Coarse\nKiwi,4,Fruit\nFuji,17,Apple\n")
    (root / "train.txt").write_text("train/a.jpg, 4, 0\ntrain/b.jpg, 17, 0\n")


def products10k(root: Path) -> None:
    (root / "train.csv").write_text("name,class,group\na.jpg,4,1\nb.jpg,17,1\n")
    (root / "test.csv").write_text("name\nt.jpg\n")


# what is wrong: (the file that is, its bytes, what the complaint says besides its name)
ALIPRODUCTS: dict[str, tuple[str, bytes, str]] = {
    "nothing": ("train.json", b"", "cannot be read as JSON"),
    "cut off": ("train.json", one()[:-9], "cannot be read as JSON"),
    "not UTF-8": ("train.json", one().replace(b"z.jpg", b"\xff.jpg"), "restore the file"),
    "UTF-16": ("train.json", one().decode().encode("utf-16"), "restore the file"),
    "a list": ("train.json", b"[]", "mend the file"),
    "a number": ("train.json", b"7", "mend the file"),
    "no key images": ("train.json", b'{"pictures": []}', "mend the file"),
    "images of another type": ("train.json", b'{"images": "a.jpg"}', "mend the file"),
    "an empty list": ("train.json", b'{"images": []}', "lists no photographs"),
    "entries of another type": ("train.json", listing(["a.jpg", 4]), "mend the file"),
    "no id": ("train.json", listing({"class_id": 4}), "mend the file"),
    "no class": ("train.json", listing(entry("a.jpg", 4), entry("b.jpg", None)), "label all or none"),
    "no class at all": ("train.json", listing(entry("a.jpg", None)), "every training photograph needs one"),
    "an id twice": ("train.json", listing(*[entry("a.jpg", n) for n in (4, 17)]), "lists 'a.jpg' twice"),
    "a class that train lacks": ("val.json", one(class_id=5), "class 5 of val/00005/a.jpg has no photograph"),
    "an id of another type": ("train.json", one(7), "image_id 7 is not a file name"),
    "an id that is nothing": ("train.json", one(""), "does not name a file"),
    "an id above the folder": ("train.json", one("../a.jpg"), "is not a file name"),
    "an absolute id": ("train.json", one("/etc/passwd"), "is not a file name"),
    "an id above the folder, on Windows": ("train.json", one("..\\..\\a.jpg"), "does not name a file inside"),
    "an absolute id, on Windows": ("train.json", one("\\\\host\\a.jpg"), "does not name a file inside"),
    "an id that is the folder": ("train.json", one(".."), "is not a file name"),
    "an id with a NUL": ("train.json", one("a.jpg\0.png"), "does not name a file inside"),
    "an id with half a character": ("train.json", one("\ud800.jpg"), "no file can have the name"),
    "an id of a megabyte": ("train.json", one("../" * 10**6), "is not a file name"),
    "a class below 0": ("train.json", one(class_id=-1), "class -1 is not a number"),
    "a class beyond int32": ("train.json", one(class_id=2**31), "class 2147483648 is not a number"),
    "a class of 4000 digits": ("train.json", one(class_id=10**4000), "is not a number"),
    "a class of 5000 digits": ("train.json", one().replace(b"4}", b"9" * 5000 + b"}"), "train.json"),
    "a class in text that is none": ("train.json", one(class_id="1_7"), "class '1_7' is not a number"),
    "a class in other digits": ("train.json", one(class_id="١٧"), "is not a number"),
    "a fraction": ("train.json", one(class_id=4.0), "class 4.0 is not a number"),
    "NaN": ("train.json", one(class_id=float("nan")), "class nan is not a number"),
    "infinity": ("train.json", one(class_id=float("inf")), "class inf is not a number"),
    "true": ("train.json", one(class_id=True), "class True is not a number"),
    "a class that is a list": ("train.json", one(class_id=[[4] * 500] * 9), "is not a number"),
    "a class as deep as Python goes": (
        "train.json",
        one(class_id=4).replace(b"4}", b"[" * 900 + b"]" * 900 + b"}"),
        "class",
    ),
    "a key twice": (
        "train.json",
        one().replace(b'"class_id": 4', b'"class_id": 4, "class_id": 17'),
        "'class_id' stands",
    ),
    "images twice": ("train.json", one()[:-1] + b", " + one()[1:], "'images' stands twice"),
    "lists 10,000 deep": ("train.json", b"[" * DEEP + b"]" * DEEP, "cannot be read as JSON"),
    "objects 10,000 deep": ("train.json", b'{"a":' * DEEP + b"1" + b"}" * DEEP, "cannot be read as JSON"),
    "a tree 10,000 deep": ("product_tree.json", b'{"a":' * DEEP + b"4" + b"}" * DEEP, "cannot be read as JSON"),
    "a tree that is a list": ("product_tree.json", b"[4]", "expected nested objects"),
    "a tree with a list": ("product_tree.json", b'{"a": [4, 17]}', "class [4, 17] is not a number"),
    "a tree with nothing": ("product_tree.json", b'{"a": null}', "class None is not a number"),
    "a tree with NaN": ("product_tree.json", b'{"a": NaN}', "class nan is not a number"),
    "a tree with true": ("product_tree.json", b'{"a": true}', "class True is not a number"),
    "a branch twice": ("product_tree.json", b'{"a": {"b": 4}, "a": {"c": 17}}', "'a' stands twice"),
    "a name with half a character": ("product_tree.json", b'{"\\ud800": 4}', "half a character"),
    "a tree that is not UTF-8": ("product_tree.json", b'{"\xff": 4}', "cannot be read as JSON"),
}


GROCERY: dict[str, tuple[str, bytes, str]] = {
    "too few cells": ("train.txt", b"train/a.jpg, 4\n", "line 1: expected `path"),
    "a class that classes.csv lacks": ("train.txt", b"train/a.jpg, 5, 0\n", "line 1: label 5 is not in"),
    "a path above the folder": ("train.txt", b"../../a.jpg, 4, 0\n", "line 1: '../../a.jpg' does not name"),
    "a path above it on the way": ("train.txt", b"train/../../a.jpg, 4, 0\n", "does not name"),
    "an absolute path": ("train.txt", b"/etc/passwd, 4, 0\n", "does not name"),
    "a path twice": ("train.txt", b"train/a.jpg, 4, 0\n" * 2, "lists 'train/a.jpg' twice"),
    "a NUL": ("train.txt", b"train/a\0.jpg, 4, 0\n", "train.txt"),
    "nothing": ("train.txt", b"", "lists no photographs"),
    "not UTF-8": ("train.txt", b"train/\xff.jpg, 4, 0\n", "cannot be read as a table"),
    "a cell beyond csv's limit": ("train.txt", b"x" * 200_000 + b", 4, 0\n", "cannot be read as a table"),
    "a class number that is none": ("classes.csv", b"Name,ID\nKiwi,four\n", "line 2: class 'four' is not a number"),
    "a class without number": ("classes.csv", b"Name,ID\nKiwi\n", "line 2: expected a class name and its number"),
    "a class named twice": ("classes.csv", b"Name,ID\nKiwi,4\nFuji,4\n", "line 3: class 4 is named for the second"),
}


PRODUCTS: dict[str, tuple[str, bytes, str]] = {
    "nothing": ("train.csv", b"", "no column of photographs"),
    "no header": ("train.csv", b"a.jpg,4,1\n", "line 1: no column of photographs"),
    "no photographs": ("train.csv", b"name,class,group\n", "lists no photographs"),
    "a cell too many": ("train.csv", b"name,class,group\na.jpg,4,1,1\n", "line 2: 4 cells under 3 columns"),
    "a path above the folder": ("train.csv", b"name,class,group\n../../a.jpg,4,1\n", "line 2: '../../a.jpg' does not"),
    "a name twice": ("train.csv", b"name,class,group\na.jpg,4,1\na.jpg,17,1\n", "lists 'a.jpg' twice"),
    "no classes": ("train.csv", b"name,group\na.jpg,1\n", "line 1: expected the columns name,class,group"),
}


CATALOGUES = [
    pytest.param(write, *case, id=f"{name}: {what}")
    for name, write, cases in [
        ("AliProducts", aliproducts, ALIPRODUCTS),
        ("Grocery Store", grocery, GROCERY),
        ("Products-10K", products10k, PRODUCTS),
    ]
    for what, case in cases.items()
]


@pytest.mark.parametrize(("write", "name", "data", "complaint"), CATALOGUES)
def test_a_catalogue_is_refused_in_one_line_and_no_run_begins(write, name, data, complaint, script, tmp_path):
    write(make(tmp_path / "shop"))
    (tmp_path / "shop" / name).write_bytes(data)
    before = sorted(tmp_path.rglob("*"))
    refused(script("train.py", "--data", "shop", *SMALL, code=2), f"shop/{name}", complaint)
    assert sorted(tmp_path.rglob("*")) == before


# The same for what a training does not need.
OTHER_SPLITS = {
    "an empty list in val": ("val.json", b'{"images": []}', "lists no photographs"),
    "an empty list in test": ("test.json", b'{"images": []}', "lists no photographs"),
    "an id twice in val": ("val.json", listing(*[entry("v.jpg", 4)] * 2), "lists 'v.jpg' twice"),
    "an id twice in test": ("test.json", listing(*[entry("t.jpg", None)] * 2), "lists 't.jpg' twice"),
    "a name twice in a test table": ("test.csv", b"name\nt.jpg\nt.jpg\n", "lists 't.jpg' twice"),
}


@pytest.mark.parametrize(("name", "data", "complaint"), OTHER_SPLITS.values(), ids=OTHER_SPLITS)
def test_a_fault_of_another_split_is_noted_and_told_to_who_needs_it(name, data, complaint, tmp_path, capsys):
    (products10k if name.endswith("csv") else aliproducts)(tmp_path)
    (tmp_path / name).write_bytes(data)
    catalogue = open_catalogue(tmp_path)
    assert len(catalogue.split("train")) >= 2
    catalogue.print_notes()
    split = name.partition(".")[0]
    assert capsys.readouterr().err.startswith(f"note: {tmp_path}/{name}: {complaint}")
    with pytest.raises(InputError, match=f"{name}: {complaint}"):
        catalogue.split(split)


@pytest.mark.parametrize("name", ["train.json", "product_tree.json"])
def test_a_pipe_is_no_catalogue_s_file(name, script, tmp_path):
    aliproducts(make(tmp_path / "shop"))
    (tmp_path / "shop" / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / "shop" / name)
    refused(script("train.py", "--data", "shop", *SMALL, code=2), f"shop/{name}", "not an ordinary file")


def test_a_byte_order_mark_and_names_that_a_shell_would_expand_are_no_fault(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/etc")
    aliproducts(tmp_path)
    names = ["~", "$HOME", "%2e%2e%2fa.jpg", "*.jpg", "-rf", "a b", "con", "...", "a..jpg", "file:a.jpg", "C:\\a.jpg"]
    (tmp_path / "train.json").write_bytes(b"\xef\xbb\xbf" + listing(*(entry(name, 4) for name in names)))
    (tmp_path / "val.json").unlink()
    train = open_catalogue(tmp_path).split("train")
    assert [train.path(place) for place in range(len(names))] == [f"{tmp_path}/train/00004/{name}" for name in names]


def test_a_tree_as_deep_as_json_reads_is_walked(tmp_path):
    aliproducts(tmp_path)
    (tmp_path / "product_tree.json").write_bytes(b'{"a":' * 900 + b'{"tea": 4, "cup": 17}' + b"}" * 900)
    catalogue = open_catalogue(tmp_path)
    assert catalogue.classes == ["tea", "cup"] and catalogue.tree == [("a",) * 900] * 2


@pytest.mark.parametrize(
    ("flag", "header", "line", "complaint"),
    [
        ("--extra", LABELS, "t.jpg,5,0.9", "line 2: '5' is no class"),
        ("--extra", LABELS, "x.jpg,4,0.9", "line 2: 'x.jpg' is no photograph"),
        ("--extra", LABELS, "../t.jpg,4,0.9", "is no photograph"),
        ("--extra", LABELS, "t.jpg,4,0.9\nt.jpg,4,0.9", "line 3: 't.jpg' is labelled for the second time"),
        ("--extra", LABELS, "t.jpg,4,nan", "'nan' is no probability"),
        ("--extra", LABELS, "t.jpg,4,1e999", "is no probability"),
        ("--extra", LABELS, "t.jpg,4,-0.5", "is no probability"),
        ("--extra", LABELS, "t.jpg,4", "line 2: expected id,class,probability"),
        ("--extra", LABELS, "t.jpg,4,0.9,", "line 2: expected id,class,probability"),
        ("--extra", LABELS, "\xff.jpg,4,0.9", "line 2: '\\udcff.jpg' is no photograph"),
        ("--extra", LABELS, "t\0.jpg,4,0.9", "is no photograph"),
        ("--extra", LABELS, "t\033[2J.jpg,4,0.9", "is no photograph"),
        ("--extra", LABELS, "x" * 200_000 + ",4,0.9", "cannot be read"),
        ("--extra", "id,label", "t.jpg,4", "expected the first line id,class,probability"),
        ("--extra", "", "", "expected the first line id,class,probability"),
        ("--exclude", MARKS, "0,x.jpg,4,1", "line 2: 'x.jpg' is no photograph"),
        ("--exclude", MARKS, "0,a.jpg,4,yes", "line 2: exclude is 'yes', expected 0 or 1"),
        ("--exclude", MARKS, "0,a.jpg,4", "line 2: expected cluster,id,class,exclude"),
        ("--exclude", LABELS, "t.jpg,4,0.9", "expected the first line cluster,split,id,class,exclude"),
        ("--exclude", MARKS, "0,a.jpg,4,1\n0,b.jpg,17,1\n0,c.jpg,4,1", "leaves no photograph"),
    ],
)
def test_a_table_is_refused_in_one_line_and_no_run_begins(flag, header, line, complaint, script, tmp_path):
    aliproducts(make(tmp_path / "shop"))
    (tmp_path / "table.csv").write_bytes(f"{header}\n{line}\n".encode("latin-1"))
    before = sorted(tmp_path.rglob("*"))
    refused(script("train.py", "--data", "shop", flag, "table.csv", *SMALL, code=2), "table.csv", complaint)
    assert sorted(tmp_path.rglob("*")) == before
