"""Photographs that are not square: squashed, padded or cropped, from the file to the prediction."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_photograph
from PIL import Image
from test_photographs import photograph

from catalogues import open_catalogue
from data import Photographs, TrainTransform, fitted, read_squashed
from data.fitting import BORDER
from data.pack import Job, pack
from data.samplers import Draw
from inference import Classifier

SMALL = ["--arch", "resnet18", "--weights", "none", "--epochs", 1, "--lr", 0.01, "--resize", 36, "--crop", 32]
SMALL += ["--batch-size", 4, "--workers", 0]
TALL, WIDE = (60, 150), (151, 60)  # width, height


def by_pillow(image: Image.Image, size: int, fit: str) -> np.ndarray:
    """The same by Pillow's own functions, float64."""
    if fit == "crop":
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    if fit != "pad":
        return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR), float)
    width, height = (max(1, round(size * side / max(image.size))) for side in image.size)
    page = Image.new("RGB", (size, size), BORDER)
    page.paste(image.resize((width, height), Image.Resampling.BILINEAR), ((size - width) // 2, (size - height) // 2))
    return np.asarray(page, float)


@pytest.mark.parametrize("fit", ["squash", "pad", "crop"])
@pytest.mark.parametrize("shape", [TALL, WIDE, (40, 40), (7, 300), (1, 1)])
def test_a_photograph_is_fitted_as_by_pillow(shape, fit):
    image = photograph(shape)
    ours = fitted(np.array(image), 48, fit)
    assert ours.shape == (48, 48, 3) and ours.dtype == np.uint8
    assert np.abs(ours - by_pillow(image, 48, fit)).max() <= 1


def test_a_square_photograph_is_the_same_in_every_fit():
    pixels = np.array(photograph((90, 90)))
    assert all((fitted(pixels, 32, fit) == fitted(pixels, 32)).all() for fit in ("pad", "crop"))


@pytest.mark.parametrize("fit", ["squash", "pad", "crop"])
@pytest.mark.parametrize("shape", [(900, 400), (400, 900)])
def test_a_large_jpeg_is_decoded_in_small_for_every_fit(tmp_path, shape, fit):
    image = photograph(shape)
    image.save(tmp_path / "x.jpg", quality=95, subsampling=0)
    expected = by_pillow(Image.open(tmp_path / "x.jpg"), 64, fit)
    error = np.abs(read_squashed(tmp_path / "x.jpg", 64, fit) - expected)
    # Cropped after decoding at a quarter, the middle is off by up to half a pixel.
    assert error.mean() < (2 if fit == "crop" else 1.5)


def test_nothing_is_enlarged_that_could_be_decoded_larger(tmp_path):
    """The middle of a wide photograph is 200 pixels: decoded at a half it would be too small."""
    noise = np.random.default_rng(0).integers(0, 256, (200, 800, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "x.jpg", quality=100, subsampling=0)
    sharp = np.asarray(Image.open(tmp_path / "x.jpg"))[:, 300:500]
    error = np.abs(read_squashed(tmp_path / "x.jpg", 200, "crop").astype(int) - sharp)
    assert error.mean() < 1


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    for place in range(8):
        write_photograph(tmp_path / f"shop/train/{'ab'[place % 2]}/{place}.jpg", place, (80, 30))
    for place in range(4):
        write_photograph(tmp_path / f"shop/val/{'ab'[place % 2]}/{place}.jpg", 50 + place, (30, 80))
    return tmp_path / "shop"


def test_the_loader_fits_photographs(shop):
    split = open_catalogue(shop).split("train")
    visit = Photographs(split, 36, fit="pad").visit(Draw(0, 0, 0, 0))
    assert (visit.image[:, :8] == torch.tensor(BORDER).view(3, 1, 1)).all()
    assert TrainTransform(36, 32, fit="crop").fit == "crop"


def test_a_fit_goes_from_training_to_every_prediction(shop, script):
    script("train.py", "--data", shop, *SMALL, "--fit", "pad", "--out", "runs/padded")
    assert torch.load("runs/padded/best.pt")["settings"]["fit"] == "pad"
    classifier = Classifier.load("runs/padded/best.pt", "cpu", "float32")
    paths = [str(shop / f"val/{'ab'[place % 2]}/{place}.jpg") for place in (0, 2, 1, 3)]
    padded = np.stack([by_pillow(Image.open(path), 36, "pad").round().astype(np.uint8) for path in paths])
    expected = classifier.probabilities(padded)
    torch.testing.assert_close(classifier.probabilities(paths), expected, atol=2e-3, rtol=0)
    options = ["--workers", 0, "--precision", "float32", "--dtype", "float32"]
    script("predict.py", "runs/padded/best.pt", *options, "--out", "p.npy")
    assert np.abs(np.load("p.npy") - expected.numpy()).max() < 2e-3
    assert json.loads(Path("p.json").read_text())["fit"] == "pad"
    printed = script("predict.py", "runs/padded/best.pt", paths[0], "--json", *options[:4]).stdout
    best = {entry["class"]: entry["probability"] for entry in json.loads(printed)[0]["top"]}
    assert abs(best["a"] - expected[0, 0].item()) < 2e-3
    done = script("finetune_dcl.py", "--init", "runs/padded/best.pt", "--epochs", 1, "--lr", 0.001, "--resize", 72,
                  "--crop", 64, "--grid", 4, "--batch-size", 4, "--workers", 0, "--out", "runs/dcl")  # fmt: skip
    assert "--fit pad" in done.stdout
    assert "--fit squash: the run in" in script("train.py", "--data", shop, *SMALL, "--out", "runs/padded", "--resume",
                                                "--fit", "squash", code=2).stderr  # fmt: skip


def test_shards_keep_how_they_were_fitted(shop, script):
    pack(Job(open_catalogue(shop), Path("shards"), 36, 95, 100, 0, "pad"), workers=1)
    split = open_catalogue("shards").split("train")
    assert split.shards.fit == "pad"
    error = np.abs(
        read_squashed(split.path(0), 36).astype(int)
        - read_squashed(shop / split.paths[0].replace("train/", "train/"), 36, "pad")
    )
    assert error.mean() < 6
    done = script("train.py", "--data", "shards", *SMALL, "--out", "run", code=2)
    assert "shards: was packed with --fit pad, the command has --fit squash; train with --fit pad" in done.stderr
    script("train.py", "--data", "shards", *SMALL, "--out", "run", "--fit", "pad")
    settings = json.loads(Path("shards/pack.json").read_text())
    assert settings.pop("fit") == "pad"
    Path("shards/pack.json").write_text(json.dumps(settings))  # as older versions wrote it, when all was squashed
    done = script(
        "data.pack", "--data", shop, "--out", "shards", "--size", 36, "--per-shard", 100, "--fit", "pad", code=2
    )
    assert "was packed with squash; give --fit squash" in done.stderr
