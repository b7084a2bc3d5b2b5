"""Helpers of the studies: calling scripts as a user does, errors of networks, tables, times."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import predict
from common.command_line import this_command
from predictions.reading import open_member
from training.settings import flag


def call(module, *arguments) -> None:
    """Run a script's `main` with these arguments; its output goes to standard error."""
    path = Path(module.__file__).relative_to(Path(__file__).resolve().parent.parent)
    sys.argv, stdout = [str(path), *map(str, arguments)], sys.stdout
    print("$", this_command(), *sys.argv[1:], file=sys.stderr, flush=True)
    sys.stdout = sys.stderr
    try:
        module.main()
    finally:
        sys.stdout = stdout


def flags(settings: dict) -> list[str]:
    """Settings as arguments."""
    return [part for name, value in settings.items() for part in flag(name, value).split()]


def error(checkpoint: Path, *more: str) -> float:
    """Mean class error of the validation split in percent, with ten crops; `more`: arguments of predict.py."""
    out = checkpoint.parent / f"val{''.join(more)}.npy"
    if not out.exists():
        call(predict, checkpoint, "--out", out, *more)
    return 100 * open_member(out).info.mean_class_error


def print_table(columns: tuple[str, ...], digits: tuple[int, ...], rows: np.ndarray) -> None:
    """Print rows (seeds, columns) with `digits` decimals; several seeds also get the mean and standard deviation."""
    print(f"| seed | {' | '.join(columns)} |\n|{'---|' * (1 + len(columns))}")
    for seed, row in enumerate(rows):
        cells = (f"{value:.{d}f}" for value, d in zip(row, digits, strict=True))
        print(f"| {seed} | {' | '.join(cells)} |")
    if len(rows) > 1:
        means, deviations = rows.mean(0), rows.std(0, ddof=1)
        cells = (f"{m:.{d}f} ± {s:.{d}f}" for m, s, d in zip(means, deviations, digits, strict=True))
        print(f"| mean ± standard deviation | {' | '.join(cells)} |")


def print_gain(name: str, other: str, gain: np.ndarray) -> None:
    """Print in how many seeds `name` is better than `other`; gain (seeds,) is the difference in points."""
    print(
        f"\n{name} is better than {other} in {(gain > 1e-9).sum()} of {len(gain)} seeds, by {gain.mean():.2f} points",
        end="",
    )
    print(f" ({gain.min():.2f} to {gain.max():.2f}).")


def paired_times(one: Callable[[], object], other: Callable[[], object], repeats: int) -> list[tuple[float, float]]:
    """Seconds of two functions, called in turn, after a first call of each that is not counted."""
    one(), other()
    pairs = []
    for _ in range(repeats):
        start = time.perf_counter()
        one()
        between = time.perf_counter()
        other()
        pairs.append((between - start, time.perf_counter() - between))
    return pairs


def compare_steps(
    names: tuple[str, str], plain: Callable[[], object], method: Callable[[], object], repeats: int
) -> None:
    """Time two steps in turn; print their medians, and the median and range of the ratio of a pair."""
    pairs = paired_times(plain, method, repeats)
    ratios = [after / before for before, after in pairs]
    before, after = (median(times) for times in zip(*pairs, strict=True))
    print(f"| {names[0]}, s | {names[1]}, s | ratio, median | lowest to highest |\n|---|---|---|---|")
    print(f"| {before:.4f} | {after:.4f} | {median(ratios):.3f} | {min(ratios):.3f} to {max(ratios):.3f} |")
