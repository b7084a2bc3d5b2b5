"""Destructing photographs and knowing where their regions went: ours against the way of the DCL authors' release.

    python benchmarks/regions.py --data DIR        # photographs of a catalogue's training split (default: the demo)
    python benchmarks/regions.py --step            # a whole DCL step against a plain step on the same doubled batch

The release (JDAI-CV/DCL) destructs photographs one by one with Pillow, after cutting off a border, and then finds out
where each region came from by comparing mean colours; `released` is that approach, written anew. Prints Markdown.
"""

import argparse
import random
import sys
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
from common.command_line import Parser, number, run
from data import (
    MEAN,
    STD,
    Batch,
    move_regions,
    normalise,
    open_catalogue,
    read_squashed,
    shuffle_regions,
    shuffled_places,
)
from models import ARCHS, DCL, create_model

BORDER = 10 / 448  # what the release cuts off on every side before it shuffles, of the side


def cut(image: Image.Image, grid: int) -> list[Image.Image]:
    """The grid × grid regions of an image, row by row."""
    xs, ys = (np.linspace(0, side, grid + 1).astype(int).tolist() for side in image.size)
    return [image.crop((xs[c], ys[r], xs[c + 1], ys[r + 1])) for r in range(grid) for c in range(grid)]


def released(image: Image.Image, grid: int, rng: random.Random) -> tuple[Image.Image, list[int], list[int]]:
    """The destructed image, where its regions come from by their mean colours, and where they do come from."""
    side = image.width
    border = round(BORDER * side)
    regions = cut(image.crop((border, border, side - border, side - border)), grid)
    rows: list[list[int]] = []
    for r in range(grid):
        row: list[int] = []
        for c in range(grid):  # each newcomer may change places with the one before it
            row.append(r * grid + c)
            row[-2:] = rng.sample(row[-2:], len(row[-2:]))
        rows.append(row)  # and so may whole rows
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
    generator: torch.Generator | None = None,
    part: tuple[int, int] | None = None,
) -> tuple[Tensor, Tensor]:
    """As `shuffle_regions`, the same copies, but `source` is what the release's comparison of colours would say.

    For whole batches: `part`, which one process alone gives for all of a batch, changes nothing.
    """
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
        for batch in batches:  # results are discarded as in training, so that memory is used again
            shuffle_regions(batch, args.grid)

    pairs = paired_times(destruct_as_released, destruct, args.repeats)
    theirs, ours = (sorted(1000 * time / len(photographs) for time in times) for times in zip(*pairs, strict=True))

    results = [released(image, args.grid, rng)[1:] for image in photographs]
    wrong = [np.mean(np.array(claimed) != np.array(truth)) for claimed, truth in results]
    moved = []
    for batch in batches:
        by_colour(batch, args.grid)
        copy, source = shuffle_regions(batch, args.grid)
        back = move_regions(copy, source.argsort(1))  # each region to the place that its source names
        moved += [(x != y).float().mean().item() for x, y in zip(back, batch, strict=True)]
    print(
        f"{len(photographs)} photographs at {args.size} × {args.size}, grid {args.grid}, one thread, ours in ", end=""
    )
    print(f"batches of {args.batch_size}\n")
    print("| | ms an image, median | lowest to highest | wrong | images all right |\n|---|---|---|---|---|")
    for name, times, share in (("release", theirs, wrong), ("ours", ours, moved)):
        speed = f"{median(times):.2f} | {times[0]:.2f} to {times[-1]:.2f}"
        print(f"| {name} | {speed} | {np.mean(share):.1%} | {np.mean(np.array(share) == 0):.1%} |")
    print(
        f"\nours is {median(theirs) / median(ours):.1f} times as fast; comparing the colours of our own copies, their"
    )
    print(f"border cut off as in the release, {by_colour.wrong / by_colour.places:.1%} of the places come out wrong")


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
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", default="demo", help="a catalogue (default: the demo)")
    add("--photographs", type=number(int, 1), default=100, help="(default: 100)")
    add("--size", type=number(int, 32), default=448, help="side of the photographs (default: 448)")
    add("--grid", type=number(int, 2), default=7)
    add("--repeats", type=number(int, 1), default=5, help="(default: 5)")
    add("--step", action="store_true", help="time whole training steps instead")
    add("--arch", choices=ARCHS, default="resnet50", help="of --step (default: resnet50)")
    add("--batch-size", type=number(int, 1), default=4, help="photographs at once (default: 4)")
    args = parser.parse_args()
    time_steps(args) if args.step else compare_regions(args)


if __name__ == "__main__":
    run(main)
