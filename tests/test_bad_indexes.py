"""Strangers' indexes and shards: what does not fit is made anew, or refused in one line."""

import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from bad_input import (
    DEEP,
    HUGE,
    Make,
    Payload,
    aliproducts,
    entry,
    listing,
    make,
    refused,
    zipped,
)
from conftest import write_photograph
from test_training import SMALL

from catalogues import Strings, open_catalogue
from catalogues.formats import FORMATS
from catalogues.index import load
from data.pack import Job, pack


def facts(**changes) -> Make:
    def make(folder: Path) -> None:
        now = json.loads((folder / "facts.json").read_text())
        (folder / "facts.json").write_text(json.dumps(now | changes))

    return make


def split_facts(place: int, value: object) -> Make:
    """Of the training split: labelled, names are ids, id_root, packed."""

    def make(folder: Path) -> None:
        now = json.loads((folder / "facts.json").read_text())
        now["splits"]["train"][place] = value
        (folder / "facts.json").write_text(json.dumps(now))

    return make


def numbers(part: str, change: Callable[[np.ndarray], np.ndarray]) -> Make:
    """An array of the training split, changed."""

    def make(folder: Path) -> None:
        path = folder / f"train.{part}.npy"
        np.save(path, change(np.load(path)), allow_pickle=True)

    return make


def put(place: int, value: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        values[place] = value
        return values

    return change


def paths(*some: str) -> Make:
    """The first paths of the training split are these, the others as they were."""

    def make(folder: Path) -> None:
        strings = Strings.of(*(np.load(folder / f"train.{part}.npy") for part in ("buffer", "offsets")))
        strings = Strings([*some, *list(strings)[len(some) :]])
        np.save(folder / "train.buffer.npy", strings.buffer)
        np.save(folder / "train.offsets.npy", strings.offsets)

    return make


def file_is(name: str, data: bytes) -> Make:
    return lambda folder: (folder / name).write_bytes(data)


def pipe(name: str) -> Make:
    return lambda folder: ((folder / name).unlink(), os.mkfifo(folder / name))


def packed(**changes: list) -> Make:
    """Names and sizes of the training split's shards, or their side."""

    def make(folder: Path) -> None:
        now = json.loads((folder / "facts.json").read_text())
        found = dict(zip(("files", "side", "fit"), now["splits"]["train"][3], strict=True)) | changes
        now["splits"]["train"][3] = list(found.values())
        (folder / "facts.json").write_text(json.dumps(now))

    return make


def huge(part: str) -> Make:
    """An array that declares more than there is."""
    start = f"{{'descr': '<i8', 'fortran_order': False, 'shape': ({HUGE},), }}\n".encode()
    return file_is(f"train.{part}.npy", b"\x93NUMPY\1\0" + struct.pack("<H", len(start)) + start)


INDEXES: dict[str, Make] = {
    "a root above the folder": facts(below="../.."),
    "an absolute root": facts(below="/etc"),
    "a root with a NUL": facts(below="a\0"),
    "a root that is none": facts(below=7),
    "a path above the folder": paths("../../etc/passwd"),
    "a path above it on the way": paths("train/../../x.jpg"),
    "a path that ends above it": paths("a/.."),
    "an absolute path": paths("train/a.jpg", "/etc/passwd"),
    "a path above it, on Windows": paths("a\\..\\..\\x.jpg"),
    "a path at an odd place": paths("a", "../x"),
    "a path across two pieces": paths("x" * (2**18 - 1) + "/../y", "z"),
    "a path with a NUL": paths("a\0b"),
    "a path that is nothing": paths("", "a"),
    "offsets that descend": numbers("offsets", put(1, 10**6)),
    "offsets from elsewhere": numbers("offsets", put(0, -1)),
    "offsets beyond the buffer": numbers("offsets", put(-1, 10**9)),
    "offsets short of the buffer": numbers("buffer", lambda values: np.append(values, values)),
    "offsets of another type": numbers("offsets", lambda values: values.astype(np.float64)),
    "offsets with bytes swapped": numbers("offsets", lambda values: values.astype(">i8")),
    "no offsets": numbers("offsets", lambda values: values[:0]),
    "one offset": numbers("offsets", lambda values: values[:1]),
    "a buffer of two dimensions": numbers("buffer", lambda values: values[:, None]),
    "a buffer of another type": numbers("buffer", lambda values: values.astype(np.int8)),
    "pickled objects": numbers("buffer", lambda values: np.array([Payload()], object)),
    "a pickle": file_is("train.buffer.npy", pickle.dumps(Payload())),
    "a zip file": file_is("train.buffer.npy", zipped()),
    "a huge array": huge("offsets"),
    "a pipe": pipe("train.buffer.npy"),
    "a pipe for its facts": pipe("facts.json"),
    "a label below 0": numbers("labels", put(0, -1)),
    "a label outside the classes": numbers("labels", put(-1, 2)),
    "too few labels": numbers("labels", lambda values: values[1:]),
    "too many labels": numbers("labels", lambda values: np.append(values, values)),
    "labels of another type": numbers("labels", lambda values: values.astype(np.int64)),
    "no labels": split_facts(0, False),
    "ids that are neither": split_facts(1, "yes"),
    "no root of ids": split_facts(2, None),
    "facts of another length": facts(splits={"train": [True]}),
    "another split": facts(splits={"../train": [True, True, "", None]}),
    "no splits": facts(splits={}),
    "no classes": facts(classes=[], class_ids=[]),
    "classes that are numbers": facts(classes=[1, 2]),
    "classes that are one text": facts(classes="ab", class_ids="ab"),
    "half a character": facts(classes=["\ud800", "b"]),
    "fewer ids than classes": facts(class_ids=["4"]),
    "a tree of fewer classes": facts(tree=[["a"]]),
    "a tree of other things": facts(tree=[[1], [2]]),
    "facts 10,000 deep": file_is("facts.json", b"[" * DEEP + b"]" * DEEP),
    "facts that are no JSON": file_is("facts.json", b"\xff\xfe"),
}


SHARD_INDEXES: dict[str, Make] = {
    "a shard above the folder": packed(files=[["../../etc/passwd", 9]]),
    "an absolute shard": packed(files=[["/etc/passwd", 9]]),
    "a shard in a folder": packed(files=[["a/b.tar", 9]]),
    "a shard that is the folder": packed(files=[["..", 9]]),
    "a shard without name": packed(files=[["", 9]]),
    "a shard of a name that is none": packed(files=[[7, 9]]),
    "a shard of no size": packed(files=[["train-000000.tar", None]]),
    "a shard of a huge size": packed(files=[["train-000000.tar", 2**64]]),
    "a shard below 0": packed(files=[["train-000000.tar", -1]]),
    "no shards": packed(files=[]),
    "a fit that is none": packed(fit="stretch"),
    "a side that is none": packed(side="36"),
    "no facts of shards": split_facts(3, None),
    "a shard outside": numbers("shard", put(0, 1)),
    "a shard's number below 0": numbers("shard", put(0, -1)),
    "a start below 0": numbers("start", put(0, -1)),
    "a start beyond the shard": numbers("start", put(0, 10**9)),
    "a start and a size beyond int64": numbers("start", put(0, 2**63 - 1)),
    "a size below 0": numbers("size", put(0, -1)),
    "a size beyond the shard": numbers("size", put(0, 2**31 - 1)),
    "too few sizes": numbers("size", lambda values: values[1:]),
    "sizes of another type": numbers("size", lambda values: values.astype(np.int64)),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("spoil", INDEXES.values(), ids=INDEXES)
def test_a_catalogue_whose_index_was_tampered_with_is_read_anew(spoil, tmp_path, monkeypatch):
    monkeypatch.setattr("catalogues.index.SMALLEST", 1)
    monkeypatch.chdir(tmp_path)
    aliproducts(make(tmp_path / "shop"))
    expected = list(open_catalogue("shop").split("train").paths)
    opened = partial(load, Path("shop/.index"), "AliProducts", Path("shop"))
    assert opened() is not None
    spoil(tmp_path / "shop/.index")
    assert opened() is None
    assert list(open_catalogue("shop").split("train").paths) == expected
    assert opened() is not None, "and its index is made anew"
    assert not Path("executed").exists()


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("packed")
    for place in range(4):
        write_photograph(root / f"shop/train/{'ab'[place % 2]}/{place}.jpg", place)
    catalogue = open_catalogue(root / "shop")
    pack(Job(catalogue, root / "shards", 36, 90, 100, 0), workers=1)
    return root / "shards"


@pytest.mark.parametrize(
    "spoil",
    [pytest.param(spoil, id=what) for what, spoil in (INDEXES | SHARD_INDEXES).items()],
)
def test_shards_whose_index_was_tampered_with_are_refused(spoil, shards, script, tmp_path):
    shutil.copytree(shards, tmp_path / "shards")
    assert len(open_catalogue("shards").split("train")) == 4
    spoil(tmp_path / "shards/index")
    done = script("train.py", "--data", "shards", "--out", "run", *SMALL, code=2)
    refused(done, "shards: shards without a whole index", "run the same python -m data.pack again")
    assert not Path("run").exists() and not Path("executed").exists()


@pytest.mark.parametrize("make_so", [os.mkfifo, os.mkdir], ids=["a pipe", "a folder"])
def test_a_shard_that_is_no_ordinary_file_is_refused(make_so, shards, script, tmp_path):
    shutil.copytree(shards, tmp_path / "shards")
    (tmp_path / "shards/train-000000.tar").unlink()
    make_so(tmp_path / "shards/train-000000.tar")
    refused(script("train.py", "--data", "shards", *SMALL, code=2), "train-000000.tar: not an ordinary file")


def test_two_dots_in_a_name_are_no_fault_of_an_index(tmp_path, monkeypatch):
    monkeypatch.setattr("catalogues.index.SMALLEST", 1)
    aliproducts(tmp_path)
    (tmp_path / "train.json").write_bytes(listing(*(entry(n, 4) for n in ("a..jpg", "...", "b.", ".c", "..d"))))
    (tmp_path / "val.json").unlink()
    first = list(open_catalogue(tmp_path).split("train").paths)
    monkeypatch.setattr(
        "catalogues.formats.FORMATS", [format._replace(read=None) for format in FORMATS]
    )  # reading anew fails
    assert list(open_catalogue(tmp_path).split("train").paths) == first
