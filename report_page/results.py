"""Reads runs/ and preds/: predictions and training runs, by seed and by step of the report."""

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.errors import InputError
from predictions.format import PredictionInfo
from predictions.reading import Member, open_member
from predictions.top_k import TopMember


class Step(NamedTuple):
    """A step of the report.

    key: ending of the names of its runs. title: number and name. reported: the report's top-1 error on the challenge's
    leaderboard. start: key of the step whose network it starts from.
    """

    key: str
    title: str
    reported: str
    start: str | None

    @property
    def name(self) -> str:
        return self.title.partition(" ")[2]


STEPS = (
    Step("base", "1 whole set", "20 to 25 %", None),
    Step("balanced", "1b balanced", "9 to 12 %, best 9.78 %", "base"),
    Step("dcl", "2 DCL", "1 to 2 points better", "balanced"),
    Step("lio", "3 LIO", "(not stated)", "base"),
    Step("accuracy", "4 accuracy loss", "0.2 to 0.5 points better", "balanced"),
)
NAMES = {step.key: step.name for step in STEPS}
ENSEMBLE, REPORTED_ENSEMBLE = "4.1 sum", "6.27 %"
CONTROL = "-control"
NUMBERS = ("train_loss", "val_top1_error", "val_mean_class_error", "seconds", "images_per_second")


@dataclass
class NetworkPredictions:
    """The predictions of one network after a step: a key of STEPS, or the file's own name where it ends in none."""

    name: str
    step: str
    ten_crops: Member | TopMember
    one_crop: Member | TopMember | None = None

    @property
    def info(self) -> PredictionInfo:
        return self.ten_crops.info

    @property
    def arch(self) -> str:
        return self.info.arch

    @property
    def has_errors(self) -> bool:
        return None not in (self.info.top1_error, self.info.mean_class_error)


@dataclass
class Run:
    """One training: run.json (empty where an older version trained it) and log.csv with a row an epoch."""

    name: str
    folder: Path
    info: dict
    log: list[dict[str, float]]

    @property
    def settings(self) -> dict:
        return self.info.get("settings", {})

    def column(self, name: str) -> list[float]:
        return [row[name] for row in self.log if name in row]

    @property
    def seconds(self) -> float:
        return sum(self.column("seconds"))

    @property
    def images_per_second(self) -> float | None:
        """The mean over all epochs; None where nothing was timed."""
        images = sum(row["seconds"] * row["images_per_second"] for row in self.log if "images_per_second" in row)
        return images / self.seconds if self.seconds else None


@dataclass
class Seed:
    """What was trained with one seed: networks of step 1, members of the ensemble, controls, runs; all by name."""

    name: str
    base: dict[str, NetworkPredictions] = field(default_factory=dict)
    members: dict[str, NetworkPredictions] = field(default_factory=dict)
    controls: dict[str, NetworkPredictions] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)

    def networks(self) -> dict[str, NetworkPredictions]:
        return {f"{name}-base": network for name, network in self.base.items()} | self.members | self.controls

    def find(self, arch: str, step: str, control: bool = False) -> NetworkPredictions | None:
        """The network of `arch` after `step`, or its control."""
        if step == "base":
            return None if control else self.base.get(arch)
        name = f"{arch}-{step}"
        return self.controls.get(name + CONTROL) if control else self.members.get(name)


def read_results(runs: Path, preds: Path) -> list[Seed]:
    """The seeds below `preds` and `runs`: folders seed-0, seed-1, … of reproduce_paper.sh --seeds, or just one.

    Raises:
        InputError: there are neither predictions nor runs, or a file is not what its name says.
    """
    names = sorted({path.name for root in (runs, preds) for path in root.glob("seed-*") if path.is_dir()}, key=_order)
    seeds = [_read_seed(name, runs / name, preds / name) for name in names] or [_read_seed("", runs, preds)]
    seeds = [seed for seed in seeds if seed.networks() or seed.runs]
    if not seeds:
        raise InputError(
            f"{preds}: holds no predictions, and {runs} no runs; run train.py and predict.py first, or say where with "
            "--runs and --preds"
        )
    return seeds


def _order(name: str) -> tuple[int, str]:
    number = name.removeprefix("seed-")
    return (int(number) if number.isdecimal() else 10**9, name)


def _read_seed(name: str, runs: Path, preds: Path) -> Seed:
    return Seed(
        name,
        base=_read_predictions(preds / "base", "base"),
        members=_read_predictions(preds),
        controls=_read_predictions(preds / "control"),
        runs={path.parent.name: read_run(path.parent) for path in sorted(runs.glob("*/log.csv"))},
    )


def _read_predictions(folder: Path, step: str | None = None) -> dict[str, NetworkPredictions]:
    networks = {}
    for path in sorted([*folder.glob("*.npy"), *folder.glob("*.npz")]):
        one_crop = folder / "centre" / path.name
        ending = path.stem.removesuffix(CONTROL).rpartition("-")[2]
        networks[path.stem] = NetworkPredictions(
            path.stem,
            step or (ending if ending in NAMES else path.stem),
            open_member(path),
            open_member(one_crop) if one_crop.exists() else None,
        )
    return networks


def read_run(folder: Path) -> Run:
    """Reads run.json and log.csv of a run's folder; InputError where they are not what a training wrote."""
    info, log = {}, []
    try:
        with open(folder / "log.csv", newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                log.append({name: float(row[name]) for name in NUMBERS if row.get(name)})
        if (folder / "run.json").exists():
            info = json.loads((folder / "run.json").read_bytes())
    except (OSError, ValueError, csv.Error, RecursionError) as error:
        raise InputError(f"{folder}: its log.csv or run.json cannot be read ({error}); move it away") from error
    valid = isinstance(info, dict) and all(isinstance(info.get(key, {}), dict) for key in ("settings", "versions"))
    if not valid or not all(np.isfinite(list(row.values())).all() for row in log):
        raise InputError(f"{folder}: its log.csv or run.json is not what a training writes; move it away")
    return Run(folder.name, folder, info, log)
