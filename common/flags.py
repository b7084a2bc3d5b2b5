"""Command lines of scripts and tools: argparse whose complaints are one line, and numbers that are in their range."""

import argparse
import math
from collections.abc import Callable

from common.errors import InputError

MOST = 2**53  # of integers: as far as floating-point numbers count exactly
PRECISIONS = ("auto", "bf16", "float32")
FITS = ("squash", "pad", "crop")  # of photographs that are not square, into squares
MEMORY_FORMATS = ("auto", "channels_last", "contiguous")


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are the same single line as every other error; flags are written out.

    An abbreviation would mean something else, or nothing, once a script has another flag.
    """

    def __init__(self, formatter_class: type = argparse.RawDescriptionHelpFormatter, **options):
        super().__init__(formatter_class=formatter_class, allow_abbrev=False, **options)

    def _get_value(self, action: argparse.Action, text: str):
        if text == "" and action.type is not numbers:  # --out "$RUN" of a shell that knows no RUN
            raise argparse.ArgumentError(action, "is empty; give a value, or leave it out")
        return super()._get_value(action, text)

    def error(self, message: str):
        raise InputError(f"{message} (see {self.prog} --help)")


def number(kind: type, low: float, high: float = math.inf, above: bool = False) -> Callable[[str], float]:
    """An argparse type: a finite `kind` (int or float) from `low` to `high`; `above`: `low` itself is too small."""
    most = min(high, MOST) if kind is int else high

    def convert(text: str):
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= most or value == math.inf or (above and value == low):
            expected = f"{'an integer' if kind is int else 'a number'} {'above' if above else 'of at least'} {low}"
            bounded = high < math.inf or most < value < math.inf
            raise argparse.ArgumentTypeError(f"{text!r}: expected {expected}" + f", at most {most}" * bounded)
        return value

    return convert


def numbers(text: str) -> list[float]:
    """An argparse type: comma-separated non-negative numbers; "" and "none" are the empty list."""
    if text in ("", "none"):
        return []
    return [number(float, 0)(part) for part in text.split(",")]


def add_worker_timeout(add: Callable) -> None:
    """Add --worker-timeout. add: the `add_argument` of a parser or of one of its groups."""
    limit = "stop when one photograph takes longer to read (default: 300; 0: no limit)"
    add("--worker-timeout", type=number(float, 0), default=300.0, metavar="SECONDS", help=limit)


def add_worker_arguments(add: Callable) -> None:
    """Add --workers and --worker-timeout. add: the `add_argument` of a parser or of one of its groups."""
    count = "processes that read photographs (default: beside a GPU one a core, up to 16; else 1)"
    add("--workers", type=number(int, 0, 256), metavar="N", help=count)
    add_worker_timeout(add)


def add_ignore_unknown(add: Callable) -> None:
    """Add --ignore-unknown-classes. add: the `add_argument` of a parser or of one of its groups."""
    help = "leave out photographs of classes that no training photograph has"
    add("--ignore-unknown-classes", action="store_true", help=help)


def add_compute_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `common.device.choose_compute`."""
    add = parser.add_argument_group("device").add_argument
    add("--device", help="cpu, cuda, cuda:1, … (default: cuda where there is one)")
    add("--precision", choices=PRECISIONS, default="auto", help="auto: the fastest on this processor")
    add("--memory-format", choices=MEMORY_FORMATS, default="auto", help="auto: channels_last")
