"""HEIC, the photographs of iPhones: made here by libheif's encoder, read as any other."""

import io
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pillow_heif
import pytest
from conftest import ROOT
from PIL import Image
from profiles import rgb_profile, srgb_of
from test_orientation import SCENE, both, exif

from catalogues.picture_formats import endings
from data import UnreadablePhotograph, read_photograph, read_squashed
from data.orientation import turned

EVEN = SCENE.resize((128, 64))  # HEVC pads other sides


def heic(image: Image.Image, **options) -> bytes:
    file = io.BytesIO()
    pillow_heif.from_pillow(image).save(file, quality=95, chroma=444, **options)
    return file.getvalue()


def test_heic_is_read(tmp_path):
    (tmp_path / "x.heic").write_bytes(heic(EVEN))
    assert np.abs(both(tmp_path / "x.heic") - np.asarray(EVEN, int)).mean() < 4


@pytest.mark.parametrize("value", range(1, 9))
def test_heic_is_turned_once_by_its_own_property(tmp_path, value):
    """An iPhone writes the property and EXIF that says the same."""
    content = heic(SCENE, exif=b"Exif\0\0" + exif(value=value))
    assert (b"irot" in content or b"imir" in content) == (value != 1) and exif(value=value) in content
    (tmp_path / "x.heic").write_bytes(content)
    pixels, expected = both(tmp_path / "x.heic"), np.asarray(turned(SCENE, value), int)
    assert pixels.shape == expected.shape and np.abs(pixels - expected).mean() < 4


@pytest.mark.parametrize("value", [3, 6])
def test_exif_alone_does_not_turn_heic(tmp_path, value):
    content = heic(SCENE, exif=b"Exif\0\0" + exif(value=1)).replace(exif(value=1), exif(value=value))
    assert exif(value=value) in content
    (tmp_path / "x.heic").write_bytes(content)
    assert np.abs(both(tmp_path / "x.heic") - np.asarray(SCENE, int)).mean() < 4


def test_exif_of_noise_does_not_cost_heic(tmp_path):
    good = exif(value=6)
    (tmp_path / "x.heic").write_bytes(heic(SCENE, exif=b"Exif\0\0" + good).replace(good, b"x" * len(good)))
    assert np.abs(both(tmp_path / "x.heic") - np.asarray(turned(SCENE, 6), int)).mean() < 4


def test_heic_in_display_p3_is_brought_to_srgb(tmp_path):
    (tmp_path / "x.heic").write_bytes(heic(EVEN, icc_profile=rgb_profile("Display P3")))
    (tmp_path / "plain.heic").write_bytes(heic(EVEN))
    expected = srgb_of(both(tmp_path / "plain.heic"), "Display P3")
    assert np.abs(both(tmp_path / "x.heic") - expected).mean() < 1


def test_transparent_heic_lies_on_white(tmp_path):
    image = EVEN.convert("RGBA")
    image.putalpha(0)
    (tmp_path / "x.heic").write_bytes(heic(image))
    assert both(tmp_path / "x.heic").min() > 250


def test_the_primary_picture_of_several_is_read(tmp_path):
    file, heif = io.BytesIO(), pillow_heif.from_pillow(EVEN.transpose(Image.Transpose.ROTATE_180))
    heif.add_from_pillow(EVEN)
    heif.save(file, quality=95, primary_index=1)
    (tmp_path / "x.heic").write_bytes(file.getvalue())
    assert np.abs(both(tmp_path / "x.heic") - np.asarray(EVEN, int)).mean() < 6


def test_ten_bits_are_read(tmp_path):
    values = np.asarray(EVEN, np.uint16) * 257
    heif = pillow_heif.from_bytes("RGB;16", EVEN.size, values.tobytes())
    heif.save(tmp_path / "x.heic", quality=95, chroma=444)
    assert np.abs(both(tmp_path / "x.heic") - np.asarray(EVEN, int)).mean() < 4


def test_the_brand_mif1_may_be_heic(tmp_path):
    content = heic(EVEN)
    assert content[8:12] in (b"heic", b"heix")
    (tmp_path / "x.heif").write_bytes(content[:8] + b"mif1" + content[12:])
    assert both(tmp_path / "x.heif").shape == (64, 128, 3)


def test_damaged_heic_is_unreadable_or_read_and_nothing_else(tmp_path, capfd):
    content, rng = heic(SCENE, exif=b"Exif\0\0" + exif()), np.random.default_rng(0)
    inputs = [content[:length] for length in range(0, len(content) - 1, 97)]
    for _ in range(200):
        changed = bytearray(content)
        for place in rng.integers(0, 700, 3):
            changed[place] = rng.integers(256)
        inputs.append(bytes(changed))
    outcomes = []
    for data in inputs:
        (tmp_path / "x.heic").write_bytes(data)
        try:
            outcomes.append(read_squashed(tmp_path / "x.heic", 32).shape)
        except UnreadablePhotograph as error:
            outcomes.append(str(error))
    assert all(outcomes) and (32, 32, 3) not in outcomes[: -200 - 1] and (32, 32, 3) in outcomes
    assert capfd.readouterr() == ("", "")


def test_a_bomb_is_unreadable_before_it_is_decoded(tmp_path, monkeypatch):
    (tmp_path / "x.heic").write_bytes(heic(SCENE))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 96 * 64 // 3)
    monkeypatch.setattr(pillow_heif.HeifImageFile, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(UnreadablePhotograph, match="DecompressionBomb"):
        read_squashed(tmp_path / "x.heic", 32)


def test_a_larger_picture_than_the_file_declares_is_unreadable(tmp_path, monkeypatch):
    content = heic(EVEN)
    sides = (128).to_bytes(4) + (64).to_bytes(4)
    assert sides in content
    (tmp_path / "x.heic").write_bytes(content.replace(sides, (16).to_bytes(4) + (8).to_bytes(4)))
    with suppress(UnreadablePhotograph):
        assert read_photograph(tmp_path / "x.heic").size == (16, 8)


def test_layers_are_refused(tmp_path):
    content = heic(EVEN)
    (tmp_path / "x.heic").write_bytes(content.replace(b"hvc1", b"iovl", 1))
    with pytest.raises(UnreadablePhotograph, match="layers"):
        read_photograph(tmp_path / "x.heic")


def test_the_endings_are_known_before_the_decoder_is_loaded():
    code = "import sys; from catalogues.picture_formats import endings\n"
    code += "print({'.heic', '.heif', '.avif'} <= set(endings()))"
    code += "; print(sorted({'pillow_heif', '_pillow_heif', 'PIL.ImageCms', 'cv2', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "True\n[]\n", done.stderr
    assert len(set(endings())) == len(endings())


def test_no_encoder_is_registered(tmp_path):
    code = "import sys; from data import read_photograph; from PIL import Image; read_photograph(sys.argv[1])\n"
    code += "Image.init(); print('HEIF' in Image.SAVE, 'HEIF' in Image.OPEN)"
    (tmp_path / "x.heic").write_bytes(heic(EVEN))
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "x.heic"], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "False True\n", done.stderr
