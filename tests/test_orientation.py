"""Which way up a photograph is, and damaged metadata, which never cost the picture."""

import io
import struct
import zlib

import numpy as np
import pytest
import simplejpeg
from bad_input import saved
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from profiles import rgb_profile
from test_photographs import photograph

from data import read_photograph, read_squashed, squash
from data.duplicates import perceptual_hash
from data.metadata import jpeg_metadata
from data.orientation import orientation, turned, turned_pixels

BYTE, TEXT, SHORT, LONG, RATIONAL, SBYTE, SSHORT, SLONG, FLOAT = 1, 2, 3, 4, 5, 6, 8, 9, 11
SCENE = photograph((96, 64))
STORED = np.asarray(SCENE)
TURNED = np.rot90(STORED, -1)  # orientation 6: the row 0 of the file is the right side
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:Description tiff:Orientation="6"/></x:xmpmeta>'


def entry(order: str, tag: int, kind: int, count: int, value: bytes) -> bytes:
    return struct.pack(f"{order}HHI", tag, kind, count) + value.ljust(4, b"\0")


def exif(order: str = "<", entries: list[bytes] | None = None, value: int = 6, kind: int = SHORT) -> bytes:
    """The TIFF structure of EXIF with these entries, then the orientation `value` as a number of type `kind`."""
    code = {BYTE: "B", SHORT: "H", LONG: "I", SBYTE: "b", SSHORT: "h", SLONG: "i", FLOAT: "f"}[kind]
    entries = [*(entries or []), entry(order, 0x0112, kind, 1, struct.pack(order + code, value))]
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}IH", 8, len(entries))
    return head + b"".join(entries) + bytes(4)


def odd(order: str) -> dict[str, list[bytes]]:
    """Entries that are not what EXIF says of them: each stands before the orientation."""
    far = struct.pack(f"{order}I", 10**6)
    return {
        "the width as text": [entry(order, 0x0100, TEXT, 3, b"96\0")],
        "the maker as a rational": [entry(order, 0x010F, RATIONAL, 1, far)],
        "a text far outside": [entry(order, 0x010F, TEXT, 40, far)],
        "a text of 4 GB": [entry(order, 0x0131, TEXT, 2**32 - 1, far)],
        "a resolution of 1 / 0": [entry(order, 0x011A, RATIONAL, 1, struct.pack(f"{order}I", 38))],
        "a type that does not exist": [entry(order, 0x010F, 99, 1, far)],
        "no values": [entry(order, 0x010F, SHORT, 0, b"")],
        "a directory that is this one": [entry(order, 0x8769, LONG, 1, struct.pack(f"{order}I", 8))],
        "a directory far outside": [entry(order, 0x8769, LONG, 1, far), entry(order, 0x8825, LONG, 1, far)],
        "a directory as text": [entry(order, 0x8769, TEXT, 4, b"abc\0")],
        "bits of a sample as floats": [entry(order, 0x0102, FLOAT, 1, struct.pack(f"{order}f", float("nan")))],
    }


ODD = [(order, name) for order in "<>" for name in odd(order)]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", [BYTE, SHORT, LONG, SBYTE, SSHORT, SLONG])
def test_the_orientation_is_an_integer_of_any_type_in_either_byte_order(order, kind):
    assert [orientation(exif(order, None, value, kind)) for value in range(1, 9)] == list(range(1, 9))


@pytest.mark.parametrize(("order", "name"), ODD)
def test_no_other_entry_matters(order, name):
    content = exif(order, odd(order)[name])
    for prefix in (b"", b"Exif\0\0", b"Exif\0\0Exif\0\0"):
        assert orientation(prefix + content) == 6


def test_exif_may_end_behind_the_orientation():
    content = exif("<", [entry("<", 0x010F, TEXT, 40, b"")])
    value_ends = content.find(struct.pack("<HHI", 0x0112, SHORT, 1)) + 10
    for length in range(len(content)):
        assert orientation(content[:length]) == (6 if length >= value_ends else 1), length


@pytest.mark.parametrize(
    "content",
    [
        exif(value=0),
        exif(value=9),
        exif(kind=LONG, value=2**32 - 6),
        exif(kind=SLONG, value=-6),
        exif(kind=FLOAT),
        exif().replace(b"II*\0", b"II+\0"),
        exif().replace(b"II*\0", b"MM\0*"),
        exif().replace(struct.pack("<HHI", 0x0112, SHORT, 1), struct.pack("<HHI", 0x0112, SHORT, 0)),
        exif().replace(struct.pack("<I", 8), struct.pack("<I", 2**32 - 1), 1),
        exif().replace(struct.pack("<HHI", 0x0112, SHORT, 1), struct.pack("<HHI", 0x0112, TEXT, 2)),
        b"",
        b"Exif\0\0" * 1000,
    ],
)
def test_what_cannot_be_read_is_upright(content):
    assert orientation(content) == 1


@given(st.binary(max_size=60), st.sampled_from([b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b""]))
def test_no_bytes_are_refused(content, head):
    assert orientation(head + content) in range(1, 9)


@pytest.mark.parametrize("value", range(10))
def test_arrays_and_images_are_turned_alike(value):
    pixels = turned_pixels(STORED, value)
    assert pixels.flags.c_contiguous and (pixels == np.asarray(turned(SCENE, value))).all()


def both(path) -> np.ndarray:
    """The photograph, read in both ways, which must agree."""
    pixels = np.array(read_photograph(path))
    for size in (min(pixels.shape[:2]), 150):  # never decoded in small
        assert np.abs(read_squashed(path, size).astype(int) - squash(pixels, size)).max() <= 1
    return pixels


@pytest.mark.parametrize(("order", "name"), ODD)
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_a_photograph_with_an_odd_entry_is_read_and_turned(tmp_path, order, name, kind):
    content = exif(order, odd(order)[name])
    options = dict(lossless=True) if kind == "webp" else {}
    (tmp_path / "x").write_bytes(saved(SCENE, kind, exif=b"Exif\0\0" + content, **options))
    pixels = both(tmp_path / "x")
    assert pixels.shape == (96, 64, 3) and np.abs(pixels - TURNED.astype(int)).mean() < 12 * (kind == "jpeg") + 0.01


def tiff(order: str, mode: str, extra: list[bytes], value: int) -> bytes:
    """An uncompressed TIFF of SCENE in one channel, with the orientation `value`, and entries behind it."""
    pixels = np.asarray(SCENE.convert("L"))
    pixels = pixels.astype(np.uint16) * 257 if mode == "I;16" else pixels
    pixels = pixels.astype(pixels.dtype.newbyteorder(order))
    bits = 8 * pixels.itemsize
    tags = {256: 96, 257: 64, 258: bits, 259: 1, 262: 1, 273: 0, 274: value, 277: 1, 278: 64, 279: pixels.nbytes}
    count = len(tags) + len(extra)
    tags[273] = 8 + 2 + 12 * count + 4
    entries = [entry(order, tag, LONG, 1, struct.pack(f"{order}I", number)) for tag, number in tags.items()]
    entries[6] = entry(order, 274, SHORT, 1, struct.pack(f"{order}H", value))
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}IH", 8, count)
    return head + b"".join([*entries, *extra]) + bytes(4) + pixels.tobytes()


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("mode", ["L", "I;16"])
@pytest.mark.parametrize("value", range(1, 10))
def test_a_tiff_is_turned_whatever_else_it_holds(tmp_path, order, mode, value):
    grey = np.asarray(turned(SCENE.convert("L"), value))[..., None]
    for name, extra in odd(order).items():
        if extra[0][:2] != struct.pack(f"{order}H", 0x0102) and "width" not in name:  # these say what the pixels are
            (tmp_path / "x.tif").write_bytes(tiff(order, mode, extra, value))
            assert (both(tmp_path / "x.tif") == grey).all(), name


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff", "avif"])
def test_an_orientation_in_xmp_alone_counts_nowhere(tmp_path, kind):
    options = dict(pnginfo=png_text(XMP)) if kind == "png" else dict(xmp=XMP)
    (tmp_path / "x").write_bytes(saved(SCENE, kind, **options))
    (tmp_path / "plain").write_bytes(saved(SCENE, kind))
    with Image.open(tmp_path / "x") as image:
        image.load()
        assert image.getexif().get(0x0112) == 6 or kind == "tiff", "Pillow would turn it"
    assert (both(tmp_path / "x") == both(tmp_path / "plain")).all()
    assert perceptual_hash(tmp_path / "x") == perceptual_hash(tmp_path / "plain")


def png_text(xmp: bytes):
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp.decode())
    return info


def avif(value: int, data: bytes) -> bytes:
    """An AVIF whose own property says the orientation `value`, and which has `data` where the EXIF was."""
    good = Image.Exif()
    good[0x0112], good[0x010F] = value, "x" * 300  # Pillow makes the properties irot and imir of it
    content = saved(SCENE, "avif", exif=good, quality=95)
    place = content.find(b"MM\0*")
    assert place > 0 and len(data) < 300
    return content[:place] + data + content[place + len(data) :]


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("name", ["another orientation", "noise", *odd("<")])
def test_an_avif_follows_its_own_property_whatever_its_exif_holds(tmp_path, name, value):
    data = {"noise": b"y" * 299, "another orientation": exif(">", value=9 - value)}
    data |= {odd_one: exif("<", entries, 3) for odd_one, entries in odd("<").items()}
    (tmp_path / "x.avif").write_bytes(avif(value, data[name]))
    assert np.abs(both(tmp_path / "x.avif") - np.asarray(turned(SCENE, value), int)).mean() < 6


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("size", [(200, 170), (512, 700), (170, 300)])
def test_a_turned_jpeg_is_decoded_in_small(tmp_path, value, size, monkeypatch):
    decoded = []
    decode = simplejpeg.decode_jpeg
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *a, **k: decoded.append(decode(*a, **k)) or decoded[-1])
    photograph(size).save(tmp_path / "x.jpg", exif=b"Exif\0\0" + exif(">", value=value), quality=90)
    pixels = read_squashed(tmp_path / "x.jpg", 64).astype(int)
    part = max(part for part in (1, 2, 4, 8) if min(size) >= 64 * part)
    assert decoded[0].shape == (-(-size[1] // part), -(-size[0] // part), 3)
    error = np.abs(pixels - squash(np.array(read_photograph(tmp_path / "x.jpg")), 64))
    assert error.mean() < 2.5 and error.max() < 40  # of 255
    assert (pixels == squash(turned_pixels(decoded[0], value), 64)).all()


def segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


JUNK = {
    "an index of pictures that leads nowhere": segment(0xE2, b"MPF\0" + b"II*\0" + struct.pack("<I", 9**9)),
    "an index of pictures without a number": segment(0xE2, b"MPF\0" + exif()),
    "an index of pictures cut off": segment(0xE2, b"MPF\0II*\0\x08\0\0\0\x09\0"),
    "Photoshop's data cut off": segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed"),
    "Photoshop's resolution of two bytes": segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0\0\0\0\2ab"),
    "a comment that is not text": segment(0xFE, bytes(range(256))),
    "an empty segment": segment(0xE1, b""),
    "XMP of noise": segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"\xff\xfe" * 99),
    "FlashPix": segment(0xE2, b"FPXR\0\xff"),
    "a JFIF of two bytes": segment(0xE0, b"JF"),
    "fill bytes": b"\xff" * 9,
}


@pytest.mark.parametrize("name", JUNK)
@pytest.mark.parametrize("place", ["first", "behind"])
def test_a_jpeg_with_odd_segments_is_read_and_turned_and_keeps_its_profile(tmp_path, name, place):
    head = segment(0xE1, b"Exif\0\0" + exif(value=8))
    profile = rgb_profile("Display P3")
    content = saved(SCENE, "jpeg", icc_profile=profile)
    parts = [JUNK[name], head] if place == "first" else [head, JUNK[name]]
    content = content[:2] + b"".join(parts) + content[2:]
    (tmp_path / "x.jpg").write_bytes(content)
    (tmp_path / "good.jpg").write_bytes(saved(SCENE, "jpeg", icc_profile=profile, exif=b"Exif\0\0" + exif(value=8)))
    assert jpeg_metadata(content) == (exif(value=8), profile)
    assert (both(tmp_path / "x.jpg") == both(tmp_path / "good.jpg")).all()


def test_exif_of_more_than_64_kilobytes_goes_on_in_the_next_segment(tmp_path):
    long = exif(">").replace(struct.pack(">I", 8), struct.pack(">I", 70_000), 1)
    long = long[:8].ljust(70_000, b"x") + exif(">")[8:]
    parts = [segment(0xE1, b"Exif\0\0" + long[start : start + 60_000]) for start in (0, 60_000)]
    content = saved(SCENE, "jpeg")
    (tmp_path / "x.jpg").write_bytes(content[:2] + b"".join(parts) + content[2:])
    assert both(tmp_path / "x.jpg").shape == (96, 64, 3)


def test_a_jpeg_of_countless_segments_does_not_take_minutes(tmp_path):
    content = saved(SCENE, "jpeg")
    many = content[:2] + segment(0xE1, b"") * 10**7 + content[2:]
    assert jpeg_metadata(many) == (b"", None)


def chunk(kind: bytes, data: bytes, wrong: int = 0) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) ^ wrong)


BOMB = zlib.compress(bytes(5 * 10**6), 9)
CHUNKS = {
    "a text with a wrong checksum": chunk(b"tEXt", b"a\0b", 1),
    "a compressed text with a wrong checksum": chunk(b"zTXt", b"a\0\0" + zlib.compress(b"b"), 1),
    "a text that is not compressed": chunk(b"zTXt", b"a\0\0noise"),
    "a text compressed in an unknown way": chunk(b"zTXt", b"a\0\7noise"),
    "a text of 5 MB in 5 KB": chunk(b"zTXt", b"a\0\0" + BOMB),
    "a text in UTF-8 of 5 MB in 5 KB": chunk(b"iTXt", b"a\0\1\0\0\0" + BOMB),
    "a text without an end": chunk(b"iTXt", b"a"),
    "a text that is not UTF-8": chunk(b"iTXt", b"a\0\0\0\0\0\xff\xfe"),
    "EXIF with a wrong checksum": chunk(b"eXIf", exif(), 1),
    "EXIF of noise": chunk(b"eXIf", b"noise"),
    "an old EXIF of noise": chunk(b"tEXt", b"Raw profile type exif\0\nexif\n 3\nnoise"),
    "a time of one byte": chunk(b"tIME", b"1"),
    "a size of one byte": chunk(b"pHYs", b"1"),
    "a gamma of no byte": chunk(b"gAMA", b""),
    "white of one byte": chunk(b"cHRM", b"1"),
    "a transparent colour of one byte": chunk(b"tRNS", b"1"),
    "an animation without frames": chunk(b"acTL", bytes(8)),
    "an animation of one byte": chunk(b"acTL", b"1"),
    "an unknown chunk with a wrong checksum": chunk(b"abCd", b"1", 1),
}


@pytest.mark.parametrize("name", CHUNKS)
@pytest.mark.parametrize("place", ["before the pixels", "behind the pixels"])
def test_a_png_with_odd_chunks_is_read(tmp_path, name, place):
    content = saved(SCENE, "png")
    at = 33 if place == "before the pixels" else len(content) - 12
    (tmp_path / "x.png").write_bytes(content[:at] + CHUNKS[name] + content[at:])
    pixels = both(tmp_path / "x.png")
    may_turn = name == "EXIF with a wrong checksum" and place == "behind the pixels"  # where Pillow compares none
    assert (pixels == (TURNED if may_turn else STORED)).all()


@pytest.mark.parametrize("name", ["a text with a wrong checksum", "an unknown chunk with a wrong checksum"])
def test_a_png_keeps_its_profile_and_its_transparent_colour_without_what_is_odd(tmp_path, name):
    content = saved(SCENE, "png", icc_profile=rgb_profile("Display P3"), transparency=tuple(STORED[5, 7].tolist()))
    (tmp_path / "good.png").write_bytes(content)
    (tmp_path / "x.png").write_bytes(content[:33] + CHUNKS[name] + content[33:])
    pixels = both(tmp_path / "x.png")
    assert (pixels == both(tmp_path / "good.png")).all() and (pixels[5, 7] == 255).all() and (pixels != STORED).any()


def test_the_old_exif_of_a_png_turns_it(tmp_path):
    content, digits = saved(SCENE, "png"), exif(value=6).hex()
    lines = f"\nexif\n{len(digits) // 2:8}\n{digits[:40]}\n{digits[40:]}\n"
    text = chunk(b"tEXt", b"Raw profile type exif\0" + lines.encode())
    (tmp_path / "x.png").write_bytes(content[:33] + text + content[33:])
    assert (both(tmp_path / "x.png") == TURNED).all()


def test_a_photograph_of_several_is_the_first_also_if_it_is_turned(tmp_path):
    file = io.BytesIO()
    SCENE.save(file, "mpo", save_all=True, append_images=[photograph((96, 64), 1)], exif=b"Exif\0\0" + exif())
    (tmp_path / "x.mpo").write_bytes(file.getvalue())
    assert np.abs(both(tmp_path / "x.mpo") - TURNED.astype(int)).mean() < 12
