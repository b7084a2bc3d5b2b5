"""Does LIO lower the error, what does it cost, and does its extent lie on the product?

    python benchmarks/lio.py --study                            # 3 seeds on the demo, from scratch
    python benchmarks/lio.py --study --init runs/effect-{seed}/resnet18/best.pt --name lio-1b -- --balanced 30
    python benchmarks/lio.py --step --arch resnet50             # a LIO step beside a plain one on the same photographs
    python benchmarks/lio.py --loss                             # the extent's loss beside a loop over the members

`plain` is train.py with the settings of train_lio.py and P + 1 times its epochs, so it sees as many photographs. Errors
are those of best.pt with ten crops. The demo's true masks are known. There, the table also gives the share of each of
these that lies on the product, on the validation split: the picture, the product's bounding box, the predicted extent,
the pseudo extent. An extent is the regions above its mean; its strongest regions are as many as the product fills.
Arguments after -- go to train_lio.py. Prints Markdown.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, pad

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import train
import train_lio
from benchmarks.studies import call, compare_steps, error, flags, print_gain, print_table
from catalogues import open_catalogue
from common.command_line import Parser, number, run
from data import Batch, Draw, Photographs, centre_crop, collate, normalise
from drawings import draw_photograph
from drawings.plan import HELD_OUT, SPLITS, plan_held_out
from inference.sheets import receptive_field_offset
from losses import object_extent_loss, object_regions, pseudo_extent
from models import ARCHS, LIO, create_model
from models.checkpoint import load_checkpoint, network_of

SHARES = (
    "of the picture",
    "of the box",
    "of the extent",
    "of the pseudo extent",
    "of its strongest",
    "of the pseudo's",
)


def finetune(args: argparse.Namespace, seed: int, folder: Path) -> None:
    """LIO, and plain training on as many photographs."""
    common = ["--arch", args.arch, "--seed", seed, *(["--init", args.init.format(seed=seed)] if args.init else [])]
    out = {name: folder / name for name in ("lio", "plain")}
    resume = {name: ["--resume"] if (out[name] / "last.pt").exists() else [] for name in out}
    if not (out["lio"] / "val.npy").exists():
        call(train_lio, *common, "--out", out["lio"], *args.extra, *resume["lio"])
        error(out["lio"] / "best.pt")
    if not (out["plain"] / "val.npy").exists():
        settings = load_checkpoint(out["lio"] / "last.pt")["settings"]
        group = settings["positives"] + 1
        same = ("data", "resize", "crop", "min_scale", "autoaugment", "cutout", "drop_connect", "batch_size", "lr")
        given = {name: settings[name] for name in (*same, "decay", "momentum", "weight_decay", "balanced")}
        given |= {name: group * settings[name] for name in ("epochs", "warmup")}
        given["decay_at"] = [group * epoch for epoch in settings["decay_at"]]
        weights = [] if args.init else ["--weights", settings["weights"]]
        call(train, *common, *flags(given), *weights, "--out", out["plain"], *resume["plain"])
        error(out["plain"] / "best.pt")


def true_masks(image_ids: list[str], resize: int, crop: int) -> Tensor:
    """Where the product is in the demo's validation photographs, in the network's crop: bool (n, crop, crop)."""
    masks = {}
    for plan in plan_held_out("val", seed=0):
        _, mask = draw_photograph(plan.product, np.random.default_rng([0, SPLITS.index("val"), plan.drawing]))
        masks[plan.image_id(0)] = torch.from_numpy(np.array(mask.resize((resize, resize), Image.Resampling.BILINEAR)))
    return centre_crop(torch.stack([masks[image_id] for image_id in image_ids]), crop) > 127


def bounding_boxes(masks: Tensor) -> Tensor:
    """The smallest rectangle around each mask, bool (n, H, W)."""

    def between(line: Tensor, dim: int) -> Tensor:
        line = line.int()
        return (line.cummax(dim).values * line.flip(dim).cummax(dim).values.flip(dim)).bool()

    return between(masks.any(1, keepdim=True), 2) & between(masks.any(2, keepdim=True), 1)


def shares(checkpoint: Path) -> list[float]:
    """The percentages of SHARES that lie on the product: means over photographs."""
    state = load_checkpoint(checkpoint)
    settings, net = state["settings"], network_of(state, checkpoint, heads=True).eval()
    split, group = open_catalogue(settings["data"]).split("val"), settings["positives"] + 1
    by_class = np.argsort(split.labels, kind="stable").reshape(-1, HELD_OUT)
    places = by_class[:, : HELD_OUT // group * group].flatten()  # whole groups are of one class
    masks = true_masks([split.image_id(int(place)) for place in places], settings["resize"], settings["crop"])
    down, right = map(round, receptive_field_offset(net.net, settings["stage"]))  # pixels
    boxes, photographs, rows = bounding_boxes(masks), Photographs(split, settings["resize"]), []
    for first in range(0, len(places), group):
        batch = collate([photographs[Draw(int(place), 0, 0)] for place in places[first : first + group]])
        with torch.inference_mode():
            _, features, extent, context = net(centre_crop(normalise(batch.images), settings["crop"]))
            pseudo = pseudo_extent(features, group)
        mask, box = (part[first : first + group].float() for part in (masks, boxes))  # (P+1, crop, crop)
        seen = pad(mask[:, None], (-right, right, -down, down))  # moved by the receptive-field offset
        product = adaptive_avg_pool2d(seen, settings["grid"]).flatten(1)  # (P+1, N²): share of each region
        chosen = [object_regions(context, values)[0] for values in (extent, pseudo)]
        filled = product.sum(1, keepdim=True).round().clamp_min(1)  # regions
        chosen += [values.flatten(1).argsort(1, descending=True).argsort(1) < filled for values in (extent, pseudo)]
        of_box = (mask * box).sum((1, 2)) / box.sum((1, 2))
        rows.append(torch.stack([mask.mean((1, 2)), of_box, *((product * x).sum(1) / x.sum(1) for x in chosen)], 1))
    return (100 * torch.cat(rows).mean(0)).tolist()


def study(args: argparse.Namespace) -> None:
    rows = []
    for seed in range(args.seeds):
        folder = Path("runs", f"{args.name}-{seed}")
        finetune(args, seed, folder)
        errors = [error(folder / name / "best.pt") for name in ("plain", "lio")]
        demo = load_checkpoint(folder / "lio/last.pt")["settings"]["data"] == "demo"
        rows.append(errors + (shares(folder / "lio/last.pt") if demo else []))
    table = np.array(rows)
    names = ("plain", "LIO", *SHARES)[: table.shape[1]]
    print_table(names, (2, 2, *[1] * (len(names) - 2)), table)
    print_gain("LIO", "plain training", table[:, 0] - table[:, 1])


def groups_of_noise(args: argparse.Namespace) -> Batch:
    images = torch.randn(args.batch_size, 3, args.size, args.size).contiguous(memory_format=torch.channels_last)
    target = torch.randint(1000, (args.batch_size // 4,)).repeat_interleave(4)
    return Batch(images, target, target, [])


def time_steps(args: argparse.Namespace) -> None:
    """Forward, loss and backward, on the CPU or the GPU, in float32."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    net = (
        LIO(create_model(args.arch, 1000), args.grid, args.stage).to(device, memory_format=torch.channels_last).train()
    )
    batch = groups_of_noise(args)
    batch = batch._replace(images=batch.images.to(device), target=batch.target.to(device))

    def finish(loss: Tensor) -> None:
        net.zero_grad()
        loss.backward()
        if device == "cuda":
            torch.cuda.synchronize()

    print(
        f"{args.arch} at {args.size} × {args.size}, {args.batch_size} photographs in groups of 4, {device}, float32\n"
    )
    compare_steps(
        ("plain step", "LIO step"),
        lambda: finish(train.step(net.net, batch)[0]),
        lambda: finish(train_lio.step(net, batch, 4, 0.1, 0.1)[0]),
        args.repeats,
    )


def looped_extent_loss(features: Tensor, extent: Tensor, group: int) -> Tensor:
    """`object_extent_loss` as the authors' release computes it: member by member, with copies of the others."""
    batch, channels, grid, _ = features.shape
    groups = features.flatten(2).mT.reshape(batch // group, group, grid**2, channels)
    pseudo = []
    for a in range(group):
        others = groups[:, [b for b in range(group) if b != a]].flatten(0, 1)
        itself = groups[:, a].repeat_interleave(group - 1, 0)
        pseudo.append((itself @ others.mT / channels).max(2).values.view(-1, group - 1, grid**2).mean(1))
    return (extent.flatten(1) - torch.stack(pseudo, 1).flatten(0, 1)).square().mean()


def time_losses(args: argparse.Namespace) -> None:
    channels = 2048 if args.stage == 3 else 1024
    features = torch.rand(args.batch_size, channels, args.grid, args.grid)
    features = features.contiguous(memory_format=torch.channels_last).requires_grad_()
    extent = torch.rand(args.batch_size, args.grid, args.grid, requires_grad=True)
    assert torch.allclose(object_extent_loss(features, extent, 4), looped_extent_loss(features, extent, 4))

    def backward(loss) -> None:
        loss(features, extent, 4).backward()

    print(f"loss and gradient, {tuple(features.shape)} in groups of 4, {torch.get_num_threads()} threads, float32\n")
    compare_steps(
        ("loop", "vectorised"), partial(backward, looped_extent_loss), partial(backward, object_extent_loss), 9
    )


def main() -> None:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    what = parser.add_mutually_exclusive_group(required=True)
    for name in ("study", "step", "loss"):
        what.add_argument(f"--{name}", action="store_true")
    what.add_argument(
        "--shares",
        nargs="+",
        type=Path,
        metavar="last.pt",
        help="only the shares on the product, for these runs on the demo",
    )
    add("--init", help="checkpoint that --study starts from; {seed} stands for the seed (default: from scratch)")
    add("--seeds", type=number(int, 1), default=3)
    add("--name", default="lio", help="name of --study's folders runs/NAME-SEED (default: lio)")
    add("--arch", choices=ARCHS, default="resnet18", help="(default: resnet18)")
    add("--batch-size", type=number(int, 4), default=16, help="photographs, for --step and --loss (default: 16)")
    add(
        "--size", type=number(int, 32), default=224, help="side of the photographs in pixels, for --step (default: 224)"
    )
    add("--grid", type=number(int, 2), default=7, help="regions a side, for --step and --loss (default: 7)")
    add("--stage", type=int, choices=(2, 3), default=3, help="for --step and --loss (default: 3)")
    add("--repeats", type=number(int, 1), default=7, help="counted steps, for --step (default: 7)")
    add("extra", nargs="*", help="after --: arguments of train_lio.py")
    args = parser.parse_args()
    if args.shares:
        print_table(SHARES, [1] * len(SHARES), np.array([shares(path) for path in args.shares]))
    else:
        study(args) if args.study else time_steps(args) if args.step else time_losses(args)


if __name__ == "__main__":
    run(main)
