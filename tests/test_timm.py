"""EfficientNet-Lite against timm's own, and networks of timm behind the interface of this package."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

from common import torchvision_shim  # noqa: F401  (before timm)
from common.errors import InputError
from drawings import draw_photograph
from models import BBN, DCL, LIO, create_model, load_weights
from training.optimisation import parameter_groups

timm = pytest.importorskip("timm", reason="pip install -r requirements-extra.txt")
CONV, SWIN, TOKENS = "timm:convnext_atto", "timm:swin_tiny_patch4_window7_224", "timm:vit_tiny_patch16_224"
MEAN, STD = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))  # of ImageNet


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(2)


@pytest.fixture(scope="module")
def conv() -> nn.Module:
    torch.manual_seed(0)
    return create_model(CONV, 5).eval()


@pytest.mark.parametrize("number", [0, 1, 2])
def test_lite_is_timms_network_with_other_names(number):
    """Their state dicts hold the same tensors in the same order. timm's input is (byte / 255 − 0.5) / 0.5."""
    name = f"efficientnet-lite{number}"
    ours = create_model(name, 1000, "imagenet").eval()
    theirs = timm.create_model(name.replace("efficientnet-", "tf_efficientnet_")).eval()
    tensors = [tensor for tensor in ours.state_dict().values()]
    names = list(theirs.state_dict())
    assert [theirs.state_dict()[key].shape for key in names] == [tensor.shape for tensor in tensors]
    theirs.load_state_dict(dict(zip(names, tensors, strict=True)))
    photographs = [draw_photograph(product, np.random.default_rng(product))[0].resize((128, 97)) for product in (3, 17)]
    bytes_ = torch.from_numpy(np.stack(photographs)).permute(0, 3, 1, 2)
    with torch.no_grad():
        logits = ours((bytes_ / 255 - MEAN) / STD)
        expected = theirs((bytes_.float() - 127) / 128)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.1


def test_logits_are_timms_own_with_its_own_mean_and_deviation():
    net = create_model("timm:mobilenetv3_small_050", 7).eval()  # its classifier reads 1,024 numbers, its map has 288
    original = timm.create_model("mobilenetv3_small_050", num_classes=7).eval()
    original.load_state_dict({key.removeprefix("timm."): tensor for key, tensor in net.state_dict().items()})
    images = torch.rand(2, 3, 64, 96)
    mean, std = (torch.tensor(original.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        torch.testing.assert_close(net((images - MEAN) / STD), original((images - mean) / std), rtol=1e-4, atol=1e-5)
    assert (net.feature_dim, net.classifier.in_features) == (288, 1024)
    assert not net.pool_is_mean and net.has_map


@pytest.mark.parametrize(("arch", "size", "has_map"), [(CONV, 96, True), (SWIN, 224, True), (TOKENS, 224, False)])
def test_the_parts_make_the_whole(arch, size, has_map):
    net = create_model(arch, 3).eval()
    images = torch.randn(1, 3, size, size)
    with torch.no_grad():
        features = net.features(images)
        torch.testing.assert_close(net.classifier(net.pool(features)), net.timm(net.rescale(images)))
    assert net.has_map is has_map
    if has_map:
        assert features.shape == (1, net.feature_dim, size // 32, size // 32)


def test_a_scale_of_its_own_is_applied_inside_the_network():
    """ViT's input is (byte / 255 − 0.5) / 0.5."""
    net, pixels = create_model(TOKENS, 3), torch.rand(1, 3, 4, 4)
    torch.testing.assert_close(net.rescale((pixels - MEAN) / STD), (pixels - 0.5) / 0.5)


def test_methods_work_where_there_is_a_map_and_are_refused_where_there_is_none(conv):
    images = torch.randn(2, 3, 64, 64)
    logits, swap_logits, law = DCL(conv, grid=2)(images)
    assert (logits.shape, swap_logits.shape, law.shape) == ((2, 5), (2, 10), (2, 4))
    assert LIO(conv, grid=2)(images)[1].shape == (2, conv.feature_dim, 2, 2)
    tokens = create_model(TOKENS, 5)
    for head in (DCL, LIO):
        with pytest.raises(InputError, match="no last feature map of places"):
            head(tokens)
    with pytest.raises(InputError, match="--stage 2"):
        LIO(conv, stage=2)
    with pytest.raises(InputError, match="BBN"):
        BBN(conv)


def test_every_parameter_is_in_one_group_and_the_classifier_in_the_last(conv):
    groups = parameter_groups(conv, head_rate=10, layer_decay=0.5)
    ids = [id(p) for group in groups for p in group["params"]]
    assert len(ids) == len(set(ids)) == len(list(conv.parameters()))
    assert groups[-1]["lr_scale"] == 10 and groups[-1]["params"] == list(conv.classifier.parameters())
    assert [group["lr_scale"] for group in groups[:-1]] == sorted(group["lr_scale"] for group in groups[:-1])


def test_a_file_with_timms_own_keys_is_loaded(tmp_path):
    torch.save(timm.create_model("convnext_atto", num_classes=3).state_dict(), tmp_path / "net.pt")
    net = create_model(CONV, 3, tmp_path / "net.pt")
    assert net.weights_from == f"weights {tmp_path / 'net.pt'}"
    assert load_weights(create_model(CONV, 4), tmp_path / "net.pt") is False, "other classes: a fresh classifier"


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("timm:convnext_attto", "timm has no such network; it has convnext"),
        ("timm:hf_hub:someone/net", "no such network; there are resnet18"),
        ("timm:../x", "no such network"),
        ("timm:", "no such network"),
    ],
)
def test_an_unknown_name_is_one_line(arch, message):
    with pytest.raises(InputError, match=message):
        create_model(arch, 3)


def test_a_network_of_one_size_asks_for_it(script, aliproducts, tmp_path):
    run = ["--data", aliproducts, "--arch", TOKENS, "--weights", "none", "--workers", 0, "--out", "run"]
    done = script("train.py", *run, "--resize", 64, "--crop", 48, code=2)
    assert done.stderr == "error: --crop 48: this network takes images of 224 pixels alone; give --crop 224\n"


def test_weights_that_cannot_be_had_are_one_line(monkeypatch):
    def no_network(*args, **options):
        raise OSError("no route to host\nand more")

    monkeypatch.setattr(timm, "create_model", no_network)
    with pytest.raises(
        InputError, match=r"\Ano ImageNet weights for timm:convnext_atto \(no route to host\); start .*"
    ):
        create_model(CONV, 3, "imagenet")


def test_without_timm_one_line_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "models.timm_backbone", raising=False)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"timm is missing; pip install -r requirements-extra\.txt"):
        create_model(CONV, 3)
    monkeypatch.delitem(sys.modules, "models.timm_backbone", raising=False)


def test_trained_resumed_and_predicted_with(script, aliproducts, tmp_path):
    run = ["--data", aliproducts, "--arch", CONV, "--weights", "none", "--resize", 40, "--crop", 32, "--workers", 0]
    script("train.py", *run, "--batch-size", 6, "--lr", 0.01, "--epochs", 1, "--out", "run")
    done = script("train.py", "--resume", "--out", "run", "--epochs", 2)
    assert "network    timm:convnext_atto, " in done.stdout
    script("predict.py", "run/best.pt", "--out", "preds/run.npy", "--workers", 0)
    done = script(
        "finetune_dcl.py", "--init", "run/best.pt", "--grid", 2, "--epochs", 1, "--out", "dcl", "--workers", 0
    )
    assert "--resize 80 --crop 64" in done.stdout, "twice the sides of the network in --init"
