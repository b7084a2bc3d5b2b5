"""What came out: the report's table beside ours, and a page of curves, pictures and tables.

    python report.py                  # of runs/ and preds/ -> report/index.html
    python report.py --name grocery   # of runs/grocery and preds/grocery -> report/grocery/index.html
    python report.py --markdown       # and its tables into RESULTS.md, between its marks for this name

The page is one file that needs no network. Every figure comes from what predict.py and the training scripts have
written; folders seed-0, seed-1, … (reproduce_paper.sh --seeds) give means and standard deviations.
"""

import argparse
from pathlib import Path

from common.command_line import Parser, run
from common.errors import InputError, one_line
from report_page.results import Seed, read_results


def arguments() -> argparse.Namespace:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("--name", help="of the folders below runs/, preds/ and report/, as in reproduce_paper.sh")
    add("--runs", type=Path, help="(default: runs/NAME)")
    add("--preds", type=Path, help="(default: preds/NAME)")
    add("--out", type=Path, help="folder of index.html (default: report/NAME)")
    add("--data", help="the catalogue of photographs to show (default: the one the runs were trained on)")
    add("--markdown", nargs="*", type=Path, metavar="FILE", help="documents with such marks (default: RESULTS.md)")
    args = parser.parse_args()
    name = args.name or ""
    if Path(name).name != name:
        raise InputError(f"--name {args.name}: expected a name, not a path; --runs and --preds take paths")
    for root in ("runs", "preds"):
        setattr(args, root, getattr(args, root) or Path(root, name))
    args.out = args.out or Path("report", name)
    return args


def catalogue_of(seeds: list[Seed], data: str | None):
    """The catalogue of the runs, or None where it is not there any more."""
    from data import open_catalogue

    if data:
        return open_catalogue(data)
    for training in (training for seed in seeds for training in seed.runs.values()):
        data = training.settings.get("data")
        if isinstance(data, str) and (data == "demo" or Path(data).is_dir()):
            return open_catalogue(data)
    return None


def print_table(table) -> None:
    widths = [max(len(row[place]) for row in [table.columns, *shown(table)]) for place in range(len(table.columns))]
    for row in [table.columns, *shown(table)]:
        print("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def shown(table) -> list[list[str]]:
    return [[one_line(cell.text) for cell in row] for row in table.rows]


def main() -> None:
    args = arguments()
    seeds = read_results(args.runs, args.preds)
    # Imported late: they take seconds, and a wrong folder is told at once.
    from report_page.counting import count
    from report_page.markdown import fill
    from report_page.page import Report, about, write_page

    catalogue = catalogue_of(seeds, args.data)
    if catalogue is not None:
        for info in (network.info for seed in seeds for network in seed.all().values()):
            catalogue.require_classes(info.class_names, str(args.preds))
    report = Report(seeds, [count(seed) for seed in seeds], catalogue)
    print_table(report.steps)
    print(f"\n{one_line(about(report))}; ten crops. The report: the challenge's test set, 50,030 classes")
    out = args.out / "index.html"
    write_page(report, out, f"What came out: {args.name or 'product recognition'}")
    print(f"page: {one_line(out)}")
    name = args.name or "runs"
    for document in [] if args.markdown is None else args.markdown or [Path("RESULTS.md")]:
        fill({f"report {name}": report.markdown(), f"steps {name}": report.short.markdown()}, "report.py", document)
        print(f"tables: {one_line(document)}")


if __name__ == "__main__":
    run(main)
