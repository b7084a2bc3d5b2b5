"""run.json: the settings of a run, the versions of its packages, its machine."""

import argparse
import json
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from catalogues import Catalogue
from common.device import Compute
from common.files import atomic_write
from common.processes import world
from training.run_folder import RunFolder
from training.settings import settings_to_keep

PACKAGES = ("torch", "torchvision", "pretrainedmodels", "efficientnet-pytorch", "numpy", "Pillow", "simplejpeg")
PACKAGES += ("opencv-python-headless",)


def processor() -> str:
    """The processor's name: the model name if the system has one, else the architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = (line.partition(":") for line in cpuinfo.read_text().splitlines())
        names = [value.strip() for key, _, value in lines if key.strip() == "model name"]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that results depend on."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "unknown"
    return versions


def write_run_info(folder: RunFolder, args: argparse.Namespace, compute: Compute, catalogue: Catalogue) -> None:
    """Write run.json and the lists of the catalogue into the run's folder. A resumed run replaces them."""
    if not world().first:
        return
    folder.note_catalogue(catalogue)
    info = {
        "script": Path(sys.argv[0]).name,
        "device": compute.describe(),
        "processes": world().size,
        "threads": torch.get_num_threads(),
        "processor": processor(),
        "versions": versions(),
        "settings": settings_to_keep(args),
    }
    with atomic_write(folder.path / "run.json", "w") as file:
        json.dump(info, file, indent=1)
