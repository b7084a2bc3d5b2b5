"""Diagrams by matplotlib, as SVG with the text colour and the font of the page."""

import re
from collections.abc import Sequence
from html import escape
from io import StringIO

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from common.errors import one_line
from models import ARCHS
from report_page.class_groups import TRAINED_ON, GroupErrors
from report_page.results import NAMES, STEPS, Seed
from report_page.stages import Stage
from report_page.statistics import EnsembleStatistics, Reliability

matplotlib.use("svg")
INK = "#010203"  # stands for the text colour of the page, in its light and dark theme
# After Okabe and Ito's palette for colour-blind people (2008), changed to be seen on white and on black.
COLOURS = ("#2a86cf", "#e69f00", "#12a77c", "#de5f1b", "#cc79a7", "#6fc0ee", "#b0a000", "#8c6d5a", "#7a8794", "#8f7ee0")
STYLE = {
    "svg.fonttype": "none",  # text stays text: it can be read aloud and searched, and takes the font of the page
    "svg.hashsalt": "report",  # the same figure has the same bytes
    "text.parse_math": False,  # a name may hold dollars
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.2,
    "lines.linewidth": 1.6,
    **{f"{what}.color": INK for what in ("text", "xtick", "ytick", "grid")},
    **{f"axes.{what}": INK for what in ("edgecolor", "labelcolor")},
}
REPORT_ARCHS = tuple(arch for arch in ARCHS if arch != "resnet18")
WIDTH = 4.6  # inches; 331 points, about the width of a phone
ERROR = "mean class error, %"


def colour_of(arch: str) -> str:
    """The colour of a backbone, the same in every diagram."""
    return COLOURS[REPORT_ARCHS.index(arch)] if arch in REPORT_ARCHS else COLOURS[-1 if arch == "resnet18" else -2]


class Drawing:
    """A figure of one diagram, and the texts that its lines and bars show under the pointer."""

    def __init__(self, height: float = 3.0):
        self.context = matplotlib.rc_context(STYLE)
        self.context.__enter__()
        self.figure = Figure((WIDTH, height), layout="constrained")
        self.axes = self.figure.add_subplot()
        self.hover_texts: list[str] = []

    def add_hover(self, artist, text: str) -> None:
        artist.set_gid(f"hover-{len(self.hover_texts)}")
        self.hover_texts.append(text)

    def add_legend(self) -> None:
        self.axes.legend(frameon=False, fontsize=8)

    def svg(self, description: str) -> str:
        """The figure as an element of the page; screen readers read `description`."""
        written = StringIO()
        self.figure.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        self.context.__exit__(None, None, None)
        text = written.getvalue()
        text = text[text.index("<svg") :].replace(INK, "currentColor")
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
        for number, hover_text in enumerate(self.hover_texts):
            text = text.replace(f'<g id="hover-{number}">', f"<g><title>{escape(hover_text)}</title>")
        text = re.sub(r' id="(?!m[0-9a-f]{6}|p[0-9a-f]{6}|h[0-9a-f]{6})[^"]*"', "", text)  # but those in use
        return re.sub(r"<svg ", f'<svg role="img" aria-label="{escape(description)}" ', text, count=1)


def learning_curves(seeds: Sequence[Seed]) -> list[tuple[str, str]]:
    """(title, SVG) of the validation error by epoch, for each step: a colour a backbone, a line a run."""
    runs_of: dict[str, list] = {}
    for seed in seeds:
        for name, run in seed.runs.items():
            errors = run.column("val_mean_class_error")
            if errors:
                ending = name.removesuffix("-control").rpartition("-")[2]
                step = ending if ending in NAMES and ending != "base" else "base"
                title = NAMES[step] if step != "base" or run.settings.get("init") is None else "others"
                arch = str(run.settings.get("arch", name.partition("-")[0]))
                runs_of.setdefault(title, []).append((arch, seed.name, name, errors))
    titles = [title for title in [*NAMES.values(), "others"] if title in runs_of]
    return [(title, _curves(title, runs_of[title])) for title in titles]


def _curves(title: str, runs: Sequence[tuple[str, str, str, list[float]]]) -> str:
    """runs: backbone, seed, name and errors of each; controls are dashed."""
    drawing, labelled = Drawing(), set()
    for arch, seed, name, errors in runs:
        control = name.endswith("-control")
        label = arch + (", plain training" if control else "")
        (line,) = drawing.axes.plot(
            range(1, len(errors) + 1),
            100 * np.array(errors),
            color=colour_of(arch),
            linestyle="--" if control else "-",
            marker="." if len(errors) < 15 else None,
            label=None if label in labelled else label,
        )
        labelled.add(label)
        drawing.add_hover(line, f"{seed} {name}: {100 * errors[-1]:.2f} % after {len(errors)} epochs".strip())
    drawing.axes.set(xlabel="epoch", ylabel=ERROR)
    drawing.axes.xaxis.get_major_locator().set_params(integer=True)
    drawing.add_legend()
    return drawing.svg(f"Validation mean class error by epoch, {title}")


def steps(stages: Sequence[Stage], ensemble: EnsembleStatistics | None) -> str:
    """The error after each step, joined to that of the network that it started from, and of the sum."""
    drawing, places = Drawing(3.2), {step.key: place for place, step in enumerate(STEPS)}
    for arch in dict.fromkeys(stage.arch for stage in stages):
        errors = {stage.step: 100 * float(np.mean(stage.mean_class)) for stage in stages if stage.arch == arch}
        colour = colour_of(arch)
        for step in (step for step in STEPS if step.key in errors):
            start, error = step.start if step.start in errors else step.key, errors[step.key]
            ends = [places[start], places[step.key]]
            drawing.axes.plot(ends, [errors[start], error], color=colour, linewidth=1, alpha=0.6)
            (dot,) = drawing.axes.plot(ends[1:], [error], "o", color=colour)
            drawing.add_hover(dot, f"{arch}, {step.name}: {error:.2f} %")
        drawing.axes.plot([], [], "o-", color=colour, label=arch)
    ticks = [
        name.replace("accuracy loss", "accuracy\nloss").replace("whole set", "whole\nset") for name in NAMES.values()
    ]
    if ensemble is not None and len(ensemble.by_member) > 1:
        error = 100 * ensemble.error(ensemble.predicted)
        (star,) = drawing.axes.plot([len(STEPS)], [error], "*", color=INK, markersize=13)
        drawing.add_hover(star, f"sum of {len(ensemble.by_member)}: {error:.2f} %")
        drawing.axes.annotate(f"{error:.1f} %", (len(STEPS), error), (0, 9), textcoords="offset points", ha="center")
        ticks.append("sum")
    drawing.axes.set_xticks(range(len(ticks)), ticks)
    drawing.axes.set_ylabel(ERROR)
    drawing.axes.set_ylim(bottom=0)
    drawing.add_legend()
    return drawing.svg("Mean class error after each step of the report, by backbone")


def frequency(by_seed: Sequence[GroupErrors]) -> str:
    """Error of head, middle and tail, before and after balanced finetuning: means over backbones and seeds."""
    groups = by_seed[0].groups
    networks = [errors for seed in by_seed for errors in seed.by_arch.values() if "balanced" in errors]
    rows_of = {}
    for trained_on in TRAINED_ON:
        rows = [errors[trained_on] for errors in networks if trained_on in errors]
        if rows:
            rows_of[trained_on] = 100 * np.array(rows, float)  # None becomes NaN
    drawing = Drawing(2.8)
    for number, (trained_on, rows) in enumerate(rows_of.items()):
        places = np.arange(len(groups)) + (number - (len(rows_of) - 1) / 2) * 0.27
        bars = drawing.axes.bar(places, np.nanmean(rows, 0), 0.25, color=COLOURS[number], label=trained_on)
        for bar, group, value in zip(bars, groups, np.nanmean(rows, 0), strict=True):
            drawing.add_hover(bar, f"{group.name}, {trained_on}: {value:.2f} %, mean of {len(rows)} networks")
    drawing.axes.set_xticks(range(len(groups)), [f"{g.name}\n{g.least:,} to {g.most:,} a class" for g in groups])
    drawing.axes.set_ylabel(ERROR)
    drawing.add_legend()
    return drawing.svg("Mean class error of head, middle and tail classes before and after balanced finetuning")


def greedy(statistics: EnsembleStatistics) -> str:
    """The error of the sum as members join it, the most useful first."""
    drawing = Drawing(0.9 + 0.24 * len(statistics.greedy))
    names, errors = zip(*statistics.greedy, strict=True)
    alone = [100 * statistics.error(statistics.by_member[name]) for name in names]
    places = np.arange(len(names))
    bars = drawing.axes.barh(places, alone, 0.7, color=COLOURS[5], alpha=0.5, label="alone")
    for bar, name, value in zip(bars, names, alone, strict=True):
        drawing.add_hover(bar, f"{name} alone: {value:.2f} %")
    (line,) = drawing.axes.plot(100 * np.array(errors), places, "o-", color=COLOURS[3], label="sum so far")
    drawing.add_hover(line, ", ".join(f"with {name} {100 * error:.2f} %" for name, error in statistics.greedy))
    drawing.axes.set_yticks(places, [name if len(name) < 26 else f"{name[:24]}…" for name in names])
    drawing.axes.invert_yaxis()
    drawing.axes.set_xlabel(ERROR)
    drawing.add_legend()
    return drawing.svg("Mean class error of the sum as members join it in greedy order")


def crops(stages: Sequence[Stage]) -> str:
    """One crop against ten, a dot a network: below the dotted line ten are better."""
    drawing, all_errors = Drawing(3.2), []
    for stage in stages:
        for pair in zip(stage.one_crop, stage.mean_class, strict=True):
            if pair[0] is not None:
                one, ten = 100 * pair[0], 100 * pair[1]
                (dot,) = drawing.axes.plot(one, ten, "o", color=colour_of(stage.arch), markersize=5, alpha=0.85)
                name = f"{stage.arch} {NAMES[stage.step]}"
                drawing.add_hover(dot, f"{name}: {one:.2f} % with one crop, {ten:.2f} % with ten")
                all_errors += [one, ten]
    ends = [min(all_errors) - 1, max(all_errors) + 1]
    drawing.axes.plot(ends, ends, color=INK, alpha=0.4, linewidth=1, linestyle=":")
    for arch in dict.fromkeys(stage.arch for stage in stages):
        drawing.axes.plot([], [], "o", color=colour_of(arch), label=arch)
    drawing.axes.set(xlabel="one crop: mean class error, %", ylabel="ten crops, %")
    drawing.add_legend()
    return drawing.svg("Mean class error with one crop and with ten, by network")


def calibration(by_network: dict[str, Reliability]) -> str:
    """The share of right predictions against their probability."""
    drawing = Drawing(3.2)
    drawing.axes.plot([0, 100], [0, 100], color=INK, alpha=0.4, linewidth=1, linestyle=":")
    for number, (name, bins) in enumerate(by_network.items()):
        label = f"{one_line(name)}: off by {100 * bins.error:.1f} points"
        colour = COLOURS[number * 3 % len(COLOURS)]
        (line,) = drawing.axes.plot(100 * bins.confidence, 100 * bins.right, "o-", color=colour, label=label)
        drawing.add_hover(line, label)
    drawing.axes.set(xlabel="probability of the predicted class, %", ylabel="right predictions, %")
    drawing.add_legend()
    return drawing.svg("Reliability: share of right predictions against their probability")
