"""Writing pictures to files."""

from pathlib import Path

from PIL import Image

from common.errors import InputError
from common.files import atomic_write


def picture_format(path: Path) -> str:
    """The picture format of the ending of `path`. Raises InputError where there is none."""
    extensions = Image.registered_extensions()
    if extensions.get(path.suffix.lower()) not in Image.SAVE:
        raise InputError(f"{path}: {path.suffix or 'no ending'} names no picture format; end it with .png or .jpg")
    return extensions[path.suffix.lower()]


def save_picture(image: Image.Image, path: Path) -> None:
    """Write `image` in the format of the ending of `path`, as a whole or not at all."""
    format = picture_format(path)
    with atomic_write(path) as file:
        image.save(file, format)
