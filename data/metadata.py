"""The metadata of an encoded photograph, apart from its pixels: found without a decoder, or taken out.

A decoder may refuse a file for metadata that no browser minds: a text with a wrong checksum, an index of other pictures
that leads nowhere. Without them the file is decoded.
"""

import re
import struct
import zlib
from collections.abc import Iterator

from data.orientation import PREFIX as EXIF

JPEG, PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
APP1, APP2, COMMENT = 0xE1, 0xE2, 0xFE
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
LONE = {0, 1, *range(0xD0, 0xD9)}  # a byte 0xFF in the data, and markers without a length
ICC = b"ICC_PROFILE\0"
MOST_SEGMENTS = 10_000  # of a JPEG, 600 MB of EXIF: walking through a file of empty ones would take minutes
TEXTS = {b"tEXt", b"zTXt", b"iTXt", b"tIME", b"eXIf"}
ISO_ITEM = re.compile(rb"(infe\x02.{7}|infe\x03.{9})Exif", re.DOTALL)  # ISO/IEC 14496-12, section 8.11.6


def _segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end) of the segments of a JPEG before its first scan: all that hold metadata."""
    place = content.find(b"\xff", 2)
    for _ in range(MOST_SEGMENTS):
        if not 0 <= place < len(content) - 3:
            return
        marker = content[place + 1]
        if marker in (START_OF_SCAN, END_OF_IMAGE):
            return
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        end = place + 2
        if marker not in LONE:
            end += max(2, int.from_bytes(content[place + 2 : place + 4]))
            yield marker, place, end
        place = content.find(b"\xff", end)


def jpeg_metadata(content: bytes) -> tuple[bytes, bytes | None]:
    """EXIF data of a JPEG, empty where there is none, and its ICC profile. A profile with missing parts is None."""
    exif, parts = [], []
    for marker, start, end in _segments(content):
        if marker == APP1 and content.startswith(EXIF, start + 4):
            exif.append(content[start + 4 + len(EXIF) : end])  # more than 64 KB go on in the next segment
        elif marker == APP2 and content.startswith(ICC, start + 4):
            parts.append(content[start + 4 + len(ICC) : end])  # its number, their count, a piece of the profile
    parts.sort(key=lambda part: part[:1])
    if not parts or [part[:2] for part in parts] != [bytes([n + 1, len(parts) % 256]) for n in range(len(parts))]:
        return b"".join(exif), None
    return b"".join(exif), b"".join(part[2:] for part in parts)


def lighter(content: bytes) -> Iterator[bytes]:
    """The same picture without metadata: twice for a PNG, which loses its profile only the second time."""
    if content.startswith(JPEG):
        yield _without_segments(content)
    elif content.startswith(PNG):
        yield _with_chunks(content, lambda kind, intact: intact and kind not in TEXTS)
        yield _with_chunks(content, lambda kind, intact: intact and kind == b"tRNS")
        yield _with_chunks(content, lambda kind, intact: False)


def _without_segments(content: bytes) -> bytes:
    """Without comments and without APP1 … APP13 and APP15. APP0 and APP14 tell the colours."""
    kept, place = [], 0
    for marker, start, end in _segments(content):
        if APP1 <= marker <= 0xED or marker in (0xEF, COMMENT):
            kept.append(content[place:start])
            place = end
    return b"".join([*kept, content[place:]])


def _with_chunks(content: bytes, wanted) -> bytes:
    """A PNG with those chunks that the picture needs, and others for which `wanted(kind, intact)` is true."""
    kept, place = [PNG], len(PNG)
    while place + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, place)
        kind, end = content[place + 4 : place + 8], place + 12 + length
        needed = not kind[0] & 0x20  # a capital letter: PNG, section 5.4
        intact = needed or content[end - 4 : end] == struct.pack(">I", zlib.crc32(content[place + 4 : end - 4]))
        if needed or wanted(kind, intact):
            kept.append(content[place:end])
        place = end
    return b"".join(kept)


def without_iso_exif(content: bytes) -> bytes:
    """An AVIF or HEIF file whose EXIF no decoder finds: these say in a property of the picture how it is turned.

    ISO/IEC 23008-12, section A.2.1: readers ignore the orientation in EXIF.
    """
    return ISO_ITEM.sub(rb"\1none", content)
