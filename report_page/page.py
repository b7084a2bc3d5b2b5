"""The report as one HTML file, which needs no other file and no network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from common.files import atomic_write
from predictions.format import PredictionInfo
from report_page import plots, tables
from report_page.class_groups import GroupErrors, group_errors
from report_page.pictures import Album, method_sheets
from report_page.questions import answer_questions
from report_page.results import REPORTED_ENSEMBLE, Seed
from report_page.stages import ensembles, stages
from report_page.statistics import ensemble_reliability, ensemble_statistics

if TYPE_CHECKING:
    from catalogues import Catalogue

HERE = Path(__file__).parent
SECTIONS = {
    "steps": "Steps",
    "curves": "Learning curves",
    "frequency": "Head and tail",
    "ensemble": "Members",
    "crops": "Ten crops",
    "reliability": "Reliability",
    "confused": "Confused products",
    "mistakes": "Mistakes",
    "dcl": "DCL",
    "lio": "LIO",
    "runs": "Runs",
}


class Report:
    """All figures of the seeds' results; the page and results/steps.md show the same.

    statistics: of each seed, or None. largest: the statistics of the seed with the most members, `largest_seed`, which
    the page shows in detail; None where no seed has any. by_seed: errors of head, middle and tail.
    """

    def __init__(self, seeds: Sequence[Seed], catalogue: Catalogue | None):
        self.seeds, self.catalogue = seeds, catalogue
        self.statistics = [ensemble_statistics(seed) for seed in seeds]
        self.stages, sums = stages(seeds), ensembles(seeds, self.statistics)
        self.steps = tables.steps_table(self.stages, seeds, sums)
        self.short = tables.short_table(self.stages, sums)
        self.controls = tables.controls_table(self.stages)
        self.crops = tables.crops_table(self.stages, sums)
        self.runs = tables.runs_table(seeds)
        known = [(seed, numbers) for seed, numbers in zip(seeds, self.statistics, strict=True) if numbers is not None]
        self.largest_seed, self.largest = max(known, key=lambda pair: len(pair[1].by_member), default=(None, None))
        self.by_seed = self._group_errors()
        self.frequency = tables.frequency_table(self.by_seed) if self.by_seed else None
        several = self.largest is not None and len(self.largest.by_member) > 1
        self.members = tables.members_table(self.largest) if several else None
        self.answers = answer_questions(self.stages, self.statistics, self.by_seed)

    def _group_errors(self) -> list[GroupErrors]:
        train = self.catalogue.splits.get("train") if self.catalogue else None
        if train is None or train.labels is None or self.catalogue.num_classes < 3:
            return []
        counts = np.bincount(train.labels, minlength=self.catalogue.num_classes)
        by_seed = [
            group_errors(seed, numbers.labels, counts)
            for seed, numbers in zip(self.seeds, self.statistics, strict=True)
            if numbers is not None and seed.base
        ]
        return [errors for errors in by_seed if errors.by_arch]

    def info(self) -> PredictionInfo | None:
        """The description of the first predictions; None where there are none."""
        return next((network.info for seed in self.seeds for network in seed.networks().values()), None)

    def markdown(self) -> str:
        """All tables and answers, for results/steps.md."""
        shown = [self.steps, self.controls, self.crops, self.frequency, self.members, self.runs]
        parts = [f"{table.markdown()}\n\n{table.caption}" for table in shown if table is not None and table.rows]
        answers = "\n".join(f"- **{question}** {answer}" for question, answer in self.answers)
        parts.insert(2 if self.controls.rows else 1, answers)
        return "\n\n".join(part for part in parts if part)


def write_page(report: Report, out: Path, title: str) -> None:
    """Write the HTML file `out`. The names of files, classes and runs are always text in it, never markup."""
    script = (HERE / "page.js").read_text()
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string((HERE / "page.html").read_text())
    content = _header(report) | _tables(report) | _diagrams(report) | _pictures(report)
    filled = {id for id in SECTIONS if content.get(id)} | {sheet.id for sheet in content["sheets"]}
    text = template.render(
        title=title,
        sections=[(id, name) for id, name in SECTIONS.items() if id in filled],
        script=Markup(script),
        script_hash="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        **content,
    )
    with atomic_write(out) as file:
        file.write(text.encode(errors="backslashreplace"))  # names that are not UTF-8


def _header(report: Report) -> dict:
    return {"about": about(report), "summary": summary(report), "numbers": numbers(report), "answers": report.answers}


def _tables(report: Report) -> dict:
    settings = [
        (f"{seed.name} {name}".strip(), tables.settings_text(run))
        for seed in report.seeds
        for name, run in seed.runs.items()
    ]
    return {
        "steps": report.steps,
        "controls": report.controls,
        "frequency": report.frequency,
        "ensemble": report.members,
        "crops": report.crops if report.crops.rows else None,
        "runs": report.runs if report.runs.rows else None,
        "settings": settings,
    }


def _diagrams(report: Report) -> dict:
    """The diagrams as SVG, None where there is nothing to draw; and the disagreement of members."""
    largest, several = report.largest, report.members is not None
    one_crop = any(stage.change("one_crop") for stage in report.stages)
    disagreement = list(zip(largest.by_member, largest.disagreement(), strict=True)) if several else []
    return {
        "curves": [(name, Markup(svg)) for name, svg in plots.learning_curves(report.seeds)],
        "steps_plot": Markup(plots.steps(report.stages, largest)) if report.stages else None,
        "frequency_plot": Markup(plots.frequency(report.by_seed)) if report.by_seed else None,
        "greedy_plot": Markup(plots.greedy(largest)) if several else None,
        "disagreement": disagreement,
        "disagreement_most": max((row.max() for _, row in disagreement), default=0) or 1,
        "crops_plot": Markup(plots.crops(report.stages)) if one_crop else None,
        "reliability": Markup(plots.calibration(ensemble_reliability(largest, report.largest_seed)))
        if largest
        else None,
    }


def _pictures(report: Report) -> dict:
    """Confused pairs, mistakes and sheets, and notes on what is missing."""
    content = {"confused": [], "mistakes": [], "sheets": [], "notes": []}
    if report.catalogue is None:
        note = (
            "The catalogue was not found (name it with --data): no photographs, class frequencies or sheets are shown."
        )
        return content | {"notes": [note]}
    if report.largest is not None:
        info = report.info()
        if is_of(info, report.catalogue):
            album = Album(report.catalogue, report.largest, info.split)
            content |= {"confused": album.pairs(), "mistakes": album.mistakes()}
        else:
            content["notes"] = [f"The catalogue's {info.split} split has other photographs now, so none are shown."]
    content["sheets"] = next((found for seed in report.seeds if (found := method_sheets(seed, report.catalogue))), [])
    return content


def is_of(info: PredictionInfo, catalogue: Catalogue) -> bool:
    """Whether the predictions are about the photographs that the catalogue's split has now."""
    split = catalogue.splits.get(info.split)
    return split is not None and list(map(split.image_id, range(len(split)))) == info.image_ids


def about(report: Report) -> str:
    """Catalogue, split, photographs, products and date."""
    info = report.info()
    what = "no predictions"
    if info is not None:
        what = f"{info.split} split: {len(info.image_ids):,} photographs of {len(info.class_names):,} products"
    if report.catalogue is not None:
        what = f"{report.catalogue.root.name} ({report.catalogue.format}), {what}"
    seeds = f", {len(report.seeds)} seeds" if len(report.seeds) > 1 else ""
    return f"{what}{seeds} · {date.today()}"


def summary(report: Report) -> str:
    """The results in a few sentences."""
    largest = report.largest
    if largest is None:
        return "No labelled predictions, so no errors are known. The runs are listed below."
    best, error = largest.best_member()
    base = [np.mean(stage.mean_class) for stage in report.stages if stage.step == "base"]
    start = f"The best network of step 1 has a mean class error of {100 * min(base):.1f} %. " if base else ""
    total = ""
    if report.members:
        members = len(largest.by_member)
        total = (
            f" The sum of the probabilities of {members} networks has {100 * largest.error(largest.predicted):.1f} %."
        )
    of_error = "" if base else " mean class error"
    return (
        f"{start}The best single network, {best}, has {100 * error:.1f} %{of_error}.{total} The report went from 20 to "
        f"25 % down to {REPORTED_ENSEMBLE}: top-1 error on 50,030 products, with networks from ImageNet weights. Its "
        "data differ from yours, so compare the change of each step, not the errors themselves."
    )


def numbers(report: Report) -> list[tuple[str, str]]:
    """(figure, what it is) for the boxes at the top."""
    largest = report.largest
    if largest is None:
        return []
    best, error = largest.best_member()
    what = f"sum of {len(largest.by_member)}" if report.members else best
    shown = [
        (f"{100 * largest.error(largest.predicted):.1f} %", f"mean class error, {what}"),
        (f"{100 * largest.top1_error(largest.predicted):.1f} %", f"top-1 error, {what}"),
    ]
    if report.members:
        shown.append((f"{100 * error:.1f} %", f"mean class error of the best network, {best}"))
    right = (largest.top == largest.labels[:, None]).any(1)
    k = largest.top.shape[1]
    shown.append((f"{100 * (1 - right.mean()):.1f} %", f"true product not among the {k} most probable"))
    return shown
