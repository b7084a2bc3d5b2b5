"""What a classifier of 50,030 classes costs in a training step, and what its loss costs when computed in pieces.

    python benchmarks/head.py                          # resnet50, a plain step and one of DCL; minutes on two cores
    python benchmarks/head.py --device cuda --batch-size 64 --dcl-batch-size 32

Each row is measured in its own process: the median seconds of a step, and the peak memory above that of the imports.
Prints Markdown.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import torch
from torch.nn.functional import cross_entropy, linear_cross_entropy

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import finetune_dcl
import train
from common.command_line import Parser, number, run
from common.device import choose_compute
from common.flags import add_compute_arguments
from data import Batch
from models import DCL, create_model

FEATURES = 2048  # channels of resnet50's pooled map


def resident() -> float:
    """Memory of this process, MiB."""
    return int(open("/proc/self/status").read().split("VmRSS:")[1].split()[0]) / 1024


IMPORTS = resident()


def measured(step, repeats: int, cuda: bool) -> tuple[float, float]:
    """Median seconds of a call after a first one, and peak memory above the imports in MiB, weights included."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        step()
        if cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    if cuda:
        return median(times[1:]), torch.cuda.max_memory_allocated() / 2**20
    return median(times[1:]), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - IMPORTS


def training_step(args: argparse.Namespace, method: str, classes: int, pieces: int) -> tuple[float, float]:
    """One step of train.py or finetune_dcl.py, with the optimizer."""
    dcl = method == "DCL"
    batch_size, crop = (args.dcl_batch_size, 2 * args.crop) if dcl else (args.batch_size, args.crop)
    net = create_model("resnet50", classes)
    compute = choose_compute(net, args.device, args.precision, args.memory_format)
    images = torch.randn(batch_size, 3, crop, crop)
    index = torch.arange(batch_size)
    batch = Batch(images, index % classes, index, [], seeds=index)
    batch = batch._replace(images=images.to(compute.device), target=batch.target.to(compute.device))

    def step() -> None:
        optimizer.zero_grad()
        for piece in batch.pieces(pieces, 1):
            with compute.autocast():
                loss = finetune_dcl.step(net, piece, 7, 2, 1, 1)[0] if dcl else train.step(net, piece)[0]
            (loss / pieces).backward()
        optimizer.step()

    net = compute.network(DCL(net) if dcl else net).train()
    optimizer = torch.optim.SGD(net.parameters(), 1e-4, 0.9, weight_decay=1e-4)
    return measured(step, args.repeats, compute.device.type == "cuda")


def loss_alone(args: argparse.Namespace, batch_size: int, classes: int, in_pieces: bool) -> tuple[float, float]:
    """Classifier, cross entropy and their gradients, from pooled features (B, C)."""
    device = args.device or "cpu"
    features = torch.randn(batch_size, FEATURES, device=device, requires_grad=True)
    weight = torch.randn(classes, FEATURES, device=device).div_(FEATURES**0.5).requires_grad_()
    target = torch.arange(batch_size, device=device) % classes
    weight.grad = torch.zeros_like(weight)  # in memory for both

    def step() -> None:
        if in_pieces:
            loss = linear_cross_entropy(features, weight, target, options=torch.nn.LinearCrossEntropyOptions())
        else:
            loss = cross_entropy(features @ weight.T, target)
        loss.backward()

    return measured(step, args.repeats, device != "cpu")


def in_process(*job: object) -> list[float]:
    """Seconds and MiB of a job that runs in its own process, with the arguments of this one."""
    command = [sys.executable, __file__, *sys.argv[1:], "--job", json.dumps(job)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("--classes", type=number(int, 2), default=50_030, help="classes (default: 50,030)")
    add("--batch-size", type=number(int, 2), default=64, help="batch size of the plain step (default: 64)")
    add(
        "--dcl-batch-size",
        type=number(int, 2),
        default=16,
        help="batch size of DCL's step, at twice the crop (default: 16)",
    )
    add("--crop", type=number(int, 32), default=224, help="crop of the plain step, a multiple of 7 (default: 224)")
    add("--repeats", type=number(int, 1), default=3, help="counted steps (default: 3)")
    add("--job", help=argparse.SUPPRESS)
    add_compute_arguments(parser)
    args = parser.parse_args()
    if args.job:
        kind, *what = json.loads(args.job)
        return print(json.dumps((training_step if kind == "step" else loss_alone)(args, *what)))

    print("| step of resnet50 | batch | classes | pieces | s | peak memory, MiB |\n|---|---|---|---|---|---|")
    for method, batch_size in (("plain", args.batch_size), ("DCL", args.dcl_batch_size)):
        for classes, pieces in ((32, 1), (args.classes, 1), (args.classes, 4)):
            seconds, memory = in_process("step", method, classes, pieces)
            print(f"| {method} | {batch_size} | {classes:,} | {pieces} | {seconds:.2f} | {memory:.0f} |", flush=True)
    print("\n| classifier and loss alone | batch | s | peak memory, MiB |\n|---|---|---|---|")
    for batch_size in (args.batch_size, 2 * FEATURES):
        for in_pieces in (False, True):
            name = "torch's linear_cross_entropy, in pieces" if in_pieces else "logits at once"
            seconds, memory = in_process("loss", batch_size, args.classes, in_pieces)
            print(f"| {name} | {batch_size} | {seconds:.2f} | {memory:.0f} |", flush=True)


if __name__ == "__main__":
    run(main)
