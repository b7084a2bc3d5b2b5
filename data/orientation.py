"""Which way up a photograph is: the orientation in its EXIF, read by its tag alone, and the turning of its pixels.

Pillow reads and rewrites the whole EXIF to turn a photograph. One field of a wrong type then costs the picture. It also
takes an orientation from XMP, which browsers and libjpeg do not.
"""

import struct

import numpy as np
from PIL import Image

from common.lazy import LazyModule

cv2 = LazyModule("cv2")  # a tenth of numpy's time for a turn

TAG = 0x0112
PREFIX = b"Exif\0\0"
BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}  # TIFF 6.0, section 2: BYTE, SHORT, LONG, then the signed

TRANSPOSE = {  # EXIF 2.32, section 4.6.4: what makes the stored pixels upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation(exif: bytes) -> int:
    """The orientation 1 … 8 in the first directory of EXIF data, an integer of any type; 1 where none can be read.

    exif: the TIFF structure, behind the prefix "Exif\\0\\0" as often as a program has written it. No other entry is
    looked at, so they may be of any kind. The data may end anywhere behind the entry.
    """
    while exif.startswith(PREFIX):
        exif = exif[len(PREFIX) :]
    order = BYTE_ORDERS.get(exif[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, values = struct.unpack_from(f"{order}HHI", exif, entry)
            if tag == TAG and kind in INTEGERS and values:
                (value,) = struct.unpack_from(f"{order}{INTEGERS[kind]}", exif, entry + 8)
                return valid(value)
    except struct.error:  # it ends before
        pass
    return 1


def valid(value: object) -> int:
    """`value` if it is an orientation, else 1."""
    return int(value) if isinstance(value, int) and value in TRANSPOSE else 1


def turned(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(TRANSPOSE[orientation]) if orientation in TRANSPOSE else image


def turned_pixels(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """uint8 (H, W, 3) turned as `turned` does: contiguous, (W, H, 3) for the orientations 5 to 8."""
    if orientation not in TRANSPOSE:
        return pixels
    if orientation in (2, 4):
        return cv2.flip(pixels, 1 if orientation == 2 else 0)
    if orientation == 5:
        return cv2.transpose(pixels)
    if orientation == 7:
        return cv2.transpose(cv2.rotate(pixels, cv2.ROTATE_180))
    turn = {3: cv2.ROTATE_180, 6: cv2.ROTATE_90_CLOCKWISE, 8: cv2.ROTATE_90_COUNTERCLOCKWISE}[orientation]
    return cv2.rotate(pixels, turn)
