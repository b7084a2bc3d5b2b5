"""The report's curves and diagrams by matplotlib, as SVG that takes the page's own text colour and font."""

import re
from collections.abc import Sequence
from html import escape
from io import StringIO

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from models import ARCHS
from report_page.counting import Counted, Group, Reliability
from report_page.results import STEPS, Seed
from report_page.tables import NAMES, Stage

matplotlib.use("svg")
INK = "#010203"  # stands for the page's text colour, whichever theme it has
# After Okabe and Ito's palette for colour-blind people (2008), made to be seen on white and on black.
COLOURS = ("#2a86cf", "#e69f00", "#12a77c", "#de5f1b", "#cc79a7", "#6fc0ee", "#b0a000", "#8f7ee0")
STYLE = {
    "svg.fonttype": "none",  # text stays text: it can be read aloud, searched, and takes the page's font
    "svg.hashsalt": "report",  # the same figure has the same bytes
    "text.parse_math": False,  # a name with dollars is a name
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
KNOWN = tuple(arch for arch in ARCHS if arch != "resnet18")
WIDTH = 4.6  # inches; 331 points, about what a phone shows at full size


def colour_of(arch: str) -> str:
    """The same for a backbone in every diagram."""
    return COLOURS[KNOWN.index(arch)] if arch in KNOWN else COLOURS[-1 if arch == "resnet18" else -2]


class Drawing:
    """A figure of one diagram, and what its lines and bars say when one points at them."""

    def __init__(self, height: float = 3.0):
        self.context = matplotlib.rc_context(STYLE)
        self.context.__enter__()
        self.figure = Figure((WIDTH, height), layout="constrained")
        self.axes = self.figure.add_subplot()
        self.hover: list[str] = []

    def tell(self, artist, text: str) -> None:
        artist.set_gid(f"hover-{len(self.hover)}")
        self.hover.append(text)

    def svg(self, description: str) -> str:
        """The figure as an element for the page; `description` for those who do not see it."""
        written = StringIO()
        self.figure.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        self.context.__exit__(None, None, None)
        text = written.getvalue()
        text = text[text.index("<svg") :].replace(INK, "currentColor")
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
        for number, said in enumerate(self.hover):
            text = text.replace(f'<g id="hover-{number}">', f"<g><title>{escape(said)}</title>")
        text = re.sub(r' id="(?!m[0-9a-f]{6}|p[0-9a-f]{6}|h[0-9a-f]{6})[^"]*"', "", text)  # unless it is referred to
        return re.sub(r"<svg ", f'<svg role="img" aria-label="{escape(description)}" ', text, count=1)


def curves(seeds: Sequence[Seed]) -> list[tuple[str, str]]:
    """Validation error by epoch, (title, SVG) for each step: a colour a backbone, a line a run, controls dashed."""
    found: dict[str, list] = {}
    for seed in seeds:
        for name, run in seed.runs.items():
            errors = run.column("val_mean_class_error")
            if errors:
                ending = name.removesuffix("-control").rpartition("-")[2]
                step = ending if ending in NAMES and ending != "base" else "base"
                title = NAMES[step] if step != "base" or run.settings.get("init") is None else "others"
                arch = str(run.settings.get("arch", name.partition("-")[0]))
                found.setdefault(title, []).append((arch, seed.name, name, errors))
    order = [NAMES[ending] for ending, *_ in STEPS] + ["others"]
    drawn = []
    for title in (title for title in order if title in found):
        drawing, labelled = Drawing(), set()
        for arch, seed, name, errors in found[title]:
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
            drawing.tell(line, f"{seed} {name}: {100 * errors[-1]:.2f} % after {len(errors)} epochs".strip())
        drawing.axes.set(xlabel="epoch", ylabel="mean class error, %")
        drawing.axes.xaxis.get_major_locator().set_params(integer=True)
        drawing.axes.legend(frameon=False, fontsize=8)
        drawn.append((title, drawing.svg(f"Validation mean class error by epoch, {title}")))
    return drawn


def steps(found: Sequence[Stage], best: Counted | None) -> str:
    """The error after each step, joined to that of the network that it started from, and of the sum."""
    drawing = Drawing(3.2)
    order, origins = [ending for ending, *_ in STEPS], {ending: origin for ending, *_, origin in STEPS}
    archs = list(dict.fromkeys(stage.arch for stage in found))
    for arch in archs:
        mine = {stage.step: 100 * float(np.mean(stage.mean_class)) for stage in found if stage.arch == arch}
        colour = colour_of(arch)
        for step, error in mine.items():  # a line to what the step started from
            start = origins[step] if origins[step] in mine else step
            places = [order.index(start), order.index(step)]
            drawing.axes.plot(places, [mine[start], error], color=colour, linewidth=1, alpha=0.6)
            (dot,) = drawing.axes.plot(places[1:], [error], "o", color=colour)
            drawing.tell(dot, f"{arch}, {NAMES[step]}: {error:.2f} %")
        drawing.axes.plot([], [], "o-", color=colour, label=arch)
    ticks = [
        NAMES[step].replace("accuracy loss", "accuracy\nloss").replace("whole set", "whole\nset") for step in order
    ]
    if best is not None and len(best.predicted) > 1:
        error = 100 * best.error(best.total)
        (star,) = drawing.axes.plot([len(order)], [error], "*", color=INK, markersize=13)
        drawing.tell(star, f"sum of {len(best.predicted)}: {error:.2f} %")
        drawing.axes.annotate(f"{error:.1f} %", (len(order), error), (0, 9), textcoords="offset points", ha="center")
        ticks.append("sum")
    drawing.axes.set_xticks(range(len(ticks)), ticks)
    drawing.axes.set_ylabel("mean class error, %")
    drawing.axes.set_ylim(bottom=0)
    drawing.axes.legend(frameon=False, fontsize=8)
    return drawing.svg("Mean class error after each step of the report, by backbone")


def frequency(by_seed: Sequence[dict]) -> str:
    """Mean class error of head, middle and tail, before and after balancing: means over backbones and seeds."""
    groups: list[Group] = by_seed[0]["groups"]
    kinds: dict[str, list] = {"whole set": [], "plain training": [], "balanced": []}
    for found in by_seed:
        for chain in found["archs"].values():
            if "balanced" in dict(chain):
                for what, errors in chain:
                    kinds[what].append([np.nan if error is None else 100 * error for error in errors])
    kinds = {what: np.array(rows) for what, rows in kinds.items() if rows}
    drawing = Drawing(2.8)
    for number, (what, rows) in enumerate(kinds.items()):
        places = np.arange(len(groups)) + (number - (len(kinds) - 1) / 2) * 0.27
        bars = drawing.axes.bar(places, np.nanmean(rows, 0), 0.25, color=COLOURS[number], label=what)
        for bar, group, value in zip(bars, groups, np.nanmean(rows, 0), strict=True):
            drawing.tell(bar, f"{group.name}, {what}: {value:.2f} %, mean of {len(rows)} networks")
    drawing.axes.set_xticks(range(len(groups)), [f"{g.name}\n{g.least:,} to {g.most:,} a class" for g in groups])
    drawing.axes.set_ylabel("mean class error, %")
    drawing.axes.legend(frameon=False, fontsize=8)
    return drawing.svg("Mean class error of head, middle and tail classes before and after balanced finetuning")


def greedy(own: Counted) -> str:
    """The error of the sum as members join it, the most useful first."""
    drawing = Drawing(0.9 + 0.24 * len(own.greedy))
    names, errors = zip(*own.greedy, strict=True)
    alone = [100 * own.error(own.predicted[name]) for name in names]
    places = np.arange(len(names))
    bars = drawing.axes.barh(places, alone, 0.7, color=COLOURS[5], alpha=0.5, label="alone")
    for bar, name, value in zip(bars, names, alone, strict=True):
        drawing.tell(bar, f"{name} alone: {value:.2f} %")
    (line,) = drawing.axes.plot(100 * np.array(errors), places, "o-", color=COLOURS[3], label="sum so far")
    drawing.tell(line, ", ".join(f"with {name} {100 * error:.2f} %" for name, error in own.greedy))
    drawing.axes.set_yticks(places, [name if len(name) < 26 else f"{name[:24]}…" for name in names])
    drawing.axes.invert_yaxis()
    drawing.axes.set_xlabel("mean class error, %")
    drawing.axes.legend(frameon=False, fontsize=8)
    return drawing.svg("Mean class error of the sum as members join it in greedy order")


def crops(found: Sequence[Stage]) -> str:
    """One crop against ten, a dot a network: below the line ten are better."""
    drawing = Drawing(3.2)
    archs = list(dict.fromkeys(stage.arch for stage in found))
    both = []
    for stage in found:
        pairs = [
            (100 * one, 100 * ten) for one, ten in zip(stage.centre, stage.mean_class, strict=True) if one is not None
        ]
        for pair in pairs:
            (dot,) = drawing.axes.plot(*pair, "o", color=colour_of(stage.arch), markersize=5, alpha=0.85)
            drawing.tell(
                dot, f"{stage.arch} {NAMES[stage.step]}: {pair[0]:.2f} % with one crop, {pair[1]:.2f} % with ten"
            )
            both += pair
    ends = [min(both) - 1, max(both) + 1]
    drawing.axes.plot(ends, ends, color=INK, alpha=0.4, linewidth=1, linestyle=":")
    for arch in archs:
        drawing.axes.plot([], [], "o", color=colour_of(arch), label=arch)
    drawing.axes.set(xlabel="one crop: mean class error, %", ylabel="ten crops, %")
    drawing.axes.legend(frameon=False, fontsize=8)
    return drawing.svg("Mean class error with one crop and with ten, by network")


def reliable(lines: dict[str, Reliability]) -> str:
    """The share that is right against the probability that was claimed."""
    drawing = Drawing(3.2)
    drawing.axes.plot([0, 100], [0, 100], color=INK, alpha=0.4, linewidth=1, linestyle=":")
    for number, (name, own) in enumerate(lines.items()):
        label = f"{name}: off by {100 * own.error:.1f} points"
        (line,) = drawing.axes.plot(
            100 * own.confidence, 100 * own.right, "o-", color=COLOURS[number * 3 % len(COLOURS)], label=label
        )
        drawing.tell(line, label)
    drawing.axes.set(xlabel="probability of the predicted class, %", ylabel="of these right, %")
    drawing.axes.legend(frameon=False, fontsize=8)
    return drawing.svg("Reliability: share of right predictions against their probability")
