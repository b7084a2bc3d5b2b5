"""Our speed beside what a user would pick instead: torchvision's transforms and timm's training step.

    pip install -r benchmarks/requirements.txt
    python benchmarks/run.py --photos ../shared/grocery     # prints the table and writes it into results/speed.md
    python benchmarks/run.py --only step                    # prints some rows, writes nothing

Each row compares two contenders (benchmarks/contenders.py). They work on the same input in turn, each in a process with
one thread. After a first time that is not counted, each works --repeats times. The row shows the medians, and the
lowest and the highest ratio of a pair. The photographs are those of --photos (the demo's drawings by default), resized
to 800 and 348 pixels by Pillow and saved as JPEG of quality 90. Photographs of 348 pixels, such as Grocery's, are
taken unchanged. Rows that need a GPU are left empty where there is none.
"""

import datetime
import os
import re
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from catalogues import open_catalogue  # noqa: E402
from common.command_line import Parser, number, run  # noqa: E402
from common.errors import InputError  # noqa: E402
from data import read_photograph  # noqa: E402
from models import ARCHS  # noqa: E402
from report_page.markdown import write_between  # noqa: E402
from training.run_info import processor  # noqa: E402

PHOTOGRAPHS, TEN_CROPPED = 64, 8  # in the rows of loaders, in the ten-crop row on a CPU
STEP_BATCH = {"cpu": 32, "cuda": 128}
VERSIONS = ("torch", "torchvision", "timm", "Pillow", "simplejpeg", "opencv-python-headless")


class Row(NamedTuple):
    """One comparison: part, what is measured, name of the peer, goal; arguments of both contenders."""

    part: str
    what: str
    peer: str
    goal: str
    ours: list[str] | None  # None: there is no GPU
    theirs: list[str] | None
    threads: int = 1


class Contender:
    """A contender in its own process, which waits for the next repetition."""

    def __init__(self, arguments: list[str], threads: int):
        command = [sys.executable, str(ROOT / "benchmarks/contenders.py"), *arguments]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        if self.process.stdout.readline().strip() != "ready":
            raise InputError(f"{' '.join(command)} has failed; its messages are above")

    def rate(self) -> float:
        """Photographs a second of one more repetition."""
        self.process.stdin.write("again\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def peak(self) -> float:
        """The most memory that the process has taken so far, in GB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024 / 1e9

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def compare(row: Row, repeats: int) -> tuple[list[tuple[float, float]], list[float]]:
    """(ours, theirs), photographs a second, for each repetition; and the most memory that both took, in GB."""
    contenders = [Contender(arguments, row.threads) for arguments in (row.ours, row.theirs)]
    pairs = [tuple(contender.rate() for contender in contenders) for _ in range(repeats)]
    peaks = [contender.peak() for contender in contenders]
    for contender in contenders:
        contender.close()
    return pairs, peaks


def write_photographs(photos: str, side: int, out: Path, count: int) -> str:
    """A catalogue of `count` photographs of side × side below `out`, in two classes."""
    split = open_catalogue(photos).split("train")
    chosen = np.random.default_rng(0).choice(len(split), count, replace=count > len(split))
    for place, index in enumerate(chosen.tolist()):
        path, target = split.path(index), out / "train" / f"class{place % 2}" / f"{place:03d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        image = read_photograph(path)
        if isinstance(path, str) and image.size == (side, side) and path.endswith(".jpg"):
            target.write_bytes(Path(path).read_bytes())
        else:
            image.resize((side, side), Image.Resampling.BICUBIC).save(target, quality=90)
    return str(out)


def rows(photos: str, folder: Path) -> list[Row]:
    """Every comparison; its photographs are written below `folder`."""
    large = write_photographs(photos, 800, folder / "800", PHOTOGRAPHS)
    small = write_photographs(photos, 348, folder / "348", PHOTOGRAPHS)
    few = write_photographs(photos, 348, folder / "few", TEN_CROPPED)
    many = write_photographs(photos, 348, folder / "many", 4096) if torch.cuda.is_available() else few
    packed, pack = str(folder / "packed"), [sys.executable, "-m", "data.pack", "--data", large, "--size", "256"]
    subprocess.run([*pack, "--out", packed], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    peers = (("pil", "torchvision"), ("tensor", "torchvision, tensor backend"))
    rows = [
        Row("photographs", f"training photographs, {name}", peer, goal if backend == "pil" else "",
            ["our_photographs", ours], ["torchvision_photographs", theirs, backend])
        for name, ours, theirs, goal in (
            ("800 × 800 JPEG", large, large, "≥ 3.5"),
            ("348 × 348 JPEG", small, small, "≥ 2.5"),
            ("packed at 256, peer on 800 × 800", packed, large, "≥ 8"),
        )
        for backend, peer in peers
    ]  # fmt: skip
    cpu = ["resnet50", "cpu", "0"]
    rows.append(
        Row("crops", "ten-crop prediction, resnet50, CPU", "torchvision TenCrop, float32", "≥ 2.5",
            ["our_crops", few, *cpu, "10"], ["torchvision_crops", few, *cpu, "10"])
    )  # fmt: skip
    lite = ["efficientnet-lite0", "cpu", "0"]
    for crops, name, photographs in (("1", "centre-crop", small), ("10", "ten-crop", few)):
        rows.append(
            Row("crops", f"{name} prediction, efficientnet-lite0, CPU", "timm's network in torchvision's loop, float32",
                "", ["our_crops", photographs, *lite, crops], ["torchvision_crops", photographs, *lite, crops], 2)
        )  # fmt: skip
    for arch in ("resnet50", "seresnext50"):
        for layout in ("channels_last", "contiguous"):
            steps = [[f"{who}_step", arch, "cpu", str(STEP_BATCH["cpu"]), "bf16"] for who in ("our", "timm")]
            peer = f"timm, bf16, {layout.replace('_', ' ')}"
            rows.append(
                Row("step", f"training step, {arch}, 224, CPU, bf16", peer, "≥ 1.15", steps[0], [*steps[1], layout])
            )
    steps = [[f"{who}_step", "efficientnet-lite0", "cpu", str(STEP_BATCH["cpu"]), "float32"] for who in ("our", "timm")]
    for threads in (1, 2):
        rows.append(
            Row("step", f"training step, efficientnet-lite0, 224, CPU, float32, {threads} thread{'s'[: threads - 1]}",
                "timm, tf_efficientnet_lite0, channels last", "≥ 1.15", steps[0], [*steps[1], "channels_last"], threads)
        )  # fmt: skip
    return rows + gpu_rows(many)


def gpu_rows(photographs: str) -> list[Row]:
    """The comparisons that need a GPU; without one, they have no contenders."""
    has_gpu, cores = torch.cuda.is_available(), str(min(16, os.cpu_count() or 1))

    def row(part: str, what: str, peer: str, goal: str, ours: list[str], theirs: list[str]) -> Row:
        return Row(part, what, peer, goal, ours if has_gpu else None, theirs if has_gpu else None, os.cpu_count() or 1)

    crops = ["resnet50", "cuda", cores]
    rows = [
        row("crops", "ten-crop prediction, resnet50, GPU", "torchvision TenCrop, float32", "≥ 4",
            ["our_crops", photographs, *crops, "10"], ["torchvision_crops", photographs, *crops, "10"])
    ]  # fmt: skip
    batch = str(STEP_BATCH["cuda"])
    for arch in ARCHS[1:]:
        for more, goal in (([], "≥ 1.0"), (["--compile"], "≥ 1.2")):
            what = f"training step, {' '.join([arch, *more])}, 224, GPU, bf16"
            ours = ["our_step", arch, "cuda", batch, "bf16", *more]
            theirs = ["timm_step", arch, "cuda", batch, "bf16", "channels_last"]
            rows.append(row("step", what, "timm, bf16, channels last", goal, ours, theirs))
    training = ["our_training", photographs, "cuda", cores, "128"]
    rows.append(
        row("loader", f"training from the loader with {cores} processes, resnet50, 224, GPU",
            "the same batch each time", "≥ 0.97", [*training, "loader"], [*training, "memory"])
    )  # fmt: skip
    return rows


def three_digits(value: float) -> str:
    return f"{float(f'{value:.3g}'):g}"


def machine() -> str:
    """Processor, graphics card, versions and date, in one sentence."""
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    versions = ", ".join(f"{name} {version(name)}" for name in VERSIONS)
    return f"{processor()}, {os.cpu_count()} cores, {card}; {versions}; {datetime.date.today()}."


def main() -> None:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("--photos", default="demo", help="a catalogue to take photographs from (default: demo)")
    add("--only", choices=("photographs", "crops", "step", "loader"), help="these rows; nothing is written")
    add("--repeats", type=number(int, 1), default=7, metavar="N", help="counted repetitions (default: 7)")
    args = parser.parse_args()
    try:
        version("timm")
    except PackageNotFoundError:
        raise InputError("timm is not installed; run pip install -r benchmarks/requirements.txt") from None
    lines = [
        "| what | peer | ours, photographs/s | peer's | ratio, median | lowest to highest | goal | peak memory, GB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for row in rows(args.photos, Path(folder)):
            if args.only not in (None, row.part):
                continue
            cells, memory = ["not measured: no GPU"] + [""] * 3, ""
            if row.ours:
                pairs, peaks = compare(row, args.repeats)
                memory = f"{peaks[0]:.2f}, peer {peaks[1]:.2f}"
                ours, theirs, ratios = *zip(*pairs, strict=True), [a / b for a, b in pairs]
                cells = [three_digits(median(ours)), three_digits(median(theirs)), f"**{median(ratios):.2f}**"]
                cells.append(f"{min(ratios):.2f} to {max(ratios):.2f}")
            lines.append(f"| {row.what} | {row.peer} | {' | '.join(cells)} | {row.goal} | {memory} |")
            print(lines[-1], file=sys.stderr, flush=True)
    lines += ["", machine()]
    print("\n".join(lines))
    if not args.only:
        write_between("speed", "benchmarks/run.py", "\n".join(lines), ROOT / "results/speed.md")


if __name__ == "__main__":
    run(main)
