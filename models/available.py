"""Which networks can start from ImageNet weights on this machine.

    python -m models.available resnet50 efficientnet-lite0

Prints those whose weights are in a package or in the cache, or can be downloaded now. stderr names the others, with
what to do.
"""

import sys

from common.command_line import Parser, run
from common.errors import InputError
from models import ARCHS, require_imagenet


def main() -> None:
    parser = Parser(prog="python -m models.available", description=__doc__)
    parser.add_argument("archs", nargs="*", metavar="ARCH", default=ARCHS, help="(default: all)")
    for arch in parser.parse_args().archs:
        try:
            require_imagenet(arch)
        except InputError as error:
            print(f"note: {error}", file=sys.stderr)
        else:
            print(arch, flush=True)


if __name__ == "__main__":
    run(main)
