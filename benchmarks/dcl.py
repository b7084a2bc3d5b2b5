"""Does DCL lower the error, and does it need the exact places of regions? Three finetunings of the same network.

    python benchmarks/dcl.py --init runs/effect-{seed}/resnet18-balanced/best.pt           # 3 seeds on the demo
    python benchmarks/dcl.py --init runs/grocery-{seed}/resnet18/best.pt --name grocery --dcl "--grid 4" -- --epochs 4

`plain` is train.py with DCL's resolution, epochs and photographs: what it gains is not due to DCL. `DCL` is
finetune_dcl.py. `by colour` is the same, but it finds the places of regions as the authors' release does
(benchmarks/regions.py). Errors are those of best.pt with ten crops. The law is the mean distance |law − true place| on
shuffled validation photographs; `if still` is the distance for the answer that no region has moved. Arguments after --
go to all three finetunings, those of --dcl to the last two. A stopped study continues. Prints Markdown.
"""

import argparse
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import data
import finetune_dcl
import recipes
import train
from benchmarks.regions import by_colour
from benchmarks.studies import call, error, flags, print_gain, print_table
from catalogues import open_catalogue
from common.command_line import Parser, number, run
from data import centre_crop, eval_loader, normalise, shuffle_regions
from models.checkpoint import load_checkpoint, network_of

ARMS = ("plain", "DCL", "by colour")


def finetune(arm: str, out: Path, init: str, seed: int, args: argparse.Namespace) -> None:
    common = ["--init", init, "--seed", seed, "--out", out, *args.extra]
    if (out / "last.pt").exists():
        common += ["--resume"]
    if arm != "plain":
        shuffle = by_colour if arm == "by colour" else shuffle_regions
        with mock.patch.object(data, "shuffle_regions", shuffle):  # which finetune_dcl.step calls
            return call(finetune_dcl, *common, *(args.dcl or "").split())
    start = load_checkpoint(init)
    settings = recipes.recipe("dcl", start["arch"], start["settings"]["data"])
    settings = {name: value for name, value in settings.items() if name != "grid"}
    given = {"data": start["settings"]["data"], "arch": start["arch"]} | settings
    call(train, *flags(given), *common, *(["--lr", args.plain_lr] if args.plain_lr else []))


def law_distances(checkpoint: Path) -> tuple[float, float]:
    """Mean |law − law_target| over shuffled validation photographs: of the network, and if nothing had moved."""
    state = load_checkpoint(checkpoint)
    settings, net = state["settings"], network_of(state, checkpoint, heads=True).eval()
    grid, generator, total = settings["grid"], torch.Generator().manual_seed(0), []
    split = open_catalogue(settings["data"]).split("val")
    for batch in eval_loader(split, settings["resize"], 32, 0, False):
        copy, source = shuffle_regions(
            centre_crop(normalise(batch.images), settings["crop"]), grid, settings["reach"], generator
        )
        with torch.inference_mode():
            law = net(copy)[2]
        still = torch.arange(grid**2).expand_as(source)  # the places if nothing had moved
        answers = torch.stack([law, (still - grid**2 // 2) / grid**2])  # (2, B, N²)
        total.append((answers - (source - grid**2 // 2) / grid**2).abs().mean(2))
    return tuple(torch.cat(total, 1).mean(1).tolist())


def study(args: argparse.Namespace) -> list[list[float]]:
    """A row of figures for each seed; what was finetuned or predicted before is not repeated."""
    folder = {
        (arm, seed): Path("runs", f"{args.name}-{seed}", arm.replace(" ", "-")) for arm in ARMS for seed in args.seeds
    }
    for (arm, seed), out in folder.items():
        by_colour.places = by_colour.wrong = 0
        if not (out / "val.npy").exists():
            finetune(arm, out, args.init.format(seed=seed), seed, args)
            error(out / "best.pt")
        if by_colour.places:
            print(
                f"seed {seed}: {by_colour.wrong / by_colour.places:.2%} of the places by colour are wrong", flush=True
            )
    rows = []
    for seed in args.seeds:
        plain, dcl, colour = (folder[arm, seed] / "best.pt" for arm in ARMS)
        errors = [error(plain), error(dcl), error(dcl, "--head=plain"), error(colour), error(colour, "--head=plain")]
        (exact, still), (guessed, _) = law_distances(dcl), law_distances(colour)
        rows.append([*errors, exact, guessed, still])
    return rows


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--init", required=True, help="checkpoint to start from; {seed} stands for the seed")
    parser.add_argument("--seeds", type=number(int, 1), default=3)
    parser.add_argument("--name", default="dcl", help="name of the folders runs/NAME-SEED (default: dcl)")
    parser.add_argument("--plain-lr", type=number(float, 0), help="learning rate of plain training (default: DCL's)")
    parser.add_argument("--dcl", metavar="ARGS", help="arguments for every call of finetune_dcl.py")
    parser.add_argument("extra", nargs="*", help="after --: arguments for every finetuning")
    args = parser.parse_args()

    args.seeds = range(args.seeds)
    table = np.array(study(args))
    names = ("plain", "DCL", "its plain head", "by colour", "its plain head", "law of DCL", "law by colour", "if still")
    print_table(names, (2, 2, 2, 2, 2, 4, 4, 4), table)
    print_gain("DCL", "plain finetuning", table[:, 0] - table[:, 1])
    print_gain("DCL", "places by colour", table[:, 3] - table[:, 1])


if __name__ == "__main__":
    run(main)
