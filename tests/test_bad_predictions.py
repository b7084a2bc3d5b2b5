"""Strangers' prediction files: each is read, or refused with exit code 2 and one line that names it."""

import io
import json
import os
import pickle
import struct
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from bad_input import (
    DEEP,
    HUGE,
    Make,
    Payload,
    make,
    refused,
    zipped,
)

from common.errors import one_line
from predictions.reading import PredictionInfo
from predictions.writer import write_predictions

IMAGES, CLASSES, K = 6, 5, 2


ROWS = np.random.default_rng(0).dirichlet(np.ones(CLASSES), IMAGES).astype(np.float32)


def predictions(path: Path, top_k: int | None = None) -> None:
    ids, names = [f"{n}.jpg" for n in range(IMAGES)], [f"class {n}" for n in range(CLASSES)]
    info = PredictionInfo("val", "net", [n % CLASSES for n in range(IMAGES)], ids, names, top_k=top_k)
    with write_predictions(path, info, "float32") as writer:
        writer.append(ROWS)


def array(rows: np.ndarray) -> Make:
    return lambda path: np.save(path, rows, allow_pickle=True)


def changed(place: tuple, value: float) -> Make:
    rows = ROWS.copy()
    rows[place] = value
    return array(rows)


def header(text: str) -> Make:
    """A .npy file whose header is this source, with as many bytes behind it as the rows have."""
    start = b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode()
    return lambda path: path.write_bytes(start + ROWS.tobytes())


def described(shape: str = f"({IMAGES}, {CLASSES})", descr: str = "'<f4'", order: str = "False") -> Make:
    return header(f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n")


def cut(share: float) -> Make:
    def make(path: Path) -> None:
        data = path.read_bytes()
        path.write_bytes(data[: int(share * len(data))])

    return make


def about(**changes) -> Make:
    """Its JSON, with these changes; ... leaves a key out."""

    def make(path: Path) -> None:
        now = json.loads(path.with_suffix(".json").read_text()) | changes
        path.with_suffix(".json").write_text(json.dumps({key: value for key, value in now.items() if value != ...}))

    return make


def json_is(data: bytes) -> Make:
    return lambda path: path.with_suffix(".json").write_bytes(data)


def members(compressed: bool = False, also: dict[str, bytes] | None = None, **changes: np.ndarray | str | None) -> Make:
    """The zip file with other arrays, or under other names, and with more in it."""

    def make(path: Path) -> None:
        with np.load(path) as file:
            arrays = dict(file)
        kept = {}
        for name, value in arrays.items():
            new = changes.get(name, value)
            kept[new if isinstance(new, str) else name] = value if isinstance(new, str) else new
        with warnings.catch_warnings(), zipfile.ZipFile(path, "w", 8 if compressed else 0) as archive:
            warnings.simplefilter("ignore")  # a name twice
            for name, value in kept.items():
                file = io.BytesIO()
                np.save(file, value, allow_pickle=True)
                archive.writestr(f"{name}.npy", file.getvalue())
            for name, data in (also or {}).items():
                archive.writestr(name, data)

    return make


PAYLOAD = np.array([[Payload()] * CLASSES] * IMAGES, object)


# what is wrong with x.npy: (how it is made so, what the complaint says)
FULL: dict[str, tuple[Make, str]] = {
    **{f"cut off at {share:.0%}": (cut(share), "damaged") for share in (0, 0.03, 0.2, 0.5, 0.8, 0.99)},
    "bytes behind": (lambda path: path.write_bytes(path.read_bytes() + b"x"), "cut off or damaged"),
    "text": (lambda path: path.write_text("<html>"), "not a numpy .npy file"),
    "a zip file": (lambda path: path.write_bytes(zipped()), "not a numpy .npy file"),
    "a pickle": (lambda path: path.write_bytes(pickle.dumps(Payload())), "not a numpy .npy file"),
    "pickled objects": (array(PAYLOAD), "pickled Python objects, which are never loaded"),
    "pickled objects in a record": (described(descr="[('a', '|O')]"), "pickled Python objects"),
    "a header that is code": (header("{'descr': open('executed', 'w'), 'shape': ()}\n"), "not a numpy .npy file"),
    "a header that imports": (header("__import__('os').system('touch executed')\n"), "not a numpy .npy file"),
    "a header 9,000 deep": (header("(" * 9000 + ")" * 9000), "not a numpy .npy file"),
    "a huge shape": (described(shape=f"({HUGE}, {HUGE})"), "its JSON tells of"),
    "a shape below 0": (described(shape=f"(-{IMAGES}, -{CLASSES})"), "its JSON tells of"),
    "a shape of Python 2": (described(shape="(6L, 6L)"), "its JSON tells of"),
    "another shape": (array(ROWS[:, :-1]), "shape (6, 4), but its JSON tells of (6, 5)"),
    "one dimension": (array(ROWS.ravel()), "its JSON tells of"),
    "whole numbers": (array(np.eye(IMAGES, CLASSES, dtype=np.int64)), "holds int64, expected float16"),
    "complex numbers": (array(ROWS.astype(np.complex64)), "holds complex64"),
    "text in cells": (described(descr="'<U1'"), "expected float16"),
    "a type of a gigabyte": (described(descr="'|V1000000000'"), "expected float16"),
    "Fortran's order": (array(np.asfortranarray(ROWS)), "Fortran order"),
    "NaN": (changed((3, 2), np.nan), "'3.jpg' has a probability that is not a finite number"),
    "infinity": (changed((3, 2), np.inf), "'3.jpg' has a probability that is not a finite number"),
    "a negative probability": (changed((3,), [1.5, -0.5, 0, 0, 0]), "'3.jpg' has a negative probability (-0.5)"),
    "a sum above 1": (changed((3,), 0.5), "'3.jpg' has probabilities with sum 2.5 instead of 1"),
    "a sum of 0": (changed((5,), 0), "'5.jpg' has probabilities with sum 0 instead of 1"),
    "float64 beyond float32": (array(np.where(ROWS.max() == ROWS, 1e300, ROWS.astype(float))), "not a finite number"),
    "ids in another order": (
        about(image_ids=[f"{n}.jpg" for n in range(IMAGES)][::-1]),
        "image_ids at place 0",
    ),
    "other ids": (about(image_ids=[f"{n}.png" for n in range(IMAGES)]), "image_ids at place 0 '0.png'"),
    "labels in another order": (about(labels=[n % CLASSES for n in range(IMAGES)][::-1]), "labels at place 1 4"),
    "no labels": (about(labels=None), "labels None instead of a list of 6"),
    "classes in another order": (about(class_names=[f"class {n}" for n in range(CLASSES)][::-1]), "class_names at"),
    "another split": (about(split="test"), "split 'test' instead of 'val'"),
    "an id twice": (about(image_ids=["0.jpg"] * IMAGES), "key 'image_ids' names '0.jpg' twice"),
    "half a character in an id": (about(image_ids=["\ud800", *"12345"]), "key 'image_ids' is not"),
    "half a character in a class": (about(class_names=["\udfff", *"1234"]), "key 'class_names' is not"),
    "half a character in a class id": (about(class_ids=["\ud800", *"1234"]), "key 'class_ids' is not"),
    "the next format": (about(format=2), "key 'format' is not 1 (a newer file needs a newer version"),
    "no format": (about(format=...), "key 'format' is missing"),
    "no ids": (about(image_ids=...), "key 'image_ids' is missing"),
    "ids that are numbers": (about(image_ids=list(range(IMAGES))), "key 'image_ids' is not a list of strings"),
    "ids that are one text": (about(image_ids="012345"), "key 'image_ids' is not a list of strings"),
    "no classes": (about(class_names=[]), "key 'class_names' is an empty list"),
    "labels outside the classes": (about(labels=[CLASSES] * IMAGES), "'labels' names class 5 of only 5"),
    "labels below 0": (about(labels=[-1] * IMAGES), "key 'labels' is not a list of class indices"),
    "labels that are true": (about(labels=[True] * IMAGES), "key 'labels' is not a list of class indices"),
    "labels that are NaN": (about(labels=[float("nan")] * IMAGES), "key 'labels' is not a list of class indices"),
    "too few labels": (about(labels=[0]), "key 'labels' has 1 entries instead of 6"),
    "an error of NaN": (about(top1_error=float("nan")), "key 'top1_error' is not a fraction"),
    "an infinite weight": (about(weights=[float("inf")]), "key 'weights' is not a list of numbers"),
    "top_k": (about(top_k=2), "its JSON tells of top_k 2: it is about another file"),
    "no JSON": (lambda path: path.with_suffix(".json").unlink(), "x.json: no such file"),
    "an empty JSON": (json_is(b""), "x.json: not valid JSON"),
    "half a JSON": (json_is(b'{"format": 1, "split"'), "x.json: not valid JSON"),
    "a JSON that is a list": (json_is(b"[]"), "x.json: expected an object"),
    "a JSON that is an array's bytes": (json_is(ROWS.tobytes()), "x.json: not valid JSON"),
    "a JSON 10,000 deep": (json_is(b"[" * DEEP + b"]" * DEEP), "x.json: not valid JSON"),
    "a pipe": (lambda path: (path.unlink(), os.mkfifo(path)), "x.npy: cannot be read (not an ordinary file)"),
}


TOP: dict[str, tuple[Make, str]] = {
    **{f"cut off at {share:.0%}": (cut(share), "damaged") for share in (0, 0.1, 0.5, 0.9, 0.99)},
    "text": (lambda path: path.write_text("PK\3\4"), "not a numpy .npz file"),
    "pickled objects": (members(rest=PAYLOAD[:, 0]), "pickled Python objects, which are never loaded"),
    "a zip bomb": (members(True, {"bomb.npy": bytes(10**7)}), "is compressed"),
    "an array too many": (members(also={"bomb.npy": b""}), "holds bomb, indices"),
    "an array above the folder": (members(rest="../rest"), "holds ../rest"),
    "an absolute array": (members(rest="/tmp/rest"), "holds /tmp/rest"),
    "an array twice": (members(also={"rest.npy": b"\0" * 200}), "holds rest twice"),
    "an array twice, by another name": (members(also={"rest": b"\0" * 200}), "holds rest twice"),
    "3,000 arrays": (members(also={f"{n:099}": b"" for n in range(3000)}), "expected indices"),
    "another shape": (members(rest=ROWS[:, :2]), "rest has shape (6, 2), but its JSON tells of (6,)"),
    "another k": (about(top_k=3), "indices has shape (6, 2), but its JSON tells of (6, 3)"),
    "as many as there are classes": (about(top_k=CLASSES), "top_k 5 of 5 classes"),
    "a huge k": (about(top_k=HUGE), f"top_k {HUGE} of 5 classes"),
    "no top_k": (about(top_k=None), "its JSON tells of top_k None"),
    "signed indices": (members(indices=np.zeros((IMAGES, K), np.int16)), "indices holds int16"),
    "a class outside": (members(indices=np.full((IMAGES, K), 9, np.uint16)), "'0.jpg' has a class of 5 or more"),
    "a class twice": (members(indices=np.zeros((IMAGES, K), np.uint16)), "'0.jpg' has a class twice"),
    "NaN": (members(rest=np.full(IMAGES, np.nan, np.float32)), "'0.jpg' has a negative probability or one that"),
    "infinity": (members(rest=np.full(IMAGES, np.inf, np.float32)), "'0.jpg' has a negative probability or one that"),
    "a negative rest": (members(rest=np.full(IMAGES, -1, np.float32)), "'0.jpg' has a negative probability"),
    "ascending": (members(probabilities=np.tile(np.float32([0.1, 0.2]), (IMAGES, 1))), "that do not descend"),
    "a sum above 1": (members(rest=np.full(IMAGES, 0.99, np.float32)), "with a sum other than 1"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("name", "spoil", "complaint"),
    [pytest.param("x.npy", *case, id=f"all classes: {what}") for what, case in FULL.items()]
    + [pytest.param("x.npz", *case, id=f"top k: {what}") for what, case in TOP.items()],
)
def test_a_prediction_file_is_refused_in_one_line_and_nothing_is_written(name, spoil, complaint, script, tmp_path):
    predictions(tmp_path / "preds/first.npy")
    predictions(tmp_path / "preds" / name, K if name == "x.npz" else None)
    make(tmp_path / "ensembles")
    spoil(tmp_path / "preds" / name)
    before = sorted(tmp_path.rglob("*"))
    outputs = ("--out", "ensembles/x.npy", "--submission", "s.csv", "--uncertain", "u.txt")
    refused(script("ensemble.py", "preds/first.npy", f"preds/{name}", *outputs, code=2), "preds/x.", complaint)
    assert sorted(tmp_path.rglob("*")) == before  # nor has anything been executed


@pytest.mark.parametrize("what", ["pickled objects", "cut off at 50%", "NaN", "no JSON", "a pipe"])
@pytest.mark.parametrize("name", ["tricks/pseudo_label.py", "report.py"])
def test_other_readers_of_predictions_refuse_them_too(name, what, script, tmp_path):
    predictions(tmp_path / "preds/x.npy")
    about(split="test")(tmp_path / "preds/x.npy")
    FULL[what][0](tmp_path / "preds/x.npy")
    before = sorted(tmp_path.rglob("*"))
    refused(script(name, *["preds/x.npy"] * (name == "tricks/pseudo_label.py"), code=2), "preds/x.")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: np.save(path, ROWS.astype(">f4")),
        lambda path: np.save(path, ROWS.astype(">f8")),
        lambda path: path.with_suffix(".json").write_bytes(b"\xef\xbb\xbf" + path.with_suffix(".json").read_bytes()),
    ],
    ids=["bytes swapped", "float64 with bytes swapped", "a byte-order mark"],
)
def test_what_is_unusual_but_right_is_read_right(spoil, script, tmp_path):
    predictions(tmp_path / "preds/x.npy")
    spoil(tmp_path / "preds/x.npy")
    script("ensemble.py", "preds/x.npy", "--out", "ensembles/x.npy", "--dtype", "float32")
    assert np.array_equal(np.load("ensembles/x.npy"), ROWS)


def test_a_table_of_results_is_no_way_to_the_terminal(script, tmp_path):
    predictions(tmp_path / "preds/x\033[2J-dcl.npy")
    about(split="val\033[2J\n")(tmp_path / "preds/x\033[2J-dcl.npy")
    shown = script("report.py").stdout
    assert "\033" not in shown and shown.count("\\x1b[2J") == 2 and "\nother " in shown
    about(mean_class_error=None)(tmp_path / "preds/x\033[2J-dcl.npy")  # as if it had no labels
    assert "\nother " not in script("report.py").stdout


def test_ids_and_names_of_members_with_new_lines_stay_on_theirs(script, tmp_path):
    predictions(tmp_path / "preds/x\n\033[2J.npz", K)
    ids = ["a\nb.jpg", *(f"{n}.jpg" for n in range(1, IMAGES))]
    flat = members(rest=np.full(IMAGES, 0.6, np.float32), probabilities=np.full((IMAGES, K), 0.2, np.float32))
    flat(tmp_path / "preds/x\n\033[2J.npz")
    about(image_ids=ids, labels=[0] * IMAGES)(tmp_path / "preds/x\n\033[2J.npz")
    done = script("ensemble.py", "preds/x\n\033[2J.npz", "--uncertain", "u.txt")
    assert Path("u.txt").read_text() == "".join(f"{one_line(image)}\n" for image in ids)
    assert "\033" not in done.stdout and "preds/x\\n\\x1b[2J.npz" in done.stdout


def test_one_long_id_does_not_give_every_id_as_much_room(script, tmp_path):
    predictions(tmp_path / "preds/x.npy")
    ids = ["x" * 2**20, *(f"{n}.jpg" for n in range(1, IMAGES))]
    about(split="test", image_ids=ids, unreadable=["1.jpg"])(tmp_path / "preds/x.npy")
    tracemalloc.start()
    script("tricks/pseudo_label.py", "preds/x.npy", "--threshold", 0)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 4 * 2**20 * IMAGES, "numpy's text has four bytes a letter, and the longest's letters for all"
    assert len(Path("pseudo_labels.csv").read_text().splitlines()) == 1 + IMAGES - 1
