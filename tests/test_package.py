"""The repository used from another folder, as docs/notebook.md tells; and what `pip install .` does."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from test_training import SMALL, train


def notebook_cell() -> str:
    (cell,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/notebook.md").read_text(), re.DOTALL)
    return cell


def test_the_notebook_s_cell_runs_in_another_folder(script, aliproducts, tmp_path):
    train(script, aliproducts, "run", "--epochs", 1)
    assert SMALL
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    cell = notebook_cell()
    for place, path in {
        "/path/to/product-recognition": ROOT,
        "/path/to/runs/resnet18/best.pt": tmp_path / "run/best.pt",
        "/path/to/photo.jpg": aliproducts / "test/t0.jpg",
    }.items():
        assert place in cell
        cell = cell.replace(place, str(path))
    done = subprocess.run([sys.executable, "-c", cell], cwd=elsewhere, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    name, shape = done.stdout.split(maxsplit=1)
    assert name in ("00004", "00017", "00103") and shape == "torch.Size([1, 512])\n"


def test_pip_install_packages_nothing(tmp_path):
    setuptools = pytest.importorskip("setuptools", minversion="77")
    assert setuptools
    for name in ("pyproject.toml", "README.md", "LICENSE", "train.py"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    for room in ("data", "models", "training"):
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").touch()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*pip, "--target", tmp_path / "site", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [path.suffix for path in Path(tmp_path / "site").iterdir()] == [".dist-info"]
