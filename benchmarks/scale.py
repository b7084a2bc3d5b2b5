"""The challenge's own size: what it takes to open a catalogue of 3 million photographs in 50,030 classes.

    python benchmarks/scale.py
    python benchmarks/scale.py --images 300000 --classes 5000

A synthetic train.json of that many entries, long-tailed; no photographs. It is opened twice, each time in a process of
its own: read, and from its index. Prints Markdown.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from engine.cli import Parser, number, run  # noqa: E402

OPEN = """
import resource, sys, time
from data import balanced_subset, open_catalogue
before = int(open("/proc/self/status").read().split("VmRSS:")[1].split()[0])
start = time.perf_counter()
catalogue = open_catalogue(sys.argv[1])
opened = time.perf_counter()
resident = int(open("/proc/self/status").read().split("VmRSS:")[1].split()[0]) - before
balanced_subset(catalogue.split("train").labels, 30)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(opened - start, peak, resident, time.perf_counter() - opened)
"""


def write_catalogue(path: Path, images: int, classes: int) -> None:
    """train.json with as many entries, of classes whose sizes fall like 1 / (rank + 30), at least five."""
    rng, weight = np.random.default_rng(0), 1 / (np.arange(classes) + 30)
    counts = np.maximum(5, (weight / weight.sum() * images).astype(int))
    labels = np.resize(rng.permutation(np.repeat(np.arange(classes), counts)), images)
    with open(path, "w") as file:
        file.write('{"images": [')
        for start in range(0, images, 100_000):
            entries = enumerate(labels[start : start + 100_000].tolist(), start)
            text = ", ".join(f'{{"image_id": "{place:016x}.jpg", "class_id": {label}}}' for place, label in entries)
            file.write((", " if start else "") + text)
        file.write("]}")


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=number(int, 20_000), default=3_000_000, help="(default: 3,000,000)")
    parser.add_argument("--classes", type=number(int, 1), default=50_030, help="(default: 50,030)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "train.json")
        write_catalogue(file, args.images, args.classes)
        print(f"{args.images:,} entries of {args.classes:,} classes, {file.stat().st_size / 1e6:.0f} MB\n")
        print("| | opened in, s | peak above the imports, MiB | resident above the imports, MiB | balanced subset, s |")
        print("|---|---|---|---|---|")
        for name in ("read", "from its index"):
            command = [sys.executable, "-c", OPEN, folder]
            done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
            seconds, peak, resident, subset = map(float, done.stdout.split())
            print(f"| {name} | {seconds:.2f} | {peak / 1024:.0f} | {resident / 1024:.0f} | {subset:.2f} |")


if __name__ == "__main__":
    run(main)
