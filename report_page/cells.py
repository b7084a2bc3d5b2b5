"""Tables for the page and for Markdown documents, and how their figures are written."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from common.errors import one_line


class Cell(NamedTuple):
    """A text and the value to sort it by."""

    text: str
    value: float | str | None = None


class Table(NamedTuple):
    """Column titles, rows of cells, and a caption that explains the figures."""

    columns: list[str]
    rows: list[list[Cell]]
    caption: str = ""

    def markdown(self) -> str:
        lines = [self.columns, ["---"] * len(self.columns), *([cell.text for cell in row] for row in self.rows)]
        return "\n".join(f"| {' | '.join(map(_in_markdown, line))} |" for line in lines)


def _in_markdown(text: str) -> str:
    """The text without what Markdown would interpret: a bar would end the cell, and markup would take effect."""
    return escape(one_line(text), quote=False).replace("|", "\\|")


def text(value: object) -> Cell:
    return Cell(str(value), str(value))


def number(value: float | None, digits: int = 0, shown: str | None = None) -> Cell:
    """A number that the column is sorted by; empty for None. `shown`: another text for it."""
    if value is None:
        return Cell("")
    return Cell(f"{value:.{digits}f}" if shown is None else shown, value)


def percent(values: Sequence[float]) -> Cell:
    """Fractions, one a seed, as percent: the mean and, of two or more, the standard deviation."""
    if not len(values):
        return Cell("")
    values = 100 * np.asarray(values, float)
    mean = float(values.mean())
    return Cell(f"{mean:.2f}" + (f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else ""), mean)


def points(values: Sequence[float]) -> Cell:
    """Differences of fractions, one a seed, in percentage points with a sign: mean and standard deviation."""
    cell = percent(values)
    text = cell.text.removeprefix("-") if cell.text.startswith("-0.00") else cell.text
    return Cell(text if not text or text.startswith("-") else f"+{text}", cell.value)
