"""Run scripts of the project one after the other in a process of torchrun: python in_turn.py '[["train.py", …], …]'.

They compute in float64: in float32 a rounding could change an argmax, and with it the weights by more than a rounding.
"""

import importlib
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import data.transforms
from common.command_line import run
from common.device import Compute

network, normalise = Compute.network, data.transforms.normalise
Compute.network = lambda self, net: network(self, net).double()
data.transforms.normalise = lambda images: normalise(images).double()


def main() -> None:
    for name, *arguments in json.loads(sys.argv[1]):
        sys.argv = [name, *arguments]
        importlib.import_module(name.removesuffix(".py").replace("/", ".")).main()


run(main)
