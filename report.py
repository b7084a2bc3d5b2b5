"""Prints the report's results beside ours, and writes one page of curves, pictures and tables.

    python report.py                  # reads runs/ and preds/, writes report/index.html
    python report.py --name grocery   # reads runs/grocery and preds/grocery, writes report/grocery/index.html
    python report.py --name demo --markdown   # also writes its tables into results/steps.md, between the marks of demo

The page is one file and needs no network. Every figure is computed from the files of predict.py and of the training
scripts. Folders seed-0, seed-1, … (reproduce_paper.sh --seeds) give means and standard deviations.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from common.command_line import Parser, run
from common.errors import InputError, one_line

if TYPE_CHECKING:
    from catalogues import Catalogue
    from report_page.cells import Table
    from report_page.page import Report
    from report_page.results import Seed


def arguments() -> argparse.Namespace:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("--name", help="name of the folders below runs/, preds/ and report/, as in reproduce_paper.sh")
    add("--runs", type=Path, help="folder of the training runs (default: runs/NAME)")
    add("--preds", type=Path, help="folder of the prediction files (default: preds/NAME)")
    add("--out", type=Path, help="folder for index.html (default: report/NAME)")
    add("--data", help="catalogue whose photographs are shown (default: that of the runs)")
    add("--markdown", nargs="*", type=Path, metavar="FILE", help="documents for its tables (default: results/steps.md)")
    args = parser.parse_args()
    name = args.name or ""
    if Path(name).name != name:
        raise InputError(f"--name {args.name}: expected a name, not a path; --runs and --preds take paths")
    for root in ("runs", "preds"):
        setattr(args, root, getattr(args, root) or Path(root, name))
    args.out = args.out or Path("report", name)
    return args


def open_catalogue_of(seeds: list[Seed], args: argparse.Namespace) -> Catalogue | None:
    """The catalogue of the runs, or the one of --data; None where it is not there any more."""
    from catalogues import open_catalogue
    from data import with_held_back

    data = args.data
    if not data:
        paths = [run.settings.get("data") for seed in seeds for run in seed.runs.values()]
        there = (path for path in paths if isinstance(path, str) and (path == "demo" or Path(path).exists()))
        data = next(there, None)
    if not data:
        return None
    catalogue, infos = open_catalogue(data, ignore_unknown_classes=True), []
    for network in (network for seed in seeds for network in seed.networks().values()):
        catalogue.require_classes(network.info.class_names, str(args.preds))
        infos.append(network.info)
    if infos and infos[0].split == "val" and "val" not in catalogue.splits:
        catalogue = with_held_back(catalogue, infos[0].image_ids, str(args.preds))
    return catalogue


def print_table(table: Table) -> None:
    lines = [table.columns, *([one_line(cell.text) for cell in row] for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())


def write_tables(report: Report, name: str, documents: list[Path]) -> None:
    from report_page.markdown import fill

    for document in documents:
        fill({f"report {name}": report.markdown(), f"steps {name}": report.short.markdown()}, "report.py", document)
        print(f"tables: {one_line(document)}")


def main() -> None:
    args = arguments()
    from report_page.results import read_results  # here and below: --help does not wait for their imports

    seeds = read_results(args.runs, args.preds)
    from report_page.page import Report, about, write_page

    report = Report(seeds, open_catalogue_of(seeds, args))
    print_table(report.steps)
    print(
        f"\n{one_line(about(report))}; ten crops. The report's errors are for the challenge's test set, 50,030 classes"
    )
    out = args.out / "index.html"
    write_page(report, out, f"Results: {args.name or 'product recognition'}")
    print(f"page: {one_line(out)}")
    if args.markdown is not None:
        write_tables(report, args.name or "runs", args.markdown or [Path("results/steps.md")])


if __name__ == "__main__":
    run(main)
