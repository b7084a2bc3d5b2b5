"""Where the time of a photograph and of a training step goes, and how long other ways take; NOTES.md has the results.

    python benchmarks/parts.py --photos ../shared/grocery                 # microseconds a photograph, ways side by side
    python benchmarks/parts.py --photos ../shared/grocery --part switches # training and prediction without a switch
    python benchmarks/parts.py --photos ../shared/grocery --part phones   # what EXIF, ICC profiles and HEIC cost

Uses one thread. The ways are timed in turn, --repeats times over the same photographs; the figures are medians.
"""

import io
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import pillow_heif
import simplejpeg
import torch
from PIL import Image, ImageCms, ImageOps
from torch import Tensor
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.run import Row, compare, three_digits, write_photographs
from common import torchvision_shim  # noqa: F401  (makes torchvision importable)
from common.command_line import Parser, number, run
from common.device import keep_freed_memory
from data import TrainTransform, cutout, normalise
from data.autoaugment import autoaugment, equalize
from data.batch import Visit, collate
from data.fitting import resized, squash
from data.photographs import read_photograph, read_squashed
from data.transforms import random_box

# isort: split
from torchvision.transforms import v2  # after the shim

PHOTOGRAPHS = 64
Way = Callable[[object], object]


def table(title: str, ways: dict[str, Way], inputs: list, repeats: int) -> None:
    """Print the time of each way for one of `inputs`, in microseconds."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in tqdm(range(1 + repeats), desc=title, leave=False):  # the first does not count
        for name, way in ways.items():
            start = time.perf_counter()
            for value in inputs:
                way(value)
            times[name] += [1e6 * (time.perf_counter() - start) / len(inputs)] if turn else []
    for name, measured in times.items():
        print(f"| {title} | {name} | {median(measured):.0f} |")


def equalized_by_opencv(pixels: np.ndarray) -> np.ndarray:
    """`equalize` with OpenCV's histograms and tables."""
    channels = []
    for channel in cv2.split(pixels):
        counts = cv2.calcHist([channel], [0], None, [256], [0, 256]).ravel().astype(np.int64)
        step = (counts.sum() - counts[counts.nonzero()[0][-1]]) // 255
        tables = ((step // 2 + counts.cumsum() - counts) // step).clip(0, 255) if step else np.arange(256)
        channels.append(cv2.LUT(channel, tables.astype(np.uint8)))
    return cv2.merge(channels)


def ways(photos: str, folder: Path, repeats: int) -> None:
    """Print the table of single steps."""
    print("| step | way | µs |\n|---|---|---|")
    pixels: dict[int, list[np.ndarray]] = {}
    for side in (800, 348, 256):
        root = Path(write_photographs(photos, side, folder / str(side), PHOTOGRAPHS))
        files = [path.read_bytes() for path in sorted(root.glob("train/*/*.jpg"))]
        small = {"Pillow, at a half": partial(_by_pillow, half=True)}
        small |= {
            f"simplejpeg, at {name}": partial(simplejpeg.decode_jpeg, min_height=smallest, min_width=smallest)
            for name, smallest in (("a half", 400), ("3/8", 300))
        }
        decoding = {"Pillow": _by_pillow, "OpenCV": _by_opencv, "simplejpeg": simplejpeg.decode_jpeg}
        decoding |= small if side == 800 else {}
        table(f"decode {side} × {side}", decoding, files, repeats)
        pixels[side] = [simplejpeg.decode_jpeg(content) for content in files]
    for start, stop in ((348, 256), (256, 224)):
        table(f"{start} → {stop}", _shrinking(stop), pixels[start], repeats)
    crops = [resized(array, 224, 224) for array in pixels[256]]
    equalizing = {
        "Pillow": lambda array: np.asarray(ImageOps.equalize(Image.fromarray(array))),
        "OpenCV": equalized_by_opencv,
        "compiled": lambda array: equalize(array, 0),
    }
    table("equalize 224 × 224", equalizing, crops, repeats)
    torchvision_augment, generator = v2.AutoAugment(), torch.Generator()
    augmenting = {
        "torchvision, Pillow": lambda array: np.asarray(torchvision_augment(Image.fromarray(array))),
        "torchvision, tensor": lambda array: torchvision_augment(torch.from_numpy(array).permute(2, 0, 1)),
        "ours": lambda array: autoaugment(array, generator),
    }
    table("AutoAugment 224 × 224", augmenting, crops, repeats)
    table("draw a crop's box", {"ours": lambda _: random_box(256, 0.08, generator)}, crops, repeats)
    visits = [Visit(torch.from_numpy(array).permute(2, 0, 1), 0, 0, 0, len(crops)) for array in crops]
    batch = collate(visits)
    per_batch = {
        "collate": lambda _: collate(visits),
        "normalise": lambda _: normalise(batch.images),
        "Cutout": _with_holes(normalise(batch.images)),
    }
    table(f"{PHOTOGRAPHS} photographs of 224 × 224 at once", per_batch, [None], repeats)
    transform = TrainTransform(256, 224)
    for side in (800, 348, 256):
        paths = sorted((folder / str(side)).glob("train/*/*.jpg"))
        whole = {"ours": lambda path: transform(read_squashed(path, 256), generator)}
        table(f"all up to the batch, {side} × {side}", whole, paths, repeats)
    print(
        "\n| decoded at a half, then squashed | mean distance from Pillow's pixels, of 255 | largest |\n|---|---|---|"
    )
    for start, stop in ((800, 256), (348, 112)):
        distances = [_distance(path, stop) for path in sorted((folder / str(start)).glob("train/*/*.jpg"))]
        print(f"| {start} → {stop} | {np.mean(distances):.2f} | {np.max(distances)} |")


def _distance(path: Path, size: int) -> np.ndarray:
    long_way = read_photograph(path).resize((size, size), Image.Resampling.BILINEAR)
    return np.abs(read_squashed(path, size) - np.asarray(long_way, int))


def _by_pillow(content: bytes, half: bool = False) -> np.ndarray:
    image = Image.open(io.BytesIO(content))
    if half:
        image.draft("RGB", (image.width // 2, image.height // 2))
    return np.asarray(image)


def _by_opencv(content: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)


def _shrinking(side: int) -> dict[str, Way]:
    size = (side, side)
    return {
        "Pillow": lambda array: np.asarray(Image.fromarray(array).resize(size, Image.Resampling.BILINEAR)),
        "torch": lambda array: resized(array, side, side),
        "OpenCV, by area": lambda array: cv2.resize(array, size, interpolation=cv2.INTER_AREA),
        "OpenCV, without a wider filter": lambda array: cv2.resize(array, size),
    }


def _with_holes(images: Tensor) -> Way:
    return lambda _: cutout(images, 56)


def switches(photos: str, folder: Path, repeats: int) -> None:
    """Print the speed of training and prediction with and without each switch."""
    large, few = (write_photographs(photos, side, folder / str(side), n) for side, n in ((800, PHOTOGRAPHS), (348, 8)))
    steps = {arch: ["our_step", arch, "cpu", "32", "bf16"] for arch in ("resnet50", "seresnext50", "efficientnet-b3")}
    steps["efficientnet-lite0"] = ["our_step", "efficientnet-lite0", "cpu", "32", "float32"]
    photographs, crops = ["our_photographs", large], ["our_crops", few, "resnet50", "cpu", "0", "10"]
    contenders = {f"training step, {arch}": contender for arch, contender in steps.items()}
    contenders |= {"training photographs, 800 × 800": photographs, "ten-crop prediction, resnet50": crops}
    print("| what | with | without | ratio, median | lowest to highest |\n|---|---|---|---|---|")
    for what, contender in contenders.items():
        row = Row("", f"{what}: freed memory is kept", "", "", contender, ["without_kept_memory", *contender])
        _print(row.what, compare(row, repeats)[0])
    for arch in ("resnet50", "seresnext50"):
        row = Row("", f"training step, {arch}: --compile", "", "", [*steps[arch], "--compile"], steps[arch])
        _print(row.what, compare(row, repeats)[0])


def phones(photos: str, folder: Path, repeats: int) -> None:
    """Print what EXIF, ICC profiles and HEIC cost, beside the plain JPEG of the same pixels."""
    print("| step | way | µs |\n|---|---|---|")
    for side, count in ((800, PHOTOGRAPHS), (3000, 8)):
        root = Path(write_photographs(photos, side, folder / str(side), count))
        plain = sorted(root.glob("train/*/*.jpg"))
        paths = {name: _written(plain, folder / f"{side} {name}", change) for name, change in _changes().items()}
        decoding = {name: partial(_read_in_small, some) for name, some in paths.items()}
        for name in ("turned", "Display P3"):
            decoding[f"{name}, decoded in full by Pillow"] = partial(_read_in_full, paths[name])
        table(f"{side} × {side} → 256", decoding, list(range(len(plain))), repeats)


def _changes() -> dict[str, Callable[[bytes], bytes]]:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = b"Exif\0\0II*\0" + struct.pack("<IHHHIHxxI", 8, 1, 0x0112, 3, 1, 6, 0)
    return {
        "plain": lambda content: content,
        "turned": partial(_with_segment, 0xE1, exif),
        "profile of sRGB": partial(_with_segment, 0xE2, b"ICC_PROFILE\0\1\1" + srgb),
        "Display P3": partial(_with_segment, 0xE2, b"ICC_PROFILE\0\1\1" + _display_p3(srgb)),
        "turned, Display P3": lambda content: _with_segment(
            0xE1, exif, _with_segment(0xE2, b"ICC_PROFILE\0\1\1" + _display_p3(srgb), content)
        ),
        "HEIC": _as_heic,
    }


def _with_segment(marker: int, data: bytes, content: bytes) -> bytes:
    return content[:2] + struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data + content[2:]


def _display_p3(srgb: bytes) -> bytes:
    """The profile with the primaries of Display P3 under D50, as Apple's profile has them."""
    primaries = {b"rXYZ": (0.51512, 0.2412, -0.00105), b"gXYZ": (0.29198, 0.69225, 0.04189)}
    primaries |= {b"bXYZ": (0.1571, 0.06657, 0.78407)}
    for place in range(132, 132 + 12 * int.from_bytes(srgb[128:132]), 12):
        if values := primaries.get(srgb[place : place + 4]):
            start = int.from_bytes(srgb[place + 4 : place + 8]) + 8
            numbers = struct.pack(">3i", *(round(65536 * value) for value in values))
            srgb = srgb[:start] + numbers + srgb[start + 12 :]
    return srgb


def _as_heic(content: bytes) -> bytes:
    file = io.BytesIO()
    pillow_heif.from_pillow(Image.open(io.BytesIO(content))).save(file, quality=80)
    return file.getvalue()


def _written(paths: list[Path], folder: Path, change: Callable[[bytes], bytes]) -> list[Path]:
    folder.mkdir()
    for path in paths:
        (folder / path.name).write_bytes(change(path.read_bytes()))
    return [folder / path.name for path in paths]


def _read_in_small(paths: list[Path], place: int) -> np.ndarray:
    return read_squashed(paths[place], 256)


def _read_in_full(paths: list[Path], place: int) -> np.ndarray:
    return squash(np.array(read_photograph(paths[place])), 256)


def _print(what: str, pairs: list[tuple[float, float]]) -> None:
    ours, theirs = zip(*pairs, strict=True)
    ratios = [a / b for a, b in pairs]
    print(f"| {what} | {three_digits(median(ours))} | {three_digits(median(theirs))} | {median(ratios):.2f} |", end="")
    print(f" {min(ratios):.2f} to {max(ratios):.2f} |", flush=True)


def main() -> None:
    parser = Parser(description=__doc__)
    add = parser.add_argument
    add("--photos", default="demo", help="a catalogue to take photographs from (default: demo)")
    add("--part", choices=("ways", "switches", "phones"), default="ways", help="(default: ways)")
    add("--repeats", type=number(int, 1), default=7, metavar="N", help="counted repetitions (default: 7)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.part == "switches":
            return switches(args.photos, Path(folder), args.repeats)
        torch.set_num_threads(1)
        keep_freed_memory()
        {"ways": ways, "phones": phones}[args.part](args.photos, Path(folder), args.repeats)


if __name__ == "__main__":
    run(main)
