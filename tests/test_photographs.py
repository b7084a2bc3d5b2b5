"""Reading photographs, and each transform against a slow independent computation."""

import io
import math

import numpy as np
import pytest
import simplejpeg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from catalogues import Split, Strings
from data import (
    TrainTransform,
    UnreadablePhotograph,
    centre_crop,
    cutout,
    eval_loader,
    normalise,
    read_photograph,
    read_squashed,
    squash,
    ten_crop,
)
from data.autoaugment import (
    POLICY,
    autoaugment,
    autocontrast,
    color,
    contrast,
    equalize,
    invert,
    posterize,
    rotate,
    sharpness,
    shear_x,
    solarize,
)

# isort: split
from torchvision.transforms import v2  # after data, which makes it importable

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


def photograph(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """Smooth shapes with fine grain, as photographs have them."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 7, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    grain = rng.normal(0, 6, (size[1], size[0], 3))
    return Image.fromarray((np.asarray(coarse) + grain).clip(0, 255).astype(np.uint8))


def pillow_squashed(path, size: int) -> np.ndarray:
    return np.asarray(read_photograph(path).resize((size, size), Image.Resampling.BILINEAR), int)


@pytest.mark.parametrize("size", [(90, 10), (10, 90), (40, 40), (41, 333)])
def test_squashing_gives_pillows_pixels_whatever_the_shape(size):
    pixels = np.array(photograph(size))
    expected = np.asarray(Image.fromarray(pixels).resize((40, 40), Image.Resampling.BILINEAR), int)
    assert np.abs(squash(pixels, 40) - expected).max() <= 1


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}, {"optimize": True, "quality": 40}])
def test_a_jpeg_below_twice_the_size_is_squashed_as_by_pillow(tmp_path, options):
    photograph((127, 101)).save(tmp_path / "x.jpg", **options)
    assert np.abs(read_squashed(tmp_path / "x.jpg", 64) - pillow_squashed(tmp_path / "x.jpg", 64)).max() <= 1


@pytest.mark.parametrize("size", [(128, 128), (200, 170), (300, 300), (512, 700), (1100, 1100)])
def test_a_large_jpeg_is_decoded_in_small_and_close_to_pillow(tmp_path, size, monkeypatch):
    decoded = []
    decode = simplejpeg.decode_jpeg
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *a, **k: decoded.append(decode(*a, **k)) or decoded[-1])
    photograph(size).save(tmp_path / "x.jpg", quality=90)
    error = np.abs(read_squashed(tmp_path / "x.jpg", 64) - pillow_squashed(tmp_path / "x.jpg", 64))
    part = max(part for part in (1, 2, 4, 8) if min(size) >= 64 * part)
    assert decoded[0].shape == (-(-size[1] // part), -(-size[0] // part), 3)
    assert error.mean() < 2.5 and error.max() < 40  # of 255


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_rotated_jpeg_is_squashed_upright(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    photograph((150, 90)).save(tmp_path / "x.jpg", exif=exif)
    assert np.abs(read_squashed(tmp_path / "x.jpg", 60) - pillow_squashed(tmp_path / "x.jpg", 60)).max() <= 1


def test_what_is_no_jpeg_in_colour_is_left_to_pillow(tmp_path):
    grey, cmyk = photograph((90, 80)).convert("L"), photograph((90, 80)).convert("CMYK")
    grey.save(tmp_path / "grey.jpg")
    cmyk.save(tmp_path / "cmyk.jpg")
    photograph((90, 80)).save(tmp_path / "png.jpg", "png")
    photograph((90, 80)).save(tmp_path / "webp.webp")
    for path in tmp_path.iterdir():
        assert np.abs(read_squashed(path, 32) - pillow_squashed(path, 32)).max() <= 1, path


def test_squashed_or_not_the_same_files_are_unreadable(tmp_path):
    photograph((400, 300)).save(tmp_path / "whole.jpg")
    whole, path = (tmp_path / "whole.jpg").read_bytes(), tmp_path / "x.jpg"
    for length in [0, 1, 2, 20, 300, 600, *range(700, len(whole), 997), len(whole) - 2, len(whole) - 1, len(whole)]:
        path.write_bytes(whole[:length])
        outcomes = []
        for read in (read_photograph, lambda path: read_squashed(path, 64)):
            try:
                read(path)
                outcomes.append("read")
            except UnreadablePhotograph:
                outcomes.append("unreadable")
        assert outcomes[0] == outcomes[1], length
    for path in (tmp_path / "missing.jpg", tmp_path):
        with pytest.raises(UnreadablePhotograph):
            read_squashed(path, 64)


def test_a_decompression_bomb_is_unreadable(tmp_path, monkeypatch):
    photograph((300, 300)).save(tmp_path / "x.jpg")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300 * 300 // 3)
    with pytest.raises(UnreadablePhotograph, match="DecompressionBomb"):
        read_squashed(tmp_path / "x.jpg", 64)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_training_photograph_is_a_function_of_the_seed():
    transform, pixels = TrainTransform(40, 32), squash(RGB, 40)
    first, again, other = (transform(pixels, generator(seed)) for seed in (3, 3, 4))
    assert first.shape == (3, 32, 32) and first.dtype == torch.uint8
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize(("resize", "crop", "min_scale"), [(256, 224, 0.08), (56, 48, 0.5), (40, 40, 1.0)])
def test_crop_and_flip_are_torchvisions_for_the_same_seed(resize, crop, min_scale):
    pixels = np.array(photograph((resize, resize)))
    ours = TrainTransform(resize, crop, min_scale, autoaugment=False)
    theirs = v2.Compose([v2.RandomResizedCrop(crop, scale=(min_scale, 1.0)), v2.RandomHorizontalFlip()])
    for seed in range(60):
        torch.manual_seed(seed)
        expected = np.asarray(theirs(Image.fromarray(pixels)), int)
        # Of Pillow's two passes, each rounds: they may be off by one in the same direction.
        assert np.abs(ours(pixels, generator(seed)).permute(1, 2, 0).numpy() - expected).max() <= 2, seed


def test_the_policy_is_torchvisions():
    theirs = v2.AutoAugment()._policies
    names = [[(operation.__name__.replace("_", ""), p, n) for operation, p, n in pair] for pair in POLICY]
    assert names == [[(name.lower(), p, n or 0) for name, p, n in pair] for pair in theirs]


def test_autoaugment_is_torchvisions_for_the_same_seed():
    theirs, pixels = v2.AutoAugment(), [np.array(photograph((64, 50), seed)) for seed in range(5)]
    for seed in range(500):
        torch.manual_seed(seed)
        expected = np.asarray(theirs(Image.fromarray(pixels[seed % 5])), int)
        error = np.abs(autoaugment(pixels[seed % 5], generator(seed)) - expected)
        # A rotation takes another of two pixels that are as near; what follows it may spread that by a level.
        assert (error > 1).any(-1).mean() < 0.02, seed


OPERATIONS = [  # ours, torchvision's, magnitudes of both, how far a value and how many pixels may be off
    (posterize, v2.functional.posterize, [4, 5, 6, 8], 0, 0),
    (solarize, lambda image, m: v2.functional.solarize(image, 255 * m), [0, 1 / 3, 0.5, 1], 0, 0),
    (invert, lambda image, m: v2.functional.invert(image), [0], 0, 0),
    (autocontrast, lambda image, m: v2.functional.autocontrast(image), [0], 0, 0),
    (equalize, lambda image, m: v2.functional.equalize(image), [0], 0, 0),
    (contrast, lambda image, m: v2.functional.adjust_contrast(image, 1 + m), [-0.9, -0.3, 0, 0.4, 0.9], 0, 0),
    (color, lambda image, m: v2.functional.adjust_saturation(image, 1 + m), [-0.9, -0.3, 0, 0.4, 0.9], 1, 1),
    (sharpness, lambda image, m: v2.functional.adjust_sharpness(image, 1 + m), [-0.9, -0.7, 0, 0.7, 0.9], 1, 1),
    (rotate, v2.functional.rotate, [-30, -7, 0, 10, 26.7], 255, 0.01),
    (
        shear_x,
        lambda image, m: v2.functional.affine(image, 0, [0, 0], 1, [math.degrees(math.atan(m)), 0], center=[0, 0]),
        [-1 / 6, 0, 1 / 6],
        255,
        0.01,
    ),
]


@pytest.mark.parametrize(("ours", "theirs", "magnitudes", "levels", "share"), OPERATIONS, ids=lambda x: str(x)[:20])
@pytest.mark.parametrize("kind", ["photograph", "black", "two values", "one channel"])
def test_operations_give_pillows_pixels(ours, theirs, magnitudes, levels, share, kind):
    pixels = np.array(photograph((60, 47)))
    if kind == "black":
        pixels[:] = 0
    elif kind == "two values":
        pixels = pixels // 128 * 200
    elif kind == "one channel":
        pixels[..., 1:] = 255
    before = pixels.copy()
    for magnitude in magnitudes:
        error = np.abs(ours(pixels, magnitude) - np.asarray(theirs(Image.fromarray(pixels), magnitude), int))
        assert error.max() <= levels and (error > 0).any(-1).mean() <= share, magnitude
    assert (pixels == before).all()


def test_random_crops_keep_their_least_share_of_the_area_and_flip_half_of_the_time():
    ramp = np.tile(np.arange(64, dtype=np.uint8)[None, :, None] * 4, (64, 1, 3))  # brightness tells the column
    transform = TrainTransform(64, 32, min_scale=0.5, autoaugment=False)
    crops = torch.stack([transform(ramp, generator(seed)) for seed in range(400)]).float()[:, 0]
    flipped = crops[:, 16, 0] > crops[:, 16, -1]
    assert 0.42 < flipped.float().mean() < 0.58  # 400 draws: 3.2 standard deviations of 0.5
    width = (crops[:, 16, -1] - crops[:, 16, 0]).abs() / 4 * 32 / 31  # columns of the squashed photograph
    assert width.max() <= 66 and width.min() >= 64 * (0.5 * 3 / 4) ** 0.5 - 2  # ratio 3/4 at half the area


def test_autoaugment_can_be_left_out():
    grey = np.full((64, 64, 3), (90, 120, 150), np.uint8)

    def distinct(on: bool) -> int:
        transform = TrainTransform(64, 32, autoaugment=on)
        return len({tuple(transform(grey, generator(seed)).flatten().tolist()) for seed in range(30)})

    assert distinct(False) == 1 and distinct(True) > 5


def test_a_test_photograph_is_the_squashed_one(tmp_path):
    saved(tmp_path, Image.fromarray(RGB), "x.png")
    split = Split("val", tmp_path, Strings(["x.png"]), None)
    (batch,) = eval_loader(split, 24, 1, 0, False)
    assert (batch.images[0].permute(1, 2, 0).numpy() == squash(RGB, 24)).all()


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


@pytest.mark.parametrize("each", [False, True])
def test_cutout_centres_are_uniform(each):
    images = torch.ones(8000, 1, 8, 8)
    generator = torch.Generator().manual_seed(0)
    cutout(images, 1, [torch.Generator().manual_seed(seed) for seed in range(8000)] if each else generator)
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
