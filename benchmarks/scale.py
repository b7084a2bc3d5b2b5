"""Time and memory at the challenge's size: 3 million photographs, 50,030 classes, and predictions for them.

    python benchmarks/scale.py                                       # every part
    python benchmarks/scale.py --part catalogue --images 300000 --classes 5000
    python benchmarks/scale.py --part ensemble --preds "preds/*.npy"

The parts:
    catalogue   opens a synthetic, long-tailed train.json without photographs, once by reading it, once from its index
    workers     memory of the catalogue with eight worker processes
    pack        reads the photographs of --photos from their files and from shards
    ensemble    sums synthetic members with numpy and with ensemble.py, and only reads them; then the size of files with
                the k most probable classes, and how many winners they prove, also for the files of --preds
    head        training steps with a classifier of that many classes (benchmarks/head.py)
Prints Markdown.
"""

import argparse
import glob
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from common.command_line import Parser, number, run  # noqa: E402
from predictions.ensemble_sum import add_members, in_order, kernel_for, pieces  # noqa: E402
from predictions.format import PredictionInfo  # noqa: E402
from predictions.reading import Member, open_members  # noqa: E402
from predictions.writer import write_predictions  # noqa: E402

OPEN = """
import resource, sys, time
from catalogues import open_catalogue
from data import balanced_subset
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
    """train.json with that many entries; the sizes of classes fall as 1 / (rank + 30), but are at least five."""
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


def time_catalogue(args: argparse.Namespace) -> None:
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
        print("| goals: read, from its index | 30, 1 | 1024 | 300 | 2 |")


# workers -----------------------------------------------------------------------------------------------------------

EPOCH = """
import sys, torch
from pathlib import Path
from torch.utils.data import DataLoader, Dataset
from catalogues import open_catalogue
from data import EpochBatches
from data.loader import keep_shared

class Names(Dataset):
    # A photograph's path and label, as every visit needs them, without the photograph.
    def __init__(self, split, as_list):
        self.split = split
        self.samples = [(str(split.path(n)), int(split.labels[n])) for n in range(len(split))] if as_list else None
    def __getitem__(self, draw):
        path, label = self.samples[draw.index] if self.samples else (self.split.path(draw.index), None)
        return int(self.split.labels[draw.index]) if label is None else label

def proportional(pids):  # MiB
    rollups = (Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids)
    return sum(int(text.split("Pss:")[1].split()[0]) for text in rollups) / 1024

split = open_catalogue(sys.argv[1]).split("train")
for array in (split.paths.buffer, split.paths.offsets, split.labels):
    array.max()  # reads what is mapped from the index, so that it counts from the start
names = Names(split, sys.argv[2] == "list")
batches = EpochBatches(range(len(split)), 1000)
keep_shared()
loader = iter(DataLoader(names, batch_sampler=batches, num_workers=8, collate_fn=len))
pids = ["self", *(worker.pid for worker in loader._workers)]
for _ in range(16):
    next(loader)
before = proportional(pids)
for n in range(16, len(batches)):
    if n == len(batches) - 20:
        print(before, proportional(pids))
    next(loader)
"""


def measure_workers(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        write_catalogue(Path(folder, "train.json"), args.images, args.classes)
        print(f"An epoch of {args.images:,} paths and labels, 8 workers; proportional set sizes of all, added\n")
        print("| the catalogue is | at the start, MiB | at the end, MiB | growth (goal: 10 % at most) |")
        print("|---|---|---|---|")
        for name, kind in (("ours: flat arrays", "ours"), ("a list of (path, label), as torchvision's", "list")):
            command = [sys.executable, "-c", EPOCH, folder, kind]
            done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
            before, after = map(float, done.stdout.split())
            print(f"| {name} | {before:.0f} | {after:.0f} | {after / before - 1:.1%} |", flush=True)


# pack --------------------------------------------------------------------------------------------------------------

READ = """
import sys, time
from catalogues import open_catalogue
from data import read_squashed
split = open_catalogue(sys.argv[1]).split("train")
places = range(0, len(split), max(1, len(split) // 400))
for turn in range(2):  # the first brings the files into memory
    start = time.process_time()
    for place in places:
        read_squashed(split.path(place), int(sys.argv[2]))
    taken = time.process_time() - start
print(len(places) / taken)
"""


def time_pack(args: argparse.Namespace) -> None:
    size = "256"
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        shards = f"{folder}/shards"
        command = [sys.executable, "-m", "data.pack", "--data", args.photos, "--size", size, "--out", shards]
        start = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        print(
            f"{args.photos} packed in {time.perf_counter() - start:.0f} s: {done.stdout.strip().partition(': ')[2]}\n"
        )
        print(f"| photographs, read and squashed to {size} | a CPU second, median of {args.repeats} | ratio |")
        print("|---|---|---|")
        rates: dict[str, list[float]] = {"originals": [], "shards": []}
        for _ in range(args.repeats):
            for name, data in (("originals", args.photos), ("shards", shards)):
                command = [sys.executable, "-c", READ, data, size]
                done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
                rates[name].append(float(done.stdout))
        for name, each in rates.items():
            print(f"| {name} | {median(each):.0f} | {median(each) / median(rates['originals']):.2f} |")


# head --------------------------------------------------------------------------------------------------------------


def measure_head(args: argparse.Namespace) -> None:
    subprocess.run([sys.executable, ROOT / "benchmarks/head.py", "--classes", str(args.classes)], check=True)


# ensemble ----------------------------------------------------------------------------------------------------------

ADD = """
import sys, ensemble
ensemble.main(sys.argv[1:])
print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0], file=sys.stderr)
"""


def synthetic_rows(rows: int, classes: int, member: int) -> np.ndarray:
    """(rows, classes) float32: softmax of logits that all members share in part; most have one dominant class."""
    shared, alone = np.random.default_rng(0), np.random.default_rng(1 + member)
    logits = 2 * shared.standard_normal((rows, classes), np.float32)
    logits += alone.standard_normal((rows, classes), np.float32)
    logits[np.arange(rows), shared.integers(classes, size=rows)] += shared.gamma(4, 4, rows)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def write_member(path: Path, rows: np.ndarray, times: int = 1, top_k: int | None = None) -> Path:
    count, classes = len(rows) * times, rows.shape[1]
    labels, ids = [n % classes for n in range(count)], [f"{n}.jpg" for n in range(count)]
    info = PredictionInfo("val", "net", labels, ids, [str(n) for n in range(classes)], top_k=top_k)
    with write_predictions(path, info) as writer:
        for _ in range(times):
            for start in range(0, len(rows), 100):
                writer.append(rows[start : start + 100])
    return path


def numpy_at_once(paths: list[Path]) -> np.ndarray:
    return sum(np.load(path, allow_pickle=False).astype(np.float32) for path in paths).argmax(axis=1)


def numpy_in_pieces(paths: list[Path]) -> np.ndarray:
    stored = [np.load(path, mmap_mode="r", allow_pickle=False) for path in paths]
    starts = range(0, len(stored[0]), 50)
    return np.concatenate([sum(m[n : n + 50].astype(np.float32) for m in stored).argmax(axis=1) for n in starts])


def only_reading(paths: list[Path]) -> None:
    buffer = bytearray(2**20)
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def ours(members: list[Member], kernel) -> np.ndarray:
    def add(piece: tuple[int, int]):
        return add_members(members, np.ones(len(members)), *piece, kernel)

    return np.concatenate([sums.predicted for _, sums in in_order(add, pieces(*members[0].info.shape))])


def ensemble_memory(paths: list[Path]) -> float:
    """Peak memory of `python ensemble.py`, MiB."""
    run_it = [sys.executable, "-c", ADD, *map(str, paths)]
    done = subprocess.run(run_it, cwd=ROOT, check=True, capture_output=True, text=True)
    return int(done.stderr) / 1024


def time_ensemble(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        rows = [synthetic_rows(1000, args.classes, member) for member in range(4)]
        paths = [write_member(folder / f"{member}.npy", each) for member, each in enumerate(rows)]
        members = open_members(paths)
        kernel = kernel_for(members)
        ways = {
            "numpy at once": lambda: numpy_at_once(paths),
            "numpy in pieces": lambda: numpy_in_pieces(paths),
            "only reading": lambda: only_reading(paths),
            "ours, in a running process": lambda: ours(members, kernel),
            "`python ensemble.py`, the whole command": lambda: ensemble_memory(paths),
        }
        times = {way: [] for way in ways}
        for _ in range(1 + args.repeats):  # in turn, so that other load of the machine affects all alike
            for way, function in ways.items():
                start = time.perf_counter()
                function()
                times[way].append(time.perf_counter() - start)
        at_once, reading = (median(times[way][1:]) for way in ("numpy at once", "only reading"))
        print(f"4 members, 1,000 photographs, {args.classes:,} classes, float16; medians of {args.repeats}\n")
        print(
            "| | s | times as fast as numpy at once (goal 10) | times as long as reading (goal 4) |\n|---|---|---|---|"
        )
        for way, taken in times.items():
            took = median(taken[1:])
            print(f"| {way} | {took:.3f} | {at_once / took:.1f} | {took / reading:.1f} |")
        small = ensemble_memory(paths)
        for path, each in zip(paths, rows[:2], strict=False):
            write_member(path, each, args.rows // 1000)
        only_reading(paths[:2])  # the disk may still be writing them
        start = time.perf_counter()
        large = ensemble_memory(paths[:2])
        between = time.perf_counter()
        only_reading(paths[:2])
        read = time.perf_counter()
        numpy_in_pieces(paths[:2])
        numpy, reading, whole = time.perf_counter() - read, read - between, between - start
        print(f"\n2 members, {args.rows:,} photographs: the whole command takes {whole:.1f} s, only reading", end=" ")
        print(f"{reading:.1f} s, numpy in pieces {numpy:.1f} s. Peak memory of the command: {small:.0f} MiB", end=" ")
        print(f"(4 members, 1,000 photographs), {large:.0f} MiB (2 members, {args.rows:,}); goal: 1024\n")
    print_disk(args)
    print_proven(args)


def print_disk(args: argparse.Namespace) -> None:
    """Print the bytes of a photograph, and of eleven members of 250,000 photographs."""
    print("| file | bytes a photograph | eleven members, 250,000 photographs, GB |\n|---|---|---|")
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        rows = synthetic_rows(200, args.classes, 0)
        for name, path in {
            "all classes": write_member(Path(folder, "all.npy"), rows),
            "k = 100": write_member(Path(folder, "top.npz"), rows, top_k=100),
        }.items():
            size = path.stat().st_size / len(rows)
            print(f"| {name} | {size:.0f} | {size * 11 * 250_000 / 1e9:.2f} |")


def cut_to_top(source: Path, target: Path, k: int) -> Path:
    """Write the k most probable classes of a full prediction file, as predict.py --top-k does."""
    (member,) = open_members([source])
    member.info.top_k, images = k, member.info.shape[0]
    with write_predictions(target, member.info, member.dtype.name) as writer:
        for start in range(0, images, 100):
            writer.append(member.rows(start, min(start + 100, images)))
    return target


def print_proven(args: argparse.Namespace) -> None:
    """Print, for several k, the share of winners that members cut to k prove, and that the full files give too."""
    print("\n| members | k | certain | same winner as in full | certain but another winner |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        synthetic = [write_member(folder / f"{n}.npy", synthetic_rows(200, args.classes, n)) for n in range(11)]
        groups = {f"11 synthetic, {args.classes:,} classes": (synthetic, (5, 10, 20, 100))}
        for pattern in args.preds:
            found = [Path(path) for path in sorted(glob.glob(pattern))]
            groups[f"{len(found)} of `{pattern}`"] = found, (3, 5, 10)
        for title, (paths, ks) in groups.items():
            full = [sums.predicted for sums in add_all(paths)]
            for k in ks:
                cut = [cut_to_top(path, folder / f"{k}" / f"{title[:2]}{n}.npz", k) for n, path in enumerate(paths)]
                sums = list(add_all(cut))
                certain = np.concatenate([each.certain for each in sums])
                same = np.concatenate([each.predicted for each in sums]) == np.concatenate(full)
                print(f"| {title} | {k} | {certain.mean():.1%} | {same.mean():.1%} | {(certain & ~same).sum()} |")


def add_all(paths: list[Path]):
    members = open_members(paths)
    for start, stop in pieces(*members[0].info.shape):
        yield add_members(members, np.ones(len(members)), start, stop)


PARTS = {
    "catalogue": time_catalogue,
    "workers": measure_workers,
    "pack": time_pack,
    "ensemble": time_ensemble,
    "head": measure_head,
}


def main() -> None:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("--part", choices=PARTS, help="one part (default: all)")
    add(
        "--images",
        type=number(int, 20_000),
        default=3_000_000,
        help="catalogue entries (default: 3,000,000)",
    )
    add("--classes", type=number(int, 101), default=50_030, help="classes (default: 50,030)")
    add(
        "--rows",
        type=number(int, 1000),
        default=20_000,
        help="photographs in the memory test (default: 20,000: 4 GB)",
    )
    add("--photos", default="demo", metavar="DIR", help="catalogue to pack (default: demo)")
    add("--repeats", type=number(int, 1), default=5, help="counted repetitions (default: 5)")
    add(
        "--preds",
        nargs="*",
        default=[],
        metavar="GLOB",
        help="full prediction files, each pattern an ensemble",
    )
    add("--folder", type=Path, help="folder for temporary files, 5 GB (default: the system's)")
    args = parser.parse_args()
    for part in [args.part] if args.part else PARTS:
        print(f"## {part}\n", flush=True)
        PARTS[part](args)
        print()


if __name__ == "__main__":
    run(main)
