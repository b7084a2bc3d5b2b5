"""Small files after situations that people have reported, in the folder `shared` beside the checkout."""

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from test_orientation import both

from data.duplicates import perceptual_hash

FOLDER = ROOT.parent / "shared" / "inputs"
needs_inputs = pytest.mark.skipif(not FOLDER.is_dir(), reason="no folder ../shared/inputs")

TURNED = {  # name: sides of the file and of the upright photograph
    "healthy_turned.jpg": ((96, 64), (64, 96)),
    "rotated_bad_exif.jpg": ((64, 48), (48, 64)),
    "text_tag_as_rational.jpg": ((96, 64), (64, 96)),
    "width_as_text.jpg": ((96, 64), (64, 96)),
    "exif_cut.jpg": ((96, 64), (96, 64)),  # before its orientation
    "exif_twice.jpg": ((96, 64), (64, 96)),
    "xmp6.jpg": ((400, 200), (400, 200)),  # XMP does not count
}


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of the tests' own opening
@needs_inputs
@pytest.mark.parametrize("name", TURNED)
def test_a_photograph_is_turned_by_its_exif_alone(name):
    stored, upright = TURNED[name]
    with Image.open(FOLDER / name) as image:
        assert image.size == stored
        pixels = np.asarray(image.transpose(Image.Transpose.ROTATE_270) if stored != upright else image)
    assert (both(FOLDER / name) == pixels).all()
    assert perceptual_hash(FOLDER / name) is not None


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of the tests' own opening
@needs_inputs
@pytest.mark.parametrize("name", ["rgb_trns.png", "l_trns.png"])
def test_a_transparent_colour_is_white(name):
    with Image.open(FOLDER / name) as image:
        stored, key = np.asarray(image), image.info["transparency"]
    pixels, clear = both(FOLDER / name), (stored.reshape(64, 64, -1) == key).all(-1)
    assert clear.any() and (pixels[clear] == 255).all()
    assert (pixels[~clear] == stored.reshape(64, 64, -1)[~clear]).all()


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of the tests' own opening
@needs_inputs
@pytest.mark.parametrize("name", ["float01.tif", "int32_full.tif"])
def test_a_deep_tiff_keeps_its_levels(name):
    with Image.open(FOLDER / name) as image:
        stored = np.asarray(image).astype(np.float64)
    low, high = (0, 1) if name == "float01.tif" else (0, 2**31 - 1)
    expected = 255 * (stored - low) / (high - low)
    assert expected.min() < 1 and expected.max() > 254
    assert np.abs(both(FOLDER / name) - expected[..., None]).max() <= 1
