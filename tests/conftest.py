"""Tiny catalogues on disk for the tests, and a way to run the scripts as a user does."""

import importlib
import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from common.command_line import run

ROOT = Path(__file__).resolve().parent.parent
GROCERY = ROOT.parent / "shared" / "grocery"


def write_photograph(path: Path, seed: int, size: tuple[int, int] = (40, 36), tint: tuple[int, int, int] = (0, 0, 0)):
    """A JPEG of noise around a colour: `tint` makes classes tellable."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 100, (size[1], size[0], 3))
    Image.fromarray((noise + np.array(tint)).clip(0, 255).astype(np.uint8)).save(path, quality=90)


TINTS = [(150, 0, 0), (0, 150, 0), (0, 0, 150), (150, 150, 0)]


def write_aliproducts(root: Path, counts=(9, 6, 3), ids=(4, 17, 103), val=2, test=3) -> Path:
    """AliProducts' layout: `counts[k]` training photographs of class number `ids[k]`."""
    seed = 0
    for split, sizes in (("train", counts), ("val", [val] * len(ids))):
        images = []
        for label, (number, size) in enumerate(zip(ids, sizes, strict=True)):
            for place in range(size):
                name = f"{split}{number}_{place}.jpg"
                write_photograph(root / split / f"{number:05d}" / name, seed, tint=TINTS[label])
                # the class comes as a number and as a string in the challenge's own files
                images.append({"image_id": name, "class_id": number if place % 2 else str(number)})
                seed += 1
        (root / f"{split}.json").write_text(json.dumps({"images": images}))
    names = [f"t{place}.jpg" for place in range(test)]
    for place, name in enumerate(names):
        write_photograph(root / "test" / name, seed + place)
    (root / "test.json").write_text(json.dumps({"images": [{"image_id": name} for name in names]}))
    return root


@pytest.fixture
def aliproducts(tmp_path: Path) -> Path:
    return write_aliproducts(tmp_path / "catalogue")


class Done(NamedTuple):
    stdout: str
    stderr: str


@pytest.fixture
def script(tmp_path: Path, monkeypatch, capsys):
    """script("train.py", "--arch", …, code=0): run as from a shell in an empty folder, in this process, for speed."""
    monkeypatch.chdir(tmp_path)
    for name in ("http_proxy", "https_proxy", "all_proxy"):  # nothing is downloaded, also where there is a network
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setattr(os, "fsync", lambda file: None)  # 90 MB a checkpoint; no test cuts the power

    def call(name: str, *arguments, code: int = 0) -> Done:
        module = importlib.import_module(name.removesuffix(".py").replace("/", "."))
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        capsys.readouterr()
        try:
            run(module.main)
            ended = 0
        except SystemExit as stop:
            ended = stop.code or 0
        done = Done(*capsys.readouterr())
        assert ended == code, f"{name} {arguments}\n{done.stdout}\n{done.stderr}"
        return done

    return call


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=2, help="deaths of each job in test_kills.py (default: 2)")


@pytest.fixture
def kills(request) -> int:
    return request.config.getoption("--kills")
