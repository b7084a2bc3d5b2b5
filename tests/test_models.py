"""The networks are their original packages' own, and their weights arrive whole or not at all."""

import copy
import email.message
import hashlib
import io
import math
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib import request
from urllib.error import URLError
from urllib.response import addinfourl

import pytest
import safetensors.torch
import torch
from conftest import ROOT
from torch import nn

from common.errors import InputError
from models import ARCHS, create_model, efficientnet, efficientnet_lite, load_weights, resnet, seresnet, weights


class Facts(NamedTuple):
    """What is published of a network, and how its original package builds it."""

    parameters: int  # with 1,000 classes
    channels: int
    classifier: str
    original: Callable[..., nn.Module]


# efficientnet_pytorch pads for one fixed size unless told otherwise: 224, that of the comparison.
EFFICIENTNET = partial(efficientnet.original.EfficientNet.from_name, image_size=224)
SE_RESNEXT50 = partial(seresnet.original.se_resnext50_32x4d, pretrained=None)
SE_RESNET101 = partial(seresnet.original.se_resnet101, pretrained=None)
EFFICIENTNET_LITE = partial(efficientnet_lite.original.EfficientNet.from_name, image_size=None)
FACTS = {
    "resnet18": Facts(11_689_512, 512, "fc", resnet.original.resnet18),
    "resnet50": Facts(25_557_032, 2048, "fc", resnet.original.resnet50),
    "seresnext50": Facts(27_559_896, 2048, "last_linear", SE_RESNEXT50),
    "seresnet101": Facts(49_326_872, 2048, "last_linear", SE_RESNET101),
    "efficientnet-b3": Facts(12_233_232, 1536, "_fc", partial(EFFICIENTNET, "efficientnet-b3")),
    "efficientnet-b4": Facts(19_341_616, 1792, "_fc", partial(EFFICIENTNET, "efficientnet-b4")),
    # Google's own table (2020) gives them in millions: 4.7, 5.4, 6.1
    "efficientnet-lite0": Facts(4_652_008, 1280, "_fc", partial(EFFICIENTNET_LITE, "efficientnet-lite0")),
    "efficientnet-lite1": Facts(5_416_680, 1280, "_fc", partial(EFFICIENTNET_LITE, "efficientnet-lite1")),
    "efficientnet-lite2": Facts(6_092_072, 1280, "_fc", partial(EFFICIENTNET_LITE, "efficientnet-lite2")),
}


def batch_norms(net: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(2)


@pytest.fixture(scope="module", params=ARCHS)
def arch(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def fresh(arch: str) -> nn.Module:
    """A network as `create_model` makes it; tests leave it as it is."""
    torch.manual_seed(0)
    return create_model(arch, 5).eval()


@pytest.fixture(scope="module")
def used(fresh: nn.Module) -> nn.Module:
    """The same as after training: no batch norm is trivial any more, so every layer shows in the logits."""
    net = copy.deepcopy(fresh)
    torch.manual_seed(1)
    for norm in batch_norms(net):
        norm.momentum = None  # one batch makes the statistics
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.1)
    with torch.no_grad():
        net.train()(torch.randn(4, 3, 128, 128))
    return net.eval()


def test_the_facts_cover_every_network():
    assert tuple(FACTS) == ARCHS


@pytest.mark.parametrize(("height", "width"), [(32, 32), (48, 80), (75, 75)])
def test_any_size_from_32_pixels_up_works(used, arch, height, width):
    images = torch.randn(2, 3, height, width)
    with torch.no_grad():
        features, logits = used.features(images), used(images)
        pooled = features.mean((2, 3))
    assert features.shape == (2, FACTS[arch].channels, -(-height // 32), -(-width // 32))
    assert used.feature_dim == FACTS[arch].channels
    assert logits.shape == (2, 5)
    torch.testing.assert_close(logits, used.classifier(pooled), rtol=1e-5, atol=1e-5)


def in_its_own_scale(images: torch.Tensor, arch: str) -> torch.Tensor:
    """Images in ImageNet's scale, in that of the network: EfficientNet-Lite gets (byte − 127) / 128."""
    if "lite" not in arch:
        return images
    mean, std = (
        torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    return (255 * (images * std + mean) - 127) / 128


def test_logits_and_state_dict_are_the_original_packages(used, arch):
    original = FACTS[arch].original(num_classes=5).eval().double()
    original.load_state_dict(used.state_dict(), strict=True)
    images = torch.randn(1, 3, 224, 224, dtype=torch.float64)
    with torch.no_grad():
        expected = original(in_its_own_scale(images, arch))
        rounding = 1e-5 if "lite" in arch else 1e-9  # the factors that change the scale are float32
        torch.testing.assert_close(copy.deepcopy(used).double()(images), expected, rtol=rounding, atol=rounding)
    assert expected.std() > 0.01  # tells that something was compared
    assert list(used.state_dict()) == list(original.state_dict())


def test_parameter_counts_are_the_published_ones(arch):
    with torch.device("meta"):
        nets = create_model(arch, 1000), FACTS[arch].original(num_classes=1000)
    for net in nets:
        assert sum(parameter.numel() for parameter in net.parameters()) == FACTS[arch].parameters


def test_the_classifier_is_the_originals_own_layer(fresh, arch):
    assert isinstance(fresh.classifier, nn.Linear)
    assert fresh.classifier is fresh.get_submodule(FACTS[arch].classifier)


def test_gradients_reach_the_first_and_the_last_layer(fresh):
    net = copy.deepcopy(fresh).train()
    net(torch.randn(2, 3, 64, 64)).square().sum().backward()
    first = next(module for module in net.modules() if isinstance(module, nn.Conv2d))
    for layer in (first, net.classifier):
        assert layer.weight.grad.isfinite().all()
        assert layer.weight.grad.abs().sum() > 0


def test_every_residual_block_starts_as_the_identity(fresh, arch):
    if arch.startswith("efficientnet"):
        for block in fresh._blocks:
            images = torch.randn(1, block._block_args.input_filters, 8, 8)
            with torch.no_grad():
                branched = block(images)
            assert branched.shape != images.shape or torch.equal(branched, images)
        return
    blocks = [block for name in ("layer1", "layer2", "layer3", "layer4") for block in fresh.get_submodule(name)]
    for block in blocks:
        last = block.bn3 if hasattr(block, "bn3") else block.bn2
        assert not last.weight.any()
        assert block.bn1.weight.all()


def test_drop_connect_leaves_out_branches_in_training_alone(used, arch):
    if not arch.startswith("efficientnet"):
        assert not hasattr(used, "drop_connect")
        return
    net = copy.deepcopy(used)
    assert net.drop_connect == 0.2, "the package's own"
    for norm in batch_norms(net):
        norm.momentum = 0.0  # what training passes leave behind is not of interest here
    net._dropout.p = 0.0
    images = torch.randn(4, 3, 64, 64)

    def two_passes() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            return net(images), net(images)

    assert not torch.equal(*net.train() and two_passes())
    assert torch.equal(*net.eval() and two_passes())
    net.drop_connect = 0.0
    assert torch.equal(*net.train() and two_passes())


def test_signals_keep_their_size_on_the_way_through_fresh_convolutions(fresh):
    """He et al. 2015: fan-out init keeps the variance of gradients; so not torch's plain default, 6 times smaller."""
    dense = [m for m in fresh.modules() if isinstance(m, nn.Conv2d) and m.groups == 1 and m.weight.numel() > 10_000]
    for conv in dense:
        height, width = conv.kernel_size
        assert conv.weight.std().item() == pytest.approx((2 / (conv.out_channels * height * width)) ** 0.5, rel=0.05)


def test_same_seed_gives_bit_identical_weights(fresh, arch):
    torch.manual_seed(0)
    again = create_model(arch, 5).state_dict()
    assert all(torch.equal(tensor, again[key]) for key, tensor in fresh.state_dict().items())


def test_bf16_pays_except_for_depthwise_networks(fresh, arch):
    assert fresh.bf16_pays_on_cpu is not arch.startswith("efficientnet")


def test_unknown_network_is_refused_with_the_closest_name():
    with pytest.raises(InputError, match=r"--arch SE-ResNeXt50: .*did you mean seresnext50\?.*efficientnet-b4"):
        create_model("SE-ResNeXt50", 3)


# Files of weights: the smallest network stands for all.


class Folder(NamedTuple):
    """A network with 1,000 classes, and its weights as files."""

    net: nn.Module
    torch: Path
    safetensors: Path


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Folder:
    folder = tmp_path_factory.mktemp("weights")
    net = resnet.original.resnet18()
    state = net.state_dict()
    torch.save(state, folder / "net.pth")
    safetensors.torch.save_file(state, folder / "net.safetensors")
    return Folder(net, folder / "net.pth", folder / "net.safetensors")


def assert_same_weights(net: nn.Module, expected: dict, but: tuple[str, ...] = ()) -> None:
    assert net.state_dict().keys() == expected.keys()
    for key, tensor in net.state_dict().items():
        assert torch.equal(tensor, expected[key]) or key in but, key


@pytest.mark.parametrize("kind", ["torch", "safetensors"])
def test_a_file_of_the_original_package_is_loaded_whole(saved, kind):
    assert_same_weights(create_model("resnet18", 1000, getattr(saved, kind)), saved.net.state_dict())


@pytest.mark.parametrize("kind", ["torch", "safetensors"])
def test_a_classifier_of_other_classes_stays_fresh_and_the_rest_is_loaded(saved, kind):
    torch.manual_seed(0)
    untouched = create_model("resnet18", 24, "none").classifier
    torch.manual_seed(0)
    net = create_model("resnet18", 24, str(getattr(saved, kind)))
    assert torch.equal(net.classifier.weight, untouched.weight)
    assert torch.equal(net.classifier.bias, untouched.bias)
    expected = saved.net.state_dict() | {"fc.weight": untouched.weight, "fc.bias": untouched.bias}
    assert_same_weights(net, expected)


def test_load_weights_tells_whether_the_classifier_came_along(saved):
    assert load_weights(create_model("resnet18", 1000), saved.torch) is True
    assert load_weights(create_model("resnet18", 24), saved.torch) is False


def without_classifier(state: dict) -> dict:
    return {key: tensor for key, tensor in state.items() if not key.startswith("fc.")}


@pytest.mark.parametrize(
    "variant",
    [
        lambda state: {f"module.{key}": tensor for key, tensor in state.items()},
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": {f"module.{key}": tensor for key, tensor in state.items()}},
        lambda state: {"model": {"old": torch.zeros(1)}, "ema": state},
        lambda state: {"model": state, "ema": None},
        lambda state: {key: tensor for key, tensor in state.items() if "num_batches_tracked" not in key},
        without_classifier,
    ],
    ids=["module", "state_dict", "model and module", "averaged", "not averaged", "before torch 0.4.1", "headless"],
)
def test_state_dicts_are_found_however_they_were_saved(saved, tmp_path, variant):
    torch.save(variant(saved.net.state_dict()), tmp_path / "net.pt")
    net = create_model("resnet18", 24, tmp_path / "net.pt")
    assert_same_weights(net, saved.net.state_dict(), but=("fc.weight", "fc.bias"))


def test_weights_of_another_network_are_refused_with_its_name(saved):
    with pytest.raises(InputError, match=r"net\.pth: .*missing \(layer1\.0\.conv3\.weight, .*--arch resnet18$"):
        create_model("resnet50", 24, saved.torch)


def test_every_network_is_recognised_by_its_weights(arch):
    with torch.device("meta"):
        state = create_model(arch, 7).state_dict()
    assert weights._kernel_elements(state) == weights._KERNEL_ELEMENTS[arch]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda state: state.pop("bn1.bias"), r"1 missing \(bn1\.bias\)"),
        (lambda state: state.update(extra=torch.zeros(1)), r"1 unexpected \(extra\)"),
        (lambda state: state.update({"bn1.bias": torch.zeros(3)}), r"1 of another shape \(bn1\.bias\)"),
    ],
    ids=["missing", "unexpected", "shape"],
)
def test_weights_that_do_not_fit_exactly_are_refused(saved, tmp_path, spoil, message):
    state = saved.net.state_dict()
    spoil(state)
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(InputError, match=rf"net\.pt: .*{message}; give a file"):
        create_model("resnet18", 24, tmp_path / "net.pt")


class Code:
    """Pickled, it makes a folder when it is unpickled."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path):
    torch.save({"conv1.weight": Code(tmp_path / "ran")}, tmp_path / "net.pt")
    with pytest.raises(InputError, match=r"net\.pt: .*can run code"):
        create_model("resnet18", 24, tmp_path / "net.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize("content", [b"", b"<!doctype html>", b"PK\x03\x04 cut off", bytes(range(256))])
def test_a_damaged_file_is_one_line(tmp_path, suffix, content):
    file = tmp_path / f"net.{suffix}"
    file.write_bytes(content)
    with pytest.raises(InputError, match=rf"\A--weights .*net\.{suffix}: damaged.*\Z"):
        create_model("resnet18", 24, file)


@pytest.mark.parametrize("content", [[1, 2], {}, {"state_dict": {}}, {"epoch": 3}, torch.zeros(2)])
def test_a_file_without_a_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "net.pt")
    with pytest.raises(InputError, match=r"net\.pt: no state dict"):
        create_model("resnet18", 24, tmp_path / "net.pt")


@pytest.mark.parametrize("name", ["nowhere.pt", "nowhere.safetensors", "."])
def test_a_missing_file_or_a_folder_is_one_line(tmp_path, name):
    with pytest.raises(InputError, match=r"\A--weights .*; expected imagenet, none, or a file of weights\Z"):
        create_model("resnet18", 24, tmp_path / name)


@pytest.mark.parametrize(
    "tensor, message",
    [
        (torch.full((64,), math.nan), "bn1.bias is not finite"),
        (torch.tensor([math.inf] * 64), "bn1.bias is not finite"),
        (torch.zeros(64, dtype=torch.int32), "bn1.bias is torch.int32"),
        (torch.zeros(64, dtype=torch.complex64), "bn1.bias is torch.complex64"),
        (torch.zeros(64).to_sparse(), "bn1.bias is torch.float32, torch.sparse_coo"),
        (torch.zeros(64, device="meta"), "bn1.bias is torch.float32, torch.strided, meta"),
        (torch.zeros(1).expand(64), "bn1.bias is torch.float32"),
    ],
    ids=["nan", "infinite", "int32", "complex", "sparse", "meta", "expanded"],
)
def test_weights_that_are_no_plain_finite_numbers_are_refused(saved, tmp_path, tensor, message):
    torch.save(saved.net.state_dict() | {"bn1.bias": tensor}, tmp_path / "net.pt")
    with pytest.raises(InputError, match=rf"\A--weights .*net\.pt: {message}.*\Z"):
        create_model("resnet18", 24, tmp_path / "net.pt")


def test_a_nan_in_safetensors_is_refused(saved, tmp_path):
    state = saved.net.state_dict() | {"bn1.bias": torch.full((64,), math.nan)}
    safetensors.torch.save_file(state, tmp_path / "net.safetensors")
    with pytest.raises(InputError, match=r"bn1\.bias is not finite"):
        create_model("resnet18", 24, tmp_path / "net.safetensors")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["torch", "safetensors"])
def test_weights_of_other_precisions_become_float32(saved, tmp_path, dtype, kind):
    state = {
        key: value.to(dtype) if value.is_floating_point() else value for key, value in saved.net.state_dict().items()
    }
    (safetensors.torch.save_file if kind == "safetensors" else torch.save)(state, tmp_path / f"net.{kind}")
    net = create_model("resnet18", 1000, tmp_path / f"net.{kind}")
    assert_same_weights(net, {key: value.to(net.state_dict()[key].dtype) for key, value in state.items()})


@pytest.mark.parametrize("suffix", ["torch", "safetensors"])
@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.9999])
def test_a_file_that_is_cut_off_is_one_line(saved, tmp_path, suffix, share):
    raw = getattr(saved, suffix).read_bytes()
    (tmp_path / f"net.{suffix}").write_bytes(raw[: int(share * len(raw))])
    with pytest.raises(InputError, match=rf"\A--weights .*net\.{suffix}: damaged.*\Z"):
        create_model("resnet18", 24, tmp_path / f"net.{suffix}")


def test_a_flipped_bit_is_noticed(saved, tmp_path):
    raw = bytearray(saved.torch.read_bytes())
    raw[len(raw) // 2] ^= 1
    (tmp_path / "net.pt").write_bytes(raw)
    with pytest.raises(InputError, match=r"net\.pt: damaged in .*data/\d+; fetch"):
        create_model("resnet18", 24, tmp_path / "net.pt")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "net.pt")
    with pytest.raises(InputError, match=r"net\.pt: not a file"):
        create_model("resnet18", 24, tmp_path / "net.pt")


# ImageNet weights, from file:// addresses or from a network that is not there.


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """torch.hub's folder of checkpoints, empty, for this test alone."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def server(saved, tmp_path, monkeypatch) -> Path:
    """The only source of resnet18: a file whose name ends with its hash, as the packages name theirs."""
    digest = hashlib.sha256(saved.torch.read_bytes()).hexdigest()
    file = tmp_path / "server" / f"resnet18-{digest[:8]}.pth"
    file.parent.mkdir()
    file.symlink_to(saved.torch)
    monkeypatch.setitem(weights.SOURCES, "resnet18", [file.as_uri()])
    monkeypatch.setattr(weights, "PROTOCOLS", [request.FileHandler])
    return file


@pytest.fixture
def no_network(monkeypatch) -> list[str]:
    """Nothing answers; the addresses that were asked."""
    asked = []

    def download(url, _, patience):
        asked.append(url)
        raise URLError("no route to host")

    monkeypatch.setattr(weights, "_download", download)
    return asked


def test_imagenet_weights_are_downloaded_once_and_then_need_no_network(saved, cache, server):
    for _ in range(2):
        assert_same_weights(create_model("resnet18", 1000, "imagenet"), saved.net.state_dict())
        server.unlink(missing_ok=True)
    assert [file.name for file in cache.iterdir()] == [server.name]


@pytest.mark.parametrize("works", range(3))
def test_sources_are_tried_in_order_until_one_works(saved, cache, server, monkeypatch, capsys, works):
    nowhere = [(server.parent / f"nowhere{n}-0123abcd.pth").as_uri() for n in range(2)]
    sources = [*nowhere[:works], server.as_uri(), *nowhere[works:]]
    monkeypatch.setitem(weights.SOURCES, "resnet18", sources)
    assert_same_weights(create_model("resnet18", 1000, "imagenet"), saved.net.state_dict())
    asked = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fetching ")]
    assert asked == [f"fetching {url}" for url in sources[: works + 1]]


def test_a_cached_file_of_the_second_source_needs_no_network(cache, server, monkeypatch, no_network):
    nowhere = (server.parent / "nowhere-0123abcd.pth").as_uri()
    monkeypatch.setitem(weights.SOURCES, "resnet18", [nowhere, server.as_uri()])
    cache.mkdir(parents=True)
    server.rename(cache / server.name)
    create_model("resnet18", 24, "imagenet")
    assert not no_network


def test_a_download_with_the_wrong_hash_is_refused_and_not_kept(cache, server, monkeypatch):
    wrong = server.rename(server.with_name("resnet18-0123abcd.pth"))
    monkeypatch.setitem(weights.SOURCES, "resnet18", [wrong.as_uri()])
    with pytest.raises(InputError, match="invalid hash value"):
        create_model("resnet18", 24, "imagenet")
    assert not list(cache.iterdir())


@pytest.mark.parametrize("cached", [False, True])
def test_a_file_with_the_right_first_digits_alone_is_refused_where_all_are_known(cache, server, monkeypatch, cached):
    digest = hashlib.sha256(server.read_bytes()).hexdigest()
    other = digest[:-1] + ("1" if digest[-1] == "0" else "0")
    monkeypatch.setitem(weights.HASHES, server.name, other)
    if cached:
        cache.mkdir(parents=True)
        server.rename(cache / server.name)
    message = "No such file" if cached else f"invalid hash value {digest}: it does not begin with {other}"
    with pytest.raises(InputError, match=message):
        create_model("resnet18", 24, "imagenet")
    assert cached or not list(cache.iterdir())


def test_a_file_without_a_hash_in_its_name_is_known_by_all_its_digits(saved, cache, server, monkeypatch):
    file = server.rename(server.with_name("resnet18.pth"))
    monkeypatch.setitem(weights.SOURCES, "resnet18", [file.as_uri()])
    monkeypatch.setitem(weights.HASHES, file.name, hashlib.sha256(file.read_bytes()).hexdigest())
    for _ in range(2):
        assert_same_weights(create_model("resnet18", 1000, "imagenet"), saved.net.state_dict())
        file.unlink(missing_ok=True)
    assert [file.name for file in cache.iterdir()] == ["resnet18.pth"]


def test_a_damaged_cached_file_is_downloaded_again(saved, cache, server):
    cache.mkdir(parents=True)
    (cache / server.name).write_bytes(b"cut off")
    assert_same_weights(create_model("resnet18", 1000, "imagenet"), saved.net.state_dict())


DOWNLOADED = [arch for arch in ARCHS if arch not in weights.PACKAGED]


@pytest.mark.parametrize("arch", DOWNLOADED)
def test_a_missing_network_is_one_line_that_names_both_ways_out(arch, cache, no_network):
    with pytest.raises(InputError, match=rf"\A.*{arch}.*no route to host.*--weights FILE.*--weights none\Z"):
        create_model(arch, 24, "imagenet")
    assert no_network == weights.SOURCES[arch]


@pytest.mark.parametrize("arch", DOWNLOADED)
def test_sources_are_encrypted_and_of_known_hash(arch):
    for url in weights.SOURCES[arch]:
        assert url.startswith("https://")
        assert weights._known_hash(Path(url))


def test_all_digits_of_a_hash_agree_with_those_in_the_name():
    names = {Path(url).name for urls in weights.SOURCES.values() for url in urls} | set(weights.PACKAGED.values())
    assert names - set(weights.HASHES) == {"legacy_se_resnext50_32x4d-f3651bad.pth"}
    for name, digest in weights.HASHES.items():
        assert name in names and re.fullmatch("[0-9a-f]{64}", digest)
        in_name = re.fullmatch(r".*-([0-9a-f]{8})\.pth", name)
        assert not in_name or digest.startswith(in_name[1])


def run_python(code: str) -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, check=True)


def test_the_names_of_networks_are_known_without_torch():
    run_python("import sys; from models import ADVERSARIES, ARCHS, STAGES; assert ARCHS and 'torch' not in sys.modules")


@pytest.mark.parametrize(
    ("arch", "others"),
    [
        ("resnet18", ["pretrainedmodels", "efficientnet_pytorch"]),
        ("seresnext50", ["efficientnet_pytorch"]),
        ("efficientnet-b3", ["pretrainedmodels", "torchvision"]),
    ],
)
def test_a_network_imports_its_own_family_alone(arch, others):
    run_python(
        f"import sys, models; models.create_model({arch!r}, 3); models.load_checkpoint; models.HEADS\n"
        f"assert not {set(others)} & set(sys.modules)"
    )


def test_the_first_source_is_the_original_package_s_own():
    from efficientnet_pytorch.utils import url_map
    from pretrainedmodels.models.senet import pretrained_settings
    from torchvision.models import ResNet18_Weights, ResNet50_Weights

    original = {"resnet18": ResNet18_Weights.IMAGENET1K_V1.url, "resnet50": ResNet50_Weights.IMAGENET1K_V1.url}
    for arch, name in (("seresnext50", "se_resnext50_32x4d"), ("seresnet101", "se_resnet101")):
        original[arch] = pretrained_settings[name]["imagenet"]["url"].replace("http://", "https://")
    original |= {arch: url_map[arch] for arch in ("efficientnet-b3", "efficientnet-b4")}
    assert {arch: sources[0] for arch, sources in weights.SOURCES.items()} == original


@pytest.mark.parametrize("arch", ["seresnext50", "seresnet101"])
def test_the_squeeze_and_excitation_networks_have_two_sources_more(arch):
    first, _, third = weights.SOURCES[arch]
    assert "/Project-MONAI/" in third and Path(third).name == Path(first).name


def test_a_silent_server_is_given_up(cache, server, monkeypatch):
    monkeypatch.setattr(weights, "PROTOCOLS", [request.HTTPHandler])
    monkeypatch.setattr(weights, "PATIENCE", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/nowhere-0123abcd.pth"
        monkeypatch.setitem(weights.SOURCES, "resnet18", [url])
        with pytest.raises(InputError, match="timed out"):
            create_model("resnet18", 24, "imagenet")
    assert not list(cache.glob("*"))


class SentOn(request.HTTPSHandler):
    """An https:// where here.org sends everybody to `address`, and others send `content`."""

    address, content = "", b""

    def https_open(self, asked):
        here = asked.host == "here.org"
        answer = addinfourl(io.BytesIO(self.content), email.message.Message(), asked.full_url, 302 if here else 200)
        answer.msg = "so"
        if here:
            answer.headers["Location"] = self.address
        return answer


@pytest.mark.parametrize("address", ["http://elsewhere.org/a.pth", "ftp://elsewhere.org/a.pth", "file:///etc/passwd"])
def test_weights_come_by_https_alone_even_if_a_server_sends_us_on(cache, monkeypatch, address):
    monkeypatch.setattr(weights, "PROTOCOLS", [SentOn])
    monkeypatch.setattr(SentOn, "address", address)
    for source in ("https://here.org/net-0123abcd.pth", address.replace("a.pth", "a-0123abcd.pth")):
        monkeypatch.setitem(weights.SOURCES, "resnet18", [source])
        with pytest.raises(InputError, match=r"unknown url type|redirection to url.*is not allowed|not allowed"):
            create_model("resnet18", 24, "imagenet")
    assert not list(cache.glob("*"))


def test_a_redirection_to_https_is_followed(cache, saved, monkeypatch):
    monkeypatch.setattr(weights, "PROTOCOLS", [SentOn])
    monkeypatch.setattr(SentOn, "address", "https://elsewhere.org/a.pth")
    monkeypatch.setattr(SentOn, "content", saved.torch.read_bytes())
    digest = hashlib.sha256(saved.torch.read_bytes()).hexdigest()
    monkeypatch.setitem(weights.SOURCES, "resnet18", [f"https://here.org/net-{digest[:8]}.pth"])
    assert_same_weights(create_model("resnet18", 1000, "imagenet"), saved.net.state_dict())
