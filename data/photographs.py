"""From the file of a photograph to its pixels: by Pillow, or faster by simplejpeg for a JPEG in colour.

Pixels and metadata are apart: damaged metadata never costs a picture that can be decoded.
"""

import ctypes
import io
import logging
import os
import re
import stat
import warnings
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from catalogues.picture_formats import FORMATS
from catalogues.shards import PackedPhotograph
from common.errors import out_of_handles
from common.lazy import LazyModule
from data.colours import pixels_to_srgb, to_srgb
from data.fitting import covers, fitted
from data.levels import TAGS as LEVEL_TAGS
from data.levels import grey_levels, is_deep, settle_transparent_colour
from data.metadata import JPEG, jpeg_metadata, lighter, without_iso_exif
from data.orientation import TAG as ORIENTATION
from data.orientation import orientation, turned, turned_pixels, valid

pillow_heif = LazyModule("pillow_heif")

LARGEST_FILE = 2**30  # bytes: twice the uncompressed size of the largest image that Pillow accepts
LONGEST_SIDE = 2**16 - 1  # pixels, the limit of JPEG: squashing a line of 80 million pixels would take 10 GB
# Pixels times scans of a JPEG: about five seconds of decoding. A scan may have ten bytes: a megabyte would take hours.
MOST_SCANNED = 4 * 10**9
# An overlay of a HEIF may name the same large picture hundreds of times. ISO/IEC 23008-12, section 6.6.2.2
OVERLAY = re.compile(rb"(infe\x02.{7}|infe\x03.{9})iovl", re.DOTALL)

# The exception says what is wrong with a file. Pillow's log and the TIFF library would repeat it on stderr.
logging.getLogger("PIL").addHandler(logging.NullHandler())
with suppress(AttributeError, OSError):  # this build of Pillow does not export the TIFF library
    for handler in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
        getattr(ctypes.CDLL(Image.core.__file__), handler)(None)


class UnreadablePhotograph(Exception):
    """A file that is no photograph or cannot be decoded; the message says why."""


def read_photograph(path: str | Path | PackedPhotograph) -> Image.Image:
    """The photograph at `path`, upright, as 8-bit RGB in sRGB.

    Every part of this project reads photographs by this function or by `read_squashed`. Both follow the same rules:

    - Orientation: the tag 0x0112 of EXIF. In HEIF and AVIF, as these standards require, it is the picture's own
      property instead. XMP does not count. A photograph whose orientation cannot be read is upright.
    - Colours: an ICC profile of RGB, grey or CMYK is brought to sRGB. A damaged one counts as none. Without a profile,
      RGB is sRGB, and CMYK is converted by Pillow's formula.
    - Transparency becomes white, also a transparent colour of a PNG.
    - 16 bits, 32 bits and floats are scaled to 8 bits: see `levels.grey_levels`.
    - Of several pictures in a file, the first or primary one is read.

    Raises UnreadablePhotograph for a file whose pixels cannot be decoded.
    """
    return _decoded(_content(path))


def _content(path: str | Path | PackedPhotograph) -> bytes:
    """The bytes of an ordinary file. Opening a pipe would wait for ever; a device may never end."""
    try:
        if isinstance(path, PackedPhotograph):
            return path.read()
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("not an ordinary file")
        if status.st_size > LARGEST_FILE:
            raise OSError(f"{status.st_size:,} bytes are more than any photograph has")
        with open(path, "rb", buffering=0) as file:
            return file.readall()
    except (OSError, ValueError, MemoryError) as error:  # ValueError: a name with "\0"
        if out_of_handles(error):  # the photograph is good
            raise
        raise UnreadablePhotograph(f"{type(error).__name__}: {error}") from error


def _decoded(content: bytes) -> Image.Image:
    exif, profile = jpeg_metadata(content) if content.startswith(JPEG) else (b"", None)
    try:
        try:
            return _rgb(content, exif, profile)
        except Exception:
            for less in lighter(content):
                with suppress(Exception):
                    return _rgb(less, exif, profile)
            raise
    except UnidentifiedImageError as error:  # Pillow's message has an address in memory
        raise UnreadablePhotograph(f"{type(error).__name__}: not a photograph of any known format") from error
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and others
        raise UnreadablePhotograph(f"{type(error).__name__}: {error}") from error


def _rgb(content: bytes, exif: bytes, profile: bytes | None) -> Image.Image:
    """exif, profile: of a JPEG, where both ways of decoding take them from the same place."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about sizes and damaged metadata
        with _opened(content) as image:
            _require_size(image)
            if content.startswith(JPEG) and _too_many_scans(content, image.width * image.height):
                raise ValueError("a JPEG of so many scans that decoding would take minutes")
            image.getexif = Image.Exif  # empty: Pillow would turn a TIFF itself while loading, and fail at odd EXIF
            rawmode = image.tile[0].args if image.format == "PNG" and image.tile else ""
            tags = _tags(image) if image.format == "TIFF" else None
            image.load()
            _require_size(image)  # a HEIF may hold other pixels than it declares
            if image.format == "PNG":
                settle_transparent_colour(image, content, rawmode)
            if not content.startswith(JPEG):
                profile = image.info.get("icc_profile")
            return to_srgb(_eight_bits(turned(image, _orientation(image, exif, tags)), tags), profile)


def _tags(image: Image.Image) -> dict[int, object]:
    """The tags of a TIFF that are needed; to parse any other might fail."""
    return {tag: image.tag_v2[tag] for tag in (ORIENTATION, *LEVEL_TAGS) if tag in image.tag_v2}


def _opened(content: bytes) -> Image.Image:
    if content[4:8] != b"ftyp":
        return Image.open(io.BytesIO(content), formats=FORMATS)
    if OVERLAY.search(content):
        raise ValueError("a HEIF of layers, each of which would be decoded")
    _register_heif()
    # The brand "mif1" stands for both: AVIF is tried first, and leaves the other alone.
    return Image.open(io.BytesIO(without_iso_exif(content)), formats=("AVIF", "HEIF"))


@lru_cache(maxsize=1)
def _register_heif() -> None:
    """Let Pillow read HEIF by libheif; its encoder is not wanted."""
    pillow_heif.options.DECODE_THREADS = 1  # the worker processes already use all cores
    Image.register_open("HEIF", pillow_heif.HeifImageFile, lambda prefix: prefix[4:8] == b"ftyp")


def _require_size(image: Image.Image) -> None:
    if not 0 < min(image.size) <= max(image.size) <= LONGEST_SIDE:
        raise ValueError(f"{image.width} × {image.height} pixels are no photograph's")


def _orientation(image: Image.Image, exif: bytes, tags: dict | None) -> int:
    if tags is not None:
        return valid(tags.get(ORIENTATION))
    if not exif and "Raw profile type exif" in image.info:  # a PNG of ImageMagick's: name, length, then digits
        with suppress(ValueError):
            exif = bytes.fromhex("".join(image.info["Raw profile type exif"].split("\n")[3:]))
    return orientation(exif or image.info.get("exif") or b"")  # HEIF has none here: libheif has turned it


def _too_many_scans(content: bytes, pixels: int) -> bool:
    if len(content) // 10 * pixels <= MOST_SCANNED:
        return False
    values = np.frombuffer(content, np.uint8)
    scans = np.count_nonzero((values[:-1] == 0xFF) & (values[1:] == 0xDA))  # the marker at the start of each scan
    return scans * pixels > MOST_SCANNED


def _eight_bits(image: Image.Image, tags: dict | None) -> Image.Image:
    """The image in mode L, RGB or CMYK; what is transparent is white. tags: of a TIFF."""
    if is_deep(image):
        return grey_levels(image, tags)
    if image.has_transparency_data:
        grey = image.mode in ("1", "L", "LA", "La")
        image = image.convert("LA") if image.mode == "La" else image
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("RGB").getchannel(0) if grey else image.convert("RGB")
    if image.mode in ("L", "RGB", "CMYK"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def read_squashed(path: str | Path | PackedPhotograph, size: int, fit: str = "squash") -> np.ndarray:
    """The photograph at `path` as in `read_photograph`, squashed: uint8 (size, size, 3). fit: see `fitted`.

    A JPEG of at least twice `size` is decoded at a half, a quarter or an eighth of its sides, which saves most of the
    time and memory. Its pixels then differ by about one level in the mean from a full decoding.
    """
    content = _content(path)
    pixels = _small_jpeg(content, size, fit)
    return fitted(np.array(_decoded(content)) if pixels is None else pixels, size, fit)


def _small_jpeg(content: bytes, size: int, fit: str) -> np.ndarray | None:
    """A colour JPEG, upright and in sRGB, as uint8 (H, W, 3), which is only shrunk to `size` unless it is smaller.

    None for everything that Pillow must read: other formats and colours, very large files, damaged files.
    """
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
        if colours != "YCbCr" or height * width > Image.MAX_IMAGE_PIXELS or _too_many_scans(content, height * width):
            return None
        # libjpeg has other eighths, too, but vector code only for these.
        part = next(part for part in (8, 4, 2, 1) if part == 1 or covers(height, width, part * size, fit))
        pixels = simplejpeg.decode_jpeg(content, min_height=-(-height // part), min_width=-(-width // part))
        exif, profile = jpeg_metadata(content)
        return pixels_to_srgb(turned_pixels(pixels, orientation(exif)), profile)
    except Exception:  # simplejpeg raises ValueError for every warning of libjpeg
        return None
