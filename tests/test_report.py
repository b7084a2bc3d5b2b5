"""The table: every figure is that of a prediction file, every step has its line."""

import numpy as np
import pytest

from engine.prediction_writer import write_predictions
from engine.predictions import PredictionInfo

LABELS = [0, 1, 2, 2]


@pytest.fixture
def results(tmp_path):
    """Predictions of which the first `wrong` of four photographs are wrong, as reproduce_paper.sh lays them out."""

    def write(name: str, wrong: int, labels=LABELS, **facts) -> None:
        rows = np.eye(3)[LABELS]
        rows[:wrong] = np.roll(rows[:wrong], 1, axis=1)
        info = PredictionInfo("val", "resnet18", labels, list("abcd"), ["x", "y", "z"], **facts)
        with write_predictions(tmp_path / name, info) as file:
            file.append(rows)

    write("preds/base/resnet18.npy", 3)
    write("preds/resnet18-balanced.npy", 2)
    write("preds/resnet18-dcl.npy", 1)
    write("preds/resnet50-dcl.npy", 4)
    write("ensembles/all.npy", 0, members=["a", "b"])
    return write


def lines(script, *arguments) -> list[list[str]]:
    """The table, cells split at two blanks or more."""
    output = script("report.py", *arguments).stdout.split("\n\n")[0]
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in output.splitlines()[1:]]


def test_every_step_has_its_line_and_every_member_its_errors(script, results):
    assert lines(script) == [
        ["1", "whole set", "20 to 25 %", "resnet18", "75.00 %", "83.33 %"],
        ["1b", "balanced", "9 to 12 %", "resnet18-balanced", "50.00 %", "66.67 %"],
        ["2", "DCL", "1 to 2 points better", "resnet18-dcl", "25.00 %", "33.33 %"],
        ["resnet50-dcl", "100.00 %", "100.00 %"],
        ["3", "LIO", "(not told)", "-"],
        ["4", "accuracy loss", "0.2 to 0.5 points better", "-"],
        ["4.1 ensemble", "6.27 %", "sum of 2", "0.00 %", "0.00 %"],
    ]


def test_a_split_without_labels_has_no_errors(script, results):
    results("preds/resnet18-balanced.npy", 0, labels=None)
    assert any(line[-2:] == ["resnet18-balanced", "no labels"] for line in lines(script))


def test_without_an_ensemble_the_rest_is_shown(script, results):
    output = script("report.py", "--ensemble", "nowhere.npy").stdout
    assert "ensemble" not in output and "resnet18-dcl" in output


def test_a_folder_without_predictions_is_named(script, tmp_path):
    assert (
        "elsewhere: holds no predictions; run predict.py" in script("report.py", "--preds", "elsewhere", code=2).stderr
    )
