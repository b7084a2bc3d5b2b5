"""What benchmarks/run.py writes and compares, without timing anything."""

import pytest
from conftest import write_photograph
from PIL import Image

from benchmarks.run import Row, Side, compare, gpu_rows, write_photographs
from engine.report.markdown import marks, write_between
from errors import InputError


def test_the_table_takes_the_place_of_the_older_one_and_nothing_else(tmp_path):
    path, (first, last) = tmp_path / "RESULTS.md", marks("speed", "a command")
    path.write_text(f"before\n{first}\nold\n{last}\nafter\n")
    for text in ("first", "second"):
        write_between("speed", "a command", text, path)
        assert path.read_text() == f"before\n{first}\n{text}\n{last}\nafter\n"
    for content in ("no marks", f"{first}\n", f"{first}{last}{first}", f"{last}{first}"):
        path.write_text(content)
        with pytest.raises(InputError, match="once each"):
            write_between("speed", "a command", "text", path)
        assert path.read_text() == content
    with pytest.raises(InputError, match="cannot be read"):
        write_between("speed", "a command", "text", tmp_path / "nowhere.md")


def test_photographs_of_the_right_size_are_taken_as_they_are_and_others_are_resized(tmp_path):
    for number, size in enumerate([(40, 40), (50, 30)]):
        write_photograph(tmp_path / f"catalogue/train/class{number}/{number}.jpg", number, size)
    out = write_photographs(str(tmp_path / "catalogue"), 40, tmp_path / "out", 2)
    written = [path.read_bytes() for path in sorted((tmp_path / "out/train").glob("*/*.jpg"))]
    assert (tmp_path / "catalogue/train/class0/0.jpg").read_bytes() in written and out == str(tmp_path / "out")
    assert {Image.open(path).size for path in (tmp_path / "out/train").glob("*/*.jpg")} == {(40, 40)}


def test_without_a_gpu_its_rows_have_no_sides(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert all(row.ours is row.theirs is None for row in gpu_rows("photographs"))


def test_both_sides_work_on_the_same_photographs_in_turn(tmp_path):
    for number in range(4):
        write_photograph(tmp_path / f"train/class{number % 2}/{number}.jpg", number, (300, 280))
    folder = str(tmp_path)
    pairs = compare(
        Row("", "", "", "", ["our_photographs", folder], ["torchvision_photographs", folder, "pil"]), repeats=2
    )
    assert len(pairs) == 2 and all(rate > 0 for pair in pairs for rate in pair)


def test_a_side_that_cannot_begin_is_named():
    with pytest.raises(InputError, match="our_photographs /nowhere has failed"):
        Side(["our_photographs", "/nowhere"], threads=1)
