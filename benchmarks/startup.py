"""How long `--help` of each script takes, beside another checkout of this project.

    git worktree add /tmp/before REVISION
    python benchmarks/startup.py --before /tmp/before

The scripts of both checkouts are called in turn, after one call of each that is not counted. Prints Markdown: medians,
and the median of the ratios, pair by pair. A script that the other checkout lacks under its name is looked for under
its former name.
"""

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from common.command_line import Parser, number, run  # noqa: E402
from common.errors import InputError  # noqa: E402

SCRIPTS = ["train.py", "finetune_dcl.py", "train_lio.py", "predict.py", "export.py", "ensemble.py", "report.py"]
SCRIPTS += ["tricks.bbn", "tricks.pseudo_label", "data.pack", "data.duplicates", "data.demo"]
FORMER = {"tricks.bbn": "train_bbn.py", "tricks.pseudo_label": "pseudo_label.py"}


def command(root: Path, script: str) -> list[str]:
    """What prints the help text of a script of the checkout at `root`."""
    name = script if (root / script).exists() or (root / f"{script.replace('.', '/')}.py").exists() else FORMER[script]
    return [sys.executable, *([name] if name.endswith(".py") else ["-m", name]), "--help"]


def seconds(root: Path, script: str) -> float:
    start = time.perf_counter()
    subprocess.run(command(root, script), cwd=root, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--before", type=Path, required=True, metavar="DIR", help="the other checkout")
    parser.add_argument("--repeats", type=number(int, 1), default=5, metavar="N", help="counted calls (default: 5)")
    args = parser.parse_args()
    if not (args.before / "train.py").exists():
        raise InputError(f"--before {args.before}: holds no train.py; name a checkout of this project")
    print("| script | before, s | now, s | ratio |\n|---|---|---|---|")
    for script in SCRIPTS:
        seconds(args.before, script), seconds(ROOT, script)
        pairs = [(seconds(args.before, script), seconds(ROOT, script)) for _ in range(args.repeats)]
        before, now = (median(column) for column in zip(*pairs, strict=True))
        ratio = median(old / new for old, new in pairs)
        print(f"| {script} | {before:.2f} | {now:.2f} | {ratio:.1f} |", flush=True)


if __name__ == "__main__":
    run(main)
