"""Reading photographs, and each transform against a slow independent computation."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data import (
    EvalTransform,
    TrainTransform,
    UnreadablePhotograph,
    centre_crop,
    cutout,
    normalise,
    read_photograph,
    squash,
    ten_crop,
)

RGB = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def saved(tmp_path, image, name, **options):
    image.save(tmp_path / name, **options)
    return np.asarray(read_photograph(tmp_path / name))


def test_rgb_is_read_as_it_is(tmp_path):
    assert (saved(tmp_path, Image.fromarray(RGB), "x.png") == RGB).all()


def test_palette_and_grey_become_rgb(tmp_path):
    palette = Image.fromarray(RGB).quantize(16)
    assert (saved(tmp_path, palette, "p.png") == np.asarray(palette.convert("RGB"))).all()
    grey = Image.fromarray(RGB[:, :, 0])
    assert (saved(tmp_path, grey, "g.png") == RGB[:, :, :1]).all()


def test_sixteen_bits_are_scaled_and_not_cut_off(tmp_path):
    wide = RGB[:, :, 0].astype(np.uint16) * 257  # 0 to 65535
    assert (saved(tmp_path, Image.fromarray(wide), "w.png") == RGB[:, :, :1]).all()


def test_cmyk_becomes_rgb(tmp_path):
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # no cyan, full magenta and yellow: red
    red = saved(tmp_path, cmyk, "c.jpg", quality=95)
    assert red.shape == (8, 8, 3) and red[..., 0].min() > 240 and red[..., 1:].max() < 15


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_over_white(tmp_path, mode):
    clear = Image.new("RGBA", (6, 6), (10, 20, 30, 0))
    if mode == "P":
        palette = Image.new("P", (6, 6), 1)
        palette.putpalette([0, 0, 0, 10, 20, 30])
        pixels = saved(tmp_path, palette, "t.png", transparency=1)
    else:
        pixels = saved(tmp_path, clear.convert(mode), "t.png")
    assert (pixels == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(tmp_path, orientation):
    # how the stored pixels lie to the upright photograph, from the EXIF standard's own table of corners
    store = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(store(RGB)))
    assert (saved(tmp_path, stored, "e.png", exif=exif) == RGB).all()


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.fromarray(RGB).resize((200, 200)).save(file, "jpeg")
    return file.getvalue()


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", jpeg()[:10], jpeg()[:700], b"PK\3\4 a zip", None])
def test_what_cannot_be_decoded_is_unreadable(tmp_path, content):
    path = tmp_path / "x.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnreadablePhotograph):
        read_photograph(path)


def test_squash_ignores_the_shape():
    image = squash(Image.fromarray(RGB), 16)
    assert image.size == (16, 16)
    assert (np.asarray(squash(Image.fromarray(RGB), 16)) == np.asarray(image)).all()
    assert np.asarray(squash(Image.new("RGB", (90, 10), (7, 8, 9)), 16)).reshape(-1, 3).tolist() == [[7, 8, 9]] * 256


def test_a_training_photograph_is_a_function_of_the_seed():
    transform = TrainTransform(40, 32)
    torch.manual_seed(3)
    first = transform(Image.fromarray(RGB))
    torch.manual_seed(3)
    again = transform(Image.fromarray(RGB))
    other = transform(Image.fromarray(RGB))
    assert first.shape == (3, 32, 32) and first.dtype == torch.uint8
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_random_crops_keep_their_least_share_of_the_area_and_flip_half_of_the_time():
    ramp = np.tile(np.arange(64, dtype=np.uint8)[None, :, None] * 4, (64, 1, 3))  # brightness tells the column
    transform = TrainTransform(64, 32, min_scale=0.5, autoaugment=False)
    torch.manual_seed(0)
    crops = torch.stack([transform(Image.fromarray(ramp)) for _ in range(400)]).float()[:, 0]
    flipped = crops[:, 16, 0] > crops[:, 16, -1]
    assert 0.42 < flipped.float().mean() < 0.58  # 400 draws: 3.2 standard deviations of 0.5
    width = (crops[:, 16, -1] - crops[:, 16, 0]).abs() / 4 * 32 / 31  # columns of the squashed photograph
    assert width.max() <= 66 and width.min() >= 64 * (0.5 * 3 / 4) ** 0.5 - 2  # ratio 3/4 at half the area


def test_autoaugment_changes_pixels_and_can_be_left_out():
    grey = Image.new("RGB", (64, 64), (90, 120, 150))

    def distinct(autoaugment: bool) -> int:
        transform = TrainTransform(64, 32, autoaugment=autoaugment)
        torch.manual_seed(0)
        return len({tuple(transform(grey).flatten().tolist()) for _ in range(30)})

    assert distinct(False) == 1 and distinct(True) > 5


def test_a_test_photograph_is_the_squashed_one():
    tensor = EvalTransform(24)(Image.fromarray(RGB))
    assert (tensor.permute(1, 2, 0).numpy() == np.asarray(squash(Image.fromarray(RGB), 24))).all()


def test_normalise_equals_the_formula():
    images = torch.randint(0, 256, (2, 3, 5, 5), dtype=torch.uint8)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = (images.numpy().transpose(0, 2, 3, 1) / 255 - mean) / std
    np.testing.assert_allclose(normalise(images).numpy().transpose(0, 2, 3, 1), expected, atol=2e-6)


@settings(max_examples=30, deadline=None)
@given(size=st.integers(1, 40), seed=st.integers(0, 10**6))
def test_cutout_fills_one_square_that_may_overlap_the_border(size, seed):
    images = torch.ones(5, 3, 24, 30)
    holes = cutout(images, size, torch.Generator().manual_seed(seed)) == 0
    assert (holes == holes[:, :1]).all()
    for hole in holes[:, 0]:
        rows, columns = hole.any(1), hole.any(0)
        assert (hole == rows[:, None] & columns[None, :]).all(), "a rectangle"
        for touched, side in ((rows, 24), (columns, 30)):
            places = touched.nonzero().flatten()
            first, last = int(places[0]), int(places[-1])
            assert last - first + 1 == len(places) <= size
            # it is smaller than the square only where the border cuts it
            assert len(places) == size or first == 0 or last == side - 1


def test_cutout_centres_are_uniform():
    images = torch.ones(8000, 1, 8, 8)
    cutout(images, 1, torch.Generator().manual_seed(0))
    counts = (images == 0).sum((0, 1)).flatten().double()  # a hole of one pixel is its centre
    chi_square = ((counts - 125) ** 2 / 125).sum()
    assert counts.sum() == 8000 and chi_square < 103.4  # the 99.9th percentile at 63 degrees of freedom


def test_ten_crop_equals_slices_of_the_image_and_its_mirror():
    images = torch.rand(2, 3, 11, 13)
    crops = ten_crop(images, 6)
    assert crops.shape == (2, 10, 3, 6, 6)
    for mirrored in (0, 1):
        view = images.flip(3) if mirrored else images
        corners = [view[..., :6, :6], view[..., :6, 7:], view[..., 5:, :6], view[..., 5:, 7:]]
        for place, expected in enumerate([*corners, centre_crop(view, 6)]):
            assert torch.equal(crops[:, 5 * mirrored + place], expected)


def test_centre_crop_is_central():
    images = torch.arange(49.0).view(1, 1, 7, 7)
    assert torch.equal(centre_crop(images, 3), images[..., 2:5, 2:5])


def test_a_crop_larger_than_the_image_is_refused():
    with pytest.raises(ValueError):
        ten_crop(torch.rand(1, 3, 8, 8), 9)
