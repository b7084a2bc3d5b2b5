"""Files of the k most probable classes: what they hold, what is refused, and what an ensemble of them proves."""

import csv
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ensemble
from common.errors import InputError
from predictions import ensemble_sum
from predictions.format import PredictionInfo
from predictions.reading import open_member
from predictions.top_k import keep_top
from predictions.writer import write_predictions

IMAGES, CLASSES, K = 12, 9, 3


def info(images=IMAGES, classes=CLASSES, **changes):
    about = PredictionInfo(
        "test", "net", None, [f"{n}.jpg" for n in range(images)], [f"class {n}" for n in range(classes)]
    )
    return replace(about, **changes)


def write(path, rows, dtype="float16", top_k=None):
    with write_predictions(path, info(*rows.shape, top_k=top_k), dtype) as writer:
        writer.append(rows)
    return path


def some_rows(images=IMAGES, classes=CLASSES, seed=0):
    return np.random.default_rng(seed).dirichlet(np.full(classes, 0.3), images)


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "a.npz", some_rows(), top_k=K)


# distributions that are hard: a few values that many classes share, peaks, tails, zeros
LEVELS = [0, 0, 2**-24, 3 * 2**-24, 1e-5, 1e-3, 0.1, 0.1, 0.3, 1, 1, 8]


def hard_rows(rng, images, classes):
    rows = rng.choice(LEVELS, (images, classes)) + 1e-9
    peaked = rng.random(images) < 0.4
    rows[peaked, rng.integers(classes, size=peaked.sum())] += 30
    heavy = rng.random(images) < 0.4
    rows[heavy] = np.exp(4 * rng.standard_normal((heavy.sum(), classes)))
    return rows / rows.sum(axis=1, keepdims=True)


# what is kept ------------------------------------------------------------------------------------------------------


def slow_top(row, k):
    """The k most probable of one row of stored numbers, and the sum of the others, exactly."""
    order = sorted(range(len(row)), key=lambda label: (-row[label], label))
    return order[:k], sum(int(row[label] * 2**40) for label in order[k:]) / 2**40


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 8), st.sampled_from(["float16", "float32"]))
def test_the_most_probable_are_kept_and_the_rest_is_a_close_upper_bound(seed, k, dtype):
    rows = hard_rows(np.random.default_rng(seed), 6, CLASSES).astype(dtype)
    rows[0, 0] *= -0.0 if rows[0, 0] == 0 else 1
    for row, record in zip(rows.astype(float), keep_top(rows, k), strict=True):
        indices, rest = slow_top(row, k)
        assert record["indices"].tolist() == indices
        assert record["probabilities"].tolist() == row[indices].tolist()
        assert rest <= record["rest"] <= rest * (1 + 3e-7) + 1e-11


def test_the_file_is_an_ordinary_npz_and_its_json_tells_k(file):
    stored, about = np.load(file), open_member(file).info
    assert {name: (stored[name].dtype.str, stored[name].shape) for name in stored} == {
        "indices": ("<u2", (IMAGES, K)),
        "probabilities": ("<f2", (IMAGES, K)),
        "rest": ("<f4", (IMAGES,)),
    }
    assert about.top_k == json.loads(file.with_suffix(".json").read_text())["top_k"] == K


@pytest.mark.parametrize(("classes", "type_"), [(2**16, np.uint16), (2**16 + 1, np.uint32)])
def test_the_last_class_fits_its_type(tmp_path, classes, type_):
    rows = np.zeros((2, classes))
    rows[:, -1] = 1
    stored = np.load(write(tmp_path / "a.npz", rows, top_k=2))["indices"]
    assert stored.dtype == type_ and stored.tolist() == [[classes - 1, 0]] * 2


def test_rows_are_read_anywhere_with_the_rest_spread_evenly(tmp_path, file):
    stored = np.load(file)
    expected = np.empty((IMAGES, CLASSES), np.float32)
    for n in range(IMAGES):
        expected[n] = stored["rest"][n] / (CLASSES - K)
        expected[n, stored["indices"][n]] = stored["probabilities"][n]
    member = open_member(file)
    np.testing.assert_allclose(member.rows(0, IMAGES), expected, rtol=1e-6)
    np.testing.assert_allclose(member.rows(4, 6), expected[4:6], rtol=1e-6)
    np.testing.assert_allclose(member.take(np.array([7, 2, 7])), expected[[7, 2, 7]], rtol=1e-6)


def test_a_file_that_numpy_wrote_is_read_too(file):
    stored = dict(np.load(file))
    expected = open_member(file).rows(0, IMAGES)
    stored["indices"], stored["rest"] = stored["indices"].astype(">u4"), stored["rest"].astype(">f4")
    np.savez(file, **stored)
    np.testing.assert_array_equal(open_member(file).rows(0, IMAGES), expected)


# what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "place", "value", "fault"),
    [
        ("indices", (5, 1), CLASSES, "a class of 9 or more"),
        ("indices", (5, slice(None)), [4, 2, 4], "a class twice"),
        ("probabilities", (5, 0), np.nan, "not a finite number"),
        ("probabilities", (5, 2), -0.1, "negative"),
        ("rest", 5, -0.1, "negative"),
        ("rest", 5, np.inf, "not a finite number"),
        ("probabilities", (5, slice(None)), [0.2, 0.3, 0.1], "do not descend"),
        ("rest", 5, 1.5, "a sum other than 1"),
    ],
)
def test_a_row_that_cannot_be_is_refused_by_the_id_of_its_photograph(file, name, place, value, fault):
    stored = dict(np.load(file))
    stored[name][place] = value
    np.savez(file, **stored)
    member = open_member(file)
    member.top(0, 5)
    for read in (lambda: member.rows(2, 8), lambda: member.take(np.array([1, 5]))):
        with pytest.raises(InputError, match=rf"a\.npz: photograph '5\.jpg' has .*{fault}"):
            read()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda a: a | {"rest": a["rest"][:-1]}, "rest has shape"),
        (lambda a: a | {"indices": a["indices"][:, :2]}, "indices has shape"),
        (lambda a: a | {"indices": a["indices"].astype(int)}, "indices holds int64, expected uint16 or uint32"),
        (lambda a: a | {"probabilities": a["probabilities"].astype(float)}, "probabilities holds float64"),
        (lambda a: a | {"probabilities": np.asfortranarray(a["probabilities"])}, "Fortran order"),
        (lambda a: a | {"more": a["rest"]}, "holds indices, more, probabilities, rest; expected"),
        (lambda a: {"rest": a["rest"]}, "holds rest; expected"),
        (lambda a: a | {"rest": np.array([{}] * IMAGES, object)}, "pickled Python objects, which are never loaded"),
    ],
)
def test_arrays_of_another_kind_are_refused(file, change, fault):
    np.savez(file, **change(dict(np.load(file))))
    with pytest.raises(InputError, match=rf"a\.npz: .*{fault}"):
        open_member(file)


def test_a_compressed_file_is_refused_with_the_remedy(file):
    np.savez_compressed(file, **dict(np.load(file)))
    with pytest.raises(InputError, match=r"a\.npz: is compressed, .* save it with numpy\.savez"):
        open_member(file)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_damaged_file_is_refused_in_one_line_or_read_as_distributions(tmp_path_factory, data):
    file = write(tmp_path_factory.mktemp("damaged") / "a.npz", some_rows(), top_k=K)
    raw = bytearray(file.read_bytes())
    if data.draw(st.booleans()):
        raw = raw[: data.draw(st.integers(0, len(raw) - 1))]
    else:
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    file.write_bytes(raw)
    try:
        rows = open_member(file).rows(0, IMAGES)
    except InputError as refusal:
        assert "\n" not in str(refusal)
    else:
        assert rows.min() >= 0 and np.abs(rows.sum(axis=1) - 1).max() < 0.02


@pytest.mark.parametrize(("name", "top_k"), [("a.npy", None), ("a.npz", K)])
def test_the_json_of_the_other_kind_is_refused(tmp_path, name, top_k):
    file = write(tmp_path / name, some_rows(), top_k=top_k)
    other = file.with_suffix(".npz" if name == "a.npy" else ".npy")
    file.rename(other)
    with pytest.raises(InputError, match=r"its JSON tells of top_k"):
        open_member(other)


@pytest.mark.parametrize(
    ("name", "top_k", "fault"),
    [
        ("b.npy", K, "expected a name that ends in .npz"),
        ("b.npz", None, "expected a name that ends in .npy"),
        ("b.npz", CLASSES, "--top-k 9: expected 1 to 8"),
        ("a.npy", None, r"a\.npz: lies there already and needs a\.json too"),
    ],
)
def test_what_cannot_be_written_is_refused_at_once(file, name, top_k, fault):
    with pytest.raises(InputError, match=fault):
        write(file.with_name(name), some_rows(), top_k=top_k)
    assert sorted(path.name for path in file.parent.iterdir()) == ["a.json", "a.npz"]


# the ensemble ------------------------------------------------------------------------------------------------------


def add(members, folder, *options):
    """Runs ensemble.py: (n, K) of --out, the predicted classes, and the ids that --uncertain lists."""
    names = {option: str(folder / f"out/{option}") for option in ("all.npy", "submission.csv", "uncertain.txt")}
    outputs = [part for option, name in zip(("--out", "--submission", "--uncertain"), names.values(), strict=True)
               for part in (option, name)]  # fmt: skip
    ensemble.main([*map(str, members), "--dtype=float32", *outputs, *options])
    with open(names["submission.csv"], newline="") as table:
        predicted = [int(row["predicted"].removeprefix("class ")) for row in csv.DictReader(table)]
    return np.load(names["all.npy"]), np.array(predicted), Path(names["uncertain.txt"]).read_text().split()


@settings(deadline=None, max_examples=60)
@given(st.data(), st.integers(0, 10**6), st.sampled_from(["float16", "float32"]))
def test_every_winner_that_is_certain_is_the_winner_of_the_full_files(tmp_path_factory, data, seed, dtype):
    folder, rng = tmp_path_factory.mktemp("mix"), np.random.default_rng(seed)
    images, classes = 40, data.draw(st.integers(3, 12))
    tops = data.draw(st.lists(st.integers(0, classes - 1), min_size=1, max_size=4))  # 0: all classes
    weights = data.draw(st.lists(st.integers(1, 5), min_size=len(tops), max_size=len(tops)))
    full = [hard_rows(rng, images, classes).astype(dtype) for _ in tops]
    for rows in full[1:]:  # members agree as often as real ones, and tie
        same = rng.random(images) < 0.3
        rows[same] = full[0][same]
    members = [
        write(folder / f"{n}{'.npz' if k else '.npy'}", rows, dtype, k or None)
        for n, (rows, k) in enumerate(zip(full, tops, strict=True))
    ]
    mean, predicted, uncertain = add(members, folder, "--weights", ",".join(map(str, weights)))

    # the estimate: a photograph and a class at a time
    scaled = np.float32(np.array(weights) / max(weights)).astype(float)
    exact, estimate = np.zeros((2, images, classes))
    for rows, k, weight in zip(full, tops, scaled, strict=True):
        for n, row in enumerate(rows.astype(float)):
            kept, rest = slow_top(row, k or classes)
            exact[n] += weight * row
            for label in range(classes):
                estimate[n, label] += weight * (row[label] if label in kept else rest / (classes - k))
    np.testing.assert_allclose(mean, estimate / scaled.sum(), rtol=0, atol=1e-6)

    certain = ~np.isin([f"{n}.jpg" for n in range(images)], uncertain)
    assert (predicted[certain] == exact.argmax(axis=1)[certain]).all()
    if not any(tops):
        assert certain.all() and (predicted == exact.argmax(axis=1)).all()


def certain_share(folder, rows, k, capsys):
    members = [write(folder / f"{n}.npz", member, top_k=k) for n, member in enumerate(rows)]
    ensemble.main([str(member) for member in members])
    text = capsys.readouterr().out
    return float(text.split("the winner of ")[1].split("%")[0]) / 100, text


def test_with_all_classes_but_one_nearly_all_is_certain_and_with_one_peaks_alone(tmp_path, capsys):
    rows = [some_rows(300, 20, seed) for seed in range(4)]
    assert certain_share(tmp_path / "19", rows, 19, capsys)[0] > 0.99
    few = certain_share(tmp_path / "1", rows, 1, capsys)[0]
    assert few < certain_share(tmp_path / "5", rows, 5, capsys)[0] < 0.99
    peaked = [0.9 * np.eye(20)[np.arange(300) % 20] + 0.1 * member for member in rows]
    assert certain_share(tmp_path / "peaked", peaked, 1, capsys)[0] == 1


def test_the_uncertain_are_counted_and_the_flag_is_named(tmp_path, capsys):
    rows = np.array([[0.6, 0.2, 0.2], [0.4, 0.3, 0.3], [0.35, 0.33, 0.32], [0.4, 0.4, 0.2]])
    members = [write(tmp_path / "a.npz", rows, top_k=1), write(tmp_path / "b.npz", rows[:, ::-1], top_k=1)]
    ensemble.main([str(members[0])])
    assert "the winner of 25.00% of the photographs is certain" in (text := capsys.readouterr().out)
    assert "3 may differ; --uncertain FILE.txt lists them" in text
    assert add(members, tmp_path)[2] == [f"{n}.jpg" for n in range(4)]
    with pytest.raises(InputError, match=r"--uncertain .*a\.npz: expected a name that ends in \.txt"):
        ensemble.main(["--uncertain", str(members[0]), str(members[1])])


# the compiled kernel -----------------------------------------------------------------------------------------------


@pytest.fixture
def kernel(monkeypatch):
    monkeypatch.setattr(ensemble_sum, "FEW_CELLS", 0)


def every_float16():
    """Rows that hold every float16 from 0 to 1 once, each with what makes it a distribution."""
    values = np.arange(ensemble_sum.ONE + 1, dtype=np.uint16).view(np.float16)
    return np.stack([values, 1 - values.astype(np.float32)], axis=1).astype(np.float16)


@pytest.mark.parametrize("weight", [1.0, np.float64(np.float32(1 / 3))])
def test_the_kernel_adds_every_float16_to_the_bits_that_numpy_gives(tmp_path, weight):
    members = [open_member(write(tmp_path / "a.npy", every_float16())) for _ in range(2)]
    weights = np.array([1.0, weight])
    fast, plain = (
        ensemble_sum.add_members(members, weights, 3, 15000, kernel) for kernel in (ensemble_sum.load_kernel(), None)
    )
    for one, other in zip(fast, plain, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.25, 9, 0, 1.004, -0.0])
def test_the_kernel_leaves_to_numpy_what_is_no_probability(tmp_path, kernel, value):
    file = write(tmp_path / "a.npy", some_rows())
    rows = np.load(file)
    rows[7] = 0 if value in (0, 1.004) else rows[7]
    rows[7, 2] = value
    np.save(file, rows)
    member, compiled = open_member(file), ensemble_sum.load_kernel()
    try:
        expected = ensemble_sum.add_members([member], np.ones(1), 0, IMAGES)
    except InputError as refusal:
        with pytest.raises(InputError) as fast:
            ensemble_sum.add_members([member], np.ones(1), 0, IMAGES, compiled)
        assert str(fast.value) == str(refusal)
    else:
        for one, other in zip(
            ensemble_sum.add_members([member], np.ones(1), 0, IMAGES, compiled), expected, strict=True
        ):
            np.testing.assert_array_equal(one, other)


def test_without_a_folder_for_what_is_compiled_the_kernel_works_all_the_same(tmp_path, monkeypatch):
    from numba.core.caching import FunctionCache

    def nowhere(*_):
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(FunctionCache, "__init__", nowhere)
    ensemble_sum.load_kernel.cache_clear()
    total, sums = np.zeros((1, 2)), np.zeros(1, np.float32)
    ensemble_sum.load_kernel()(np.array([[0.25, 0.75]], np.float16).view(np.uint16), 2.0, total, sums)
    assert (total.tolist(), sums.tolist()) == ([[0.5, 1.5]], [1])


def test_pieces_come_in_order_and_not_all_at_once():
    begun = []

    def begin(item):
        begun.append(item)
        return item * item

    results = ensemble_sum.in_order(begin, range(1000))
    assert [next(results) for _ in range(3)] == [(0, 0), (1, 1), (2, 4)]
    assert len(begun) < 100
    assert [item for item, _ in results] == list(range(3, 1000))


def test_zip_members_lie_where_the_reader_looks_even_behind_long_headers(file):
    raw = dict(np.load(file))
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in raw.items():
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.extra = b"\xfe\xca\x10\x00" + bytes(16)
            with archive.open(entry, "w") as column:
                np.lib.format.write_array(column, array)
    assert open_member(file).top(2, 4).indices.tolist() == raw["indices"][2:4].tolist()


# what reads such files ---------------------------------------------------------------------------------------------


def test_pseudo_labels_come_from_the_most_probable_classes_as_from_all(script, tmp_path):
    for name, top_k in (("full.npy", None), ("top.npz", 1)):
        write(tmp_path / name, some_rows(50), top_k=top_k)
        script("tricks/pseudo_label.py", name, "--threshold", 0.5, "--out", f"{name}.csv")
    assert (tmp_path / "full.npy.csv").read_text() == (tmp_path / "top.npz.csv").read_text()


def test_a_full_file_is_cut_to_what_predict_py_would_have_written(tmp_path):
    from benchmarks.scale import cut_to_top

    full = write(tmp_path / "full.npy", some_rows(250))
    write(tmp_path / "top.npz", some_rows(250), top_k=K)
    assert cut_to_top(full, tmp_path / "cut.npz", K).read_bytes() == (tmp_path / "top.npz").read_bytes()
