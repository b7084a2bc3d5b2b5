"""What the tools `python -m data.NAME` do with their command line, as `engine.cli` does it for the scripts."""

import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from errors import InputError, one_line
from files import atomic_write
from flags import Parser, number

__all__ = ["Parser", "number", "picture_format", "run", "save_picture"]


def run(main: Callable[[], None]) -> None:
    """`main`; what a user can mend is one line and exit code 2."""
    sys.stdout.reconfigure(errors="backslashreplace")  # names that are not UTF-8 are shown, and break nothing
    try:
        main()
    except (InputError, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def picture_format(path: Path) -> str:
    """The format that the ending of `path` names; InputError where there is none."""
    extensions = Image.registered_extensions()
    if extensions.get(path.suffix.lower()) not in Image.SAVE:
        raise InputError(f"{path}: {path.suffix or 'no ending'} names no picture format; end it with .png or .jpg")
    return extensions[path.suffix.lower()]


def save_picture(image: Image.Image, path: Path) -> None:
    """Write `image` in the format that the ending of `path` names, whole or not at all."""
    format = picture_format(path)
    with atomic_write(path) as file:
        image.save(file, format)
