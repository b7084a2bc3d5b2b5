"""ICC profiles: the colours of a photograph in sRGB, against an independent computation in float64."""

import io
import zlib

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageCms
from profiles import D50, cmyk_profile, grey_profile, linear, profile, rgb_profile, srgb_of, srgb_of_lab, srgb_of_xyz
from test_photographs import photograph

from data import read_photograph, read_squashed, squash
from data.colours import LARGEST_PROFILE, profile_transform
from data.metadata import jpeg_metadata

STEPS = np.arange(0, 256, 15, dtype=np.uint8)
COLOURS = np.stack(np.meshgrid(STEPS, STEPS, STEPS), -1).reshape(18, -1, 3)  # (18, 324, 3)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LOSSLESS = {"png": {}, "tiff": {}, "webp": dict(lossless=True)}


def read(tmp_path, image, kind, **options):
    image.save(tmp_path / "x", kind, **options)
    return np.asarray(read_photograph(tmp_path / "x"), int)


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("name", ["Display P3", "Adobe RGB", "ProPhoto RGB"])
def test_colours_of_a_wide_space_are_brought_to_srgb(tmp_path, name, kind):
    options = LOSSLESS[kind] | dict(icc_profile=rgb_profile(name))
    error = np.abs(read(tmp_path, Image.fromarray(COLOURS), kind, **options) - srgb_of(COLOURS, name))
    assert error.mean() < 0.6 and error.max() < 5  # 8 bits of littleCMS, steepest in the dark
    assert np.abs(COLOURS - srgb_of(COLOURS, name)).max() > 40, "the profile matters"


@pytest.mark.parametrize("size", [(60, 50), (600, 500)])
def test_a_jpeg_in_display_p3_is_decoded_in_small_and_then_converted(tmp_path, size, monkeypatch):
    decoded = []
    decode = simplejpeg.decode_jpeg
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *a, **k: decoded.append(decode(*a, **k)) or decoded[-1])
    photograph(size).save(tmp_path / "x.jpg", quality=95, icc_profile=rgb_profile("Display P3"))
    pixels = read_squashed(tmp_path / "x.jpg", 64).astype(int)
    assert decoded[0].shape[:2] == ((50, 60) if size == (60, 50) else (125, 150))
    error = np.abs(pixels - squash(np.array(read_photograph(tmp_path / "x.jpg")), 64))
    assert error.max() <= 1 if size == (60, 50) else error.mean() < 2.5
    photograph(size).save(tmp_path / "plain.jpg", quality=95)
    expected = srgb_of(read_squashed(tmp_path / "plain.jpg", 64), "Display P3")
    assert np.abs(pixels - expected).mean() < 1.5


def test_a_profile_in_several_parts_of_a_jpeg_is_put_together(tmp_path):
    tags = {b"pad%d" % n: np.random.default_rng(n).bytes(50_000) for n in range(4)}
    whole = rgb_profile("Adobe RGB")
    padded = whole + b"".join(tags.values())  # behind the tags: littleCMS reads none of it
    padded = len(padded).to_bytes(4) + padded[4:]
    photograph((90, 80)).save(tmp_path / "x.jpg", icc_profile=padded)
    photograph((90, 80)).save(tmp_path / "y.jpg", icc_profile=whole)
    assert (tmp_path / "x.jpg").read_bytes().count(b"ICC_PROFILE\0") > 3
    assert (read_squashed(tmp_path / "x.jpg", 64) == read_squashed(tmp_path / "y.jpg", 64)).all()
    content = (tmp_path / "x.jpg").read_bytes()
    place = content.find(b"ICC_PROFILE\0")
    assert content[place + 12 : place + 14] == b"\1\4"
    size = int.from_bytes(content[place - 2 : place])
    first, rest = content[place - 4 : place - 2 + size], content[place - 2 + size :]
    behind = rest.rfind(b"\xff\xdb")  # a segment behind the profile
    (tmp_path / "x.jpg").write_bytes(content[: place - 4] + rest[:behind] + first + rest[behind:])
    assert jpeg_metadata((tmp_path / "x.jpg").read_bytes()) == (b"", padded), "in another order"
    (tmp_path / "x.jpg").write_bytes(content.replace(b"ICC_PROFILE\0\1", b"ICC_PROFILE\0\7", 1))  # one is missing
    photograph((90, 80)).save(tmp_path / "y.jpg")
    assert place > 0 and (read_squashed(tmp_path / "x.jpg", 64) == read_squashed(tmp_path / "y.jpg", 64)).all()


@pytest.mark.parametrize("own", [SRGB, rgb_profile("sRGB")], ids=["littleCMS", "ours"])
def test_a_profile_of_srgb_changes_no_pixel_and_costs_no_conversion(tmp_path, own):
    assert (read(tmp_path, Image.fromarray(COLOURS), "png", icc_profile=own) == COLOURS).all()
    assert profile_transform(own) == ("RGB", None)


def test_a_transform_is_made_once_a_profile(tmp_path):
    profile_transform.cache_clear()
    for number in range(4):
        photograph((90, 80), number).save(tmp_path / f"{number}.jpg", icc_profile=rgb_profile("Display P3"))
        read_squashed(tmp_path / f"{number}.jpg", 32)
    assert profile_transform.cache_info().misses == 1


def test_cmyk_follows_its_profile_and_without_one_pillows_formula(tmp_path):
    corners = np.random.default_rng(1).integers((60, 108, 108), (230, 148, 148), (2, 2, 2, 2, 3)).astype(np.uint8)
    corners[0, 0, 0, 0], corners[1, 1, 1, 1] = (255, 128, 128), (0, 128, 128)
    inks = 255 * np.stack(np.meshgrid(*4 * [[0, 1]], indexing="ij"), -1).reshape(4, 4, 4).astype(np.uint8)
    image = Image.frombytes("CMYK", (4, 4), inks.tobytes())
    lab = corners.reshape(4, 4, 3) * [100 / 255, 1, 1] - [0, 128, 128]
    pixels = read(tmp_path, image, "tiff", icc_profile=cmyk_profile(corners))
    assert np.abs(pixels - srgb_of_lab(lab)).max() < 4
    assert (read(tmp_path, image, "tiff") == np.asarray(image.convert("RGB"))).all()
    even = Image.new("CMYK", (64, 64), (255, 0, 0, 0))
    even.save(tmp_path / "x.jpg", icc_profile=cmyk_profile(corners), quality=100)
    for result in (np.asarray(read_photograph(tmp_path / "x.jpg")), read_squashed(tmp_path / "x.jpg", 16)):
        assert np.abs(result - srgb_of_lab(lab[2, 0])).max() < 5


@pytest.mark.parametrize("kind", ["png", "tiff", "jpeg"])
def test_grey_follows_a_grey_profile(tmp_path, kind):
    grey = np.repeat(np.arange(256, dtype=np.uint8)[None], 64, 0)
    expected = srgb_of_xyz(linear(grey[0] / 255, 1.4)[:, None] * D50)
    options = dict(quality=100) if kind == "jpeg" else {}
    pixels = read(tmp_path, Image.fromarray(grey), kind, icc_profile=grey_profile(1.4), **options)
    assert np.abs(pixels - expected).max() < 5 and np.abs(pixels - grey[..., None]).max() > 20


def test_transparent_grey_follows_a_grey_profile_and_lies_on_white(tmp_path):
    image = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    expected = read(tmp_path, image, "png", icc_profile=grey_profile(1.4))
    image.putalpha(Image.fromarray(np.where(np.arange(256) < 99, 0, 255).astype(np.uint8)[None]))
    expected[:, :99] = 255
    assert (read(tmp_path, image, "png", icc_profile=grey_profile(1.4)) == expected).all()


def test_grey_follows_the_curve_of_an_rgb_profile(tmp_path):
    grey = np.arange(256, dtype=np.uint8)[None]
    expected = srgb_of(np.repeat(grey[..., None], 3, 2), "ProPhoto RGB")
    pixels = read(tmp_path, Image.fromarray(grey), "png", icc_profile=rgb_profile("ProPhoto RGB"))
    assert np.abs(pixels - expected).max() < 5


@pytest.mark.parametrize("mode", ["P", "RGBA", "LA", "1", "I;16"])
def test_other_modes_with_profiles_are_read(tmp_path, mode):
    image = Image.fromarray(COLOURS)
    image = image.quantize(16) if mode == "P" else image.convert("L" if mode == "I;16" else mode).convert(mode)
    own = rgb_profile("Display P3")
    plain = read(tmp_path, image, "png")
    assert np.abs(read(tmp_path, image, "png", icc_profile=own) - srgb_of(plain, "Display P3")).mean() < 1
    assert (read(tmp_path, image, "png", icc_profile=cmyk_profile(np.zeros((2, 2, 2, 2, 3), np.uint8))) == plain).all()


def damaged() -> dict[str, bytes]:
    whole = rgb_profile("Display P3")
    return {
        "noise": np.random.default_rng(0).bytes(500),
        "empty but for a header": whole[:128],
        "cut off": whole[: len(whole) // 2],
        "tags that lie outside": whole[:160] + b"\xff" * 4 + whole[164:],
        "no curve": profile(b"RGB ", b"mntr", b"XYZ ", {}),
        "an unknown space": profile(b"7CLR", b"mntr", b"XYZ ", {}),
        "of another space": grey_profile(1.4),
        "too large": rgb_profile("Display P3") + bytes(LARGEST_PROFILE),
    }


@pytest.mark.parametrize("kind", ["png", "tiff", "jpeg", "webp", "avif"])
@pytest.mark.parametrize("name", damaged())
def test_a_damaged_profile_counts_as_none(tmp_path, name, kind, capfd):
    image = photograph((90, 80))
    expected = read(tmp_path, image, kind)
    assert (read(tmp_path, image, kind, icc_profile=damaged()[name]) == expected).all()
    assert np.abs(read_squashed(tmp_path / "x", 64) - squash(expected.astype(np.uint8), 64).astype(int)).max() <= 1
    assert capfd.readouterr() == ("", "")


def test_a_png_keeps_its_transparent_colour_without_its_profile(tmp_path):
    file = io.BytesIO()
    Image.fromarray(COLOURS).save(file, "png", icc_profile=rgb_profile("Display P3"), transparency=(15, 30, 45))
    content = bytearray(file.getvalue().replace(b"ICC Profile\0\0", b"ICC Profile\0\7"))
    start = content.find(b"iCCP")
    end = start + 4 + int.from_bytes(content[start - 4 : start])
    content[end : end + 4] = zlib.crc32(content[start:end]).to_bytes(4)
    (tmp_path / "x.png").write_bytes(content)
    expected = np.where((COLOURS == (15, 30, 45)).all(-1, keepdims=True), 255, COLOURS)
    assert (np.asarray(read_photograph(tmp_path / "x.png")) == expected).all() and (expected != COLOURS).any()


def test_a_png_whose_profile_cannot_be_unpacked_is_read(tmp_path):
    file = io.BytesIO()
    Image.fromarray(COLOURS).save(file, "png", icc_profile=rgb_profile("Display P3"))
    content = file.getvalue()
    place = content.find(b"iCCP") + 4
    for broken in (
        content[:place] + b"x" * 40 + content[place + 40 :],
        content.replace(b"ICC Profile\0\0", b"ICC Profile\0\7"),
    ):
        assert broken != content
        (tmp_path / "x.png").write_bytes(broken)
        assert (np.asarray(read_photograph(tmp_path / "x.png")) == COLOURS).all()
