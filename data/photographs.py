"""From the file of a photograph to its pixels: by Pillow, or faster by simplejpeg for a plain JPEG."""

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
from PIL import Image, ImageOps, UnidentifiedImageError

from common.errors import out_of_handles
from common.lazy import LazyModule
from data.shards import PackedPhotograph

torch = LazyModule("torch")  # the list of file endings and the tools do without

# File formats of photographs. Pillow knows more: EPS is a program, which Pillow would run in Ghostscript. IPTC holds a
# file of any format, also EPS. Others have no decoder, or one that is hardly used and tested.
# Formats without clear first bytes come last.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "JPEG2000", "PPM", "QOI", "PSD", "ICO", "TGA")
EXIF = b"Exif\0\0"
LARGEST_FILE = 2**30  # bytes: twice the uncompressed size of the largest image that Pillow accepts
LONGEST_SIDE = 2**16 - 1  # pixels, the limit of JPEG: squashing a line of 80 million pixels would take 10 GB
# Pixels times scans of a JPEG: about five seconds of decoding. A scan may have ten bytes: a megabyte would take hours.
MOST_SCANNED = 4 * 10**9

# The exception says what is wrong with a file. Pillow's log and the TIFF library would repeat it on stderr.
logging.getLogger("PIL").addHandler(logging.NullHandler())
with suppress(AttributeError, OSError):  # this build of Pillow does not export the TIFF library
    for handler in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
        getattr(ctypes.CDLL(Image.core.__file__), handler)(None)


class UnreadablePhotograph(Exception):
    """A file that is no photograph or cannot be decoded; the message says why."""


def endings() -> tuple[str, ...]:
    """Endings of the files that are taken for photographs, such as ".jpg"."""
    return tuple(end for end, name in Image.registered_extensions().items() if name in (*FORMATS, "MPO"))


def read_photograph(path: str | Path | PackedPhotograph) -> Image.Image:
    """The photograph at `path`, upright, as 8-bit RGB.

    EXIF rotation is applied, transparency becomes white, 16-bit values are scaled to 8 bits, CMYK and palettes are
    converted. Raises UnreadablePhotograph for a file that cannot be decoded.
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
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about sizes and damaged metadata
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                if not 0 < min(image.size) <= max(image.size) <= LONGEST_SIDE:
                    raise ValueError(f"{image.width} × {image.height} pixels are no photograph's")
                if image.format == "JPEG" and _too_many_scans(content, image.width * image.height):
                    raise ValueError("a JPEG of so many scans that decoding would take minutes")
                image.load()
                return _rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as error:  # Pillow's message has an address in memory
        raise UnreadablePhotograph(f"{type(error).__name__}: not a photograph of any known format") from error
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and others
        raise UnreadablePhotograph(f"{type(error).__name__}: {error}") from error


def _too_many_scans(content: bytes, pixels: int) -> bool:
    if len(content) // 10 * pixels <= MOST_SCANNED:
        return False
    values = np.frombuffer(content, np.uint8)
    scans = np.count_nonzero((values[:-1] == 0xFF) & (values[1:] == 0xDA))  # the marker at the start of each scan
    return scans * pixels > MOST_SCANNED


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode == "I" or image.mode.startswith("I;16"):
        pixels = np.asarray(image).clip(0, 65535)  # in its own type, to save memory
        return Image.fromarray((pixels >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def read_squashed(path: str | Path | PackedPhotograph, size: int) -> np.ndarray:
    """The photograph at `path` as in `read_photograph`, squashed: uint8 (size, size, 3).

    A JPEG of at least twice `size` is decoded at a half, a quarter or an eighth of its sides, which saves most of the
    time and memory. Its pixels then differ by about one level in the mean from a full decoding.
    """
    content = _content(path)
    pixels = _plain_jpeg(content, size)
    return squash(np.array(_decoded(content)) if pixels is None else pixels, size)


def _plain_jpeg(content: bytes, size: int) -> np.ndarray | None:
    """A colour JPEG without rotation as uint8 (H, W, 3), with H, W ≥ size unless it is smaller.

    None for everything that Pillow must read: other formats and colours, very large files, damaged files.
    """
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
        if colours != "YCbCr" or height * width > Image.MAX_IMAGE_PIXELS:
            return None
        if _too_many_scans(content, height * width) or (EXIF in content and not _upright(content)):
            return None
        # libjpeg has other eighths, too, but vector code only for these.
        part = next(part for part in (8, 4, 2, 1) if part == 1 or min(height, width) >= part * size)
        return simplejpeg.decode_jpeg(content, min_height=-(-height // part), min_width=-(-width // part))
    except Exception:  # simplejpeg raises ValueError for every warning of libjpeg; EXIF may raise anything
        return None


def _upright(content: bytes) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Image.open(io.BytesIO(content), formats=FORMATS).getexif().get(0x0112, 1) == 1


def squash(pixels: np.ndarray, size: int) -> np.ndarray:
    """uint8 (H, W, 3) resized to (size, size, 3), for any H and W: the report's "resize to 256 × 256"."""
    return resized(pixels, size) if pixels.shape[:2] != (size, size) else pixels


def resized(pixels: np.ndarray, size: int) -> np.ndarray:
    """uint8 (H, W, 3) -> (size, size, 3), bilinear and antialiased; values differ from Pillow's by at most 1.

    Torch's vector code needs a third to a fifth of Pillow's time.
    """
    image = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)  # (1, 3, H, W), channels last in memory
    resized = torch.nn.functional.interpolate(image, (size, size), mode="bilinear", antialias=True)
    return resized[0].permute(1, 2, 0).numpy()
