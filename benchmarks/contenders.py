"""The contenders that benchmarks/run.py compares: our code and its peers, each as its users run it.

A contender is a function that prepares everything and returns `run_once`. `run_once` does the work one time and returns
the number of photographs. `python benchmarks/contenders.py CONTENDER ARGUMENT …` prepares the contender and prints
"ready". For each line on its standard input it then repeats the work, and prints the photographs a second.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

import common.device
import train
from catalogues import Catalogue, open_catalogue
from common import torchvision_shim  # noqa: F401  (makes torchvision importable)
from common.device import Compute, choose_compute
from data import (
    MEAN,
    STD,
    Batch,
    EpochBatches,
    ShardedBatches,
    TrainTransform,
    eval_loader,
    network_input,
    train_loader,
)
from inference import Classifier
from models import create_model
from training import loaders, starting_network, training_settings
from training.loop import Trainer

# isort: split
from torchvision import models, transforms  # after the shim
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

Work = Callable[[], int]
BATCH = 64  # photographs at once in the loaders
STEP_CLASSES = 1000  # classes of the timed networks


def synchronize(device: str) -> None:
    """Wait until the device has finished its work."""
    if device == "cuda":
        torch.cuda.synchronize()


def compute_of(device: str, net: nn.Module) -> Compute:
    """Precision and memory layout as our scripts choose them for this device."""
    return choose_compute(net, device)


# Training photographs: from files to normalised batches with Cutout


def our_photographs(folder: str) -> Work:
    """`folder`: a catalogue, packed or not."""
    split, compute = open_catalogue(folder).split("train"), compute_of("cpu", create_model("resnet18", 2))
    batches = EpochBatches(np.arange(len(split)), BATCH, seed=0)
    loader, epochs = train_loader(split, batches, TrainTransform(256, 224), 0, 0, pin=False), iter(range(10**9))

    def run_once() -> int:
        loader.batch_sampler.go_to(next(epochs), 0)
        drawn = (batch.with_generators() for batch in loader)
        return sum(len(network_input(batch.images, compute, 56, batch.generators)) for batch in drawn)

    return run_once


def torchvision_photographs(folder: str, backend: str) -> Work:
    """The report's order in torchvision's v2 transforms; `backend`: pil, the default of its reference, or tensor."""
    augment = [v2.Resize((256, 256)), v2.RandomResizedCrop(224), v2.RandomHorizontalFlip(), v2.AutoAugment()]
    steps = [v2.PILToTensor(), *augment] if backend == "tensor" else [*augment, v2.PILToTensor()]
    steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    hole = v2.RandomErasing(p=1, scale=(1 / 16, 1 / 16), ratio=(1, 1))
    loader = DataLoader(ImageFolder(f"{folder}/train", v2.Compose([*steps, hole])), BATCH, shuffle=True)
    return lambda: sum(len(images) for images, _ in loader)


# Ten-crop prediction: from files to probabilities


def our_crops(folder: str, arch: str, device: str, workers: str, crops: str) -> Work:
    split, net = open_catalogue(folder).split("train"), create_model(arch, STEP_CLASSES)
    compute = compute_of(device, net).for_testing()
    names, pin = [str(k) for k in range(STEP_CLASSES)], device == "cuda"
    classifier, batch_size = Classifier(net, compute, 256, 224, names, names), 8 if crops == "10" and not pin else 32

    def run_once() -> int:
        loader = eval_loader(split, 256, batch_size, int(workers), pin)
        return sum(len(rows.probabilities) for rows in classifier.rows(loader, crops=int(crops)))

    return run_once


def our_pieces(arch: str, crop: str, precision: str, crops: str, most: str) -> Work:
    """Prediction of photographs in memory, `most` images of `crop` pixels at a time."""
    side, count, net = int(crop), 8 if crops == "10" else 64, create_model(arch, STEP_CLASSES)
    compute = choose_compute(net, "cpu", precision)
    Compute.images_at_once = lambda self, side: int(most)
    names = [str(k) for k in range(STEP_CLASSES)]
    classifier = Classifier(net, compute, side * 8 // 7, side, names, names)
    pixels = np.random.default_rng(0).integers(0, 256, (count, classifier.resize, classifier.resize, 3), np.uint8)
    return lambda: len(classifier.probabilities(pixels, int(crops))) * int(crops)


def torchvision_crops(folder: str, arch: str, device: str, workers: str, crops: str) -> Work:
    """torchvision's loops in float32, with its network, or with timm's of the same name."""
    to_tensor = v2.Compose([v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])
    cut = v2.TenCrop(224) if crops == "10" else lambda image: [v2.functional.center_crop(image, [224, 224])]
    steps = [v2.Resize((256, 256)), cut, lambda views: torch.stack([to_tensor(view) for view in views])]
    photographs = ImageFolder(f"{folder}/train", transforms.Compose(steps))
    net, batch_size = _peers_network(arch).eval().to(device), 8 if crops == "10" and device == "cpu" else 32

    @torch.inference_mode()
    def run_once() -> int:
        count = 0
        for views, _ in DataLoader(photographs, batch_size, num_workers=int(workers)):
            logits = net(views.to(device).flatten(0, 1))
            count += len(logits.softmax(1).unflatten(0, views.shape[:2]).mean(1).cpu())
        return count

    return run_once


# Training steps: from a batch on the host to updated weights


def our_step(arch: str, device: str, batch_size: str, precision: str, *more: str) -> Work:
    """`Trainer` with the settings of train.py, always on the same batch; `more`: further arguments of train.py."""
    size, folder = int(batch_size), tempfile.mkdtemp()
    sys.argv = ["train.py", "--arch", arch, "--batch-size", batch_size, "--crop", "224", "--resize", "256"]
    sys.argv += ["--weights", "none", "--device", device, "--precision", precision, "--out", f"{folder}/run", *more]
    args, _ = training_settings(train.arguments(), train.recipe)
    catalogue = _with_classes(STEP_CLASSES, open_catalogue("demo"))
    net = starting_network(args, catalogue, None)
    compute = choose_compute(net, device, precision)
    trainer = Trainer(args, net, catalogue, compute, None)
    images = torch.randint(256, (size, 224, 224, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    batch = Batch(images, torch.randint(STEP_CLASSES, (size,)), torch.arange(size), [], seeds=torch.arange(size))
    shared = ShardedBatches(EpochBatches(np.arange(100 * size), size, 0), 0, 1)

    def run_once() -> int:
        steps = 1 if device == "cpu" else 20
        for _ in range(steps):
            trainer._train_batch(train.step, batch, len(shared), 1)
        synchronize(device)
        return steps * size

    return run_once


def _with_classes(classes: int, catalogue: Catalogue) -> Catalogue:
    """The catalogue as if it had that many classes, for a classifier of the usual size."""
    names = [str(k) for k in range(classes)]
    return replace(catalogue, classes=names, class_ids=names)


def _peers_network(arch: str) -> nn.Module:
    """timm's network of the same name; torchvision's where it has one."""
    if hasattr(models, arch):
        return getattr(models, arch)(num_classes=STEP_CLASSES)
    import timm

    names = {"seresnext50": "legacy_seresnext50_32x4d", "seresnet101": "legacy_seresnet101"}
    if arch.startswith("efficientnet-"):  # with the stochastic depth and the dropout of our networks
        name = f"tf_{arch.replace('-', '_', 1).replace('-', '')}"
        drop_rate = {"lite0": 0.2, "lite1": 0.2, "lite2": 0.3, "b3": 0.3, "b4": 0.4}[arch.removeprefix("efficientnet-")]
        return timm.create_model(name, num_classes=STEP_CLASSES, drop_path_rate=0.2, drop_rate=drop_rate)
    return timm.create_model(names[arch], num_classes=STEP_CLASSES)


def timm_step(arch: str, device: str, batch_size: str, precision: str, layout: str) -> Work:
    """One update of timm's train.py [--amp --amp-dtype bfloat16] [--channels-last], with timm's network, optimizer."""
    from timm.optim import create_optimizer_v2

    net = _peers_network(arch).to(device).train()
    last = layout == "channels_last"
    if last:
        net = net.to(memory_format=torch.channels_last)
    optimizer, size = create_optimizer_v2(net, "sgd", lr=0.02, weight_decay=1e-4, momentum=0.9), int(batch_size)
    criterion = nn.CrossEntropyLoss()
    images, target = torch.randn(size, 3, 224, 224, device=device), torch.randint(STEP_CLASSES, (size,), device=device)

    def run_once() -> int:
        steps = 1 if device == "cpu" else 20
        for _ in range(steps):
            inputs = images.contiguous(memory_format=torch.channels_last) if last else images
            with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
                loss = criterion(net(inputs), target)
            loss.backward()
            optimizer.step()
            loss.item()
            optimizer.zero_grad()
        synchronize(device)
        return steps * size

    return run_once


def without_kept_memory(contender: str, *arguments: str) -> Work:
    """Another contender of ours, whose freed memory goes back to the system, which is glibc's default."""
    common.device.keep_freed_memory = lambda: None
    return CONTENDERS[contender](*arguments)


# Training from the loader


def our_training(folder: str, device: str, workers: str, batch_size: str, source: str) -> Work:
    """Training resnet50 at 224 pixels; `source`: loader, or memory, which repeats the first batch of the loader."""
    sys.argv = ["train.py", "--arch", "resnet50", "--data", folder, "--batch-size", batch_size, "--weights", "none"]
    sys.argv += ["--device", device, "--workers", workers, "--out", f"{tempfile.mkdtemp()}/run"]
    args, _ = training_settings(train.arguments(), train.recipe)
    catalogue = open_catalogue(folder)
    net = starting_network(args, catalogue, None)
    compute = compute_of(device, net)
    loader, _ = loaders(args, catalogue, compute)
    trainer = Trainer(args, net, catalogue, compute, None)
    first, epochs = next(iter(loader)), iter(range(10**9))

    def run_once() -> int:
        loader.batch_sampler.go_to(next(epochs), 0)
        batches = loader if source == "loader" else [first] * len(loader)
        for batch in batches:
            trainer._train_batch(train.step, batch, len(loader), 1)
        synchronize(device)
        return sum(len(batch.index) for batch in ([first] * len(loader)))

    return run_once


CONTENDERS = {
    contender.__name__: contender
    for contender in (
        our_photographs,
        torchvision_photographs,
        our_crops,
        our_pieces,
        torchvision_crops,
        our_step,
        without_kept_memory,
        timm_step,
        our_training,
    )
}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to standard error
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    run_once = CONTENDERS[sys.argv[1]](*sys.argv[2:])
    run_once()
    print("ready", file=answers, flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        count = run_once()
        print(count / (time.perf_counter() - start), file=answers, flush=True)


if __name__ == "__main__":
    main()
