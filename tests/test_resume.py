"""A prediction that is stopped, killed or runs out of disk goes on to the very file it would have written."""

import json
import multiprocessing
import os
import random
import resource
import signal
import time

import numpy as np
import pytest
from test_training import damage, train

from common.errors import InputError
from inference import Classifier
from predictions.format import PredictionInfo
from predictions.reading import open_member
from predictions.writer import fingerprint, join_predictions, write_predictions

IMAGES, CLASSES, BATCH = 200, 40, 7
KINDS = pytest.mark.parametrize(("name", "top_k"), [("a.npy", None), ("a.npz", 3)])
ROWS = np.random.default_rng(0).dirichlet(np.full(CLASSES, 0.1), IMAGES)


def some_info(top_k):
    labels = [place % CLASSES for place in range(IMAGES)]
    names = [f"class {place}" for place in range(CLASSES)]
    return PredictionInfo("val", "net", labels, [f"{place}.jpg" for place in range(IMAGES)], names, top_k=top_k)


def write(path, top_k, rows=None, pause=0.0, stop=IMAGES, **settings):
    """As predict.py does, a batch at a time from where it stopped on to `stop`; every tenth is unreadable."""
    info = some_info(top_k)
    made_with = fingerprint(info, batch_size=BATCH, **settings)
    with write_predictions(path, info, rows=rows, made_with=made_with, save_every=0) as writer:
        first = writer.next
        last = min(stop, IMAGES if rows is None else rows.stop)
        for start in range(first, last, BATCH):
            places = range(start, min(start + BATCH, last))
            time.sleep(pause)
            writer.append(ROWS[places.start : places.stop], [f"{place}.jpg" for place in places if place % 10 == 0])
        if last == stop < IMAGES:
            raise KeyboardInterrupt
    return first


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def whole(tmp_path, request):
    """The files of a prediction that was never stopped."""
    name, top_k = request.node.callspec.params["name"], request.node.callspec.params["top_k"]
    write(tmp_path / "whole" / name, top_k)
    files = contents(tmp_path / "whole")
    assert sorted(files) == ["a.json", name], "no partial is left"
    return files


# the writer --------------------------------------------------------------------------------------------------------


@KINDS
def test_killed_at_any_moment_again_and_again_it_ends_in_the_same_bytes(tmp_path, whole, name, top_k):
    # 0.3 s of work in ever longer lives, so that a slow machine gets there too.
    draw, kills, fork = random.Random(0), 0, multiprocessing.get_context("fork")
    while True:
        child = fork.Process(target=write, args=(tmp_path / "killed" / name, top_k), kwargs={"pause": 0.01})
        child.start()
        child.join(draw.uniform(0, 0.05) * 1.3**kills)
        if child.exitcode is not None:
            break
        assert not (tmp_path / "killed" / "a.json").exists() or (tmp_path / "killed" / name).exists()
        child.kill()
        child.join()
        kills += 1
    assert child.exitcode == 0 and kills > 1
    assert {file: raw for file, raw in contents(tmp_path / "killed").items() if not file.endswith(".tmp")} == whole


@KINDS
def test_what_lies_behind_the_rows_that_are_vouched_for_is_cut_off(tmp_path, whole, name, top_k):
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / name, top_k, stop=10 * BATCH)
    with open(tmp_path / f".{name}.partial", "ab") as file:
        file.write(b"half a row")
    assert write(tmp_path / name, top_k) == 10 * BATCH
    assert (tmp_path / name).read_bytes() == whole[name] and (tmp_path / "a.json").read_bytes() == whole["a.json"]


@KINDS
def test_parts_that_several_processes_write_are_joined_to_the_same_bytes(tmp_path, whole, name, top_k):
    parts = [range(0, 70), range(70, 77), range(77, 200)]
    path, made_with = tmp_path / "parts" / name, fingerprint(some_info(top_k), batch_size=BATCH)
    for rows in (parts[2], parts[0]):
        write(path, top_k, rows)
    with pytest.raises(InputError, match=r"partial-70-77: 0 of 7 rows; run the same command again"):
        join_predictions(path, some_info(top_k), parts, made_with=made_with)
    assert write(path, top_k, parts[0]) == 70, "what was complete stays so"
    write(path, top_k, parts[1])
    join_predictions(path, some_info(top_k), parts, made_with=made_with)
    assert contents(tmp_path / "parts") == whole


@KINDS
def test_a_full_disk_is_named_and_when_there_is_room_again_it_goes_on(tmp_path, whole, name, top_k):
    (tmp_path / "full").mkdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))  # a write beyond is cut short, the next one fails
    try:
        with pytest.raises(InputError, match=rf"{name}: cannot be written \(File too large\)"):
            write(tmp_path / "full" / name, top_k)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "full" / name).exists()
    assert write(tmp_path / "full" / name, top_k) > 0
    assert contents(tmp_path / "full") == whole


@KINDS
def test_a_partial_made_otherwise_is_started_anew_and_told(tmp_path, whole, name, top_k, capsys):
    folder = tmp_path / "other"
    for change, told in [
        (lambda: None, "it has crop_of_the_day 224, not 192"),
        (lambda: (folder / f".{name}.partial.json").write_text("{"), "its JSON is damaged"),
        (lambda: os.truncate(folder / f".{name}.partial", 10), "it is cut off"),
    ]:
        settings = {"crop_of_the_day": 224} if "crop" in told else {}
        with pytest.raises(KeyboardInterrupt):
            write(folder / name, top_k, stop=70, **settings)
        change()
        capsys.readouterr()
        settings = {"crop_of_the_day": 192} if "crop" in told else {}
        assert write(folder / name, top_k, **settings) == 0
        assert told in (err := capsys.readouterr().err) and err.count("\n") == 1
        assert contents(folder) == whole


def test_an_older_file_stays_until_the_new_one_is_whole(tmp_path):
    write(tmp_path / "a.npy", None)
    before = contents(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "a.npy", None, stop=70, crop=3)
    assert {path: raw for path, raw in contents(tmp_path).items() if not path.startswith(".")} == before


def test_a_second_process_is_refused_and_harms_nothing(tmp_path):
    info = some_info(None)
    made_with = fingerprint(info, batch_size=BATCH)
    with write_predictions(tmp_path / "a.npy", info, made_with=made_with) as writer:
        writer.append(ROWS[:70])
        with pytest.raises(InputError, match="another process is writing it"):
            write(tmp_path / "a.npy", None)
        writer.append(ROWS[70:])
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), ROWS.astype(np.float16))


# predict.py --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "top_k", "signum"), [("a.npy", None, signal.SIGINT), ("a.npz", 1, signal.SIGTERM)])
def test_predict_py_stopped_by_a_signal_goes_on_with_the_same_command(
    script, aliproducts, tmp_path, monkeypatch, signum, name, top_k
):
    train(script, aliproducts, "run", "--epochs", 1)
    damage(aliproducts, "val4_0.jpg")
    top = ["--top-k", 1] if top_k else []
    command = ["predict.py", "run/best.pt", "--workers", 0, "--batch-size", 2, "--crops", 1, *top, "--out"]
    script(*command, f"whole/{name}")
    batches, plain = [], Classifier.rows

    def predict_two_batches(self, loader, *rest):
        for rows in plain(self, loader, *rest):
            batches.append(rows.index.tolist())
            if len(batches) == 2:
                os.kill(os.getpid(), signum)
            yield rows

    monkeypatch.setattr(Classifier, "rows", predict_two_batches)
    stopped = script(*command, f"parts/{name}", code=128 + signum)
    words = f"python predict.py run/best.pt --workers 0 --batch-size 2 --crops 1 {'--top-k 1 ' * bool(top)}--out"
    assert f"everything is saved. Go on with:\n  {words} parts/{name}\n" in stopped.stderr
    assert sorted(contents(tmp_path / "parts")) == [f".{name}.partial", f".{name}.partial.json"]
    assert json.loads((tmp_path / f"parts/.{name}.partial.json").read_text())["unreadable"] == ["val4_0.jpg"]
    resumed = script(*command, f"parts/{name}")
    assert "going on at photograph 4 of 6" in resumed.stderr and batches == [[0, 1], [2, 3], [4, 5]]
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    assert open_member(tmp_path / "parts" / name).info.unreadable == ["val4_0.jpg"]
