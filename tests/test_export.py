"""Files for deployment: what they compute, what they tell, and what remains where one cannot be made."""

import copy
import errno
import json
import os
import shutil
import sys
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors
import torch
from conftest import ROOT, TINTS, write_aliproducts, write_photograph
from PIL import Image
from test_training import SMALL
from torch import nn
from torchvision.transforms.v2 import functional

import finetune_dcl
import inference
import train
from catalogues import open_catalogue
from inference import export_formats
from inference.export import TOLERANCE, Deployed, compare, load_for_export
from inference.export_formats import FORMATS
from models import DCL, HEADS, LIO, create_model, efficientnet, load_weights, resnet, seresnet
from models.checkpoint import file_hash, load_checkpoint, network_of, save_checkpoint, split_weights

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated")  # it is what a deployer calls
RESIZE, CROP = 37, 32  # an odd margin: 2.5 pixels
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # of ImageNet, as anybody has them


NAMES = sorted(
    map(os.fsdecode, [b'it\'s "so"\\u0041{}<b>&', "Käse \U0001f9c0 茶".encode(), b"\ttab\nline\x1b[2J", b"\xff"])
)


@pytest.fixture(scope="module", autouse=True)
def shallow():
    """One block a stage makes the same operations, in a fraction of the time."""
    with pytest.MonkeyPatch.context() as patch:
        block = seresnet.original.SEResNeXtBottleneck
        patch.setattr(resnet, "resnet18", lambda k: resnet.ResNet(resnet.original.BasicBlock, [1, 1, 1, 1], k))
        patch.setattr(seresnet, "seresnext50", lambda k: seresnet.SENet(block, [1, 1, 1, 1], 32, k))
        shape = dict(depth_coefficient=0.1, image_size=None)
        build = partial(efficientnet.EfficientNet.from_name, "efficientnet-b3", **shape)
        patch.setattr(efficientnet, "efficientnet_b3", lambda k: build(num_classes=k))
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with a catalogue of awkward names, a run of train.py, plain/, and one of finetune_dcl.py, dcl/."""
    folder = tmp_path_factory.mktemp("trained")
    root = folder / "catalogue"
    for label, name in enumerate(NAMES):
        for split, count in (("train", 6), ("val", 2)):
            for place in range(count):
                write_photograph(root / split / name / f"{place}.jpg", 10 * label + place, tint=TINTS[label])
    sides = ["--resize", RESIZE, "--crop", CROP]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(os, "fsync", lambda file: None)
        for module, words in [
            (train, ["train.py", "--data", root, "--out", "plain", "--epochs", 2, *SMALL, *sides]),
            (finetune_dcl, ["x", "--init", "plain/best.pt", "--out", "dcl", "--epochs", 1, "--grid", 2, *SMALL[8:]]),
        ]:
            patch.setattr(sys, "argv", [str(word) for word in (*words, *sides)])
            module.main()
    return folder


def slow_probabilities(net: nn.Module, photographs: list[Image.Image], crop: int, crops: int) -> np.ndarray:
    """Photograph by photograph and crop by crop in float64, of squashed photographs; (n, K)."""
    net, rows = copy.deepcopy(net).double().eval(), []
    for photograph in photographs:
        cut = functional.ten_crop if crops == 10 else lambda image, size: [functional.center_crop(image, size)]
        ways = []
        for view in cut(photograph, [crop, crop]):
            values = (np.asarray(view) / 255 - MEAN) / STD
            with torch.no_grad():
                logits = net(torch.from_numpy(values.transpose(2, 0, 1)[None].copy()))
            if isinstance(net, DCL):
                plain, swap, _ = logits
                logits = plain + swap[:, : plain.shape[1]] + swap[:, plain.shape[1] :]
            powers = np.exp(logits[0].numpy())
            ways.append(powers / powers.sum())
        rows.append(np.mean(ways, axis=0))
    return np.stack(rows)


def squashed(root: Path, side: int) -> list[Image.Image]:
    files = sorted(root.glob("val/*/*.jpg"))
    return [Image.open(file).convert("RGB").resize((side, side), Image.Resampling.BILINEAR) for file in files]


def noise(count: int, side: int) -> list[Image.Image]:
    """Photographs of few colours each: far apart for a network."""
    pixels = np.random.default_rng(3).integers(0, 256, (count, 4, 4, 3), np.uint8)
    return [Image.fromarray(each).resize((side, side), Image.Resampling.BILINEAR) for each in pixels]


def bytes_of(photographs: list[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(photograph) for photograph in photographs])


def told_by(file: Path) -> dict:
    """The description inside a file, read as a stranger to this project would."""
    if file.suffix == ".ts":
        extra = {"description.json": ""}
        torch.jit.load(file, _extra_files=extra)
        return json.loads(extra["description.json"])
    if file.suffix == ".onnx":
        strings = onnxruntime.InferenceSession(file).get_modelmeta().custom_metadata_map
    else:
        with safetensors.safe_open(file, "pt") as weights:
            strings = weights.metadata()
        assert strings.pop("format") == "pt"
    texts = {key: strings.pop(key) for key in ("arch", "checkpoint", "fit", "squash")}
    return texts | {key: json.loads(value) for key, value in strings.items()}


def probabilities_of(file: Path, photographs: np.ndarray) -> np.ndarray:
    if file.suffix == ".onnx":
        return onnxruntime.InferenceSession(file).run(None, {"photographs": photographs})[0]
    if file.suffix == ".ts":
        return torch.jit.load(file)(torch.from_numpy(photographs)).numpy()
    return FORMATS["safetensors"].opened(file.read_bytes())(photographs)


@pytest.mark.parametrize(
    ("run", "format", "crops"),
    [
        ("plain", "onnx", 1),
        ("dcl", "onnx", 10),
        ("plain", "torchscript", 10),
        ("dcl", "torchscript", 1),
        ("plain", "safetensors", 1),
        ("dcl", "safetensors", 10),
    ],
)
def test_one_file_gives_the_probabilities_of_a_slow_reference_and_tells_all(script, trained, run, format, crops):
    checkpoint = trained / run / "best.pt"
    done = script("export.py", checkpoint, "--format", format, "--crops", crops)
    file = Path(f"exports/{run}{FORMATS[format].suffix}")
    beside = json.loads(Path(f"{file}.json").read_text())
    assert sorted(Path("exports").iterdir()) == sorted([file, Path(f"{file}.json")])
    assert done.stderr == "" and done.stdout.startswith(f"{file}: resnet18, {'ten' if crops == 10 else 'centre'} crop")
    assert "8 photographs of val" in done.stdout and "top-1 the same for 8 of 8" in done.stdout

    state = load_checkpoint(checkpoint)
    photographs = squashed(trained / "catalogue", RESIZE)[::2]  # one of each class
    expected = slow_probabilities(network_of(state, checkpoint, heads=True), photographs, CROP, crops)
    assert expected.std(0).max() > 0.003, "the network tells them apart"
    for count in (1, 2, 4):
        rows = probabilities_of(file, bytes_of(photographs[:count]))
        assert rows.shape == (count, 4) and rows.dtype == np.float32
        np.testing.assert_allclose(rows, expected[:count], rtol=0, atol=3e-6)

    told = told_by(file)
    assert {key: beside[key] for key in told} == told
    assert told["classes"] == told["class_ids"] == NAMES
    assert (told["arch"], told["resize"], told["crop"], told["crops"]) == ("resnet18", RESIZE, CROP, crops)
    assert (told["mean"], told["std"]) == (MEAN.tolist(), STD.tolist())
    assert told["heads"] == (None if run == "plain" else {"kind": "DCL", "options": {"grid": 2, "adversary": "2k"}})
    assert told["checkpoint"] == file_hash(checkpoint) and beside["sha256"].startswith(file_hash(file))
    assert f"resize(({RESIZE}, {RESIZE}), Image.Resampling.BILINEAR)" in told["squash"]
    if format != "safetensors":
        assert beside["input"]["shape"] == ["N", RESIZE, RESIZE, 3] and beside["output"]["shape"] == ["N", 4]
    if format == "onnx":
        onnx.checker.check_model(onnx.load(file), full_check=True)
        session = onnxruntime.InferenceSession(file)
        (taken,), (given,) = session.get_inputs(), session.get_outputs()
        assert (taken.name, taken.type, taken.shape) == ("photographs", "tensor(uint8)", ["N", RESIZE, RESIZE, 3])
        assert (given.name, given.type, given.shape) == ("probabilities", "tensor(float)", ["N", 4])
        content = file.read_bytes()
        assert str(ROOT).encode() not in content and b"site-packages" not in content, "nothing of this machine"


def experienced(net: nn.Module, crops: np.ndarray) -> nn.Module:
    """With the batch statistics of these crops (n, H, W, 3), and a classifier that tells them apart."""
    torch.manual_seed(1)
    images = torch.from_numpy((crops / 255 - MEAN) / STD).float().permute(0, 3, 1, 2)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1
            nn.init.uniform_(module.weight, 0.5, 1.5)
    backbone = getattr(net, "net", net)
    with torch.no_grad():
        backbone.train()(images)
        logits = backbone.eval()(images)
        net.classifier.weight /= logits.std(0)[:, None]
        net.classifier.bias.copy_(-logits.mean(0) / logits.std(0))
    return net.eval()


@pytest.mark.parametrize("arch", ["seresnext50", "efficientnet-b3"])
@pytest.mark.parametrize("format", ["onnx", "torchscript"])
def test_the_other_families_become_graphs(arch, format):
    torch.manual_seed(0)
    photographs = noise(3, 70)
    net = experienced(create_model(arch, 4), bytes_of(photographs)[:, 3:67, 3:67])
    run = FORMATS[format].opened(FORMATS[format].make(Deployed(net, 70, 64, 1), {"arch": arch}))
    expected = slow_probabilities(net, photographs, 64, 1)
    assert expected.std(0).max() > 0.1
    np.testing.assert_allclose(run(bytes_of(photographs)), expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(run(bytes_of(photographs[:1])), expected[:1], rtol=0, atol=1e-5)


def written(path: Path, root: Path, net: nn.Module) -> Path:
    """A checkpoint of a resnet18 with heads, as training writes it."""
    catalogue = open_catalogue(root)
    model, heads = split_weights(net)
    kept = heads is not None and {"kind": type(net).__name__, "options": net.options, "model": heads, "ema": None}
    state = dict(format=1, arch="resnet18", classes=catalogue.classes, class_ids=catalogue.class_ids)
    state |= dict(settings={"data": str(root), "resize": RESIZE, "crop": CROP}, model=model, ema=None)
    state |= dict(heads=kept or None, optimizer={}, epoch=0, batch=0, log=[], best=1.0)
    save_checkpoint(path, state)
    return path


@pytest.mark.parametrize("kind", HEADS)
def test_a_network_of_every_method_speaks_as_in_predict(script, trained, tmp_path, kind):
    options = {DCL: {"grid": 2, "adversary": "2"}, LIO: {"grid": 2, "stage": 2}}.get(HEADS[kind], {})
    photographs = bytes_of(squashed(trained / "catalogue", RESIZE))
    crops = photographs[:, 2:34, 2:34]
    net = experienced(HEADS[kind](create_model("resnet18", 4), **options), crops)
    checkpoint = written(tmp_path / kind / "last.pt", trained / "catalogue", net)
    values = (crops / 255 - MEAN) / STD
    with torch.no_grad():
        expected = copy.deepcopy(net).double().predict(torch.from_numpy(values.transpose(0, 3, 1, 2))).softmax(1)
    assert expected.std(0).max() > 0.01
    for format in ("torchscript", "safetensors"):
        script("export.py", checkpoint, "--format", format)
        file = Path(f"exports/{kind}-last{FORMATS[format].suffix}")
        np.testing.assert_allclose(probabilities_of(file, photographs), expected, rtol=0, atol=1e-5)
        assert (told_by(file)["heads"] is None) == (kind == "LIO"), "whose heads are of no use any more"
    with safetensors.safe_open(file, "pt") as weights:
        assert any(key.startswith("heads.") for key in weights.keys()) == (kind in ("DCL", "BBN"))  # noqa: SIM118


def test_exported_weights_are_those_of_the_checkpoint_to_weights(script, trained):
    script("export.py", trained / "dcl/best.pt", "--format", "safetensors", "--out", "a.safetensors")
    one, other = create_model("resnet18", 4), create_model("resnet18", 4)
    assert load_weights(one, "a.safetensors") and load_weights(other, trained / "dcl/best.pt")
    assert all(torch.equal(tensor, other.state_dict()[key]) for key, tensor in one.state_dict().items())


# what is refused, and what remains -------------------------------------------------------------------------------


def refused(script, *words, part: str) -> None:
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    done = script("export.py", *words, code=2)
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and part in done.stderr, done.stderr
    assert not done.stdout
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


def test_what_cannot_be_is_one_line_and_leaves_nothing(script, trained, tmp_path, monkeypatch):
    best = trained / "plain/best.pt"
    refused(script, "none.pt", part="none.pt: no such checkpoint; train one first")
    refused(script, best, "--out", "a.pt", part="--out a.pt: expected a name that ends in .onnx for --format onnx")
    refused(script, best, "--format", "torchscript", "--out", "a.onnx", part="expected a name that ends in .ts")
    refused(script, best, "--format", "tflite", part="--format")
    refused(script, best, "--crops", 5, part="--crops")
    refused(script, best, "--data", "nowhere", part="--data nowhere: no such folder")
    other = write_aliproducts(tmp_path / "other")
    refused(script, best, "--data", other, part="was trained on other classes: 4 classes, ")
    for folder in ("a.onnx", "b.onnx.json"):
        Path(folder).mkdir()
        refused(script, best, "--out", folder.removesuffix(".json"), part=f"{folder}: not an ordinary file; choose")
    Path("file").write_text("")
    refused(script, best, "--out", "file/a.onnx", part="file/a.onnx.json: cannot be written (")
    monkeypatch.setattr(export_formats, "LARGEST_ONNX", 19_000_000)
    refused(script, best, part="--format onnx: 0.0 GiB of weights, one ONNX file holds 2 GiB at most; give --format")


def test_crops_that_do_not_fit_are_refused(script, trained, tmp_path):
    state = load_checkpoint(trained / "plain/best.pt")
    state["settings"]["crop"] = 64
    save_checkpoint(tmp_path / "run/best.pt", state)
    refused(
        script, "run/best.pt", part=f"run/best.pt: crops of 64 are larger than photographs of {RESIZE}; use another"
    )


def test_a_catalogue_that_is_gone_is_asked_for(script, trained, tmp_path):
    state = load_checkpoint(trained / "plain/best.pt")
    state["settings"]["data"] = str(tmp_path / "gone")
    save_checkpoint(tmp_path / "run/best.pt", state)
    refused(
        script,
        "run/best.pt",
        part=f"its catalogue {tmp_path / 'gone'} is not there any more; give its folder with --data",
    )
    script("export.py", "run/best.pt", "--format", "torchscript", "--data", trained / "catalogue")


def test_photographs_that_cannot_be_read_are_passed_over_unless_none_can(script, trained, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(trained / "catalogue", root)
    words = [trained / "plain/best.pt", "--format", "torchscript", "--data", root]
    first, *others = sorted(root.glob("val/*/*.jpg"))
    first.write_bytes(b"")
    assert "7 photographs of val" in script("export.py", *words).stdout
    for file in others:
        file.write_bytes(b"")
    refused(script, *words, part=f"{root}: of 8 photographs of its val split none can be read")


WRONG = {
    "colours": lambda run, pixels: run(np.ascontiguousarray(pixels[..., ::-1])),
    "one alone": lambda run, pixels: run(pixels) if len(pixels) > 1 else np.roll(run(pixels), 1, axis=1),
    "not finite": lambda run, pixels: run(pixels) * np.nan,
    "a little": lambda run, pixels: run(pixels) + np.float32(1.5 * TOLERANCE),
}


@pytest.mark.parametrize("crops", [1, 10])
def test_the_comparison_finds_what_is_wrong(trained, crops):
    sides, split = (RESIZE, CROP, crops), open_catalogue(trained / "catalogue").split("val")
    classifier = load_for_export(trained / "dcl/best.pt")
    deployed = Deployed(classifier.net, *sides)

    def run(pixels: np.ndarray) -> np.ndarray:
        return deployed(torch.from_numpy(pixels)).numpy()

    assert compare(run, classifier, split, crops).difference < 1e-6
    for name, wrong in WRONG.items():
        assert not compare(partial(wrong, run), classifier, split, crops).difference <= TOLERANCE, name


def test_a_file_that_computes_something_else_does_not_take_its_name(script, trained, monkeypatch):
    words = [trained / "plain/best.pt", "--format", "torchscript"]
    script("export.py", *words)
    format = FORMATS["torchscript"]
    spoiled = format._replace(opened=lambda content: partial(WRONG["colours"], format.opened(content)))
    monkeypatch.setitem(FORMATS, "torchscript", spoiled)
    refused(script, *words, part="exports/plain.ts: not written, since torch.jit differs from PyTorch by ")


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError(errno.ENOSPC, "No space left on device")])
def test_nothing_half_written_remains(script, trained, monkeypatch, failure):
    words = [trained / "plain/best.pt", "--format", "safetensors"]
    script("export.py", *words)
    before = {path: path.read_bytes() for path in Path("exports").iterdir()}

    def fails(*_):
        assert len(list(Path("exports").iterdir())) == 4, "both files are there under other names"
        raise failure

    monkeypatch.setattr(inference, "compare", fails)
    script("export.py", *words, code=2 if isinstance(failure, OSError) else 130)
    assert {path: path.read_bytes() for path in Path("exports").iterdir()} == before
