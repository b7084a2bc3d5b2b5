"""The file formats of photographs: what they are called, how their names end, how their files begin."""

from collections.abc import Callable
from functools import cache

from PIL import Image

# File formats of photographs. Pillow knows more: EPS is a program, which Pillow would run in Ghostscript. IPTC holds a
# file of any format, also EPS. Others have no decoder, or one that is hardly used and tested.
# Formats without clear first bytes come last.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "JPEG2000", "PPM", "QOI", "PSD", "ICO", "TGA")
HEIF_ENDINGS = (".heic", ".heif", ".hif")  # of iPhones, Samsung and Canon; registered with Pillow at first use


def endings() -> tuple[str, ...]:
    """Endings of the files that are taken for photographs, such as ".jpg"."""
    pillows = (end for end, name in Image.registered_extensions().items() if name in (*FORMATS, "MPO"))
    return tuple(dict.fromkeys([*pillows, *HEIF_ENDINGS]))


@cache
def _signatures() -> list[Callable[[bytes], object]]:
    """For each format with clear first bytes, Pillow's function that recognises them."""
    Image.init()
    found = (Image.OPEN[name][1] for name in FORMATS if name in Image.OPEN)
    return [accept for accept in found if accept]


def begins_a_photograph(start: bytes) -> bool:
    """Whether a file with these first bytes, 32 say, is a photograph by all appearance."""
    heif = start[4:8] == b"ftyp"  # of HEIF and AVIF, and of films, which the reader refuses
    return len(start) >= 8 and (heif or any(accept(start) is True for accept in _signatures()))
