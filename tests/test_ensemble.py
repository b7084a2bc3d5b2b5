"""Step 4.1: the sum of probabilities, held against a slow one in float64."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ensemble
from common.errors import InputError
from predictions import ensemble_sum
from predictions.metrics import mean_class_error, top1_error
from predictions.reading import PredictionInfo, open_member
from predictions.writer import write_predictions

ROOT = Path(__file__).resolve().parent.parent
IMAGES, CLASSES, MEMBERS = 23, 7, 3


def info(images=IMAGES, classes=CLASSES, **changes):
    values = {
        "split": "val",
        "arch": "resnet50",
        "labels": [place % classes for place in range(images)],
        "image_ids": [f"{place}.jpg" for place in range(images)],
        "class_names": [f"class {place}" for place in range(classes)],
    }
    return PredictionInfo(**values | changes)


def write(path, rows, about=None):
    with write_predictions(path, about or info()) as writer:
        writer.append(rows)
    return str(path)


def random_rows(rng, images=IMAGES, classes=CLASSES):
    return rng.dirichlet(np.full(classes, 0.5), images)


def make_members(folder, seed=0, **changes):
    rng = np.random.default_rng(seed)
    return [write(folder / f"{name}.npy", random_rows(rng), info(**changes)) for name in "abc"]


@pytest.fixture
def members(tmp_path):
    return make_members(tmp_path / "preds")


def slow_mean(members, weights):
    """(n, K) in float64, a member, a photograph and a class at a time."""
    stored = [np.load(member).astype(float).tolist() for member in members]
    return np.array(
        [
            [sum(w * p for w, p in zip(weights, cell, strict=True)) / sum(weights) for cell in zip(*rows, strict=True)]
            for rows in zip(*stored, strict=True)
        ]
    )


def add(members, folder, *options):
    """Runs ensemble.py in this process: the (n, K) of --out in float32, and the column of the submission."""
    out, submission = folder / "ensembles" / "all.npy", folder / "submission.csv"
    ensemble.main([*members, "--out", str(out), "--dtype=float32", "--submission", str(submission), *options])
    with open(submission, newline="") as file:
        predicted = [row["predicted"] for row in csv.DictReader(file)]
    return np.load(out), predicted


def run_script(*arguments, cwd=ROOT):
    command = [sys.executable, str(ROOT / "ensemble.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)


# ---------------------------------------------------------------------------------------------- the sum


@pytest.mark.parametrize("weights", [(1, 1, 1), (1, 1, 2), (0.3, 0, 7)])
@pytest.mark.parametrize("rows_a_piece", [1, 4, IMAGES, 1000])
def test_the_ensemble_equals_a_slow_sum_for_every_size_of_a_piece(
    members, tmp_path, monkeypatch, weights, rows_a_piece
):
    monkeypatch.setattr(ensemble_sum, "PIECE_BYTES", rows_a_piece * ensemble_sum.CELL_BYTES * CLASSES)
    stored, predicted = add(members, tmp_path, "--weights", ",".join(map(str, weights)))
    expected = slow_mean(members, weights)
    np.testing.assert_allclose(stored, expected, rtol=0, atol=1e-7)
    assert predicted == [f"class {label}" for label in expected.argmax(axis=1)]


def test_one_row_is_read_even_where_it_exceeds_the_budget(members, tmp_path, monkeypatch):
    monkeypatch.setattr(ensemble_sum, "PIECE_BYTES", 1)
    np.testing.assert_allclose(add(members, tmp_path)[0], slow_mean(members, [1, 1, 1]), rtol=0, atol=1e-7)


def test_the_order_of_the_members_changes_nothing(members, tmp_path):
    stored, predicted = add(members, tmp_path)
    for order in ([2, 0, 1], [1, 0, 2], [2, 1, 0]):
        other, same = add([members[place] for place in order], tmp_path)
        np.testing.assert_array_equal(other, stored)
        assert same == predicted


def test_a_member_alone_is_itself(members, tmp_path):
    stored, predicted = add(members[:1], tmp_path)
    np.testing.assert_array_equal(stored, np.load(members[0]).astype(np.float32))
    assert predicted == [f"class {label}" for label in np.load(members[0]).argmax(axis=1)]


@settings(deadline=None, max_examples=50)  # a busy machine is no failure
@given(
    seed=st.integers(0, 1000),
    weights=st.lists(st.integers(0, 9), min_size=MEMBERS, max_size=MEMBERS).filter(any),
    scale=st.floats(1e-6, 1e6),
)
def test_scaling_all_weights_changes_nothing(tmp_path_factory, seed, weights, scale):
    folder = tmp_path_factory.mktemp("scale")
    members = make_members(folder / "preds", seed)
    stored, predicted = add(members, folder, "--weights", ",".join(map(str, weights)))
    scaled, same = add(members, folder, "--weights", ",".join(str(weight * scale) for weight in weights))
    assert same == predicted
    np.testing.assert_allclose(scaled, stored, rtol=0, atol=1e-7)


def test_a_tie_goes_to_the_first_class_whatever_the_order_and_the_weights(tmp_path):
    rows = random_rows(np.random.default_rng(0), 200, 3)  # rolled three times, every class gets the same sum
    members = [write(tmp_path / "preds" / f"{k}.npy", np.roll(rows, k, axis=1), info(200, 3)) for k in range(3)]
    for order in ([0, 1, 2], [1, 2, 0], [2, 1, 0]):
        for weight in ("1", "0.1", "3"):
            weights = ",".join([weight] * 3)
            assert add([members[k] for k in order], tmp_path, "--weights", weights)[1] == ["class 0"] * 200


# ---------------------------------------------------------------------------------------------- what it writes


def test_the_table_names_the_errors_of_every_member_of_the_ensemble_and_the_gain(members, capsys):
    ensemble.main(members)
    labels = np.array(info().labels)
    predicted = [np.load(member).argmax(axis=1) for member in members] + [slow_mean(members, [1, 1, 1]).argmax(axis=1)]
    errors = [(100 * top1_error(row, labels), 100 * mean_class_error(row, labels)) for row in predicted]
    header, *rows, gain = capsys.readouterr().out.splitlines()
    assert header.split() == ["top-1", "error", "mean", "class", "error"]
    for row, name, (top1, mean_class) in zip(rows, [*members, "ensemble"], errors, strict=True):
        assert row.split() == [name, f"{top1:.2f}", "%", f"{mean_class:.2f}", "%"]
    best = min(range(MEMBERS), key=lambda place: errors[place][1])
    points = [single - joint for single, joint in zip(errors[best], errors[-1], strict=True)]
    assert gain == f"best single model {members[best]}; the ensemble gains {points[0]:.2f} and {points[1]:.2f} points"


def test_the_submission_has_a_row_a_photograph_in_the_order_of_the_files(tmp_path):
    ids = [f"{place * 7 % IMAGES}, “{place}”.jpg" for place in range(IMAGES)]
    members = make_members(tmp_path / "preds", image_ids=ids, class_names=[f"tea, {k}" for k in range(CLASSES)])
    add(members, tmp_path)
    expected = slow_mean(members, [1, 1, 1]).argmax(axis=1)
    with open(tmp_path / "submission.csv", encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["id", "predicted"]
    assert rows == [[image, f"tea, {label}"] for image, label in zip(ids, expected, strict=True)]


def test_the_submission_gives_class_ids_where_the_catalogue_has_them(tmp_path):
    members = make_members(tmp_path / "preds", class_ids=[100 + label for label in range(CLASSES)])
    expected = slow_mean(members, [1, 1, 1]).argmax(axis=1)
    assert add(members, tmp_path)[1] == [str(100 + label) for label in expected]


def test_the_ensemble_is_a_prediction_file_that_can_be_added_again(members, tmp_path, capsys):
    out = tmp_path / "ensembles" / "all.npy"
    ensemble.main([*members, "--weights", "2,1,1", "--out", str(out)])
    member = open_member(out)
    assert np.load(out).dtype == np.float16
    assert (member.info.arch, member.info.members, member.info.weights) == ("ensemble", members, [1, 0.5, 0.5])
    np.testing.assert_allclose(member.rows(0, IMAGES), slow_mean(members, [2, 1, 1]), rtol=0, atol=3e-4)
    np.testing.assert_allclose(member.rows(0, IMAGES).sum(axis=1), 1, atol=5e-3)
    ensemble.main([str(out), "--submission", str(tmp_path / "submission.csv")])
    assert f"{100 * member.info.top1_error:.2f} %" in capsys.readouterr().out


def test_a_split_without_labels_is_added_and_says_that_it_has_no_errors(tmp_path, capsys):
    members = make_members(tmp_path / "preds", split="test", labels=None)
    stored, _ = add(members, tmp_path)
    np.testing.assert_allclose(stored, slow_mean(members, [1, 1, 1]), rtol=0, atol=1e-7)
    assert "split 'test' has no labels" in capsys.readouterr().out
    assert open_member(tmp_path / "ensembles" / "all.npy").info.top1_error is None


def test_an_unreadable_photograph_of_one_member_is_told_once_by_the_ensemble(members, tmp_path):
    odd = write(tmp_path / "preds" / "d.npy", random_rows(np.random.default_rng(9)), info(unreadable=["3.jpg"]))
    add([*members, odd], tmp_path)
    assert open_member(tmp_path / "ensembles" / "all.npy").info.unreadable == ["3.jpg"]


def test_the_command_in_the_docstring_works_and_is_silent_on_stderr(members, tmp_path):
    done = run_script(*members, "--submission", "submission.csv", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert len((tmp_path / "submission.csv").read_text().splitlines()) == IMAGES + 1


# ---------------------------------------------------------------------------------------------- what it refuses


@pytest.mark.parametrize(
    ("weights", "fault"),
    [
        ("1,1", "2 weights for 3 members"),
        ("1,1,1,1", "4 weights for 3 members"),
        ("1,-1,1", "none negative"),
        ("0,0,0", "not all of them 0"),
        ("1,nan,1", "finite"),
        ("1,inf,1", "finite"),
        ("1,,1", "numbers with commas"),
        ("one", "numbers with commas"),
    ],
)
def test_weights_that_make_no_sense_are_refused(members, weights, fault):
    with pytest.raises(InputError, match=f"--weights {weights}: .*{fault}"):
        ensemble.main([*members, "--weights", weights])


@pytest.mark.parametrize("out", ["preds/all.npy", "preds/../preds/all.npy", "link/all.npy"])
def test_an_output_among_its_own_members_is_refused(members, tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    Path("link").symlink_to("preds")
    with pytest.raises(InputError, match=f"--out {out}: lies in the folder of a member"):
        ensemble.main([*members, "--out", out])


def test_a_member_is_never_taken_for_the_name_of_an_output(members):
    before = Path(members[0]).read_bytes()
    for option in ("--submission", "--out"):  # the name after the option was forgotten
        with pytest.raises(InputError, match=f"{option} .*a.npy: "):
            ensemble.main([option, *members])
    assert Path(members[0]).read_bytes() == before


def test_an_output_that_cannot_be_written_is_found_before_anything_is_read(members, tmp_path, monkeypatch):
    monkeypatch.setattr(ensemble_sum, "add_members", lambda *_: pytest.fail("reads members first"))
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"submission\.csv: cannot be written"):
        ensemble.main([*members, "--submission", str(tmp_path / "file" / "submission.csv")])


def test_a_bad_member_leaves_no_output_behind(members, tmp_path):
    rows = np.load(members[2])
    rows[-1] = np.nan
    np.save(members[2], rows)
    with pytest.raises(InputError, match=r"c\.npy: photograph '22\.jpg'"):
        add(members, tmp_path)
    assert not (tmp_path / "submission.csv").exists()
    assert not list((tmp_path / "ensembles").iterdir())


def pickled(members):
    np.save(members[0], np.array([[{}]], dtype=object), allow_pickle=True)
    return members


def of_another_split(members):
    return [*members, write(Path(members[0]).with_name("d.npy"), np.load(members[0]), info(split="train"))]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (lambda members: ["preds/*.npy"], "preds/*.npy: no such file; run predict.py first"),
        (lambda members: [], "NAME.npy"),
        (pickled, "never loaded"),
        (of_another_split, "d.npy: split 'train' instead of 'val'"),
        (lambda members: [*members, members[1]], "b.npy: given twice"),
    ],
    ids=["no match", "no member", "pickle", "split", "twice"],
)
def test_a_refusal_is_one_line_and_exit_code_2(members, tmp_path, arguments, fault):
    (tmp_path / "empty").mkdir()
    done = run_script(*arguments(members), cwd=tmp_path / "empty")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")
    assert fault in done.stderr


# ---------------------------------------------------------------------------------------------- memory

# Not resource.getrusage: a child's ru_maxrss starts from the size of the pytest process that forked it.
MEASURED = """
import sys, ensemble, predictions.ensemble_sum
predictions.ensemble_sum.FEW_CELLS = 0  # the compiled kernel at either size
predictions.ensemble_sum.PIECE_BYTES = 4 * 2**20
ensemble.main(sys.argv[1:])
status = open("/proc/self/status").read()
print(int(status.split("VmHWM:")[1].split()[0]) / 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from Linux's /proc")
def test_memory_does_not_grow_with_the_size_of_the_files(tmp_path):
    classes, block = 500, random_rows(np.random.default_rng(0), 4000, 500).astype(np.float32)

    def peak_mb(blocks):
        members = []
        for name in "abc":
            members.append(str(tmp_path / str(blocks) / f"{name}.npy"))
            with write_predictions(members[-1], info(4000 * blocks, classes)) as writer:
                for _ in range(blocks):
                    writer.append(block)
        command = [sys.executable, "-c", MEASURED, *members, "--out", str(tmp_path / str(blocks) / "out" / "all.npy")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
        return float(done.stdout.splitlines()[-1])

    # 40,000 rows are 38 MB a file; ids, labels and predictions take about 8 MB.
    assert peak_mb(10) - peak_mb(1) < 24
