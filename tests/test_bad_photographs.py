"""Strangers' photographs: each is read, or skipped with a warning of one line."""

import io
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from bad_input import (
    JPEG,
    PNG,
    SMOOTH,
    Make,
    make,
    saved,
    zipped,
)
from conftest import ROOT, write_photograph
from PIL import EpsImagePlugin, Image
from profiles import rgb_profile
from test_orientation import CHUNKS, exif, odd
from test_photographs import photograph
from test_training import SMALL

from catalogues import open_catalogue
from catalogues.shards import PackedPhotograph
from common.errors import one_line
from data import UnreadablePhotograph, read_photograph, read_squashed

FRAMES = dict(save_all=True, append_images=[photograph((90, 80), seed) for seed in (1, 2)])


def ycck() -> bytes:
    """A CMYK JPEG whose Adobe marker says that it was transformed as YCbCr is."""
    content = bytearray(saved(SMOOTH.convert("CMYK"), "jpeg"))
    marker = content.find(b"Adobe")
    assert content[marker + 11] == 0  # the transform, behind version and flags
    content[marker + 11] = 2
    return bytes(content)


def png_of(width: int, height: int) -> bytes:
    """A PNG that declares these sides and has the pixels of none."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [header, b"IDAT" + zlib.compress(bytes(100)), b"IEND"]
    parts = (struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(SMOOTH, "jpeg", exif=exif)


def damaged_exif() -> bytes:
    """Pillow warns of such ones."""
    content = rotated()
    return content.replace(b"Exif\0\0MM\0*", b"Exif\0\0MM\0*\xff", 1)


def odd_exif() -> bytes:
    """A turned photograph whose maker is a fraction far outside."""
    return saved(SMOOTH, "jpeg", exif=b"Exif\0\0" + exif("<", odd("<")["the maker as a rational"]))


def heic() -> bytes:
    file = io.BytesIO()
    pillow_heif.from_pillow(SMOOTH).save(file)
    return file.getvalue()


def png_with(name: str) -> bytes:
    return PNG[:33] + CHUNKS[name] + PNG[33:]


def many_scans() -> bytes:
    """A progressive JPEG that repeats its last scan, ten bytes and more each: minutes of decoding."""
    content = saved(Image.new("RGB", (8000, 8000), "red"), "jpeg", progressive=True)
    last = content.rfind(b"\xff\xda")
    return content[:-2] + content[last:-2] * 90 + content[-2:]


def palette() -> bytes:
    image = SMOOTH.quantize(16)
    return saved(image, "png", transparency=bytes(range(0, 256, 16)))


WIDE = saved(Image.fromarray(np.asarray(SMOOTH)[..., 0].astype(np.uint16) * 257), "png")


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"


IPTC = b"\x1c\x03\x3c\0\2\1\0\x1c\x03\x14\0\2\0\x09\x1c\x03\x1e\0\2\0\x09\x1c\x03\x78\0\1\5"  # of 9 × 9 pixels


IPTC += b"\x1c\x08\x0a" + struct.pack(">H", len(EPS)) + EPS


def content(data: bytes | Callable[[], bytes]) -> Make:
    return lambda path: path.write_bytes(data if isinstance(data, bytes) else data())


# what it is: (file name, how it is made, whether it is read)
PHOTOGRAPHS: dict[str, tuple[str, Make, bool]] = {
    "empty": ("x.jpg", content(b""), False),
    "HTML": ("x.jpg", content(b"<!DOCTYPE html><html><body>404 Not Found</body></html>"), False),
    "a zip file": ("x.png", content(zipped), False),
    "text": ("x.jpg", content(b"not a photograph\n" * 100), False),
    "zeros": ("x.jpg", content(bytes(5000)), False),
    "the first marker of a JPEG and noise": ("x.jpg", content(JPEG[:4] + bytes(range(256)) * 9), False),
    "CMYK": ("x.jpg", content(lambda: saved(SMOOTH.convert("CMYK"), "jpeg")), True),
    "YCCK": ("x.jpg", content(ycck), True),
    "grey": ("x.jpg", content(lambda: saved(SMOOTH.convert("L"), "jpeg")), True),
    "progressive": ("x.jpg", content(lambda: saved(SMOOTH, "jpeg", progressive=True)), True),
    "rotated by EXIF": ("x.jpg", content(rotated), True),
    "damaged EXIF": ("x.jpg", content(damaged_exif), True),
    "an EXIF field of a wrong type": ("x.jpg", content(odd_exif), True),
    "Display P3": ("x.jpg", content(lambda: saved(SMOOTH, "jpeg", icc_profile=rgb_profile("Display P3"))), True),
    "a damaged ICC profile": ("x.jpg", content(lambda: saved(SMOOTH, "jpeg", icc_profile=b"x" * 500)), True),
    "a text with a wrong checksum": ("x.png", content(png_with("a text with a wrong checksum")), True),
    "a text of 5 MB in 5 KB": ("x.png", content(png_with("a text of 5 MB in 5 KB")), True),
    "HEIC": ("x.HEIC", content(heic), True),
    "HEIC named .jpg": ("x.jpg", content(heic), True),
    "HEIC cut off": ("x.heic", content(lambda: heic()[:-300]), False),
    "a JPEG with a film behind it": ("x.jpg", content(JPEG + bytes(9999)), True),
    "16 bits": ("x.png", content(WIDE), True),
    "palette with transparency": ("x.png", content(palette), True),
    "one bit": ("x.png", content(lambda: saved(SMOOTH.convert("1"), "png")), True),
    "animated GIF": ("x.gif", content(lambda: saved(SMOOTH, "gif", **FRAMES)), True),
    "animated WebP": ("x.webp", content(lambda: saved(SMOOTH, "webp", **FRAMES)), True),
    "animated PNG": ("x.png", content(lambda: saved(SMOOTH, "png", **FRAMES)), True),
    "TIFF": ("x.tif", content(lambda: saved(SMOOTH, "tiff")), True),
    "TIFF of floats": ("x.tif", content(lambda: saved(SMOOTH.convert("L").convert("F"), "tiff")), True),
    "TIFF cut off": ("x.tif", content(lambda: saved(SMOOTH, "tiff")[:9000]), False),
    "BMP": ("x.bmp", content(lambda: saved(SMOOTH, "bmp")), True),
    "BMP without width": ("x.bmp", content(lambda: saved(SMOOTH, "bmp").replace(b"Z\0\0\0", bytes(4), 1)), False),
    "AVIF": ("x.avif", content(lambda: saved(SMOOTH, "avif")), True),
    "JPEG 2000": ("x.jp2", content(lambda: saved(SMOOTH, "jpeg2000")), True),
    "PNG named .jpg": ("x.jpg", content(PNG), True),
    "JPEG named .png": ("x.png", content(JPEG), True),
    "ending in capitals": ("X.JPG", content(JPEG), True),
    "1 × 1": ("x.png", content(lambda: saved(SMOOTH.resize((1, 1)), "png")), True),
    "30,000 × 2": ("x.jpg", content(lambda: saved(SMOOTH.resize((30_000, 2)), "jpeg")), True),
    "2 × 30,000": ("x.jpg", content(lambda: saved(SMOOTH.resize((2, 30_000)), "jpeg")), True),
    "a line of 80,000": ("x.png", content(lambda: saved(Image.new("1", (1, 80_000)), "png")), False),
    "60,000 × 60,000 declared": ("x.png", content(lambda: png_of(60_000, 60_000)), False),
    "sides of 2³¹ declared": ("x.png", content(lambda: png_of(2**31 - 1, 2**31 - 1)), False),
    "pixels that Pillow warns of": ("x.png", content(lambda: saved(Image.new("1", (9600, 9600), 1), "png")), True),
    "a thousand scans": ("x.jpg", content(many_scans), False),
    "a program, EPS": ("x.jpg", content(EPS), False),
    "a program in IPTC": ("x.jpg", content(IPTC), False),
    "a pipe": ("x.jpg", lambda path: os.mkfifo(path), False),
    "a link to an endless device": ("x.jpg", lambda path: path.symlink_to("/dev/zero"), False),
    "a link to nothing": ("x.jpg", lambda path: path.symlink_to("nowhere.jpg"), False),
    "a link to itself": ("x.jpg", lambda path: path.symlink_to(path.name), False),
    "a link to a photograph": ("x.jpg", lambda path: path.symlink_to("../good.jpg"), True),
    "a terabyte of nothing": ("x.jpg", lambda path: (path.touch(), os.truncate(path, 2**40)), False),
    "a name with a new line, read": ("x\nerror: y.jpg", content(JPEG), True),
    "a name with a new line, skipped": ("x\nerror: y.jpg", content(b""), False),
    "a name with a tab": ("x\ty.jpg", content(b""), False),
    "a name that would clear the screen": ("x\033[2J.jpg", content(b""), False),
    "a name that is not UTF-8, read": (os.fsdecode(b"caf\xe9.jpg"), content(JPEG), True),
    "a name that is not UTF-8, skipped": (os.fsdecode(b"caf\xe9.jpg"), content(b""), False),
    "a name of 255 bytes": ("x" * 251 + ".jpg", content(b""), False),
    "a name in two directions": ("x\u202egpj.jpg", content(b""), False),
}


for kind, whole in {"JPEG": JPEG, "PNG": PNG}.items():
    for tenth in range(10):
        cut = content(whole[: 1 + tenth * (len(whole) - 100) // 9])
        PHOTOGRAPHS[f"{kind} cut off after {tenth} ninths"] = f"x.{kind.lower()}", cut, False


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    """Class folders, a checkpoint trained on them in net/."""
    root = tmp_path_factory.mktemp("shop")
    for place in range(8):
        write_photograph(root / f"shop/train/{'ab'[place % 2]}/{place}.jpg", place, tint=(0, 90 * (place % 2), 0))
    write_photograph(root / "shop/val/a/v.jpg", 9)
    return root


@pytest.fixture
def trained(script, shop, tmp_path) -> Path:
    """The checkpoint, and shop/ in this test's own folder with a good photograph val/good.jpg."""
    if not (shop / "net/best.pt").exists():
        script("train.py", "--data", shop / "shop", "--out", shop / "net", *SMALL, "--epochs", 1)
    os.symlink(shop / "shop/train", make(tmp_path / "shop") / "train")
    write_photograph(tmp_path / "shop/val/good.jpg", 7)
    return shop / "net/best.pt"


@pytest.mark.filterwarnings("error")  # a warning of Pillow's or numpy's that got out would make a photograph unreadable
@pytest.mark.parametrize("case", PHOTOGRAPHS)
def test_a_photograph_is_read_or_skipped_with_a_warning_of_one_line(case, script, trained, tmp_path):
    name, write, is_read = PHOTOGRAPHS[case]
    write(make(tmp_path / "shop/val/a") / name)
    options = ("--data", "shop", "--crops", 1, "--out", "p.npy", "--workers", 0)
    done = script("predict.py", trained, *options, "--dtype", "float32")
    row, about = np.load("p.npy"), json.loads(Path("p.json").read_text())
    assert about["image_ids"] == [f"a/{name}"] and row.shape == (1, 2)
    assert ((row == 0.5).all(), about["unreadable"]) == (not is_read, [] if is_read else [f"a/{name}"])
    if is_read:
        assert done.stderr == ""
    else:
        line = done.stderr.removesuffix("\n")
        assert line.startswith(f"warning: shop/val/a/{one_line(name)} cannot be read, its row is uniform (")
        assert line.isprintable() and " at 0x" not in line


@pytest.mark.filterwarnings("error")
def test_all_of_them_together_are_trained_on_and_packed_and_the_others_listed(script, trained, tmp_path):
    root, expected = tmp_path / "all", set()
    for label in "ab":
        write_photograph(root / f"train/{label}/good.jpg", 0)
    write_photograph(root / "train/good.jpg", 1)
    write_photograph(root / "val/a/v.jpg", 9)
    for number, (name, write, is_read) in enumerate(PHOTOGRAPHS.values()):
        own = f"{number:02}{name[2 * (len(name) > 250) :]}"
        write(root / "train/a" / own)
        if not is_read:
            expected.add(one_line(root / "train/a" / own))
    done = script("train.py", "--data", root, "--out", "run", *SMALL, "--epochs", 1)
    script("data.pack", "--data", root, "--out", "shards", "--size", 36, "--workers", 1)
    for listed in ("run/unreadable.txt", "shards/unreadable.txt"):
        lines = Path(listed).read_bytes().decode().removesuffix("\n").split("\n")
        paths, reasons = zip(*(line.split("\t") for line in lines), strict=True)
        assert len(paths) == len(expected) and set(paths) == expected, listed
        assert all(reason.isprintable() and " at 0x" not in reason for reason in reasons)
    assert all(line.startswith("warning: ") and line.isprintable() for line in done.stderr.splitlines())


def damaged_tiffs() -> list[bytes]:
    """Found by fuzzing: of the first the TIFF library tells on stderr, of the second Pillow's log."""
    content = saved(SMOOTH, "tiff", compression="jpeg")
    tables, samples = content.find(b"\xff\xdb"), struct.pack("<HHIHH", 277, 3, 1, 3, 0)
    assert tables > 0 and content.count(samples) == 1
    return [
        content[: tables + 2] + b"\0\0" + content[tables + 4 :],
        content.replace(samples, struct.pack("<HHIHH", 277, 3, 1, 25_000, 0)),
    ]


@pytest.mark.parametrize("place", [0, 1], ids=["the TIFF library", "Pillow's log"])
def test_nothing_but_the_warning_is_said_of_a_damaged_photograph(place, tmp_path):
    (tmp_path / "x.tif").write_bytes(damaged_tiffs()[place])
    by_pillow = "import sys; from PIL import Image; Image.open(sys.argv[1]).load()"
    by_us = "import sys; import data.photographs; data.photographs.read_squashed(sys.argv[1], 32)"
    said = []
    for code in (by_pillow, by_us):  # in processes of their own: neither is said through Python's stderr
        code = f"try:\n  {code}\nexcept Exception as error:\n  print(type(error).__name__)"
        done = subprocess.run(
            [sys.executable, "-c", code, tmp_path / "x.tif"], capture_output=True, text=True, cwd=ROOT
        )
        said.append(done.stderr)
    assert said[0] and not said[1] and done.stdout == "UnreadablePhotograph\n"


@pytest.mark.parametrize("data", [EPS, IPTC], ids=["EPS", "IPTC"])
def test_no_photograph_starts_ghostscript(data, tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_: started.append(1) or SMOOTH.im)
    with suppress(Exception), Image.open(io.BytesIO(data)) as image:
        image.load()
    assert started == [1], "Pillow left alone would"
    (tmp_path / "x.jpg").write_bytes(data)
    for read in (read_photograph, lambda path: read_squashed(path, 32)):
        with pytest.raises(UnreadablePhotograph, match="not a photograph of any known format"):
            read(tmp_path / "x.jpg")
    assert started == [1]


def test_what_may_not_be_read_is_skipped(script, trained, monkeypatch):
    if os.geteuid() and os.access("/etc/shadow", os.R_OK):
        pytest.skip("this user may read whatever there is")

    def as_nobody(path: str, size: int, fit: str) -> np.ndarray:
        user = os.geteuid()
        if not user:  # root may read everything
            os.seteuid(65534)
        try:
            return read_squashed(path, size, fit)
        finally:
            os.seteuid(user)

    monkeypatch.setattr("data.loader.read_squashed", as_nobody)
    with tempfile.TemporaryDirectory() as root:  # pytest's own are closed to others
        os.chmod(root, 0o711)
        shutil.copytree("shop/train", f"{root}/train")
        for name in ("readable", "closed"):
            write_photograph(Path(root, f"val/a/{name}.jpg"), 0)
        os.chmod(f"{root}/val/a/closed.jpg", 0)
        done = script("predict.py", trained, "--data", root, "--crops", 1, "--out", "p.npy", "--workers", 0)
    assert json.loads(Path("p.json").read_text())["unreadable"] == ["a/closed.jpg"]
    assert done.stderr.startswith(f"warning: {root}/val/a/closed.jpg cannot be read") and done.stderr.count("\n") == 1


def test_only_endings_of_photographs_are_listed(tmp_path):
    for name in ("a.jpg", "b.eps", "c.pdf", "d.ps", "e.mpg", "f.wmf", "g.TIFF", "h.h5"):
        write_photograph(tmp_path / "train/a/x.jpg", 0)
        (tmp_path / "train/a" / name).write_bytes(JPEG)
    assert list(open_catalogue(tmp_path).split("train").paths) == ["train/a/a.jpg", "train/a/g.TIFF", "train/a/x.jpg"]


def test_a_piece_of_a_shard_stays_inside_it(tmp_path):
    (tmp_path / "a.tar").write_bytes(JPEG)
    shard = str(tmp_path / "a.tar")
    assert read_squashed(PackedPhotograph(shard, 0, len(JPEG), "x"), 32).shape == (32, 32, 3)
    for start, size in [(1, len(JPEG)), (-1, 9), (len(JPEG), 1), (2**62, 9), (0, 0)]:
        with pytest.raises(UnreadablePhotograph):
            read_squashed(PackedPhotograph(shard, start, size, "x"), 32)
