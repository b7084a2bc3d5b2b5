"""The report's tables and sentences: the same for the page and for RESULTS.md."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from common.errors import one_line
from models import ARCHS
from report_page.counting import Counted, Group, by_frequency, sum_of
from report_page.results import ENSEMBLE, REPORTED_ENSEMBLE, STEPS, Predicted, Run, Seed

NAMES = {ending: step.partition(" ")[2] for ending, step, *_ in STEPS}


class Cell(NamedTuple):
    """A text and what to sort it by."""

    text: str
    value: float | str | None = None


class Table(NamedTuple):
    """columns; rows of cells; a caption that says what the figures are."""

    columns: list[str]
    rows: list[list[Cell]]
    caption: str = ""

    def markdown(self) -> str:
        lines = [self.columns, ["---"] * len(self.columns), *([cell.text for cell in row] for row in self.rows)]
        return "\n".join(f"| {' | '.join(map(_in_markdown, line))} |" for line in lines)


def _in_markdown(text: str) -> str:
    """A name may hold anything: a bar would end the cell, and Markdown lets markup through."""
    return escape(one_line(text), quote=False).replace("|", "\\|")


def text(value: object) -> Cell:
    return Cell(str(value), str(value))


def percent(values: Sequence[float]) -> Cell:
    """Fractions of several seeds as percent: their mean and, from two on, their standard deviation."""
    if not len(values):
        return Cell("")
    values = 100 * np.asarray(values, float)
    mean = float(values.mean())
    return Cell(f"{mean:.2f}" + (f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else ""), mean)


def points(values: Sequence[float]) -> Cell:
    """Differences of several seeds in percentage points, signed: mean and standard deviation."""
    cell = percent(values)
    text = cell.text.removeprefix("-") if cell.text.startswith("-0.00") else cell.text
    return Cell(text if not text or text.startswith("-") else f"+{text}", cell.value)


class Stage(NamedTuple):
    """One backbone after one step: fractions (seeds,) of the seeds that trained it; None where one lacks the other.

    `before`: mean class error of what the step started from; `control`: of plain training in its place; `centre`: its
    own with one crop.
    """

    arch: str
    step: str
    top1: list[float]
    mean_class: list[float]
    before: list[float | None]
    control: list[float | None]
    centre: list[float | None]

    def gain(self, over: str) -> list[float]:
        """By how much it is better than its `before`, `control` or `centre`, of the seeds that have both."""
        others = getattr(self, over)
        return [other - own for own, other in zip(self.mean_class, others, strict=True) if other is not None]


def stages(seeds: Sequence[Seed]) -> list[Stage]:
    """Every backbone after every step, in the report's order; predictions without labels are left out."""
    archs = {network.arch for seed in seeds for network in seed.all().values()}
    archs = sorted(archs, key=lambda arch: (ARCHS.index(arch) if arch in ARCHS else len(ARCHS), arch))
    found = []
    for step, _, _, origin in STEPS:
        for arch in archs:
            chain = [(seed, network) for seed in seeds if (network := seed.find(arch, step)) is not None]
            chain = [(seed, network) for seed, network in chain if _known(network)]
            if not chain:
                continue
            before = [seed.find(arch, origin) if origin else None for seed, _ in chain]
            control = [seed.find(arch, step, control=True) for seed, _ in chain]
            found.append(
                Stage(
                    arch,
                    step,
                    [network.info.top1_error for _, network in chain],
                    [network.info.mean_class_error for _, network in chain],
                    [other and other.info.mean_class_error for other in before],
                    [other and other.info.mean_class_error for other in control],
                    [network.centre and network.centre.info.mean_class_error for _, network in chain],
                )
            )
    return found


def _known(network: Predicted) -> bool:
    return None not in (network.info.top1_error, network.info.mean_class_error)


def steps_table(found: Sequence[Stage], seeds: Sequence[Seed], counted: Sequence[Counted | None]) -> Table:
    """The report's table beside ours."""
    rows = []
    for ending, step, reported, _ in STEPS:
        mine = [stage for stage in found if stage.step == ending]
        for place, stage in enumerate(mine):
            shown = [text(step), text(reported if not place else ""), text(stage.arch)]
            rows.append(
                [*shown, percent(stage.top1), percent(stage.mean_class), points([-g for g in stage.gain("before")])]
            )
        if not mine:
            rows.append([text(step), text(reported), text("-"), Cell(""), Cell(""), Cell("")])
    others = [own for seed in seeds for own in seed.members.values() if own is not seed.find(own.arch, own.step)]
    for name in dict.fromkeys(network.name for network in others):
        infos = [own.info for own in others if own.name == name and _known(own)]
        if infos:
            errors = [percent([info.top1_error for info in infos]), percent([info.mean_class_error for info in infos])]
            rows.append([text("besides"), text(""), text(name), *errors, Cell("")])
    for label, sums in ensembles(seeds, counted).items():
        errors = [percent([own.top1 for own in sums]), percent([own.mean_class for own in sums])]
        change = points([own.mean_class - own.best for own in sums])
        rows.append([text(ENSEMBLE), text(REPORTED_ENSEMBLE), text(label), *errors, change])
    return Table(
        ["step", "the report", "here", "top-1 error, %", "mean class error, %", "change, points"],
        rows,
        "Mean ± standard deviation over the seeds that trained the network. Change: of the mean class error, against "
        "the network that the step started from (1b and LIO from step 1, DCL and the accuracy loss from 1b); of the "
        "sum, against its best member.",
    )


def short_table(found: Sequence[Stage], seeds: Sequence[Seed], counted: Sequence[Counted | None]) -> Table:
    """The steps in a line each: of the backbone that most seeds trained, and the range of all backbones."""
    most = max((len(stage.mean_class) for stage in found), default=0)
    arch = next((stage.arch for stage in found if len(stage.mean_class) == most), "-")
    rows = []
    for ending, step, reported, _ in STEPS:
        mine = {stage.arch: stage for stage in found if stage.step == ending}
        errors = [100 * float(np.mean(stage.mean_class)) for stage in mine.values()]
        across = f"{min(errors):.2f} to {max(errors):.2f}" if len(errors) > 1 else ""
        own = mine.get(arch)
        gains = [percent([]), points([]), points([])]
        if own is not None:
            changes = [points([-gain for gain in own.gain(over)]) for over in ("before", "control")]
            gains = [percent(own.mean_class), *changes]
        rows.append([text(step), text(reported), gains[0], text(across), *gains[1:]])
    sums = sorted(ensembles(seeds, counted).items(), key=lambda item: (-len(item[1]), item[0]))
    if sums:
        largest = max(sums, key=lambda item: int(item[0].split(":")[0].split()[-1]))
        shown = [f"{label}: {percent([own.mean_class for own in own_sums]).text}" for label, own_sums in sums[:1]]
        across = (
            [f"{largest[0]}: {percent([own.mean_class for own in largest[1]]).text}"] if largest != sums[0] else [""]
        )
        change = points([own.mean_class - own.best for own in sums[0][1]])
        rows.append([text(ENSEMBLE), text(REPORTED_ENSEMBLE), *map(text, (shown[0], across[0])), change, Cell("")])
    seeds_told = f", {most} seeds" if most > 1 else ""
    return Table(
        [
            "step",
            "the report",
            f"{arch}{seeds_told}, %",
            "all backbones, %",
            "change, points",
            "against plain training",
        ],
        rows,
    )


class Sum(NamedTuple):
    """Fractions of one seed's sum: its two errors, the mean class error of its best member and of single crops' sum."""

    top1: float
    mean_class: float
    best: float
    centre: float | None


def ensembles(seeds: Sequence[Seed], counted: Sequence[Counted | None]) -> dict[str, list[Sum]]:
    """Sums by what was added: of all members, seeds with the same ones together, and of those that all seeds have."""
    known = [(seed, own) for seed, own in zip(seeds, counted, strict=True) if own is not None]
    everywhere = [name for name in (known[0][0].members if known else []) if all(name in s.members for s, _ in known)]
    found: dict[tuple[str, ...], list[Sum]] = {}
    for seed, own in known:
        for names in dict.fromkeys([tuple(seed.members), tuple(everywhere)]):
            if len(names) > 1:
                found.setdefault(names, []).append(_sum(seed, own, names))
    labels = {}
    for names, sums in found.items():
        label = f"sum of {len(names)}"
        labels[label if label not in labels else f"{label}: {', '.join(names)}"] = sums
    return labels


def _sum(seed: Seed, own: Counted, names: tuple[str, ...]) -> Sum:
    total, centre = own.total, own.centre
    if names != tuple(seed.members):
        total = sum_of([seed.members[name].member for name in names])
        centre = sum_of([seed.members[name].centre for name in names])
    best = min(own.error(own.predicted[name]) for name in names)
    return Sum(own.top1(total), own.error(total), best, None if centre is None else own.error(centre))


def best_member(own: Counted) -> tuple[str, float]:
    """Name and mean class error of the best single network."""
    errors = {name: own.error(predicted) for name, predicted in own.predicted.items()}
    name = min(errors, key=errors.get)
    return name, errors[name]


def controls_table(found: Sequence[Stage]) -> Table:
    """Each step beside plain training in its place."""
    rows = []
    for stage in found:
        pairs = [pair for pair in zip(stage.before, stage.control, stage.mean_class, strict=True) if None not in pair]
        if pairs:
            before, control, own = map(np.array, zip(*pairs, strict=True))
            better = int((control - own > 1e-9).sum())
            cells = [percent(before), percent(control), percent(own), points(control - before), points(own - control)]
            rows.append([text(NAMES[stage.step]), text(stage.arch), *cells, Cell(f"{better} of {len(own)}", better)])
    return Table(
        ["step", "network", "before, %", "plain training, %", "the step, %", "of plain training", "of the step itself",
         "better in seeds"],
        rows,
        "Mean class error. Plain training is cross entropy in the step's place, in all else the same: resolution, "
        "rate, decay, number of photographs; that of balanced finetuning is on the whole set. The change of plain "
        "training is against the network before, that of the step itself against plain training.",
    )  # fmt: skip


def crops_table(found: Sequence[Stage], seeds: Sequence[Seed], counted: Sequence[Counted | None]) -> Table:
    """One crop and ten, of every network and of the sum."""
    rows = []
    for stage in found:
        if gains := stage.gain("centre"):
            one = [error for error in stage.centre if error is not None]
            own = [error for error, other in zip(stage.mean_class, stage.centre, strict=True) if other is not None]
            rows.append(
                [text(NAMES[stage.step]), text(stage.arch), percent(one), percent(own), points(-np.array(gains))]
            )
    for label, sums in ensembles(seeds, counted).items():
        pairs = [(own.centre, own.mean_class) for own in sums if own.centre is not None]
        if pairs:
            one, ten = np.array(pairs).T
            rows.append([text("sum"), text(label), percent(one), percent(ten), points(ten - one)])
    return Table(
        ["step", "network", "one crop, %", "ten crops, %", "change, points"],
        rows,
        "Mean class error with the centre crop alone, and with the mean of ten crops' probabilities.",
    )


def members_table(seed: Seed, own: Counted) -> Table:
    """What each member of the sum adds."""
    rows, everything = [], own.error(own.total)
    others = own.disagreement()
    places = {name: place for place, (name, _) in enumerate(own.greedy, 1)}
    for place, (name, predicted) in enumerate(own.predicted.items()):
        left_out = own.error(own.without[name]) if name in own.without else None
        apart = (others[place].sum()) / max(1, len(others) - 1)
        rows.append(
            [
                text(name),
                percent([own.error(predicted)]),
                percent([] if left_out is None else [left_out]),
                points([] if left_out is None else [left_out - everything]),
                Cell(f"{100 * apart:.1f}", apart),
                Cell(f"{places[name]}", places[name]),
                percent([dict(own.greedy)[name]]),
            ]
        )
    return Table(
        ["member", "alone, %", "sum without it, %", "what it adds, points", "disagrees with the others, %",
         "greedy place", "greedy sum, %"],
        rows,
        f"Mean class error; the sum of all: {100 * everything:.2f} %. Disagrees: mean share of the photographs that "
        "another member gives another class. Greedy: each time the member that lowers the error of the sum most"
        + (f", on {own.sampled:,} of the photographs" if own.sampled < len(own.labels) else "")
        + "; chosen on the very photographs that it is measured on, so flattering.",
    )  # fmt: skip


def frequency(seed: Seed, labels: np.ndarray, train_counts: np.ndarray) -> dict[str, list]:
    """By group of classes the mean class error of every backbone before and after balancing, and of its control."""
    groups = by_frequency(train_counts)
    shown: dict[str, list] = {}
    for arch in seed.base:
        chain = {
            "whole set": seed.find(arch, "base"),
            "plain training": seed.find(arch, "balanced", control=True),
            "balanced": seed.find(arch, "balanced"),
        }
        for what, network in chain.items():
            if network is not None and network.info.labels is not None:
                predicted = sum_of([network.member])
                shown.setdefault(arch, []).append((what, [group.error(predicted, labels) for group in groups]))
    return {"groups": groups, "archs": shown}


def frequency_table(by_seed: Sequence[dict]) -> Table:
    """`frequency` of several seeds as a table."""
    groups: list[Group] = by_seed[0]["groups"]
    rows = []
    for arch in dict.fromkeys(arch for found in by_seed for arch in found["archs"]):
        for what in ("whole set", "plain training", "balanced"):
            errors = [errors for found in by_seed for w, errors in found["archs"].get(arch, []) if w == what]
            if errors:
                cells = [percent([row[g] for row in errors if row[g] is not None]) for g in range(len(groups))]
                rows.append([text(arch), text(what), *cells])
    titles = [
        f"{group.name}: {group.classes.sum()} classes of {group.least:,} to {group.most:,}, %" for group in groups
    ]
    return Table(
        ["network", "trained on", *titles],
        rows,
        "Mean class error of thirds of the classes by their training photographs. Plain training: as many photographs "
        "as balanced finetuning, of the whole set.",
    )


def runs_table(seeds: Sequence[Seed]) -> Table:
    """Settings, time and throughput of every training."""
    rows = []
    for seed in seeds:
        for name, run in seed.runs.items():
            sides = "×".join(str(run.settings[key]) for key in ("resize", "crop") if key in run.settings)
            epochs = len(run.column("val_mean_class_error"))
            best = min(run.column("val_mean_class_error"), default=None)
            rate = run.images_per_second
            device = str(run.facts.get("device", ""))
            rows.append(
                [
                    text(f"{seed.name}/{name}" if seed.name else name),
                    Cell(str(run.settings.get("seed", "")), run.settings.get("seed")),
                    text(device.partition(",")[2].split(",")[0].strip() if device else ""),
                    text(sides),
                    Cell(f"{len(run.log)}", len(run.log)),
                    Cell(str(run.settings.get("lr", "")), run.settings.get("lr")),
                    Cell(str(run.settings.get("batch_size", "")), run.settings.get("batch_size")),
                    percent([best]) if epochs else Cell(""),
                    Cell(_minutes(run.seconds), run.seconds),
                    Cell(f"{rate:.0f}", rate) if rate else Cell(""),
                ]
            )
    return Table(
        [
            "run",
            "seed",
            "precision",
            "resize×crop",
            "epochs",
            "rate",
            "batch",
            "best val. error, %",
            "time",
            "images/s",
        ],
        rows,
        "Best validation error: mean class error of the centre crop. Time and images a second: of the training steps, "
        "without validation.",
    )


def _minutes(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds:02d} s"


def settings_text(run: Run) -> str:
    """Every setting and version of a run, a line each."""
    facts = {key: value for key, value in run.facts.items() if key not in ("settings", "versions")}
    lines = [f"{key}: {value}" for key, value in [*facts.items(), *run.facts.get("versions", {}).items()]]
    return "\n".join([*lines, *(f"--{key.replace('_', '-')} {value}" for key, value in run.settings.items())])
