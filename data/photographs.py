"""A photograph's file -> pixels: by Pillow, or by the short way that a plain JPEG allows."""

import ctypes
import io
import logging
import os
import stat
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import simplejpeg
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch.nn.functional import interpolate

from data.shards import Piece

# What photographs come in. Of the rest that Pillow knows, EPS is a program, which it would run in Ghostscript; IPTC
# holds a file of any kind, EPS among them; others have no decoder, or one that hardly anybody uses and tests.
# The ones that a few bytes at the start do not tell come last.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "JPEG2000", "PPM", "QOI", "PSD", "ICO", "TGA")
EXIF = b"Exif\0\0"
LARGEST_FILE = 2**30  # bytes: uncompressed, the most pixels that Pillow accepts have half as many
LONGEST_SIDE = 2**16 - 1  # pixels, JPEG's own limit: to squash a line of 80 million, torch and Pillow want 10 GB
# Pixels times scans of a JPEG, some five seconds of decoding. Ten bytes are a scan: unlimited, a megabyte takes hours.
MOST_SCANNED = 4 * 10**9

# What is wrong with a file, the exception says: Pillow's log and the TIFF library would say it on stderr once more.
logging.getLogger("PIL").addHandler(logging.NullHandler())
with suppress(AttributeError, OSError):  # a build of Pillow in which the library is not to be seen
    for handler in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
        getattr(ctypes.CDLL(Image.core.__file__), handler)(None)


class UnreadablePhotograph(Exception):
    """A file that is no photograph, or one that cannot be decoded to its end; the message says why."""


def endings() -> tuple[str, ...]:
    """Those of the files that are taken for photographs, ".jpg" and others."""
    return tuple(end for end, name in Image.registered_extensions().items() if name in (*FORMATS, "MPO"))


def read_photograph(path: str | Path | Piece) -> Image.Image:
    """The photograph at `path`, upright, as 8-bit RGB.

    EXIF rotation is applied, transparency is laid over white, 16-bit values are scaled to 8 bits, and CMYK and
    palettes are converted. Raises UnreadablePhotograph for whatever cannot be decoded.
    """
    return _decoded(_content(path))


def _content(path: str | Path | Piece) -> bytes:
    """The bytes of an ordinary file: a pipe would be waited for, a device might never end."""
    try:
        if isinstance(path, Piece):
            return path.read()
        facts = os.stat(path)
        if not stat.S_ISREG(facts.st_mode):
            raise OSError("not an ordinary file")
        if facts.st_size > LARGEST_FILE:
            raise OSError(f"{facts.st_size:,} bytes are more than any photograph has")
        with open(path, "rb", buffering=0) as file:
            return file.readall()
    except (OSError, ValueError, MemoryError) as error:  # ValueError: a name with "\0"
        raise UnreadablePhotograph(f"{type(error).__name__}: {error}") from error


def _decoded(content: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes and damaged metadata: the photograph is read or it is not
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                if not 0 < min(image.size) <= max(image.size) <= LONGEST_SIDE:
                    raise ValueError(f"{image.width} × {image.height} pixels are no photograph's")
                if image.format == "JPEG" and _too_many_scans(content, image.width * image.height):
                    raise ValueError("a JPEG of so many scans that decoding would take minutes")
                image.load()
                return _rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as error:  # Pillow's own words name a place in memory
        raise UnreadablePhotograph(f"{type(error).__name__}: not a photograph of any known format") from error
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and others
        raise UnreadablePhotograph(f"{type(error).__name__}: {error}") from error


def _too_many_scans(content: bytes, pixels: int) -> bool:
    if len(content) // 10 * pixels <= MOST_SCANNED:
        return False
    values = np.frombuffer(content, np.uint8)
    scans = np.count_nonzero((values[:-1] == 0xFF) & (values[1:] == 0xDA))  # the marker that each begins with
    return scans * pixels > MOST_SCANNED


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode == "I" or image.mode.startswith("I;16"):
        pixels = np.asarray(image).clip(0, 65535)  # in its own type: giants have memory for few copies
        return Image.fromarray((pixels >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def read_squashed(path: str | Path | Piece, size: int) -> np.ndarray:
    """The photograph at `path` as `read_photograph` reads it, squashed: uint8 (size, size, 3).

    A JPEG of at least twice `size` is decoded at a half, a quarter or an eighth of its sides, which leaves out most of
    the arithmetic and of the memory. Then a pixel differs by about one level in the mean from the long way's.
    """
    content = _content(path)
    pixels = _plain_jpeg(content, size)
    return squash(np.array(_decoded(content)) if pixels is None else pixels, size)


def _plain_jpeg(content: bytes, size: int) -> np.ndarray | None:
    """A JPEG in colour without rotation as uint8 (H, W, 3), H, W ≥ size where they were; None for all that needs
    Pillow's care or judgement: other formats and colours, giants, damage."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
        if colours != "YCbCr" or height * width > Image.MAX_IMAGE_PIXELS:
            return None
        if _too_many_scans(content, height * width) or (EXIF in content and not _upright(content)):
            return None
        # Eighths in between exist, too, but only these have code for the processor's wide registers.
        part = next(part for part in (8, 4, 2, 1) if part == 1 or min(height, width) >= part * size)
        return simplejpeg.decode_jpeg(content, min_height=-(-height // part), min_width=-(-width // part))
    except Exception:  # simplejpeg raises ValueError for whatever libjpeg warns of, Pillow its many for EXIF
        return None


def _upright(content: bytes) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Image.open(io.BytesIO(content), formats=FORMATS).getexif().get(0x0112, 1) == 1


def squash(pixels: np.ndarray, size: int) -> np.ndarray:
    """uint8 (H, W, 3) resized to (size, size, 3), whatever the shape: the report's "resize to 256 × 256"."""
    return resized(pixels, size) if pixels.shape[:2] != (size, size) else pixels


def resized(pixels: np.ndarray, size: int) -> np.ndarray:
    """Bilinear with a wider filter where it shrinks, as Pillow's, whose values it has within 1: uint8 (size, size, 3).

    Torch's kernel takes the processor's wide registers to it, and with that a third to a fifth of the time.
    """
    image = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)  # with strides that say: channels last
    return interpolate(image, (size, size), mode="bilinear", antialias=True)[0].permute(1, 2, 0).numpy()
