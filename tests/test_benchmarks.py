"""What benchmarks/run.py writes and compares, without timing anything."""

import pytest
from conftest import write_aliproducts, write_photograph
from PIL import Image

import train
from benchmarks.run import Contender, Row, compare, gpu_rows, write_photographs
from common.command_line import parse
from common.errors import InputError
from control import STEPS, arguments_of, control_settings
from control import main as control_main
from report_page.markdown import marks, write_between


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


def test_without_a_gpu_its_rows_have_no_contenders(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert all(row.ours is row.theirs is None for row in gpu_rows("photographs"))


def test_both_contenders_work_on_the_same_photographs_in_turn(tmp_path):
    for number in range(4):
        write_photograph(tmp_path / f"train/class{number % 2}/{number}.jpg", number, (300, 280))
    folder = str(tmp_path)
    pairs, peaks = compare(
        Row("", "", "", "", ["our_photographs", folder], ["torchvision_photographs", folder, "pil"]), repeats=2
    )
    assert len(pairs) == 2 and all(rate > 0 for pair in pairs for rate in pair)
    assert all(0.05 < peak < 24 for peak in peaks), "GB"


def test_a_contender_that_cannot_start_is_named():
    with pytest.raises(InputError, match="our_photographs /nowhere has failed"):
        Contender(["our_photographs", "/nowhere"], threads=1)


def control(tmp_path, *arguments) -> dict:
    """What control.py would have train.py do: its settings, as train.py itself reads them."""
    name, *words = map(str, arguments)
    module = STEPS[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", [name, *words])
        args = parse(module.arguments(), module.recipe)
        patch.setattr("sys.argv", ["train.py", *arguments_of(train.arguments(), control_settings(module, args))])
        return vars(parse(train.arguments(), train.recipe)), vars(args)


def test_a_control_is_the_step_in_all_but_its_method(script, tmp_path):
    root = write_aliproducts(tmp_path / "catalogue", counts=(9, 6, 3))
    small = ("--data", root, "--resize", 64, "--crop", 64, "--batch-size", 4, "--no-autoaugment", "--warmup", 0.25)
    script("train.py", "--arch", "resnet18", "--weights", "none", "--epochs", 1, "--workers", 0, *small)
    start = ("--init", "runs/resnet18/best.pt")
    differ = {
        "train.py --loss accuracy": {"loss", "out"},
        "train.py": {"out", "balanced", "epochs", "decay_at", "warmup"},
        "finetune_dcl.py": {"out"},
        "train_lio.py": {"out", "epochs", "decay_at", "warmup"},
    }
    for step, expected in differ.items():
        name, *words = step.split()
        own = ["--arch", "resnet18"] if name != "finetune_dcl.py" else ["--grid", 2]
        given = (*words, *own, *start, "--balanced", 4, "--epochs", 3, "--decay-at", "1.5,2", "--lr", 0.03, *small)
        plain, args = control(tmp_path, name, *given)
        assert {key for key in plain.keys() & args.keys() if plain[key] != args[key]} == expected, step
        assert plain["loss"] == "cross-entropy" and plain["out"] == args["out"] + "-control"
        if name == "train_lio.py":  # four photographs a group
            assert plain["epochs"] == 12 and plain["decay_at"] == [6, 8] and plain["warmup"] == 1
        if step == "train.py":  # 11 of the 18 photographs, three times: at least as many of all
            assert (
                plain["balanced"] == 0
                and plain["epochs"] == 2
                and plain["decay_at"] == pytest.approx([1, 4 / 3], abs=1e-5)
            )
    plain, _ = control(tmp_path, "finetune_dcl.py", *start, *small, "--grid", 2, "--accumulate", 4)
    assert plain["accumulate"] == 2  # as many images at once: there are no copies


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nothing.py"], "nothing.py: expected one of train.py"),
        (["train.py", "--arch", "resnet18"], "train.py has a control only with --balanced N --init FILE"),
        (["finetune_dcl.py", "--resume"], "--resume: name the folder of the control"),
    ],
)
def test_what_has_no_control_is_said(arguments, complaint, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["control.py", *arguments])
    with pytest.raises(InputError, match=complaint):
        control_main()
