"""The page: everything that the runs say, in one HTML file that needs no other, nor a network."""

import base64
import hashlib
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from common.errors import one_line
from common.files import atomic_write
from data import Catalogue
from predictions.format import PredictionInfo
from report_page import plots, tables
from report_page.answers import answers
from report_page.counting import Counted, reliability
from report_page.pictures import Album, method_sheets
from report_page.results import REPORTED_ENSEMBLE, Seed

HERE = Path(__file__).parent
SECTIONS = {
    "steps": "Steps",
    "curves": "Curves",
    "frequency": "Head and tail",
    "ensemble": "Members",
    "crops": "Ten crops",
    "reliability": "How sure",
    "confused": "Confused",
    "mistakes": "Mistakes",
    "dcl": "DCL",
    "lio": "LIO",
    "runs": "Runs",
}


class Report:
    """All tables of the seeds' results, of which the page and RESULTS.md show the same."""

    def __init__(self, seeds: Sequence[Seed], counted: Sequence[Counted | None], catalogue: Catalogue | None):
        self.seeds, self.counted, self.catalogue = seeds, counted, catalogue
        self.stages = tables.stages(seeds)
        self.steps = tables.steps_table(self.stages, seeds, counted)
        self.short = tables.short_table(self.stages, seeds, counted)
        self.controls = tables.controls_table(self.stages)
        self.crops = tables.crops_table(self.stages, seeds, counted)
        self.runs = tables.runs_table(seeds)
        most = [(len(own.predicted), -place) for place, own in enumerate(counted) if own]
        self.best = -max(most)[1] if most else None  # place of the seed with the most members, which is looked into
        self.by_seed = self._frequency()
        self.frequency = tables.frequency_table(self.by_seed) if self.by_seed else None
        several = self.whole is not None and len(self.whole.predicted) > 1
        self.members = tables.members_table(seeds[self.best], self.whole) if several else None
        self.answers = answers(self.stages, counted, self.by_seed)

    @property
    def whole(self) -> Counted | None:
        return None if self.best is None else self.counted[self.best]

    def _frequency(self) -> list[dict]:
        train = self.catalogue.splits.get("train") if self.catalogue else None
        if train is None or train.labels is None or self.catalogue.num_classes < 3:
            return []
        counts = np.bincount(train.labels, minlength=self.catalogue.num_classes)
        found = []
        for seed, own in zip(self.seeds, self.counted, strict=True):
            if own is not None and seed.base:
                found.append(tables.frequency(seed, own.labels, counts))
        return [own for own in found if own["archs"]]

    def info(self) -> PredictionInfo | None:
        """What the first predictions are about; None where there are none."""
        return next((network.info for seed in self.seeds for network in seed.all().values()), None)

    def markdown(self) -> str:
        """All tables but the runs' settings, for RESULTS.md."""
        shown = [self.steps, self.controls, self.crops, self.frequency, self.members, self.runs]
        parts = [f"{table.markdown()}\n\n{table.caption}" for table in shown if table is not None and table.rows]
        parts.insert(2 if self.controls.rows else 1, "\n".join(f"- **{q}** {a}" for q, a in self.answers))
        return "\n\n".join(part for part in parts if part)


def write_page(report: Report, out: Path, title: str) -> None:
    """One HTML file; whatever a file, class or run is called is text in it, never markup."""
    script = (HERE / "page.js").read_text()
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string((HERE / "page.html").read_text())
    shown = contents(report)
    present = [id for id in SECTIONS if id in shown["present"]]
    text = template.render(
        title=title,
        sections=[(id, SECTIONS[id]) for id in present],
        script=Markup(script),
        script_hash="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        **shown,
    )
    with atomic_write(out) as file:
        file.write(text.encode(errors="backslashreplace"))  # names that are not UTF-8


def contents(report: Report) -> dict:
    """What the template shows, and `present`, the sections that have something to show."""
    own, seeds, notes = report.whole, report.seeds, []
    info = report.info()
    pairs, mistakes, sheets = [], [], []
    if report.catalogue is None:
        notes.append("The catalogue is not at hand (--data): no photographs, no frequency of classes, no sheets.")
    else:
        if own is not None and is_of(info, report.catalogue):
            album = Album(report.catalogue, own, info.split)
            pairs, mistakes = album.pairs(), album.mistakes()
        elif own is not None:
            notes.append(f"The catalogue's {info.split} split has other photographs now, so none are shown.")
        sheets = next((found for seed in seeds if (found := method_sheets(seed, report.catalogue))), [])
    curves = [(name, Markup(svg)) for name, svg in plots.curves(seeds)]
    present = {"steps", *(sheet.id for sheet in sheets)}
    drawn = {"frequency": report.by_seed, "ensemble": report.members, "crops": report.crops.rows, "reliability": own}
    drawn |= {"confused": pairs, "mistakes": mistakes, "runs": report.runs.rows, "curves": curves}
    present |= {id for id, shown in drawn.items() if shown}
    disagreement = list(zip(own.predicted, own.disagreement(), strict=True)) if own else []
    return {
        "about": about(report),
        "summary": summary(report),
        "numbers": numbers(report),
        "steps": report.steps,
        "steps_plot": Markup(plots.steps(report.stages, own)) if report.stages else None,
        "answers": report.answers,
        "controls": report.controls,
        "curves": curves,
        "frequency": report.frequency,
        "frequency_plot": Markup(plots.frequency(report.by_seed)) if report.by_seed else None,
        "members": report.members,
        "greedy_plot": Markup(plots.greedy(own)) if report.members else None,
        "disagreement": disagreement,
        "disagreement_most": max((row.max() for _, row in disagreement), default=0) or 1,
        "crops": report.crops,
        "crops_plot": Markup(plots.crops(report.stages)) if any(s.gain("centre") for s in report.stages) else None,
        "reliable_plot": Markup(plots.reliable(reliabilities(own, seeds[report.best]))) if own else None,
        "pairs": pairs,
        "mistakes": mistakes,
        "sheets": sheets,
        "runs": report.runs,
        "settings": [
            (f"{seed.name} {name}".strip(), tables.settings_text(run))
            for seed in seeds
            for name, run in seed.runs.items()
        ],
        "notes": notes,
        "present": present,
    }


def is_of(info: PredictionInfo, catalogue: Catalogue) -> bool:
    """Whether the predictions are about the photographs of the catalogue's split, as it is now."""
    split = catalogue.splits.get(info.split)
    return split is not None and list(map(split.image_id, range(len(split)))) == info.image_ids


def reliabilities(own: Counted, seed: Seed) -> dict:
    """Of the best member and of the sum."""
    best, _ = tables.best_member(own)
    network = seed.members[best]
    n, classes = network.info.shape
    size = max(1, 10**7 // classes)
    pieces = (network.member.rows(start, min(start + size, n)) for start in range(0, n, size))
    confidence = np.concatenate([rows.max(1) for rows in pieces])
    lines = {one_line(best): reliability(confidence, own.predicted[best] == own.labels)}
    if len(own.predicted) > 1:
        lines[f"sum of {len(own.predicted)}"] = reliability(own.confidence, own.total == own.labels)
    return lines


def about(report: Report) -> str:
    """Which photographs, when."""
    info = report.info()
    what = "no predictions"
    if info is not None:
        what = f"{info.split} split: {len(info.image_ids):,} photographs of {len(info.class_names):,} products"
    if report.catalogue is not None:
        what = f"{report.catalogue.root.name} ({report.catalogue.format}), {what}"
    seeds = f", {len(report.seeds)} seeds" if len(report.seeds) > 1 else ""
    return f"{what}{seeds} · {date.today()}"


def summary(report: Report) -> str:
    """The page in a sentence or two."""
    own = report.whole
    if own is None:
        return "No labelled predictions, so no errors are known; the runs stand below."
    best, error = tables.best_member(own)
    base = [stage for stage in report.stages if stage.step == "base"]
    start = (
        f"From {100 * min(map(np.mean, (s.mean_class for s in base))):.1f} % for the best network of step 1, "
        if base
        else ""
    )
    total = f", and the sum of {len(own.predicted)} to {100 * own.error(own.total):.1f} %" if report.members else ""
    return (
        f"{start}the best single network, {best}, comes to {100 * error:.1f} % mean class error{total}. The report "
        f"came from 20 to 25 % to {REPORTED_ENSEMBLE} (top-1 error, 50,030 products, from ImageNet weights): what "
        "compares is the way from one step to the next."
    )


def numbers(report: Report) -> list[tuple[str, str]]:
    """A few large figures."""
    own = report.whole
    if own is None:
        return []
    best, error = tables.best_member(own)
    what = f"sum of {len(own.predicted)}" if report.members else best
    shown = [
        (f"{100 * own.error(own.total):.1f} %", f"mean class error, {what}"),
        (f"{100 * own.top1(own.total):.1f} %", f"top-1 error, {what}"),
    ]
    if report.members:
        shown.append((f"{100 * error:.1f} %", f"mean class error of the best network, {best}"))
    top = (own.top == own.labels[:, None]).any(1)
    shown.append((f"{100 * (1 - top.mean()):.1f} %", f"not among the {own.top.shape[1]} likeliest"))
    return shown
