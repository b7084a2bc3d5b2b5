"""torchvision can be imported beside this torch, through whichever door one comes in."""

import subprocess
import sys

import pytest
from conftest import ROOT

DOORS = ["data.transforms", "models.resnet", "training.loop", "inference.classifier", "common.torchvision_shim"]


@pytest.mark.parametrize("door", DOORS)
def test_every_entry_point_passes_through_the_shim(door):
    code = f"import {door}, sys; assert 'common.torchvision_shim' in sys.modules; import torchvision.transforms.v2"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_importing_it_again_or_after_torchvision_is_harmless():
    code = "from common import torchvision_shim; import importlib, torchvision; importlib.reload(torchvision_shim)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
