"""What people type: every flag refuses nonsense in one line, and absurd but possible values work or say why not."""

import argparse
import errno
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_aliproducts
from test_training import SMALL

import ensemble
import export
import finetune_dcl
import predict
import report
import train
import train_lio
from common import command_line
from common.errors import InputError
from common.flags import Parser
from common.flags import Parser as ToolParser
from data import demo, duplicates, pack
from predictions.format import PredictionInfo
from predictions.writer import write_predictions
from tricks import bbn as train_bbn
from tricks import pseudo_label

# A program, and what it needs on its command line besides the flag that is looked at.
PROGRAMS = {
    "train.py": (train, []),
    "finetune_dcl.py": (finetune_dcl, ["--init", "none.pt"]),
    "train_lio.py": (train_lio, []),
    "tricks/bbn.py": (train_bbn, []),
    "predict.py": (predict, ["none.pt"]),
    "export.py": (export, ["none.pt"]),
    "ensemble.py": (ensemble, ["none.npy"]),
    "tricks/pseudo_label.py": (pseudo_label, ["none.npy"]),
    "report.py": (report, []),
    "data.pack": (pack, ["--data", "nowhere", "--out", "packed"]),
    "data.duplicates": (duplicates, ["--data", "nowhere"]),
    "data.demo": (demo, []),
}
VALUES = ["0", "-1", "NaN", "inf", "1e30", "-1e30", str(10**12), "", "x"]
INTEGERS, ALL = {str(10**12)}, {"1e30", str(10**12)}
ZERO = {"0"}

# Of VALUES, those that a flag accepts: an absurd number is the user's own affair, as long as it is one.
ACCEPTED = {
    "--epochs": INTEGERS,
    "--batch-size": INTEGERS,
    "--accumulate": INTEGERS,
    "--lr": ALL,
    "--decay-at": ZERO | ALL | {""},
    "--decay": ZERO,
    "--warmup": ZERO | ALL,
    "--momentum": ZERO,
    "--weight-decay": ZERO | ALL,
    "--ema": ZERO,
    "--drop-connect": ZERO,
    "--seed": ZERO,
    "--val-share": ZERO,
    "--val-seed": ZERO,
    "--resize": set(),
    "--crop": set(),
    "--min-scale": set(),
    "--cutout": ZERO,
    "--workers": ZERO,  # of the scripts; the tools need one
    "--stream": ZERO | INTEGERS,
    "--skip-nonfinite": ZERO | INTEGERS,
    "--worker-timeout": ZERO | ALL,
    "--save-every": ALL,  # of training; predict.py's may be 0
    "--balanced": ZERO | INTEGERS,
    "--label-smoothing": ZERO,
    "--focal-gamma": ZERO | ALL,
    "--margin": set(),
    "--level-weights": ZERO | ALL | {""},
    "--t1": ZERO,
    "--t2": set(),
    "--mix": ZERO,
    "--temperature": ALL,
    "--grid": set(),
    "--reach": ZERO | ALL,
    "--beta": ZERO | ALL,
    "--gamma": ZERO | ALL,
    "--head-rate": ZERO | ALL,
    "--head-epochs": ZERO,
    "--layer-decay": set(),
    "--positives": set(),
    "--extent": ZERO | ALL,
    "--context": ZERO | ALL,
    "--stage": set(),
    "--crops": set(),
    "--top-k": INTEGERS,
    "--top": INTEGERS,
    "--threshold": ZERO,
    "--per-class": INTEGERS,
    "--size": set(),
    "--quality": set(),
    "--per-shard": set(),
    "--distance": ZERO,
    "--residual": ZERO,
}
BESIDES = {  # where a program's flag differs from another's of that name
    ("predict.py", "--save-every"): ZERO | ALL,
    ("data.pack", "--workers"): set(),
    ("data.duplicates", "--workers"): set(),
}


class Asked(Exception):
    pass


def parser_of(name: str) -> argparse.ArgumentParser:
    """The parser that a program's `main` makes, at the moment when it would read the command line."""
    module, _ = PROGRAMS[name]
    caught = []

    def parse_args(self, *_):
        caught.append(self)
        raise Asked

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
        patch.setattr(argparse.ArgumentParser, "parse_intermixed_args", parse_args)
        patch.setattr(sys, "argv", [name])
        with pytest.raises(Asked):
            module.main()
    return caught[0]


def options(name: str) -> list[argparse.Action]:
    """The flags of a program that take a value."""
    return [action for action in parser_of(name)._actions if action.option_strings and action.nargs != 0]


def is_numeric(action: argparse.Action) -> bool:
    """Whether the type of an argument makes numbers: tried out, so that no new kind of it is overlooked."""
    if action.type in (None, Path):
        return False
    for text in ("1", "0.5", "40", "3"):
        try:
            value = action.type(text)
        except (argparse.ArgumentTypeError, ValueError):
            continue
        return isinstance(value, int | float) or (isinstance(value, list) and isinstance(value[0], int | float))
    return False


NUMERIC = [(name, action.option_strings[0]) for name in PROGRAMS for action in options(name) if is_numeric(action)]


def test_the_table_knows_every_numeric_flag_and_no_others():
    assert {flag for _, flag in NUMERIC} == set(ACCEPTED)
    assert set(BESIDES) <= set(NUMERIC) and len(NUMERIC) > 80


def test_every_program_is_looked_at():
    root = Path(train.__file__).parent
    scripts = {path.name for path in root.glob("*.py") if "Parser(" in path.read_text()}
    scripts |= {f"tricks/{path.name}" for path in root.glob("tricks/*.py") if "Parser(" in path.read_text()}
    tools = {f"data.{path.stem}" for path in root.glob("data/*.py") if "Parser(" in path.read_text()}
    assert scripts | tools == set(PROGRAMS)


def one_line(error: str, *parts: str) -> None:
    assert error.startswith("error: ") and error.count("\n") == 1 and "Traceback" not in error, error
    for part in parts:
        assert part in error, error


@pytest.mark.parametrize("name", PROGRAMS)
def test_numbers_out_of_range_are_refused_by_the_name_of_their_flag(script, tmp_path, monkeypatch, name):
    looked_at = 0
    for flag in (flag for program, flag in NUMERIC if program == name):
        for value in set(VALUES) - BESIDES.get((name, flag), ACCEPTED[flag]):
            for words in ([flag, value], [f"{flag}={value}"]):
                one_line(script(name, *PROGRAMS[name][1], *words, code=2).stderr, flag)
                looked_at += 1
    assert not list(tmp_path.iterdir())
    assert looked_at > 4 or not [flag for program, flag in NUMERIC if program == name]


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_the_table_accepts_is_accepted(name):
    for action in options(name):
        flag = action.option_strings[0]
        if (name, flag) in NUMERIC:
            for value in BESIDES.get((name, flag), ACCEPTED[flag]):
                action.type(value)


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_flag_takes_nothing_for_a_value_and_none_can_be_abbreviated(script, tmp_path, name):
    for action in options(name):
        if action.dest not in ("decay_at", "level_weights"):
            one_line(script(name, *PROGRAMS[name][1], action.option_strings[0], "", code=2).stderr, "is empty")
        flag = action.option_strings[0]
        short = flag[:-1]
        if short not in [option for other in parser_of(name)._actions for option in other.option_strings]:
            one_line(script(name, *PROGRAMS[name][1], short, "1", code=2).stderr, f"unrecognized arguments: {short}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_can_be_printed(script, name):
    module = name.removesuffix(".py").replace("/", ".")
    typed = f"python -m {module}" if "." in module else name
    assert f"usage: {typed} " in script(name, "--help").stdout


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("words", [["--frobnicate"], ["--a\nb\x1b[2J"], ["--", "-x", "\n"]])
def test_unknown_words_are_one_line(script, tmp_path, name, words):
    before = sorted(tmp_path.iterdir())
    if name == "data.demo" or (name in ("ensemble.py", "report.py") and words[0] == "--"):
        words = ["--frobnicate\n"]
    one_line(script(name, *PROGRAMS[name][1], *words, code=2).stderr)
    assert sorted(tmp_path.iterdir()) == before


def test_huge_integers_are_one_line(script):
    for digits in ("1" + "0" * 400, "9" * 5000, "-" + "9" * 400):
        one_line(script("train.py", "--batch-size", digits, code=2).stderr, "--batch-size")


# Absurd but possible, for real --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    """A catalogue, its shards, a trained network and a prediction of it."""
    folder = tmp_path_factory.mktemp("shop")
    root = write_aliproducts(folder / "shop")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(os, "fsync", lambda file: None)
        for module, words in [
            (train, ["train.py", "--data", root, "--out", "run", "--epochs", 1, *SMALL]),
            (pack, ["data.pack", "--data", root, "--out", "shards", "--size", 36, "--per-shard", 6, "--workers", 1]),
            (predict, ["predict.py", "run/best.pt", "--workers", 0, "--crops", 1]),
            (predict, ["predict.py", "run/best.pt", "--workers", 0, "--crops", 1, "--split", "test"]),
        ]:
            patch.setattr(sys, "argv", [str(word) for word in words])
            module.main()
    return folder


HUGE = 10**12
TRAIN, BBN = ("train.py", *SMALL), ("tricks/bbn.py", *SMALL)
LIO = ("train_lio.py", *SMALL, "--positives", 1, "--grid", 2)
DCL = ("finetune_dcl.py", *SMALL[4:], "--grid", 2)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (TRAIN, ["--lr", 1e30]),
        (TRAIN, ["--lr", 1e-300]),
        (TRAIN, ["--weight-decay", 1e30]),
        (TRAIN, ["--warmup", 1e30, "--decay-at", "0,1e30", "--decay", 0]),
        (TRAIN, ["--batch-size", HUGE, "--balanced", HUGE, "--accumulate", HUGE, "--save-every", 1e30]),
        (TRAIN, ["--loss", "focal", "--focal-gamma", 1e30]),
        (TRAIN, ["--loss", "bitempered", "--t1", 0, "--t2", 10]),
        (TRAIN, ["--loss", "asoftmax", "--margin", 20]),
        (TRAIN, ["--teacher", "run/best.pt", "--temperature", 1e-300]),
        (TRAIN, ["--teacher", "run/best.pt", "--temperature", 1e30, "--mix", 1]),
        (TRAIN, ["--data", "shards", "--stream", HUGE, "--cutout", 1]),
        (DCL, ["--init", "run/best.pt", "--reach", 1e30, "--beta", 1e30, "--gamma", 1e30, "--head-rate", 1e30]),
        (LIO, ["--batch-size", HUGE, "--extent", 1e30, "--context", 1e30, "--head-rate", 1e30]),
        (LIO, ["--positives", 11, "--batch-size", 12]),
        (BBN, ["--batch-size", HUGE]),
    ],
)
def test_absurd_values_train_or_end_in_one_clear_line(script, shop, tmp_path, monkeypatch, command, words):
    monkeypatch.chdir(shop)
    program, *common = command
    data = [] if "--data" in words else ["--data", "shop"]
    out = tmp_path / "out"
    words = [program, *data, "--out", out, "--epochs", 1, *common, *words]
    monkeypatch.setattr(sys, "argv", list(map(str, words)))
    module = PROGRAMS[program][0]
    try:
        module.main()
    except InputError as error:
        assert "\n" not in str(error)
        assert "not finite" in str(error)
        assert not (out / "best.pt").exists() or torch.load(out / "best.pt", weights_only=True)["epoch"] == 1
    else:
        assert (out / "last.pt").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["--batch-size", HUGE],
        ["--top-k", 2, "--save-every", 1e30],
        ["--resize", 32, "--crop", 32, "--save-every", 0],
    ],
)
def test_absurd_values_predict(script, shop, tmp_path, monkeypatch, words):
    monkeypatch.chdir(shop)
    out = tmp_path / ("a.npz" if "--top-k" in words else "a.npy")
    script("predict.py", "run/best.pt", "--workers", 0, "--crops", 1, *words, "--out", out)
    assert out.exists()


def test_more_classes_to_keep_than_there_are_is_one_line(script, shop, tmp_path, monkeypatch):
    monkeypatch.chdir(shop)
    words = ["predict.py", "run/best.pt", "--workers", 0, "--top-k", HUGE, "--out", tmp_path / "a.npz"]
    one_line(script(*words, code=2).stderr, f"--top-k {HUGE}")
    assert not list(tmp_path.iterdir())


def test_pseudo_labels_of_absurd_limits(script, shop, tmp_path, monkeypatch):
    monkeypatch.chdir(shop)
    out = tmp_path / "labels.csv"
    script("tricks/pseudo_label.py", "preds/test/run.npy", "--threshold", 0, "--per-class", HUGE, "--out", out)
    assert len(out.read_text().splitlines()) == 4


# Lists -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["--decay-at", "--level-weights"])
@pytest.mark.parametrize("text", ["1,", ",", "1,,2", "1;2", "1 2", "x", "-1", "1,-1", "nan", "1,inf", "1e400", "none,"])
def test_lists_of_numbers_refuse_what_is_none(script, tmp_path, flag, text):
    one_line(script("train.py", f"{flag}={text}", code=2).stderr, flag)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", ",", "1,", "x,1", "nan,1", "inf,1", "-1,2", "0,0", "1", "1,1,1", "1e400,1"])
def test_weights_of_an_ensemble_refuse_what_is_none(script, tmp_path, text):
    for name, row in (("a", [0.5, 0.5]), ("b", [0.9, 0.1])):
        info = PredictionInfo("val", "net", [0], ["1.jpg"], ["x", "y"])
        with write_predictions(tmp_path / f"preds/{name}.npy", info) as writer:
            writer.append(np.array([row]))
    words = ["preds/a.npy", "preds/b.npy", f"--weights={text}", "--submission", "s.csv", "--out", "ens/all.npy"]
    one_line(script("ensemble.py", *words, code=2).stderr, "--weights")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["preds"]


@pytest.mark.parametrize("weights", ["1e30,1e-30", "0,1", "1e308,1e308"])
def test_weights_of_an_ensemble_may_be_of_any_size(script, tmp_path, weights):
    for name, row in (("a", [0.5, 0.5]), ("b", [0.9, 0.1])):
        info = PredictionInfo("val", "net", [0], ["1.jpg"], ["x", "y"])
        with write_predictions(tmp_path / f"preds/{name}.npy", info) as writer:
            writer.append(np.array([row]))
    script("ensemble.py", "preds/a.npy", "preds/b.npy", "--weights", weights, "--out", "ens/all.npy")
    assert np.isfinite(np.load(tmp_path / "ens/all.npy", allow_pickle=False)).all()


# Names -------------------------------------------------------------------------------------------------------


def listing(folder: Path) -> dict:
    """Names, and contents of all but large files."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*") if path.name != "last.pt"}


OUTPUTS = {
    "train.py": ["--data", "shop", *SMALL, "--epochs", 1, "--out"],
    "predict.py": ["run/best.pt", "--workers", 0, "--crops", 1, "--out"],
    "ensemble.py": ["preds/run.npy", "--out"],
    "tricks/pseudo_label.py": ["preds/test/run.npy", "--out"],
    "data.pack": ["--data", "shop", "--size", 36, "--workers", 1, "--out"],
    "data.duplicates": ["--data", "shop", "--workers", 1, "--out"],
    "data.demo": ["--out"],
    "finetune_dcl.py": ["--init", "run/best.pt", "--grid", 2, "--show"],
    "train_lio.py": ["--init", "run/best.pt", "--data", "shop", "--show"],
}
ENDING = {"predict.py": ".npy", "ensemble.py": ".npy", "tricks/pseudo_label.py": ".csv", "data.duplicates": ".csv"}
ENDING |= {"finetune_dcl.py": ".png", "train_lio.py": ".png"}


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("place", ["a file is in the way", "a file is a folder above", "a device", "a long name"])
def test_an_output_that_cannot_be_written_is_one_line(script, shop, tmp_path, monkeypatch, name, place):
    monkeypatch.chdir(shop)
    monkeypatch.setattr("drawings.catalogue.plan_train", lambda *_: pytest.fail("drawn before the place was looked at"))
    ending = ENDING.get(name, "")
    (tmp_path / "file").write_text("mine")
    (tmp_path / f"folder{ending}").mkdir()
    (tmp_path / f"folder{ending}/mine").write_text("mine")
    out = {
        "a file is in the way": tmp_path / (f"folder{ending}" if ending else "file"),
        "a file is a folder above": tmp_path / f"file/new{ending}",
        "a device": "/dev/null",
        "a long name": tmp_path / f"{'x' * 300}{ending}",
    }[place]
    before = listing(tmp_path) | listing(shop)
    one_line(script(name, *OUTPUTS[name], out, code=2).stderr)
    assert listing(tmp_path) | listing(shop) == before


@pytest.mark.parametrize("name", ["train.py", "predict.py", "data.pack", "finetune_dcl.py"])
def test_a_newline_in_a_name_is_only_a_name(script, shop, tmp_path, monkeypatch, name):
    monkeypatch.chdir(shop)
    out = tmp_path / f"new\nline{ENDING.get(name, '')}"
    script(name, *OUTPUTS[name], out)
    assert out.exists()


@pytest.mark.parametrize("data", ["run/best.pt", "/dev/null", "x" * 300, "shop\n", "shop/train.json/x"])
@pytest.mark.parametrize("name", ["train.py", "predict.py", "data.pack", "data.duplicates"])
def test_data_that_is_no_folder_is_one_line(script, shop, tmp_path, monkeypatch, name, data):
    monkeypatch.chdir(shop)
    before = listing(shop)
    words = {"predict.py": ["run/best.pt", "--out", tmp_path / "a.npy"], "train.py": SMALL}.get(name, [])
    if name != "predict.py":
        words = [*words, "--out", tmp_path / ("a.csv" if name == "data.duplicates" else "a")]
    one_line(script(name, *words, "--data", data, code=2).stderr)
    assert listing(shop) == before and not list(tmp_path.iterdir())


@pytest.mark.parametrize("device", ["abacus", "cuda:99", "cpu:x", "meta", "cpu cuda", "-1", "\n", "cuda:-1", "0"])
def test_devices_that_are_not_there_are_one_line(script, shop, tmp_path, monkeypatch, device):
    monkeypatch.chdir(shop)
    for name, words in (
        ("train.py", ["--data", "shop", *SMALL, "--out", tmp_path / "out"]),
        ("predict.py", ["run/best.pt", "--out", tmp_path / "a.npy"]),
    ):
        one_line(script(name, *words, f"--device={device}", code=2).stderr, "--device")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arch", ["resnet51", "RESNET18", "resnet18\n", "../resnet18", "None", "x" * 300, "-1"])
def test_networks_that_there_are_none_are_one_line(script, shop, tmp_path, monkeypatch, arch):
    monkeypatch.chdir(shop)
    for name in ("train.py", "train_lio.py", "tricks/bbn.py"):
        words = ["--data", "shop", *SMALL, "--out", tmp_path / "out", f"--arch={arch}"]
        one_line(script(name, *words, code=2).stderr, "--arch")
    assert not list(tmp_path.iterdir())


def test_a_value_that_begins_with_a_minus_is_one_line(script):
    for value in ("-1", "-1e30", "-.5", "-x"):
        one_line(script("train.py", "--lr", value, code=2).stderr, "--lr")


def test_scripts_and_tools_have_the_same_parser():
    assert command_line.Parser is ToolParser is Parser


# Memory ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        np._core._exceptions._ArrayMemoryError((10**9, 10**9), np.dtype(float)),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nGPU 0 has a total capacity of …"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:119] . DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("Caught RuntimeError in DataLoader worker process 0.\nDefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["python", "numpy", "gpu", "cpu", "worker"],
)
def test_no_memory_is_one_line_that_names_what_needs_less(script, monkeypatch, error):
    def main():
        raise error

    monkeypatch.setattr(train, "main", main)
    one_line(script("train.py", code=2).stderr, "out of memory", "--batch-size", "--accumulate")


def test_memory_that_there_really_is_not_is_told(script, monkeypatch):
    monkeypatch.setattr(train, "main", lambda: torch.empty(10**17, dtype=torch.uint8))
    one_line(script("train.py", code=2).stderr, "out of memory", "can't allocate memory")


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), OSError(errno.EIO, "x")])
def test_a_bug_keeps_its_traceback(script, monkeypatch, error):
    def main():
        raise error

    monkeypatch.setattr(train, "main", main)
    with pytest.raises(type(error)):
        script("train.py")
