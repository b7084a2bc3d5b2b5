"""What a prediction file promises: whole or absent, read by rows, and refused by name where it is wrong."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score

from common.errors import InputError
from common.files import atomic_write
from predictions.metrics import mean_class_error, top1_error
from predictions.reading import PredictionInfo, open_member, open_members
from predictions.writer import write_predictions

IMAGES, CLASSES = 12, 5


def some_info(images=IMAGES, classes=CLASSES, **changes):
    info = PredictionInfo(
        split="val",
        arch="resnet50",
        labels=[place % classes for place in range(images)],
        image_ids=[f"{place}.jpg" for place in range(images)],
        class_names=[f"class {place}" for place in range(classes)],
        checkpoint="0123abcd",
        crop=224,
        crops=10,
    )
    return replace(info, **changes)


def some_rows(images=IMAGES, classes=CLASSES, seed=0):
    return np.random.default_rng(seed).dirichlet(np.ones(classes), images).astype(np.float32)


def write(path, rows=None, info=None, dtype="float16"):
    with write_predictions(path, info or some_info(), dtype) as writer:
        writer.append(some_rows() if rows is None else rows)
    return path


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "preds" / "resnet50.npy")


def edit_json(file, **changes):
    description = file.with_suffix(".json")
    description.write_text(json.dumps(json.loads(description.read_text()) | changes))


# ------------------------------------------------------------------------------------------------- metrics


def slow_errors(predicted, labels):
    wrong = [p != t for p, t in zip(predicted, labels, strict=True)]
    by_class = [[w for w, t in zip(wrong, labels, strict=True) if t == label] for label in sorted(set(labels))]
    return sum(wrong) / len(wrong), sum(sum(row) / len(row) for row in by_class) / len(by_class)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=40))
def test_errors_equal_a_count_by_hand(pairs):
    predicted, labels = (list(column) for column in zip(*pairs, strict=True))
    expected = slow_errors(predicted, labels)
    assert (top1_error(predicted, labels), mean_class_error(predicted, labels)) == pytest.approx(expected, abs=1e-12)


def test_mean_class_error_is_one_minus_the_balanced_accuracy_of_scikit_learn():
    rng = np.random.default_rng(1)
    labels = rng.zipf(1.5, 3000) % 90
    predicted = np.where(rng.random(3000) < 0.6, labels, rng.permutation(labels))
    expected = 1 - balanced_accuracy_score(labels, predicted)
    assert mean_class_error(predicted, labels) == pytest.approx(expected, abs=1e-12)


@pytest.mark.filterwarnings("error")
def test_a_predicted_class_without_photographs_counts_as_an_error_and_nothing_else():
    assert mean_class_error(np.array([9, 9, 0, 1]), np.array([0, 0, 0, 1])) == pytest.approx(1 / 3)


def test_a_small_class_counts_as_much_as_a_large_one():
    labels = np.array([0] * 99 + [1])
    predicted = np.zeros(100, dtype=int)
    assert top1_error(predicted, labels) == 0.01
    assert mean_class_error(predicted, labels) == 0.5


@pytest.mark.parametrize("predicted", [np.zeros(3, int), np.zeros((4, 1), int)])
def test_metrics_refuse_what_would_be_broadcast(predicted):
    for metric in (top1_error, mean_class_error):
        with pytest.raises(ValueError, match="shapes"):
            metric(predicted, np.zeros(4, int))


# ---------------------------------------------------------------------------------------------- atomic_write


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_the_old_file_stays_and_nothing_else_when_the_body_raises(tmp_path, failure):
    target = tmp_path / "file.bin"
    target.write_bytes(b"old")
    with pytest.raises(failure), atomic_write(target) as file:
        file.write(b"new")
        raise failure
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file.bin"]


def test_a_new_file_replaces_the_old_one_with_ordinary_permissions(tmp_path):
    target, ordinary = tmp_path / "new folder" / "file.txt", tmp_path / "ordinary.txt"
    ordinary.write_text("")
    for text in ("old", "newer"):
        with atomic_write(target, "w") as file:
            file.write(text)
    assert target.read_text() == "newer"
    assert target.stat().st_mode == ordinary.stat().st_mode


def test_until_the_end_only_a_hidden_name_exists(tmp_path):
    with atomic_write(tmp_path / "file.npy") as file:
        file.write(b"half")
        file.flush()
        assert list(tmp_path.glob("[!.]*")) == []


def test_a_link_is_followed(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "file.bin")
    with atomic_write(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk" / "file.bin").read_bytes() == b"new"


@pytest.mark.parametrize("name", ["a file/below/it", "x" * 300, ".", "/dev/null"])
def test_a_place_that_cannot_be_written_is_named(tmp_path, name):
    (tmp_path / "a file").touch()
    with pytest.raises(InputError, match=r"cannot be written \(|not an ordinary file"), atomic_write(tmp_path / name):
        pass
    assert os.listdir(tmp_path) == ["a file"]


def test_a_full_disk_is_named_even_when_torch_save_hides_it(tmp_path, monkeypatch):
    full_disk = pytest.raises(InputError, match=r"net\.pt: cannot be written \(No space left")
    with open("/dev/full", "wb", buffering=0) as full, full_disk, atomic_write(tmp_path / "net.pt") as file:
        monkeypatch.setattr(file, "write", full.write)
        torch.save({"weight": torch.zeros(1000)}, file)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_named_and_another_file_s_fault_is_left_alone(tmp_path):
    full_disk = pytest.raises(InputError, match=r"file\.bin: cannot be written \(No space left")
    with full_disk, atomic_write(tmp_path / "file.bin"), open("/dev/full", "wb", buffering=0) as full:
        full.write(b"x")
    with pytest.raises(FileNotFoundError, match="elsewhere"), atomic_write(tmp_path / "file.bin"):
        (tmp_path / "elsewhere").read_bytes()


# --------------------------------------------------------------------------------------- writing and reading


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_what_was_appended_in_pieces_is_what_numpy_and_member_read(tmp_path, dtype):
    rows = some_rows()
    with write_predictions(tmp_path / "a.npy", some_info(), dtype) as writer:
        for start, stop in [(0, 1), (1, 8), (8, IMAGES)]:
            writer.append(rows[start:stop])
    stored = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert stored.dtype == dtype
    np.testing.assert_array_equal(stored, rows.astype(dtype))
    member = open_member(tmp_path / "a.npy")
    for start, stop in [(0, IMAGES), (3, 4), (IMAGES - 1, IMAGES)]:
        read = member.rows(start, stop)
        assert read.dtype == np.float32
        np.testing.assert_array_equal(read, stored[start:stop].astype(np.float32))


def test_the_json_tells_what_was_written_and_the_errors_of_what_is_stored(tmp_path):
    info = some_info(class_ids=[17, "a", 3, 4, 5], unreadable=["3.jpg"])
    member = open_member(write(tmp_path / "a.npy", info=info))
    assert member.info == info
    predicted = np.load(tmp_path / "a.npy").argmax(axis=1)
    assert (info.top1_error, info.mean_class_error) == pytest.approx(slow_errors(predicted, info.labels))


def test_a_split_without_labels_has_no_errors(tmp_path):
    info = open_member(write(tmp_path / "a.npy", info=some_info(labels=None))).info
    assert (info.labels, info.top1_error, info.mean_class_error) == (None, None, None)


def test_file_names_that_are_not_utf_8_survive(tmp_path):
    ids = [os.fsdecode(b"\xff.jpg"), *some_info().image_ids[1:]]
    assert open_member(write(tmp_path / "a.npy", info=some_info(image_ids=ids))).info.image_ids == ids


@pytest.mark.parametrize("failure", ["body", "too few rows"])
def test_an_unfinished_file_leaves_the_older_pair_whole(file, failure):
    before = {path: path.read_bytes() for path in file.parent.iterdir()}
    with pytest.raises((KeyboardInterrupt, ValueError)), write_predictions(file, some_info(arch="new")) as writer:
        writer.append(some_rows()[:3])
        if failure == "body":
            raise KeyboardInterrupt
    assert {path: path.read_bytes() for path in file.parent.iterdir()} == before


def test_between_the_two_renames_the_json_is_missing_rather_than_of_the_older_file(file, monkeypatch):
    replaced, rename = [], os.replace

    def stop_after_the_first(source, target):
        if target.name.startswith("part-"):
            return rename(source, target)
        replaced.append(target)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop_after_the_first)
    with pytest.raises(KeyboardInterrupt):
        write(file)
    assert replaced == [file]
    with pytest.raises(InputError, match=r"resnet50\.json: no such file"):
        open_member(file)


def test_rows_that_do_not_fit_are_a_bug_of_the_caller(tmp_path):
    for rows in (some_rows(IMAGES + 1), some_rows(classes=CLASSES + 1)):
        with pytest.raises(ValueError, match="do not fit"):
            write(tmp_path / "a.npy", rows)


def test_a_diverged_network_is_refused_when_it_is_written(tmp_path):
    rows = some_rows()
    rows[4] = np.nan
    with pytest.raises(InputError, match=r"a\.npy: photograph '4\.jpg' has a probability that is not a finite"):
        write(tmp_path / "a.npy", rows)
    assert not list(tmp_path.iterdir())


def test_float16_is_exact_enough_for_50030_classes(tmp_path):
    classes = 50_030
    flat = np.full((1, classes), 1 / classes, np.float32)
    worst = np.full((1, classes), 1.49 * 2**-24, np.float32)  # every entry is rounded down by nearly a third
    worst[0, 0] = 1 - worst[0, 1:].sum()
    info = some_info(2, classes, labels=None)
    member = open_member(write(tmp_path / "a.npy", np.concatenate([flat, worst]), info))
    assert member.rows(0, 2).sum(axis=1) == pytest.approx([1, 1], abs=2e-3)


# ---------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (np.nan, "not a finite number"),
        (np.inf, "not a finite number"),
        (-0.25, r"a negative probability \(-0.25\)"),
        (9, "with sum"),
        (0, "with sum 0 instead of 1"),
    ],
)
def test_a_bad_row_is_refused_by_the_id_of_its_photograph(file, value, fault):
    rows = np.load(file)
    rows[[7, 9]] = value if value in (9, 0) else rows[[7, 9]]
    rows[[7, 9], 2] = value
    np.save(file, rows)
    member = open_member(file)
    member.rows(0, 7)
    with pytest.raises(InputError, match=rf"resnet50\.npy: photograph '7\.jpg' has .*{fault}"):
        member.rows(2, IMAGES)


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickled_object_array_is_refused_and_never_executed(file, tmp_path):
    np.save(file, np.array([[Payload(tmp_path / "owned")]], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="pickled Python objects, which are never loaded"):
        open_member(file)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("cut", [-1, 130, 20, 5, 0])
def test_a_truncated_file_is_refused(file, cut):
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(InputError, match=r"resnet50\.npy: .*(cut off|damaged)"):
        open_member(file)


def test_a_file_that_shrinks_while_it_is_read_is_refused(file):
    member = open_member(file)
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(InputError, match="became shorter"):
        member.rows(IMAGES - 1, IMAGES)


@pytest.mark.parametrize(
    ("array", "fault"),
    [
        (np.full((IMAGES, CLASSES - 1), 0.25), rf"shape \({IMAGES}, {CLASSES - 1}\), but its JSON tells of"),
        (np.full((IMAGES + 1, CLASSES), 0.2), "but its JSON tells of"),
        (np.full(IMAGES, 0.2), "but its JSON tells of"),
        (np.full((IMAGES, CLASSES, 1), 0.2), "but its JSON tells of"),
        (np.ones((IMAGES, CLASSES), int), "holds int64, expected float16"),
        (np.ones((IMAGES, CLASSES), np.longdouble), "holds float128, expected float16"),
        (np.asfortranarray(some_rows()), "numpy.ascontiguousarray"),
    ],
)
def test_an_array_of_the_wrong_shape_type_or_order_is_refused(file, array, fault):
    np.save(file, array)
    with pytest.raises(InputError, match=fault):
        open_member(file)


@pytest.mark.parametrize("dtype", [">f2", ">f4", ">f8"])
def test_swapped_bytes_are_read_right(file, dtype):
    np.save(file, some_rows().astype(dtype))
    np.testing.assert_array_equal(open_member(file).rows(2, 5), some_rows().astype(dtype)[2:5].astype(np.float32))


@settings(deadline=None)
@given(st.binary(max_size=80), st.booleans())
def test_any_bytes_are_refused_in_one_line(tmp_path_factory, content, as_header):
    file = write(tmp_path_factory.mktemp("any") / "a.npy")
    header = b"\x93NUMPY\x01\x00" + len(content).to_bytes(2, "little")
    file.write_bytes(header + content if as_header else content)
    with pytest.raises(InputError) as refusal:
        open_member(file)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("header", [b"{[]: 1}", b"(" * 9000, b"{'descr': 1, 'fortran_order': 0, 'shape': ()}", b"\x00"])
def test_a_malformed_header_is_refused(file, header):
    file.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(InputError, match=r"not a numpy \.npy file"):
        open_member(file)


def test_a_file_of_another_name_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"a\.csv: expected the name of a prediction file, NAME\.npy"):
        open_member(tmp_path / "a.csv")


@pytest.mark.parametrize("missing", [".npy", ".json"])
def test_half_a_pair_is_refused_with_the_remedy(file, missing):
    file.with_suffix(missing).unlink()
    with pytest.raises(InputError, match=rf"resnet50\{missing}: no such file; run predict\.py first"):
        open_member(file)


@pytest.mark.parametrize("suffix", [".npy", ".json"])
def test_a_folder_is_refused(file, suffix):
    file.with_suffix(suffix).unlink()
    file.with_suffix(suffix).mkdir()
    with pytest.raises(InputError, match=rf"resnet50\{suffix}: cannot be read \(not an ordinary file\)"):
        open_member(file)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"format": None},
        {"split": 3},
        {"arch": None},
        {"labels": "cat"},
        {"labels": [True] * IMAGES},
        {"labels": [-1] * IMAGES},
        {"labels": [CLASSES] * IMAGES},
        {"labels": [0] * (IMAGES - 1)},
        {"image_ids": "0.jpg"},
        {"image_ids": [1] * IMAGES},
        {"image_ids": []},
        {"class_names": None},
        {"class_names": []},
        {"class_ids": [1, 2]},
        {"class_ids": [1.5] * CLASSES},
        {"checkpoint": 7},
        {"crop": "224"},
        {"crops": 0},
        {"crops": True},
        {"crops": "\ud800"},
        {"labels": "\ud800"},
        {"top1_error": "\udcff"},
        {"format": "\ud800"},
        {"format": True},
        {"format": [1]},
        {"image_ids": {"0.jpg": 1}},
        {"unreadable": None},
        {"members": "a.npy"},
        {"weights": [-1.0]},
        {"top1_error": 12},
        {"mean_class_error": float("nan")},
    ],
)
def test_a_malformed_value_in_the_json_is_refused_by_file_and_key(file, changes):
    edit_json(file, **changes)
    with pytest.raises(InputError, match=rf"resnet50\.json: key '{next(iter(changes))}'"):
        open_member(file)


@pytest.mark.parametrize("key", ["format", "split", "arch", "labels", "image_ids", "class_names"])
def test_a_missing_key_is_refused(file, key):
    description = file.with_suffix(".json")
    content = json.loads(description.read_text())
    del content[key]
    description.write_text(json.dumps(content))
    with pytest.raises(InputError, match=rf"resnet50\.json: key '{key}' is missing"):
        open_member(file)


def test_six_keys_are_enough_for_a_file_made_elsewhere(tmp_path):
    np.save(tmp_path / "a.npy", some_rows())
    keys = ("split", "arch", "labels", "image_ids", "class_names")
    content = {"format": 1, "theirs": "ignored"} | {key: getattr(some_info(), key) for key in keys}
    (tmp_path / "a.json").write_text(json.dumps(content))
    np.testing.assert_array_equal(open_member(tmp_path / "a.npy").rows(0, IMAGES), some_rows())


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b"null", b"\xff", b"[" * 100_000])
def test_what_is_not_a_json_object_is_refused(file, text):
    file.with_suffix(".json").write_bytes(text)
    with pytest.raises(InputError, match=r"resnet50\.json: (not valid JSON|expected an object)"):
        open_member(file)


# ------------------------------------------------------------------------------------------- several files


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"split": "test"}, "split 'test' instead of 'val'"),
        ({"image_ids": [*some_info().image_ids[:-1], "other.jpg"]}, "image_ids at place 11 'other.jpg' instead of"),
        ({"class_names": some_info().class_names[::-1]}, "class_names at place 0 'class 4' instead of 'class 0'"),
        ({"class_ids": [1, 2, 3, 4, 5]}, "class_ids a list of 5 instead of None"),
        ({"labels": None}, "labels None instead of a list of 12"),
    ],
)
def test_a_file_about_something_else_is_refused_with_the_first_difference(file, changes, fault):
    other = write(file.with_name("other.npy"), info=some_info(**changes))
    with pytest.raises(InputError, match=rf"other\.npy: {fault}.* in .*resnet50\.npy"):
        open_members([file, other])


def test_a_file_about_fewer_photographs_is_refused_with_both_counts(file):
    other = write(file.with_name("other.npy"), some_rows(9), some_info(9))
    with pytest.raises(InputError, match=r"other\.npy: image_ids count 9 instead of 12"):
        open_members([file, other])


def test_the_same_file_is_not_taken_twice_even_through_a_link(file):
    link = file.with_name("link.npy")
    link.symlink_to(file)
    for twice in ([file, file], [file, link]):
        with pytest.raises(InputError, match="given twice"):
            open_members(twice)


def test_members_share_the_lists_of_the_first(file):
    first, second = open_members([file, write(file.with_name("other.npy"))])
    assert second.info.image_ids is first.info.image_ids
    assert second.info.labels is first.info.labels
