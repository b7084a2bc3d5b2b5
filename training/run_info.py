"""What a run was: run.json, with its settings, the versions of what it ran on, and the machine."""

import argparse
import json
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from common.device import Compute
from common.files import atomic_write
from common.processes import world
from training.setup import kept_settings

PACKAGES = ("torch", "torchvision", "pretrainedmodels", "efficientnet-pytorch", "numpy", "Pillow", "simplejpeg")
PACKAGES += ("opencv-python-headless",)


def processor() -> str:
    """The processor's name, as its maker writes it where the system tells."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = (line.partition(":") for line in cpuinfo.read_text().splitlines())
        names = [value.strip() for key, _, value in lines if key.strip() == "model name"]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Of Python and of each package that decides what comes out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


def write_facts(folder: Path, args: argparse.Namespace, compute: Compute) -> None:
    """run.json in the run's folder: of the newest call, where a run was gone on with."""
    if not world().first:
        return
    facts = {
        "script": Path(sys.argv[0]).name,
        "device": compute.describe(),
        "processes": world().size,
        "threads": torch.get_num_threads(),
        "processor": processor(),
        "versions": versions(),
        "settings": kept_settings(args),
    }
    with atomic_write(folder / "run.json", "w") as file:
        json.dump(facts, file, indent=1)
