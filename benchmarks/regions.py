"""DCL's shuffled regions: speed and correctness beside the DCL authors' release.

    python benchmarks/regions.py --data DIR        # photographs of a catalogue's training split (default: the demo)
    python benchmarks/regions.py --generators      # one random generator for each photograph beside one for the batch
    python benchmarks/regions.py --step            # a whole DCL step beside a plain step on the same doubled batch

The release (JDAI-CV/DCL) cuts off a border and shuffles photographs one by one with Pillow. It then finds the origin of
each region by comparing mean colours. `released` is our own code for that method. Prints Markdown.
"""

import argparse
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image, ImageStat
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import finetune_dcl
import train
from benchmarks.studies import compare_steps, paired_times
from catalogues import open_catalogue
from common.command_line import Parser, number, run
from data import MEAN, STD, Batch, cutout, move_regions, normalise, read_squashed, shuffle_regions, shuffled_places
from models import ARCHS, DCL, create_model

BORDER = 10 / 448  # share of the side that the release cuts off at each edge before it shuffles
CALLS = 10  # of each function in a measured time of --generators


def cut(image: Image.Image, grid: int) -> list[Image.Image]:
    """The grid × grid regions of an image, row by row."""
    xs, ys = (np.linspace(0, side, grid + 1).astype(int).tolist() for side in image.size)
    return [image.crop((xs[c], ys[r], xs[c + 1], ys[r + 1])) for r in range(grid) for c in range(grid)]


def released(image: Image.Image, grid: int, rng: random.Random) -> tuple[Image.Image, list[int], list[int]]:
    """The destructed image, the origins of its regions by mean colour, and their true origins."""
    side = image.width
    border = round(BORDER * side)
    regions = cut(image.crop((border, border, side - border, side - border)), grid)
    rows: list[list[int]] = []
    for r in range(grid):
        row: list[int] = []
        for c in range(grid):  # each new region may be exchanged with the one before it
            row.append(r * grid + c)
            row[-2:] = rng.sample(row[-2:], len(row[-2:]))
        rows.append(row)  # the same for whole rows
        rows[-2:] = rng.sample(rows[-2:], len(rows[-2:]))
    truth = [region for row in rows for region in row]
    cell = (side - 2 * border) // grid
    page = Image.new("RGB", (cell * grid, cell * grid))
    for place, region in enumerate(truth):
        corner = (place % grid * cell, place // grid * cell)
        page.paste(regions[region].resize((cell, cell), Image.Resampling.LANCZOS), corner)
    page = page.resize((side, side))
    before, after = ([sum(ImageStat.Stat(region).mean) for region in cut(page, grid)] for page in (image, page))
    claimed = [min(range(grid**2), key=lambda i, mean=mean: abs(before[i] - mean)) for mean in after]
    return page, claimed, truth


def by_colour(
    images: Tensor,
    grid: int = 7,
    reach: float = 2.0,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
) -> tuple[Tensor, Tensor]:
    """As `shuffle_regions` with the same copies, but `source` comes from the release's comparison of colours."""
    truth = shuffled_places(len(images), grid, reach, images.device, generator)
    mean, std = (torch.tensor(values, device=images.device).view(3, 1, 1) for values in (MEAN, STD))
    light = ((images * std + mean) * 255).sum(1, keepdim=True)  # (B, 1, H, W)
    side = images.shape[-1]
    border = round(BORDER * side)
    inner = light[..., border : side - border, border : side - border]
    inner = interpolate(inner, (side, side), mode="bilinear", antialias=True)
    before, after = (adaptive_avg_pool2d(x, grid).flatten(1) for x in (light, inner))  # (B, N²)
    distance = (after.gather(1, truth)[:, :, None] - before[:, None, :]).abs()  # (B, N², N²)
    claimed = distance.argmin(-1)
    by_colour.places += truth.numel()
    by_colour.wrong += int((claimed != truth).sum())
    return move_regions(images, truth), claimed


by_colour.places = by_colour.wrong = 0


def compare_regions(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    split, rng = open_catalogue(args.data).split("train"), random.Random(0)
    chosen = np.random.default_rng(0).choice(len(split), min(args.photographs, len(split)), replace=False)
    pixels = [read_squashed(split.path(int(index)), args.size) for index in chosen]
    photographs = [Image.fromarray(image) for image in pixels]
    images = normalise(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2))
    batches = images.contiguous(memory_format=torch.channels_last).split(args.batch_size)

    def destruct_as_released() -> None:
        for image in photographs:
            released(image, args.grid, rng)

    def destruct() -> None:
        for batch in batches:  # results are dropped as in training, so that their memory is used again
            shuffle_regions(batch, args.grid)

    pairs = paired_times(destruct_as_released, destruct, args.repeats)
    theirs, ours = (sorted(1000 * time / len(photographs) for time in times) for times in zip(*pairs, strict=True))

    results = [released(image, args.grid, rng)[1:] for image in photographs]
    wrong = [np.mean(np.array(claimed) != np.array(truth)) for claimed, truth in results]
    moved = []
    for batch in batches:
        by_colour(batch, args.grid)
        copy, source = shuffle_regions(batch, args.grid)
        back = move_regions(copy, source.argsort(1))  # every region back to its origin
        moved += [(x != y).float().mean().item() for x, y in zip(back, batch, strict=True)]
    print(
        f"{len(photographs)} photographs at {args.size} × {args.size}, grid {args.grid}, one thread, ours in ", end=""
    )
    print(f"batches of {args.batch_size}\n")
    print("| | ms an image, median | lowest to highest | wrong | images all right |\n|---|---|---|---|---|")
    for name, times, share in (("release", theirs, wrong), ("ours", ours, moved)):
        speed = f"{median(times):.2f} | {times[0]:.2f} to {times[-1]:.2f}"
        print(f"| {name} | {speed} | {np.mean(share):.1%} | {np.mean(np.array(share) == 0):.1%} |")
    print(f"\nOurs is {median(theirs) / median(ours):.1f} times as fast. Comparing the colours of our own copies, with")
    print(f"the border cut off as in the release, gives {by_colour.wrong / by_colour.places:.1%} wrong places.")


def compare_generators(args: argparse.Namespace) -> None:
    """Time what is drawn from one generator for the batch, and from a generator for each photograph's own seed."""
    torch.set_num_threads(1)
    images = torch.randn(args.batch_size, 3, args.size, args.size).contiguous(memory_format=torch.channels_last)
    index = torch.arange(args.batch_size)
    batch, one = Batch(images, index, index, [], seeds=index), torch.Generator().manual_seed(0)
    print(f"{args.batch_size} photographs at {args.size} × {args.size}, grid {args.grid}, one thread\n")
    print("| work | one generator, ms | one a photograph, ms | ratio, median | lowest to highest |")
    print("|---|---|---|---|---|")
    for name, work in {
        "draw the places of regions": lambda generator: shuffled_places(len(images), args.grid, 2.0, "cpu", generator),
        "shuffle the regions": lambda generator: shuffle_regions(images, args.grid, 2.0, generator),
        "Cutout": lambda generator: cutout(images, args.size // 4, generator),
    }.items():
        pairs = paired_times(
            lambda work=work: [work(one) for _ in range(CALLS)],
            lambda work=work: [work(batch.with_generators().generators) for _ in range(CALLS)],
            args.repeats,
        )
        before, after = (1000 * median(times) / CALLS for times in zip(*pairs, strict=True))
        ratios = [each / whole for whole, each in pairs]
        print(f"| {name} | {before:.3f} | {after:.3f} | {median(ratios):.2f} |", end="")
        print(f" {min(ratios):.2f} to {max(ratios):.2f} |", flush=True)


def time_steps(args: argparse.Namespace) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    half = args.batch_size
    net = create_model(args.arch, 1000).to(device, memory_format=torch.channels_last).train()
    dcl = DCL(net, args.grid).to(device, memory_format=torch.channels_last).train()
    images = torch.randn(half, 3, args.size, args.size, device=device).contiguous(memory_format=torch.channels_last)
    target = torch.randint(1000, (half,), device=device)
    doubled = Batch(torch.cat([images, images.flip(0)]), target.repeat(2), target, [])

    def finish(loss: Tensor) -> None:
        dcl.zero_grad()
        loss.backward()
        if device == "cuda":
            torch.cuda.synchronize()

    def plain_step() -> None:
        finish(train.step(net, doubled)[0])

    def dcl_step() -> None:
        finish(finetune_dcl.step(dcl, Batch(images, target, target, []), args.grid, 2.0, 1.0, 1.0)[0])

    print(f"{args.arch} at {args.size} × {args.size}, {half} photographs and their copies, {device}, float32\n")
    compare_steps(("plain step", "DCL step"), plain_step, dcl_step, args.repeats)


def main() -> None:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("--data", default="demo", help="a catalogue (default: the demo)")
    add("--photographs", type=number(int, 1), default=100, help="(default: 100)")
    add("--size", type=number(int, 32), default=448, help="side of the photographs (default: 448)")
    add("--grid", type=number(int, 2), default=7)
    add("--repeats", type=number(int, 1), default=5, help="(default: 5)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--generators", action="store_true", help="time one random generator for each photograph instead")
    what.add_argument("--step", action="store_true", help="time whole training steps instead")
    add("--arch", choices=ARCHS, default="resnet50", help="of --step (default: resnet50)")
    add("--batch-size", type=number(int, 1), help="photographs at once (default: 4, with --generators 64)")
    args = parser.parse_args()
    args.batch_size = args.batch_size or (64 if args.generators else 4)
    (time_steps if args.step else compare_generators if args.generators else compare_regions)(args)


if __name__ == "__main__":
    run(main)
