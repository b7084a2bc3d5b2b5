"""A prediction that is stopped, killed or runs out of disk goes on to the very file it would have written."""

import errno
import json
import multiprocessing
import os
import random
import resource
import signal
import time
import zipfile

import numpy as np
import pytest
from test_training import damage, train

from common.errors import InputError
from inference import Classifier
from predictions.format import PredictionInfo
from predictions.parts import NewPart
from predictions.reading import open_member
from predictions.writer import fingerprint, join_predictions, write_predictions

IMAGES, CLASSES, BATCH = 200, 40, 7
KINDS = pytest.mark.parametrize(("name", "top_k"), [("a.npy", None), ("a.npz", 3)])
ROWS = np.random.default_rng(0).dirichlet(np.full(CLASSES, 0.1), IMAGES)


def some_info(top_k):
    labels = [place % CLASSES for place in range(IMAGES)]
    names = [f"class {place}" for place in range(CLASSES)]
    return PredictionInfo("val", "net", labels, [f"{place}.jpg" for place in range(IMAGES)], names, top_k=top_k)


def write(path, top_k, rows=None, pause=0.0, stop=IMAGES, save_every=0.0, **settings):
    """As predict.py does, a batch at a time from where it stopped on to `stop`; every tenth is unreadable."""
    info = some_info(top_k)
    made_with = fingerprint(info, batch_size=BATCH, **settings)
    with write_predictions(path, info, rows=rows, made_with=made_with, save_every=save_every) as writer:
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
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def parts(folder, name):
    """The starts of the part files."""
    return sorted(int(path.name.removeprefix("part-")) for path in (folder / f".{name}.parts").glob("part-*"))


@pytest.fixture
def whole(tmp_path, request):
    """The files of a prediction that was never stopped."""
    name, top_k = request.node.callspec.params["name"], request.node.callspec.params["top_k"]
    write(tmp_path / "whole" / name, top_k)
    files = contents(tmp_path / "whole")
    assert sorted(files) == ["a.json", name], "no part is left"
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


def flip(path):
    """Changes a bit of the first rows of a part."""
    raw = bytearray(path.read_bytes())
    raw[100] ^= 1
    path.write_bytes(raw)


def rewrite(path, about=None, rows=None, name="rows"):
    """Writes another content into a part, with the right checksums."""
    with zipfile.ZipFile(path) as old:
        about, rows = json.dumps(about) if about else old.read("about.json"), rows or old.read("rows")
    with zipfile.ZipFile(path, "w") as new:
        new.writestr(name, rows)
        new.writestr("about.json", about)


@KINDS
@pytest.mark.parametrize(
    "damage_part",
    [
        flip,
        lambda path: os.truncate(path, 100),
        lambda path: os.truncate(path, 0),
        lambda path: path.write_bytes(path.with_name("part-0").read_bytes()[:-1]),
        lambda path: path.unlink(),
        lambda path: rewrite(path, about={"rows": "7", "made_with": {}, "unreadable": []}),
        lambda path: rewrite(path, about=[1]),
        lambda path: rewrite(path, rows=b"too few"),
        lambda path: rewrite(path, name="foreign"),
    ],
    ids=["a changed bit", "cut off", "empty", "without its end", "gone", "text", "a list", "too few rows", "foreign"],
)
def test_a_damaged_part_and_those_after_it_are_made_anew(tmp_path, whole, name, top_k, damage_part, capsys):
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "again" / name, top_k, stop=10 * BATCH)
    assert parts(tmp_path / "again", name) == list(range(0, 10 * BATCH, BATCH))
    place = tmp_path / f"again/.{name}.parts/part-{4 * BATCH}"
    damage_part(place)
    gone = not place.exists()
    assert write(tmp_path / "again" / name, top_k) == 4 * BATCH
    note = capsys.readouterr().err
    assert gone or (f"part-{4 * BATCH}, left by an interrupted run, is made anew: it is damaged" in note)
    assert note.count("\n") == (not gone)
    assert contents(tmp_path / "again") == whole


@KINDS
def test_a_part_that_is_damaged_after_the_start_is_noticed_when_all_are_joined(tmp_path, whole, name, top_k):
    path, info = tmp_path / "joined" / name, some_info(top_k)
    made_with = fingerprint(info, batch_size=BATCH)
    write(path, top_k, range(0, 100))
    write(path, top_k, range(100, 200))
    flip(tmp_path / f"joined/.{name}.parts/part-107")
    with pytest.raises(InputError, match="part-107: is damaged; run the same command again"):
        join_predictions(path, info, [range(0, 100), range(100, 200)], made_with=made_with)
    assert sorted(file for file in contents(tmp_path / "joined") if "/" not in file) == []
    write(path, top_k, range(100, 200))
    join_predictions(path, info, [range(0, 100), range(100, 200)], made_with=made_with)
    assert contents(tmp_path / "joined") == whole


@KINDS
def test_a_run_of_another_number_of_processes_goes_on_with_the_parts(tmp_path, whole, name, top_k):
    path, info = tmp_path / "several" / name, some_info(top_k)
    made_with = fingerprint(info, batch_size=BATCH)
    write(path, top_k, range(0, 70))
    write(path, top_k, range(140, 200))
    assert write(path, top_k, range(0, 105)) == 70
    assert write(path, top_k, range(105, 200)) == 105, "what is after a gap is made anew"
    join_predictions(path, info, [range(0, 105), range(105, 200)], made_with=made_with)
    assert contents(tmp_path / "several") == whole
    with pytest.raises(KeyboardInterrupt):
        write(path, top_k, stop=70, save_every=3600)
    assert parts(tmp_path / "several", name) == [0]
    assert write(path, top_k, range(0, 35)) == 0, "the part is longer than the range"
    write(path, top_k, range(35, 200))
    join_predictions(path, info, [range(0, 35), range(35, 200)], made_with=made_with)
    assert contents(tmp_path / "several") == whole


@KINDS
def test_parts_are_ended_by_their_size_or_by_the_clock(tmp_path, whole, name, top_k, monkeypatch):
    row = 40 * 2 if top_k is None else 3 * 4 + 4
    monkeypatch.setattr("predictions.writer.PART_BYTES", 3 * BATCH * row)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "a" / name, top_k, stop=10 * BATCH, save_every=3600)
    assert parts(tmp_path / "a", name) == [0, 21, 42, 63]
    assert write(tmp_path / "a" / name, top_k, save_every=3600) == 70
    assert contents(tmp_path / "a") == whole


@KINDS
def test_parts_that_several_processes_write_are_joined_to_the_same_bytes(tmp_path, whole, name, top_k):
    parts = [range(0, 70), range(70, 77), range(77, 200)]
    path, made_with = tmp_path / "parts" / name, fingerprint(some_info(top_k), batch_size=BATCH)
    for rows in (parts[2], parts[0]):
        write(path, top_k, rows)
    with pytest.raises(InputError, match=rf"{name}: 0 of 7 rows from photograph 70 on; run the same command"):
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
@pytest.mark.parametrize("made_with", [True, False])
def test_a_disk_that_is_full_within_a_part_costs_that_part_alone(tmp_path, whole, name, top_k, made_with, monkeypatch):
    path, info = tmp_path / "full" / name, some_info(top_k)
    monkeypatch.setattr("predictions.writer.PART_BYTES", 1200)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1300, hard))
    try:
        with pytest.raises(InputError, match=rf"{name}: cannot be written \(File too large\)"):
            if made_with:
                write(path, top_k, save_every=3600)
            else:
                with write_predictions(path, info) as writer:
                    for start in range(0, IMAGES, BATCH):
                        writer.append(ROWS[start : start + BATCH])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    if made_with:
        write(path, top_k, save_every=3600)
        assert contents(tmp_path / "full") == whole
    else:
        assert not list((tmp_path / "full").iterdir())


@KINDS
def test_of_a_batch_that_was_half_written_nothing_is_left(tmp_path, whole, name, top_k, monkeypatch, capsys):
    append = NewPart.append

    def append_half(part, rows, unreadable):
        if part.rows == 2 * BATCH:
            part._entry.write(rows.tobytes()[:9])
            raise OSError(errno.ENOSPC, "No space left on device")
        append(part, rows, unreadable)

    with monkeypatch.context() as patch:
        patch.setattr(NewPart, "append", append_half)
        with pytest.raises(InputError, match=rf"{name}: cannot be written \(No space left"):
            write(tmp_path / "full" / name, top_k, save_every=3600)
    assert parts(tmp_path / "full", name) == []
    assert write(tmp_path / "full" / name, top_k) == 0 and capsys.readouterr().err == ""
    assert contents(tmp_path / "full") == whole


@KINDS
def test_parts_made_otherwise_are_made_anew_and_told(tmp_path, whole, name, top_k, capsys):
    folder = tmp_path / "other"
    for change, reason in [
        (lambda: None, "it has crop_of_the_day 224, not 192"),
        (lambda: flip(folder / f".{name}.parts/part-0"), "it is damaged"),
        (lambda: os.truncate(folder / f".{name}.parts/part-0", 10), "it is damaged"),
    ]:
        settings = {"crop_of_the_day": 224} if "crop" in reason else {}
        with pytest.raises(KeyboardInterrupt):
            write(folder / name, top_k, stop=70, **settings)
        change()
        capsys.readouterr()
        settings = {"crop_of_the_day": 192} if "crop" in reason else {}
        assert write(folder / name, top_k, **settings) == 0
        assert reason in (err := capsys.readouterr().err) and err.count("\n") == 1
        assert contents(folder) == whole


def test_an_older_file_stays_until_the_new_one_is_whole(tmp_path):
    write(tmp_path / "a.npy", None)
    before = contents(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "a.npy", None, stop=70, crop=3)
    assert {path: raw for path, raw in contents(tmp_path).items() if not path.startswith(".")} == before
    with pytest.raises(InputError), write_predictions(tmp_path / "a.npy", some_info(None)) as writer:
        writer.append(np.full((1, CLASSES), np.nan))
    assert contents(tmp_path) == before


def test_a_second_process_is_refused_and_harms_nothing(tmp_path):
    info = some_info(None)
    made_with = fingerprint(info, batch_size=BATCH)
    with write_predictions(tmp_path / "a.npy", info, made_with=made_with) as writer:
        writer.append(ROWS[:70])
        for rows in (None, range(0, 7), range(190, 200)):
            with pytest.raises(InputError, match="another process is writing it"):
                write(tmp_path / "a.npy", None, rows)
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
    assert sorted(contents(tmp_path / "parts")) == [f".{name}.parts/lock-0-6", f".{name}.parts/part-0"]
    with zipfile.ZipFile(tmp_path / f"parts/.{name}.parts/part-0") as part:
        assert json.loads(part.read("about.json"))["unreadable"] == ["val4_0.jpg"]
    resumed = script(*command, f"parts/{name}")
    assert "going on at photograph 4 of 6" in resumed.stderr and batches == [[0, 1], [2, 3], [4, 5]]
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    assert open_member(tmp_path / "parts" / name).info.unreadable == ["val4_0.jpg"]
