"""Grey photographs of more than 8 bits keep their levels; a transparent colour is white."""

import struct

import numpy as np
import pytest
from bad_input import saved
from PIL import Image, TiffImagePlugin
from test_orientation import both, chunk, photograph

RAMP = np.linspace(0, 1, 64 * 48).reshape(48, 64)  # 48 × 64, each level of 8 bits at least 12 times
LEVELS = np.rint(255 * RAMP)
BITS, PHOTOMETRIC, SAMPLE_FORMAT, MIN, MAX, SMIN, SMAX = 258, 262, 339, 280, 281, 340, 341


def tiff(tmp_path, values: np.ndarray, **tags) -> np.ndarray:
    """One channel (48, 64) of a TIFF of these values, as it is read in both ways."""
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for name, value in tags.items():
        info[globals()[name]] = value
    Image.fromarray(values).save(tmp_path / "x.tif", tiffinfo=info)
    pixels = both(tmp_path / "x.tif")
    assert pixels.shape == (48, 64, 3) and (pixels == pixels[..., :1]).all()
    return pixels[..., 0].astype(int)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 255), (-1000, 1000), (0, 70_000), (1e-30, 1e30), (-7, -3)])
def test_floats_of_the_whole_range_keep_their_levels(tmp_path, low, high):
    values = (low + (high - low) * RAMP).astype(np.float32)
    assert np.abs(tiff(tmp_path, values) - LEVELS).max() <= 1


@pytest.mark.parametrize("high", [1, 255])
def test_floats_of_a_part_of_the_usual_ranges_are_not_stretched(tmp_path, high):
    values = (high * (0.2 + 0.5 * RAMP)).astype(np.float32)
    expected = 255 * (0.2 + 0.5 * RAMP)
    if high == 255 or expected.max() > 1:
        assert np.abs(tiff(tmp_path, values) - expected).max() <= 1


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_costs_only_its_own_pixel(tmp_path, odd):
    values = RAMP.astype(np.float32) * 5000
    values[3, 4] = odd
    expected = LEVELS.copy()
    expected[3, 4] = 255 if odd == np.inf else 0
    assert np.abs(tiff(tmp_path, values) - expected).max() <= 1


@pytest.mark.parametrize("value", [np.nan, np.inf, 0, 1e38, -5])
def test_an_even_float_image_is_read(tmp_path, value):
    assert len(np.unique(tiff(tmp_path, np.full((48, 64), value, np.float32)))) == 1


@pytest.mark.parametrize("high", [255, 4095, 65535, 2**20, 2**31 - 1])
def test_integers_of_32_bits_keep_their_levels(tmp_path, high):
    assert np.abs(tiff(tmp_path, np.rint(high * RAMP).astype(np.int32)) - LEVELS).max() <= 1


def test_integers_of_32_bits_with_a_sign_keep_their_levels(tmp_path):
    assert (
        np.abs(tiff(tmp_path, (2.0**32 * RAMP - 2**31).clip(-(2**31), 2**31 - 1).astype(np.int32)) - LEVELS).max() <= 1
    )


def test_integers_of_32_bits_without_a_sign_keep_their_levels(tmp_path):
    tiff(tmp_path, np.rint((2**32 - 1) * RAMP).astype(np.uint32).view(np.int32))
    patch_tag(tmp_path / "x.tif", SAMPLE_FORMAT, 1)
    assert np.abs(both(tmp_path / "x.tif")[..., 0] - LEVELS).max() <= 1


def patch_tag(path, tag: int, value: int) -> None:
    content = bytearray(path.read_bytes())
    place = content.find(struct.pack("<HHI", tag, 3, 1))
    assert place > 0
    content[place + 8 : place + 10] = struct.pack("<H", value)
    path.write_bytes(bytes(content))


def test_twelve_bits_in_sixteen_keep_their_levels(tmp_path):
    values = np.rint(4095 * RAMP).astype(np.uint16)
    assert np.abs(tiff(tmp_path, values) - LEVELS).max() <= 1
    assert np.abs(tiff(tmp_path, values // 2, MIN=0, MAX=4095) - LEVELS / 2).max() <= 1
    assert np.abs(tiff(tmp_path, values, MAX=65535) - LEVELS / 16).max() <= 1, "the TIFF says that it is dark"


def test_twelve_bits_alone_keep_their_levels(tmp_path):
    values = np.rint(4095 * RAMP).astype(np.uint16).reshape(-1, 2).astype(np.uint32)
    packed = (values[:, 0] << 12 | values[:, 1]).astype(">u4").view(np.uint8).reshape(-1, 4)[:, 1:].tobytes()
    tags = {256: 64, 257: 48, 258: 12, 259: 1, 262: 1, 273: 8 + 2 + 12 * 9 + 4, 277: 1, 278: 48, 279: len(packed)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    (tmp_path / "x.tif").write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + packed)
    assert np.abs(both(tmp_path / "x.tif")[..., 0] - LEVELS).max() <= 1
    dark = (tmp_path / "x.tif").read_bytes()[: -len(packed)] + bytes(len(packed) - 3) + b"\x40\x04\x00"
    (tmp_path / "x.tif").write_bytes(dark)
    assert both(tmp_path / "x.tif").max() == 64


def test_sixteen_bits_are_divided_by_256_as_always(tmp_path):
    values = np.rint(65535 * RAMP).astype(np.uint16)
    assert (tiff(tmp_path, values) == values >> 8).all()
    assert (tiff(tmp_path, values // 2) == values // 2 >> 8).all()
    for kind in ("png", "jpeg2000"):
        (tmp_path / "x").write_bytes(
            saved(Image.fromarray(values // 40), kind)
        )  # 12 bits or dark: only a TIFF may mean 12
        assert (both(tmp_path / "x")[..., 0] == values // 40 >> 8).all()


def test_the_range_that_a_tiff_tells_counts_unless_pixels_lie_outside(tmp_path):
    floats = (3 + 2 * RAMP).astype(np.float32)
    assert np.abs(tiff(tmp_path, floats, SMIN=1.0, SMAX=5.0) - 255 * (0.5 + 0.5 * RAMP)).max() <= 1
    assert np.abs(tiff(tmp_path, floats, SMIN=4.0, SMAX=4.5) - floats).max() <= 1


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_white_may_be_zero(tmp_path, dtype):
    values = (RAMP * (65535 if dtype == np.uint16 else 1)).astype(dtype)
    straight = tiff(tmp_path, values)
    patch_tag(tmp_path / "x.tif", PHOTOMETRIC, 0)
    assert (both(tmp_path / "x.tif")[..., 0] == 255 - straight).all()


# Transparent colours of a PNG


def png(depth: int, colour: int, rows: np.ndarray, transparent: bytes) -> bytes:
    """A PNG of rows uint8 (H, bytes a row), depth bits a sample, of colour type 0 (grey) or 2 (RGB)."""
    import zlib

    samples = 3 if colour == 2 else 1
    head = struct.pack(">IIBBBBB", rows.shape[1] * 8 // depth // samples, len(rows), depth, colour, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    chunks = chunk(b"IHDR", head) + chunk(b"tRNS", transparent) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_a_transparent_colour_of_rgb_is_white(tmp_path):
    pixels = np.array(photograph((40, 30)))
    pixels[2:9, 3:20] = (7, 8, 9)
    (tmp_path / "x.png").write_bytes(png(8, 2, pixels.reshape(30, 120), struct.pack(">HHH", 7, 8, 9)))
    expected = np.where((pixels == (7, 8, 9)).all(-1, keepdims=True), 255, pixels)
    assert (both(tmp_path / "x.png") == expected).all() and (expected != pixels).any()


def test_a_transparent_colour_of_rgb_with_16_bits_is_only_that_colour(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 65536, (30, 40, 3)).astype(np.uint16)
    pixels[2:9, 3:20] = (700, 800, 900)
    pixels[10:12] = (700, 800, 901)  # the same in 8 bits
    rows = pixels.astype(">u2").view(np.uint8).reshape(30, 240)
    (tmp_path / "x.png").write_bytes(png(16, 2, rows, struct.pack(">HHH", 700, 800, 900)))
    expected = np.where((pixels == (700, 800, 900)).all(-1, keepdims=True), 255, pixels >> 8)
    assert (both(tmp_path / "x.png") == expected).all() and expected[10, 0].max() < 4


def test_a_transparent_level_of_grey_with_16_bits_is_only_that_level(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (30, 40)).astype(np.uint16)
    values[2:9, 3:20], values[10:12] = 700, 701
    rows = values.astype(">u2").view(np.uint8).reshape(30, 80)
    (tmp_path / "x.png").write_bytes(png(16, 0, rows, struct.pack(">H", 700)))
    assert (both(tmp_path / "x.png")[..., 0] == np.where(values == 700, 255, values >> 8)).all()


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_a_transparent_level_of_grey_is_white(tmp_path, depth):
    most = 2**depth - 1
    values = np.random.default_rng(0).integers(0, most + 1, (32, 32)).astype(np.uint8)
    bits = np.unpackbits(values[..., None], -1)[..., -depth:]
    rows = np.packbits(bits.reshape(32, -1), -1)
    key = most // 2
    (tmp_path / "x.png").write_bytes(png(depth, 0, rows, struct.pack(">H", key)))
    expected = np.where(values == key, 255, values * (255 // most))
    assert (both(tmp_path / "x.png")[..., 0] == expected).all()
