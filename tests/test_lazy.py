"""A module that is imported at first use is the same afterwards as after a plain import."""

import subprocess
import sys

import pytest
from conftest import ROOT

LAZY = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for folder in ("", "catalogues", "common", "data", "inference", "predictions", "report_page", "training", "tricks")
    for path in sorted((ROOT / folder).glob("*.py"))
    if "import LazyModule" in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("module", LAZY)
def test_a_part_of_torch_may_be_the_first_that_is_imported(module):
    code = f"import {module}, sys; from torch.utils.data import Dataset; import torch, scipy.stats, numpy.random\n"
    code += "assert torch.utils is sys.modules['torch.utils'] and torch.utils._pytree\n"
    code += "assert torch.utils.data.Dataset is Dataset"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_several_modules_use_it():
    assert {"train", "data.photographs", "common.processes"} <= set(LAZY)
