"""torchvision can be imported beside this torch, through whichever door one comes in."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT

DOORS = ["data", "models", "training.loop", "train", "finetune_dcl", "predict", "torchvision_shim"]


@pytest.mark.parametrize("door", DOORS)
def test_every_entry_point_passes_through_the_shim(door):
    code = f"import {door}, sys; assert 'common.torchvision_shim' in sys.modules; import torchvision.transforms.v2"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_importing_it_again_or_after_torchvision_is_harmless():
    code = "from common import torchvision_shim; import importlib, torchvision; importlib.reload(torchvision_shim)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)


def test_imports_run_one_way():
    """models, losses and data never import each other, nor what stands above them."""
    upper = "training|inference|predictions|report_page|tricks|recipes"
    libraries = ("models", "losses", "data")
    below = {room: "|".join([*(other for other in libraries if other != room), upper]) for room in libraries}
    below |= {
        "common": "|".join([*libraries, upper]),
        "training": "inference|report_page",
        "predictions": "training|inference",
    }
    below |= {"inference": "training|report_page"}
    for folder, forbidden in below.items():
        for path in (ROOT / folder).glob("*.py"):
            lines = re.findall(rf"^\s*(?:from|import) (?:{forbidden})\b.*$", path.read_text(), re.MULTILINE)
            assert not lines, f"{path}: {lines}"
