"""A Classifier gives what a slow computation gives, image by image and crop by crop, of bytes and of paths."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, write_photograph
from PIL import Image
from torch import nn
from torch.nn.functional import cross_entropy

import common.device
import inference
from catalogues import open_catalogue
from common.device import Compute
from common.errors import InputError
from data import eval_loader, read_squashed
from inference import Classifier
from models import BBN, DCL, LIO, Angular, create_model
from models.checkpoint import save_checkpoint, split_weights

# isort: split
from torchvision.transforms.v2 import functional  # after data, which makes it importable

RESIZE, CROP = 45, 40  # a margin of 2.5 pixels
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # of ImageNet, as anybody has them
CLASSES = ["b", "a", "c", "d", "e"]
HEADS = {
    "none": None,
    "DCL": partial(DCL, grid=2),
    "two": partial(DCL, grid=2, adversary="2"),
    "LIO": partial(LIO, grid=2, stage=2),
    "Angular": Angular,
    "BBN": BBN,
}


def trained(kind: str = "none", arch: str = "resnet18") -> nn.Module:
    """A network whose batch norms, heads and branches are not those of a fresh one."""
    torch.manual_seed(5)
    net = create_model(arch, len(CLASSES))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    if HEADS[kind]:
        net = HEADS[kind](net)
    with torch.no_grad():
        for parameter in net.parameters():  # the second branch of BBN is a copy
            parameter += 0.01 * torch.randn_like(parameter)
        net.classifier.weight *= 3
    return net.eval()


def checkpoint(path: Path, net: nn.Module, **changed) -> Path:
    """A checkpoint as training writes it."""
    model, heads = split_weights(net)
    kept = heads is not None and {"kind": type(net).__name__, "options": net.options, "model": heads, "ema": None}
    state = dict(format=1, arch="resnet18", classes=CLASSES, class_ids=[7, "x", 3, "4", 5])
    state |= dict(settings={"data": "demo", "resize": RESIZE, "crop": CROP}, model=model, ema=None)
    state |= dict(heads=kept or None, optimizer={}, epoch=0, batch=0, log=[], best=1.0)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(path, state | changed)
    return path


def some_bytes(count: int, side: int = RESIZE) -> np.ndarray:
    """Squashed photographs of few colours each."""
    pixels = np.random.default_rng(4).integers(0, 256, (count, 5, 5, 3), np.uint8)
    images = [Image.fromarray(each).resize((side, side), Image.Resampling.BILINEAR) for each in pixels]
    return np.stack([np.asarray(image) for image in images])


def as_input(view: Image.Image) -> torch.Tensor:
    """One crop as a network in float64 gets it, (1, 3, H, W)."""
    return torch.from_numpy(((np.asarray(view) / 255 - MEAN) / STD).transpose(2, 0, 1)[None].copy())


def slow_logits(net: nn.Module, view: Image.Image) -> torch.Tensor:
    """Logits (K,) of one crop in float64; heads are asked one by one, by their papers' formulas."""
    image, plain = as_input(view), net.classifier
    with torch.no_grad():
        pooled = net.backbone.features(image).mean((2, 3))[0]
        logits = plain.weight @ pooled + plain.bias
        if isinstance(net, DCL) and net.options["adversary"] == "2k":
            swap = net.swap_classifier.weight @ pooled
            logits = logits + swap[: len(CLASSES)] + swap[len(CLASSES) :]
        elif isinstance(net, Angular):
            logits = (plain.weight / plain.weight.norm(dim=1, keepdim=True)) @ pooled
        elif isinstance(net, BBN):
            other = net.rebalancing.top(net.net.trunk(image)).mean((2, 3))[0]
            logits = (logits + net.rebalancing.classifier.weight @ other + net.rebalancing.classifier.bias) / 2
    return logits


def slow_probabilities(net: nn.Module, images: np.ndarray, crop: int, crops: int) -> np.ndarray:
    """(B, K), image by image and crop by crop in float64."""
    rows = []
    for image in map(Image.fromarray, images):
        views = functional.ten_crop(image, [crop, crop]) if crops == 10 else [functional.center_crop(image, crop)]
        powers = [torch.exp(slow_logits(net, view)) for view in views]
        rows.append(sum(power / power.sum() for power in powers) / len(views))
    return torch.stack(rows).numpy()


def load(path: Path, **options) -> Classifier:
    return Classifier.load(path, device="cpu", precision="float32", **options)


@pytest.mark.parametrize("crops", [1, 10])
@pytest.mark.parametrize("kind", HEADS)
def test_probabilities_are_those_of_a_slow_computation(tmp_path, kind, crops):
    net, images = trained(kind), some_bytes(3)
    classifier = load(checkpoint(tmp_path / "best.pt", net))
    rows = classifier.probabilities(images, crops)
    expected = slow_probabilities(net.double(), images, CROP, crops)
    assert rows.dtype == torch.float32 and rows.shape == (3, 5) and expected.std(0).max() > 0.01
    np.testing.assert_allclose(rows.numpy(), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", HEADS)
def test_logits_are_those_of_the_centre_crop(tmp_path, kind):
    net, images = trained(kind), some_bytes(2)
    logits = load(checkpoint(tmp_path / "best.pt", net)).logits(images)
    net = net.double()
    views = [functional.center_crop(Image.fromarray(image), CROP) for image in images]
    expected = torch.stack([slow_logits(net, view) for view in views])
    assert logits.dtype == torch.float32 and expected.std(0).max() > 0.05
    torch.testing.assert_close(logits.double(), expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("kind", HEADS)
def test_embeddings_are_the_backbone_s_pooled_features(tmp_path, kind):
    net, images = trained(kind), some_bytes(3)
    classifier = load(checkpoint(tmp_path / "best.pt", net))
    embedded, unit, net = classifier.embed(images), classifier.embed(images, normalise=True), net.double().backbone
    views = torch.cat([as_input(functional.center_crop(Image.fromarray(image), CROP)) for image in images])
    with torch.no_grad():
        expected = net.pool(net.features(views))
    assert embedded.dtype == unit.dtype == torch.float32 and embedded.shape == (3, 512)
    torch.testing.assert_close(embedded.double(), expected, rtol=1e-4, atol=1e-4)
    lengths = expected.square().sum(1, keepdim=True).sqrt()
    torch.testing.assert_close(unit.double(), expected / lengths, rtol=1e-4, atol=1e-5)


def test_heads_plain_is_the_backbone_alone(tmp_path):
    net, images = trained("DCL"), some_bytes(2)
    plain = load(checkpoint(tmp_path / "best.pt", net), heads="plain")
    assert plain.net is plain.backbone
    expected = slow_probabilities(net.double().backbone, images, CROP, 1)
    np.testing.assert_allclose(plain.probabilities(images, 1).numpy(), expected, rtol=0, atol=2e-5)
    assert abs(load(tmp_path / "best.pt").probabilities(images, 1).numpy() - expected).max() > 0.01


def test_another_side_and_crop(tmp_path):
    net = trained()
    path = checkpoint(tmp_path / "best.pt", net)
    one, images = load(path, resize=50, crop=33), some_bytes(2, 50)
    assert (one.resize, one.crop) == (50, 33)
    expected = slow_probabilities(net.double(), images, 33, 10)
    np.testing.assert_allclose(one.probabilities(images).numpy(), expected, rtol=0, atol=2e-5)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> Classifier:
    return load(checkpoint(tmp_path_factory.mktemp("run") / "best.pt", trained()))


def test_what_a_classifier_tells_of_itself(classifier):
    assert classifier.classes == CLASSES and classifier.class_ids == [7, "x", 3, "4", 5]
    assert (classifier.arch, classifier.resize, classifier.crop) == ("resnet18", RESIZE, CROP)
    assert classifier.settings["data"] == "demo" and not classifier.net.training
    assert (classifier.compute.device.type, classifier.compute.bf16) == ("cpu", False)
    assert classifier.compute.memory_format == torch.channels_last and inference.Classifier is Classifier


METHODS = [lambda c, x: c.logits(x), lambda c, x: c.probabilities(x), lambda c, x: c.embed(x, normalise=True)]


@pytest.mark.parametrize("method", METHODS)
def test_paths_arrays_and_tensors_of_the_same_photographs_give_the_same_bits(classifier, tmp_path, method):
    paths = [tmp_path / f"{place}.jpg" for place in range(3)]
    for place, path in enumerate(paths):
        write_photograph(path, place, (130, 70 + 30 * place))
    images = np.stack([read_squashed(path, RESIZE) for path in paths])
    images.flags.writeable = False
    expected = method(classifier, images)
    mirrored = np.ascontiguousarray(images[:, :, ::-1])
    same = [torch.from_numpy(images.copy()), mirrored[:, :, ::-1], paths, list(map(str, paths)), tuple(paths)]
    same.append(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).permute(0, 2, 3, 1))  # other strides
    assert all(torch.equal(method(classifier, other), expected) for other in same)
    assert torch.equal(method(classifier, paths[0]), method(classifier, images[:1]))


@pytest.mark.parametrize("method", METHODS)
def test_any_number_of_images(classifier, method):
    images = some_bytes(70)
    rows = method(classifier, images)
    torch.testing.assert_close(rows[31:34], method(classifier, images[31:34]), rtol=1e-3, atol=1e-4)
    for none in (images[:0], torch.from_numpy(images[:0]), []):
        assert method(classifier, none).shape == (0, rows.shape[1])


def test_a_classifier_learns_nothing_and_what_it_returns_can_be_learned_from(classifier):
    images = some_bytes(4)
    embedded, before = classifier.embed(images), {k: v.clone() for k, v in classifier.net.state_dict().items()}
    assert not embedded.requires_grad
    head = nn.Linear(512, 2)
    cross_entropy(head(embedded), torch.tensor([0, 1, 0, 1])).backward()
    assert head.weight.grad.abs().sum() > 0
    assert all(torch.equal(value, before[key]) for key, value in classifier.net.state_dict().items())


def test_bf16_is_near_and_not_the_same(classifier, tmp_path):
    other = Classifier.load(checkpoint(tmp_path / "best.pt", trained()), "cpu", "bf16", "contiguous")
    assert other.compute.bf16 and other.compute.memory_format == torch.contiguous_format
    one, two = (each.probabilities(some_bytes(4)) for each in (classifier, other))
    assert two.dtype == torch.float32 and 0 < (one - two).abs().max() < 0.05


@pytest.mark.parametrize("crops", [1, 10])
def test_rows_of_a_loader_are_those_of_its_photographs(classifier, aliproducts, crops):
    split = open_catalogue(aliproducts).split("train")
    paths = [split.path(place) for place in range(len(split))]
    Path(paths[4]).write_bytes(b"no photograph")
    rows = list(classifier.rows(eval_loader(split, RESIZE, 4, 0, False), crops))
    assert [row.index.tolist() for row in rows] == [list(range(n, min(n + 4, 18))) for n in range(0, 18, 4)]
    assert [len(row.unreadable) for row in rows] == [0, 1, 0, 0, 0] and rows[1].unreadable[0][0] == 4
    assert (rows[1].probabilities[0] == np.float32(1 / 5)).all(), "no photograph, so every class is as probable"
    for row in rows:
        good = [place for place in row.index.tolist() if place != 4]
        expected = classifier.probabilities([paths[place] for place in good], crops).numpy()
        assert (row.probabilities[np.isin(row.index, good)] == expected).all(), "bit for bit"


@pytest.mark.parametrize("crops", [1, 10])
@pytest.mark.parametrize("kind", ["none", "DCL", "BBN"])
def test_pieces_of_any_size_give_the_same_rows(tmp_path, monkeypatch, kind, crops):
    net, photographs, sizes = trained(kind), some_bytes(5), []
    classifier = load(checkpoint(tmp_path / "best.pt", net))
    expected, predict = slow_probabilities(net.double(), photographs, CROP, crops), classifier.net.predict

    def noted(images):
        sizes.append(len(images))
        return predict(images)

    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(classifier.net, "predict", noted)
    for most in (1, 3, 10, 43):
        monkeypatch.setitem(common.device.PIXELS, "cpu", most * CROP**2)
        rows = classifier.probabilities(photographs, crops)
        np.testing.assert_allclose(rows.numpy(), expected, rtol=0, atol=2e-5)
        assert sum(sizes) == 5 * crops and max(sizes) <= most
        sizes.clear()


def test_what_fits_at_once_is_chosen_by_crop_device_precision_and_threads(monkeypatch):
    def most(side, device="cpu", bf16=False):
        return Compute(torch.device(device), bf16, torch.channels_last).images_at_once(side)

    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert [most(side) for side in (4096, 448, 336, 224, 112, 48)] == [1, 2, 5, 11, 47, 260]
    assert [most(side, "cuda") for side in (448, 224, 112)] == [80, 320, 1280]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert [most(224), most(112), most(224, bf16=True), most(448, "cuda")] == [20, 47, 11, 80]


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("crop", [176, 260])
def test_ten_crops_of_a_photograph_have_the_same_bits_in_every_batch(tmp_path, monkeypatch, precision, crop):
    """From 174 pixels on they go through the network alone."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    path = checkpoint(tmp_path / "best.pt", trained())
    classifier, photographs = (
        Classifier.load(path, "cpu", precision, resize=crop + 5, crop=crop),
        some_bytes(3, crop + 5),
    )
    assert classifier.photographs_at_once(10) == 1
    whole = classifier.probabilities(photographs)
    for order in ([2, 1, 0], [1], [0, 1], [2, 2, 2, 0]):
        assert torch.equal(classifier.probabilities(photographs[order]), whole[order])


# what is refused -------------------------------------------------------------------------------------------------


def refused(call, part: str) -> None:
    with pytest.raises(InputError) as caught:
        call()
    assert part in str(caught.value) and "\n" not in str(caught.value)


def test_images_of_another_kind_are_refused(classifier, tmp_path):
    images = some_bytes(2)
    expected = f"expected uint8 (B, {RESIZE}, {RESIZE}, 3), squashed RGB bytes"
    for wrong in (
        images / 255,
        torch.from_numpy(images).float(),
        images[0],
        images[:, :-1],
        images.transpose(0, 3, 1, 2),
        some_bytes(2, 50),
    ):
        refused(lambda wrong=wrong: classifier.logits(wrong), expected)
    refused(lambda: classifier.logits(images[:, 1:]), f"images uint8 (2, {RESIZE - 1}, {RESIZE}, 3)")
    refused(lambda: classifier.embed(list(images)), "images: expected an array, a tensor, or paths of photographs")
    refused(lambda: classifier.probabilities(images, crops=5), "--crops 5: expected 1 or 10")


def test_a_photograph_that_cannot_be_read_is_named(classifier, tmp_path):
    write_photograph(tmp_path / "good.jpg", 0)
    (tmp_path / "bad.jpg").write_bytes(b"no photograph")
    for name in ("bad.jpg", "none.jpg"):
        paths = [tmp_path / "good.jpg", tmp_path / name]
        for method in METHODS:
            refused(
                lambda method=method, paths=paths: method(classifier, paths), f"{tmp_path / name}: cannot be read ("
            )


def test_what_cannot_be_loaded_is_refused(tmp_path):
    path = checkpoint(tmp_path / "best.pt", trained())
    refused(lambda: load(tmp_path / "none.pt"), "none.pt: no such checkpoint; train one first")
    refused(lambda: Classifier.load(path, device="abacus"), "--device abacus: not usable here (")
    refused(lambda: Classifier.load(path, precision="fp8"), "--precision fp8: expected one of auto, bf16, float32")
    refused(
        lambda: load(path, memory_format="nhwc"), "--memory-format nhwc: expected one of auto, channels_last, contig"
    )
    refused(lambda: load(path, heads="DCL"), "--head DCL: expected auto or plain")
    refused(lambda: load(path, crop=64), f"--crop 64 is larger than --resize {RESIZE}; make the crop smaller")
    refused(lambda: load(path, resize=32), f"--crop {CROP} is larger than --resize 32; make the crop smaller")
    refused(lambda: load(path, resize=9), "--resize 9: expected 32 to 4096 pixels")
    refused(lambda: load(path, crop=0), "--crop 0: expected 32 to 4096 pixels")
    other = checkpoint(tmp_path / "other.pt", trained(), classes=CLASSES[:4], class_ids=CLASSES[:4])
    refused(lambda: load(other), "its weights are not those of a resnet18 with 4 classes")
    path.write_bytes(path.read_bytes()[:10_000])
    refused(lambda: load(path), "best.pt: not a readable checkpoint")


def test_loading_does_not_wait_for_the_other_processes_of_torchrun(tmp_path):
    path = checkpoint(tmp_path / "best.pt", trained())
    code = "import sys, inference; inference.Classifier.load(sys.argv[1], 'cpu')"
    environment = os.environ | {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    subprocess.run([sys.executable, "-c", code, path], cwd=ROOT, env=environment, check=True, timeout=60)
