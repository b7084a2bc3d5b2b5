"""What lies in runs/ and preds/: predictions and runs by seed and by step of the report."""

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.errors import InputError
from predictions.format import PredictionInfo
from predictions.reading import Member, open_member
from predictions.top_k import TopMember

# (ending of a run's name, the step, its top-1 error on the challenge's leaderboard in the report's words, the ending of
# what it starts from)
STEPS = (
    ("base", "1 whole set", "20 to 25 %", None),
    ("balanced", "1b balanced", "9 to 12 %, best 9.78 %", "base"),
    ("dcl", "2 DCL", "1 to 2 points better", "balanced"),
    ("lio", "3 LIO", "(not told)", "base"),
    ("accuracy", "4 accuracy loss", "0.2 to 0.5 points better", "balanced"),
)
ENSEMBLE, REPORTED_ENSEMBLE = "4.1 sum", "6.27 %"
ENDINGS = tuple(ending for ending, *_ in STEPS)
CONTROL = "-control"
NUMBERS = ("train_loss", "val_top1_error", "val_mean_class_error", "seconds", "images_per_second")


@dataclass
class Predicted:
    """One prediction file: of a network after a `step` (one of `ENDINGS`, else its own name), with ten crops."""

    name: str
    step: str
    member: Member | TopMember
    centre: Member | TopMember | None = None  # the same network with the centre crop alone

    @property
    def info(self) -> PredictionInfo:
        return self.member.info

    @property
    def arch(self) -> str:
        return self.info.arch


@dataclass
class Run:
    """One training: run.json (empty where an older version trained it) and log.csv with a row an epoch."""

    name: str
    folder: Path
    facts: dict
    log: list[dict[str, float]]

    @property
    def settings(self) -> dict:
        return self.facts.get("settings", {})

    def column(self, name: str) -> list[float]:
        return [row[name] for row in self.log if name in row]

    @property
    def seconds(self) -> float:
        return sum(self.column("seconds"))

    @property
    def images_per_second(self) -> float | None:
        """Of all epochs; None where nothing was timed."""
        images = sum(row["seconds"] * row["images_per_second"] for row in self.log if "images_per_second" in row)
        return images / self.seconds if self.seconds else None


@dataclass
class Seed:
    """What was trained with one seed: networks of step 1, members of the ensemble, controls; by name."""

    name: str
    base: dict[str, Predicted] = field(default_factory=dict)
    members: dict[str, Predicted] = field(default_factory=dict)
    controls: dict[str, Predicted] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)

    def all(self) -> dict[str, Predicted]:
        return {f"{name}-base": network for name, network in self.base.items()} | self.members | self.controls

    def find(self, arch: str, step: str, control: bool = False) -> Predicted | None:
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
    places = sorted({path.name for root in (runs, preds) for path in root.glob("seed-*") if path.is_dir()}, key=_order)
    seeds = [_read_seed(place, runs / place, preds / place) for place in places] or [_read_seed("", runs, preds)]
    seeds = [seed for seed in seeds if seed.all() or seed.runs]
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
        base=_predictions(preds / "base", "base"),
        members=_predictions(preds),
        controls=_predictions(preds / "control"),
        runs={path.parent.name: read_run(path.parent) for path in sorted(runs.glob("*/log.csv"))},
    )


def _predictions(folder: Path, step: str | None = None) -> dict[str, Predicted]:
    found = {}
    for path in sorted([*folder.glob("*.npy"), *folder.glob("*.npz")]):
        centre = folder / "centre" / path.name
        ending = path.stem.removesuffix(CONTROL).rpartition("-")[2]
        own = step or (ending if ending in ENDINGS else path.stem)
        found[path.stem] = Predicted(
            path.stem, own, open_member(path), open_member(centre) if centre.exists() else None
        )
    return found


def read_run(folder: Path) -> Run:
    """Reads run.json and log.csv of a run's folder; InputError where they are not what a training wrote."""
    facts, log = {}, []
    try:
        with open(folder / "log.csv", newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                log.append({name: float(row[name]) for name in NUMBERS if row.get(name)})
        if (folder / "run.json").exists():
            facts = json.loads((folder / "run.json").read_bytes())
    except (OSError, ValueError, csv.Error, RecursionError) as error:
        raise InputError(f"{folder}: its log.csv or run.json cannot be read ({error}); move it away") from error
    sound = isinstance(facts, dict) and all(isinstance(facts.get(key, {}), dict) for key in ("settings", "versions"))
    if not sound or not all(np.isfinite(list(row.values())).all() for row in log):
        raise InputError(f"{folder}: its log.csv or run.json is not what a training writes; move it away")
    return Run(folder.name, folder, facts, log)
