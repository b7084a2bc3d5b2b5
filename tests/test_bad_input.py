"""What strangers' files may do: nothing but be read, be skipped as documented, or be refused in one line.

Whole commands, a case a row. A photograph is read, or skipped; a catalogue, a table or a prediction file is refused
with exit code 2 and one line that names it, and leaves nothing behind.
"""

import io
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import tempfile
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, write_photograph
from PIL import EpsImagePlugin, Image
from test_photographs import photograph
from test_training import SMALL

from common.errors import one_line
from data import Strings, UnreadablePhotograph, open_catalogue, read_photograph, read_squashed
from data.formats import FORMATS, aliproducts
from data.index import load, stamps
from data.pack import Job, pack
from data.shards import PackedPhotograph
from predictions.reading import PredictionInfo
from predictions.writer import write_predictions

# ------------------------------------------------------------------------------------------------ photographs


def saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


SMOOTH = photograph((90, 80))
FRAMES = dict(save_all=True, append_images=[photograph((90, 80), seed) for seed in (1, 2)])
JPEG, PNG = saved(SMOOTH, "jpeg"), saved(SMOOTH, "png")


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


def many_scans() -> bytes:
    """A progressive JPEG that repeats its last scan, ten bytes and more each: minutes of decoding."""
    content = saved(Image.new("RGB", (8000, 8000), "red"), "jpeg", progressive=True)
    last = content.rfind(b"\xff\xda")
    return content[:-2] + content[last:-2] * 90 + content[-2:]


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.png", PNG)
    return file.getvalue()


def palette() -> bytes:
    image = SMOOTH.quantize(16)
    return saved(image, "png", transparency=bytes(range(0, 256, 16)))


WIDE = saved(Image.fromarray(np.asarray(SMOOTH)[..., 0].astype(np.uint16) * 257), "png")
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
IPTC = b"\x1c\x03\x3c\0\2\1\0\x1c\x03\x14\0\2\0\x09\x1c\x03\x1e\0\2\0\x09\x1c\x03\x78\0\1\5"  # of 9 × 9 pixels
IPTC += b"\x1c\x08\x0a" + struct.pack(">H", len(EPS)) + EPS
Make = Callable[[Path], object]  # writes the photograph at the path


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
    "a folder": ("x.jpg", lambda path: path.mkdir(), False),
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


def make(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


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

    def as_nobody(path: str, size: int) -> np.ndarray:
        user = os.geteuid()
        if not user:  # root may read everything
            os.seteuid(65534)
        try:
            return read_squashed(path, size)
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


# ------------------------------------------------------------------------------------- catalogues and tables

GOOD = {
    "train.json": [("a.jpg", 4), ("b.jpg", 17), ("c.jpg", "4")],
    "val.json": [("v.jpg", 4), ("w.jpg", 17)],
    "test.json": [("t.jpg", None), ("u.jpg", None)],
}
LABELS, MARKS = "id,class,probability", "cluster,id,class,exclude"
DEEP = 10_000


def listing(*entries: dict | object) -> bytes:
    return json.dumps({"images": entries}).encode()


def entry(image_id: object, class_id: object) -> dict:
    return {"image_id": image_id} | ({} if class_id is None else {"class_id": class_id})


def one(image_id: object = "a.jpg", class_id: object = 4) -> bytes:
    return listing(entry("z.jpg", 17), entry(image_id, class_id))


def aliproducts(root: Path) -> None:
    for name, entries in GOOD.items():
        (root / name).write_bytes(listing(*(entry(*each) for each in entries)))


def grocery(root: Path) -> None:
    (root / "classes.csv").write_text("Class Name,Class ID,Coarse\nKiwi,4,Fruit\nFuji,17,Apple\n")
    (root / "train.txt").write_text("train/a.jpg, 4, 0\ntrain/b.jpg, 17, 0\n")


def products10k(root: Path) -> None:
    (root / "train.csv").write_text("name,class,group\na.jpg,4,1\nb.jpg,17,1\n")
    (root / "test.csv").write_text("name\nt.jpg\n")


# what is wrong: (the file that is, its bytes, what the complaint says besides its name)
ALIPRODUCTS: dict[str, tuple[str, bytes, str]] = {
    "nothing": ("train.json", b"", "cannot be read as JSON"),
    "cut off": ("train.json", one()[:-9], "cannot be read as JSON"),
    "not UTF-8": ("train.json", one().replace(b"z.jpg", b"\xff.jpg"), "restore the file"),
    "UTF-16": ("train.json", one().decode().encode("utf-16"), "restore the file"),
    "a list": ("train.json", b"[]", "mend the file"),
    "a number": ("train.json", b"7", "mend the file"),
    "no key images": ("train.json", b'{"pictures": []}', "mend the file"),
    "images of another type": ("train.json", b'{"images": "a.jpg"}', "mend the file"),
    "an empty list": ("train.json", b'{"images": []}', "lists no photographs"),
    "an empty list in val": ("val.json", b'{"images": []}', "lists no photographs"),
    "an empty list in test": ("test.json", b'{"images": []}', "lists no photographs"),
    "entries of another type": ("train.json", listing(["a.jpg", 4]), "mend the file"),
    "no id": ("train.json", listing({"class_id": 4}), "mend the file"),
    "no class": ("train.json", listing(entry("a.jpg", 4), entry("b.jpg", None)), "label all or none"),
    "no class at all": ("train.json", listing(entry("a.jpg", None)), "every training photograph needs one"),
    "an id twice": ("train.json", listing(*[entry("a.jpg", n) for n in (4, 17)]), "lists 'a.jpg' twice"),
    "an id twice in val": ("val.json", listing(*[entry("v.jpg", 4)] * 2), "lists 'v.jpg' twice"),
    "an id twice in test": ("test.json", listing(*[entry("t.jpg", None)] * 2), "lists 't.jpg' twice"),
    "a class that train lacks": ("val.json", one(class_id=5), "class 5 of val/00005/a.jpg has no photograph"),
    "an id of another type": ("train.json", one(7), "image_id 7 is not a file name"),
    "an id that is nothing": ("train.json", one(""), "does not name a file"),
    "an id above the folder": ("train.json", one("../a.jpg"), "is not a file name"),
    "an absolute id": ("train.json", one("/etc/passwd"), "is not a file name"),
    "an id above the folder, on Windows": ("train.json", one("..\\..\\a.jpg"), "does not name a file inside"),
    "an absolute id, on Windows": ("train.json", one("\\\\host\\a.jpg"), "does not name a file inside"),
    "an id that is the folder": ("train.json", one(".."), "is not a file name"),
    "an id with a NUL": ("train.json", one("a.jpg\0.png"), "does not name a file inside"),
    "an id with half a character": ("train.json", one("\ud800.jpg"), "no file can have the name"),
    "an id of a megabyte": ("train.json", one("../" * 10**6), "is not a file name"),
    "a class below 0": ("train.json", one(class_id=-1), "class -1 is not a number"),
    "a class beyond int32": ("train.json", one(class_id=2**31), "class 2147483648 is not a number"),
    "a class of 4000 digits": ("train.json", one(class_id=10**4000), "is not a number"),
    "a class of 5000 digits": ("train.json", one().replace(b"4}", b"9" * 5000 + b"}"), "train.json"),
    "a class in text that is none": ("train.json", one(class_id="1_7"), "class '1_7' is not a number"),
    "a class in other digits": ("train.json", one(class_id="١٧"), "is not a number"),
    "a fraction": ("train.json", one(class_id=4.0), "class 4.0 is not a number"),
    "NaN": ("train.json", one(class_id=float("nan")), "class nan is not a number"),
    "infinity": ("train.json", one(class_id=float("inf")), "class inf is not a number"),
    "true": ("train.json", one(class_id=True), "class True is not a number"),
    "a class that is a list": ("train.json", one(class_id=[[4] * 500] * 9), "is not a number"),
    "a class as deep as Python goes": (
        "train.json",
        one(class_id=4).replace(b"4}", b"[" * 900 + b"]" * 900 + b"}"),
        "class",
    ),
    "a key twice": (
        "train.json",
        one().replace(b'"class_id": 4', b'"class_id": 4, "class_id": 17'),
        "'class_id' stands",
    ),
    "images twice": ("train.json", one()[:-1] + b", " + one()[1:], "'images' stands twice"),
    "lists 10,000 deep": ("train.json", b"[" * DEEP + b"]" * DEEP, "cannot be read as JSON"),
    "objects 10,000 deep": ("train.json", b'{"a":' * DEEP + b"1" + b"}" * DEEP, "cannot be read as JSON"),
    "a tree 10,000 deep": ("product_tree.json", b'{"a":' * DEEP + b"4" + b"}" * DEEP, "cannot be read as JSON"),
    "a tree that is a list": ("product_tree.json", b"[4]", "expected nested objects"),
    "a tree with a list": ("product_tree.json", b'{"a": [4, 17]}', "class [4, 17] is not a number"),
    "a tree with nothing": ("product_tree.json", b'{"a": null}', "class None is not a number"),
    "a tree with NaN": ("product_tree.json", b'{"a": NaN}', "class nan is not a number"),
    "a tree with true": ("product_tree.json", b'{"a": true}', "class True is not a number"),
    "a branch twice": ("product_tree.json", b'{"a": {"b": 4}, "a": {"c": 17}}', "'a' stands twice"),
    "a name with half a character": ("product_tree.json", b'{"\\ud800": 4}', "half a character"),
    "a tree that is not UTF-8": ("product_tree.json", b'{"\xff": 4}', "cannot be read as JSON"),
}
GROCERY: dict[str, tuple[str, bytes, str]] = {
    "too few cells": ("train.txt", b"train/a.jpg, 4\n", "line 1: expected `path"),
    "a class that classes.csv lacks": ("train.txt", b"train/a.jpg, 5, 0\n", "line 1: label 5 is not in"),
    "a path above the folder": ("train.txt", b"../../a.jpg, 4, 0\n", "line 1: '../../a.jpg' does not name"),
    "a path above it on the way": ("train.txt", b"train/../../a.jpg, 4, 0\n", "does not name"),
    "an absolute path": ("train.txt", b"/etc/passwd, 4, 0\n", "does not name"),
    "a path twice": ("train.txt", b"train/a.jpg, 4, 0\n" * 2, "lists 'train/a.jpg' twice"),
    "a NUL": ("train.txt", b"train/a\0.jpg, 4, 0\n", "train.txt"),
    "nothing": ("train.txt", b"", "lists no photographs"),
    "not UTF-8": ("train.txt", b"train/\xff.jpg, 4, 0\n", "cannot be read as a table"),
    "a cell beyond csv's limit": ("train.txt", b"x" * 200_000 + b", 4, 0\n", "cannot be read as a table"),
    "a class number that is none": ("classes.csv", b"Name,ID\nKiwi,four\n", "line 2: class 'four' is not a number"),
    "a class without number": ("classes.csv", b"Name,ID\nKiwi\n", "line 2: expected a class name and its number"),
    "a class named twice": ("classes.csv", b"Name,ID\nKiwi,4\nFuji,4\n", "line 3: class 4 is named for the second"),
}
PRODUCTS: dict[str, tuple[str, bytes, str]] = {
    "nothing": ("train.csv", b"", "expected the columns"),
    "no header": ("train.csv", b"a.jpg,4,1\n", "line 1: expected the columns"),
    "no photographs": ("train.csv", b"name,class,group\n", "lists no photographs"),
    "a cell too many": ("train.csv", b"name,class,group\na.jpg,4,1,1\n", "line 2: 4 cells under 3 columns"),
    "a path above the folder": ("train.csv", b"name,class,group\n../../a.jpg,4,1\n", "line 2: '../../a.jpg' does not"),
    "a name twice": ("train.csv", b"name,class,group\na.jpg,4,1\na.jpg,17,1\n", "lists 'a.jpg' twice"),
    "a name twice in test": ("test.csv", b"name\nt.jpg\nt.jpg\n", "lists 't.jpg' twice"),
    "a class that is none": ("train.csv", b"name,class,group\na.jpg,-4,1\n", "line 2: class '-4' is not a number"),
}
CATALOGUES = [
    pytest.param(write, *case, id=f"{name}: {what}")
    for name, write, cases in [
        ("AliProducts", aliproducts, ALIPRODUCTS),
        ("Grocery Store", grocery, GROCERY),
        ("Products-10K", products10k, PRODUCTS),
    ]
    for what, case in cases.items()
]


def refused(done, *named: str) -> None:
    """One line, for people to read, that names all this."""
    line = done.stderr.removesuffix("\n")
    assert line.startswith("error: ") and line.isprintable() and len(line) < 1000, line
    assert all(each in line for each in named), (line, named)
    assert done.stdout == ""


@pytest.mark.parametrize(("write", "name", "data", "complaint"), CATALOGUES)
def test_a_catalogue_is_refused_in_one_line_and_no_run_begins(write, name, data, complaint, script, tmp_path):
    write(make(tmp_path / "shop"))
    (tmp_path / "shop" / name).write_bytes(data)
    before = sorted(tmp_path.rglob("*"))
    refused(script("train.py", "--data", "shop", *SMALL, code=2), f"shop/{name}", complaint)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["train.json", "product_tree.json"])
def test_a_pipe_is_no_catalogue_s_file(name, script, tmp_path):
    aliproducts(make(tmp_path / "shop"))
    (tmp_path / "shop" / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / "shop" / name)
    refused(script("train.py", "--data", "shop", *SMALL, code=2), f"shop/{name}", "not an ordinary file")


def test_a_byte_order_mark_and_names_that_a_shell_would_expand_are_no_fault(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/etc")
    aliproducts(tmp_path)
    names = ["~", "$HOME", "%2e%2e%2fa.jpg", "*.jpg", "-rf", "a b", "con", "...", "a..jpg", "file:a.jpg", "C:\\a.jpg"]
    (tmp_path / "train.json").write_bytes(b"\xef\xbb\xbf" + listing(*(entry(name, 4) for name in names)))
    (tmp_path / "val.json").unlink()
    train = open_catalogue(tmp_path).split("train")
    assert [train.path(place) for place in range(len(names))] == [f"{tmp_path}/train/00004/{name}" for name in names]


def test_a_tree_as_deep_as_json_reads_is_walked(tmp_path):
    aliproducts(tmp_path)
    (tmp_path / "product_tree.json").write_bytes(b'{"a":' * 900 + b'{"tea": 4, "cup": 17}' + b"}" * 900)
    catalogue = open_catalogue(tmp_path)
    assert catalogue.classes == ["tea", "cup"] and catalogue.tree == [("a",) * 900] * 2


@pytest.mark.parametrize(
    ("flag", "header", "line", "complaint"),
    [
        ("--extra", LABELS, "t.jpg,5,0.9", "line 2: '5' is no class"),
        ("--extra", LABELS, "x.jpg,4,0.9", "line 2: 'x.jpg' is no photograph"),
        ("--extra", LABELS, "../t.jpg,4,0.9", "is no photograph"),
        ("--extra", LABELS, "t.jpg,4,0.9\nt.jpg,4,0.9", "line 3: 't.jpg' is labelled for the second time"),
        ("--extra", LABELS, "t.jpg,4,nan", "'nan' is no probability"),
        ("--extra", LABELS, "t.jpg,4,1e999", "is no probability"),
        ("--extra", LABELS, "t.jpg,4,-0.5", "is no probability"),
        ("--extra", LABELS, "t.jpg,4", "line 2: expected id,class,probability"),
        ("--extra", LABELS, "t.jpg,4,0.9,", "line 2: expected id,class,probability"),
        ("--extra", LABELS, "\xff.jpg,4,0.9", "line 2: '\\udcff.jpg' is no photograph"),
        ("--extra", LABELS, "t\0.jpg,4,0.9", "is no photograph"),
        ("--extra", LABELS, "t\033[2J.jpg,4,0.9", "is no photograph"),
        ("--extra", LABELS, "x" * 200_000 + ",4,0.9", "cannot be read"),
        ("--extra", "id,label", "t.jpg,4", "expected the first line id,class,probability"),
        ("--extra", "", "", "expected the first line id,class,probability"),
        ("--exclude", MARKS, "0,x.jpg,4,1", "line 2: 'x.jpg' is no photograph"),
        ("--exclude", MARKS, "0,a.jpg,4,yes", "line 2: exclude is 'yes', expected 0 or 1"),
        ("--exclude", MARKS, "0,a.jpg,4", "line 2: expected cluster,id,class,exclude"),
        ("--exclude", LABELS, "t.jpg,4,0.9", "expected the first line cluster,id,class,exclude"),
        ("--exclude", MARKS, "0,a.jpg,4,1\n0,b.jpg,17,1\n0,c.jpg,4,1", "leaves no photograph"),
    ],
)
def test_a_table_is_refused_in_one_line_and_no_run_begins(flag, header, line, complaint, script, tmp_path):
    aliproducts(make(tmp_path / "shop"))
    (tmp_path / "table.csv").write_bytes(f"{header}\n{line}\n".encode("latin-1"))
    before = sorted(tmp_path.rglob("*"))
    refused(script("train.py", "--data", "shop", flag, "table.csv", *SMALL, code=2), "table.csv", complaint)
    assert sorted(tmp_path.rglob("*")) == before


# ----------------------------------------------------------------------------------------- prediction files

IMAGES, CLASSES, K = 6, 5, 2
ROWS = np.random.default_rng(0).dirichlet(np.ones(CLASSES), IMAGES).astype(np.float32)


class Payload:
    """Whoever unpickles it makes a file."""

    def __reduce__(self):
        return open, ("executed", "w")


def predictions(path: Path, top_k: int | None = None) -> None:
    ids, names = [f"{n}.jpg" for n in range(IMAGES)], [f"class {n}" for n in range(CLASSES)]
    info = PredictionInfo("val", "net", [n % CLASSES for n in range(IMAGES)], ids, names, top_k=top_k)
    with write_predictions(path, info, "float32") as writer:
        writer.append(ROWS)


def array(rows: np.ndarray) -> Make:
    return lambda path: np.save(path, rows, allow_pickle=True)


def changed(place: tuple, value: float) -> Make:
    rows = ROWS.copy()
    rows[place] = value
    return array(rows)


def header(text: str) -> Make:
    """A .npy file whose header is this source, with as many bytes behind it as the rows have."""
    start = b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode()
    return lambda path: path.write_bytes(start + ROWS.tobytes())


def described(shape: str = f"({IMAGES}, {CLASSES})", descr: str = "'<f4'", order: str = "False") -> Make:
    return header(f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n")


def cut(share: float) -> Make:
    def make(path: Path) -> None:
        data = path.read_bytes()
        path.write_bytes(data[: int(share * len(data))])

    return make


def about(**changes) -> Make:
    """Its JSON, with these changes; ... leaves a key out."""

    def make(path: Path) -> None:
        now = json.loads(path.with_suffix(".json").read_text()) | changes
        path.with_suffix(".json").write_text(json.dumps({key: value for key, value in now.items() if value != ...}))

    return make


def json_is(data: bytes) -> Make:
    return lambda path: path.with_suffix(".json").write_bytes(data)


def members(compressed: bool = False, also: dict[str, bytes] | None = None, **changes: np.ndarray | str | None) -> Make:
    """The zip file with other arrays, or under other names, and with more in it."""

    def make(path: Path) -> None:
        with np.load(path) as file:
            arrays = dict(file)
        kept = {}
        for name, value in arrays.items():
            new = changes.get(name, value)
            kept[new if isinstance(new, str) else name] = value if isinstance(new, str) else new
        with warnings.catch_warnings(), zipfile.ZipFile(path, "w", 8 if compressed else 0) as archive:
            warnings.simplefilter("ignore")  # a name twice
            for name, value in kept.items():
                file = io.BytesIO()
                np.save(file, value, allow_pickle=True)
                archive.writestr(f"{name}.npy", file.getvalue())
            for name, data in (also or {}).items():
                archive.writestr(name, data)

    return make


PAYLOAD = np.array([[Payload()] * CLASSES] * IMAGES, object)
HUGE = 10**12
# what is wrong with x.npy: (how it is made so, what the complaint says)
FULL: dict[str, tuple[Make, str]] = {
    **{f"cut off at {share:.0%}": (cut(share), "damaged") for share in (0, 0.03, 0.2, 0.5, 0.8, 0.99)},
    "bytes behind": (lambda path: path.write_bytes(path.read_bytes() + b"x"), "cut off or damaged"),
    "text": (lambda path: path.write_text("<html>"), "not a numpy .npy file"),
    "a zip file": (lambda path: path.write_bytes(zipped()), "not a numpy .npy file"),
    "a pickle": (lambda path: path.write_bytes(pickle.dumps(Payload())), "not a numpy .npy file"),
    "pickled objects": (array(PAYLOAD), "pickled Python objects, which are never loaded"),
    "pickled objects in a record": (described(descr="[('a', '|O')]"), "pickled Python objects"),
    "a header that is code": (header("{'descr': open('executed', 'w'), 'shape': ()}\n"), "not a numpy .npy file"),
    "a header that imports": (header("__import__('os').system('touch executed')\n"), "not a numpy .npy file"),
    "a header 9,000 deep": (header("(" * 9000 + ")" * 9000), "not a numpy .npy file"),
    "a huge shape": (described(shape=f"({HUGE}, {HUGE})"), "its JSON tells of"),
    "a shape below 0": (described(shape=f"(-{IMAGES}, -{CLASSES})"), "its JSON tells of"),
    "a shape of Python 2": (described(shape="(6L, 6L)"), "its JSON tells of"),
    "another shape": (array(ROWS[:, :-1]), "shape (6, 4), but its JSON tells of (6, 5)"),
    "one dimension": (array(ROWS.ravel()), "its JSON tells of"),
    "whole numbers": (array(np.eye(IMAGES, CLASSES, dtype=np.int64)), "holds int64, expected float16"),
    "complex numbers": (array(ROWS.astype(np.complex64)), "holds complex64"),
    "text in cells": (described(descr="'<U1'"), "expected float16"),
    "a type of a gigabyte": (described(descr="'|V1000000000'"), "expected float16"),
    "Fortran's order": (array(np.asfortranarray(ROWS)), "Fortran order"),
    "NaN": (changed((3, 2), np.nan), "'3.jpg' has a probability that is not a finite number"),
    "infinity": (changed((3, 2), np.inf), "'3.jpg' has a probability that is not a finite number"),
    "a negative probability": (changed((3,), [1.5, -0.5, 0, 0, 0]), "'3.jpg' has a negative probability (-0.5)"),
    "a sum above 1": (changed((3,), 0.5), "'3.jpg' has probabilities with sum 2.5 instead of 1"),
    "a sum of 0": (changed((5,), 0), "'5.jpg' has probabilities with sum 0 instead of 1"),
    "float64 beyond float32": (array(np.where(ROWS.max() == ROWS, 1e300, ROWS.astype(float))), "not a finite number"),
    "ids in another order": (
        about(image_ids=[f"{n}.jpg" for n in range(IMAGES)][::-1]),
        "image_ids at place 0",
    ),
    "other ids": (about(image_ids=[f"{n}.png" for n in range(IMAGES)]), "image_ids at place 0 '0.png'"),
    "labels in another order": (about(labels=[n % CLASSES for n in range(IMAGES)][::-1]), "labels at place 1 4"),
    "no labels": (about(labels=None), "labels None instead of a list of 6"),
    "classes in another order": (about(class_names=[f"class {n}" for n in range(CLASSES)][::-1]), "class_names at"),
    "another split": (about(split="test"), "split 'test' instead of 'val'"),
    "an id twice": (about(image_ids=["0.jpg"] * IMAGES), "key 'image_ids' names '0.jpg' twice"),
    "half a character in an id": (about(image_ids=["\ud800", *"12345"]), "key 'image_ids' is not"),
    "half a character in a class": (about(class_names=["\udfff", *"1234"]), "key 'class_names' is not"),
    "half a character in a class id": (about(class_ids=["\ud800", *"1234"]), "key 'class_ids' is not"),
    "the next format": (about(format=2), "key 'format' is not 1 (a newer file needs a newer version"),
    "no format": (about(format=...), "key 'format' is missing"),
    "no ids": (about(image_ids=...), "key 'image_ids' is missing"),
    "ids that are numbers": (about(image_ids=list(range(IMAGES))), "key 'image_ids' is not a list of strings"),
    "ids that are one text": (about(image_ids="012345"), "key 'image_ids' is not a list of strings"),
    "no classes": (about(class_names=[]), "key 'class_names' is an empty list"),
    "labels outside the classes": (about(labels=[CLASSES] * IMAGES), "'labels' names class 5 of only 5"),
    "labels below 0": (about(labels=[-1] * IMAGES), "key 'labels' is not a list of class indices"),
    "labels that are true": (about(labels=[True] * IMAGES), "key 'labels' is not a list of class indices"),
    "labels that are NaN": (about(labels=[float("nan")] * IMAGES), "key 'labels' is not a list of class indices"),
    "too few labels": (about(labels=[0]), "key 'labels' has 1 entries instead of 6"),
    "an error of NaN": (about(top1_error=float("nan")), "key 'top1_error' is not a fraction"),
    "an infinite weight": (about(weights=[float("inf")]), "key 'weights' is not a list of numbers"),
    "top_k": (about(top_k=2), "its JSON tells of top_k 2: it is about another file"),
    "no JSON": (lambda path: path.with_suffix(".json").unlink(), "x.json: no such file"),
    "an empty JSON": (json_is(b""), "x.json: not valid JSON"),
    "half a JSON": (json_is(b'{"format": 1, "split"'), "x.json: not valid JSON"),
    "a JSON that is a list": (json_is(b"[]"), "x.json: expected an object"),
    "a JSON that is an array's bytes": (json_is(ROWS.tobytes()), "x.json: not valid JSON"),
    "a JSON 10,000 deep": (json_is(b"[" * DEEP + b"]" * DEEP), "x.json: not valid JSON"),
    "a pipe": (lambda path: (path.unlink(), os.mkfifo(path)), "x.npy: cannot be read (not an ordinary file)"),
}
TOP: dict[str, tuple[Make, str]] = {
    **{f"cut off at {share:.0%}": (cut(share), "damaged") for share in (0, 0.1, 0.5, 0.9, 0.99)},
    "text": (lambda path: path.write_text("PK\3\4"), "not a numpy .npz file"),
    "pickled objects": (members(rest=PAYLOAD[:, 0]), "pickled Python objects, which are never loaded"),
    "a zip bomb": (members(True, {"bomb.npy": bytes(10**7)}), "is compressed"),
    "an array too many": (members(also={"bomb.npy": b""}), "holds bomb, indices"),
    "an array above the folder": (members(rest="../rest"), "holds ../rest"),
    "an absolute array": (members(rest="/tmp/rest"), "holds /tmp/rest"),
    "an array twice": (members(also={"rest.npy": b"\0" * 200}), "holds rest twice"),
    "an array twice, by another name": (members(also={"rest": b"\0" * 200}), "holds rest twice"),
    "3,000 arrays": (members(also={f"{n:099}": b"" for n in range(3000)}), "expected indices"),
    "another shape": (members(rest=ROWS[:, :2]), "rest has shape (6, 2), but its JSON tells of (6,)"),
    "another k": (about(top_k=3), "indices has shape (6, 2), but its JSON tells of (6, 3)"),
    "as many as there are classes": (about(top_k=CLASSES), "top_k 5 of 5 classes"),
    "a huge k": (about(top_k=HUGE), f"top_k {HUGE} of 5 classes"),
    "no top_k": (about(top_k=None), "its JSON tells of top_k None"),
    "signed indices": (members(indices=np.zeros((IMAGES, K), np.int16)), "indices holds int16"),
    "a class outside": (members(indices=np.full((IMAGES, K), 9, np.uint16)), "'0.jpg' has a class of 5 or more"),
    "a class twice": (members(indices=np.zeros((IMAGES, K), np.uint16)), "'0.jpg' has a class twice"),
    "NaN": (members(rest=np.full(IMAGES, np.nan, np.float32)), "'0.jpg' has a negative probability or one that"),
    "infinity": (members(rest=np.full(IMAGES, np.inf, np.float32)), "'0.jpg' has a negative probability or one that"),
    "a negative rest": (members(rest=np.full(IMAGES, -1, np.float32)), "'0.jpg' has a negative probability"),
    "ascending": (members(probabilities=np.tile(np.float32([0.1, 0.2]), (IMAGES, 1))), "that do not descend"),
    "a sum above 1": (members(rest=np.full(IMAGES, 0.99, np.float32)), "with a sum other than 1"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("name", "spoil", "complaint"),
    [pytest.param("x.npy", *case, id=f"all classes: {what}") for what, case in FULL.items()]
    + [pytest.param("x.npz", *case, id=f"top k: {what}") for what, case in TOP.items()],
)
def test_a_prediction_file_is_refused_in_one_line_and_nothing_is_written(name, spoil, complaint, script, tmp_path):
    predictions(tmp_path / "preds/first.npy")
    predictions(tmp_path / "preds" / name, K if name == "x.npz" else None)
    make(tmp_path / "ensembles")
    spoil(tmp_path / "preds" / name)
    before = sorted(tmp_path.rglob("*"))
    outputs = ("--out", "ensembles/x.npy", "--submission", "s.csv", "--uncertain", "u.txt")
    refused(script("ensemble.py", "preds/first.npy", f"preds/{name}", *outputs, code=2), "preds/x.", complaint)
    assert sorted(tmp_path.rglob("*")) == before  # nor has anything been executed


@pytest.mark.parametrize("what", ["pickled objects", "cut off at 50%", "NaN", "no JSON", "a pipe"])
@pytest.mark.parametrize("name", ["tricks/pseudo_label.py", "report.py"])
def test_other_readers_of_predictions_refuse_them_too(name, what, script, tmp_path):
    predictions(tmp_path / "preds/x.npy")
    about(split="test")(tmp_path / "preds/x.npy")
    FULL[what][0](tmp_path / "preds/x.npy")
    before = sorted(tmp_path.rglob("*"))
    refused(script(name, *["preds/x.npy"] * (name == "tricks/pseudo_label.py"), code=2), "preds/x.")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: np.save(path, ROWS.astype(">f4")),
        lambda path: np.save(path, ROWS.astype(">f8")),
        lambda path: path.with_suffix(".json").write_bytes(b"\xef\xbb\xbf" + path.with_suffix(".json").read_bytes()),
    ],
    ids=["bytes swapped", "float64 with bytes swapped", "a byte-order mark"],
)
def test_what_is_unusual_but_right_is_read_right(spoil, script, tmp_path):
    predictions(tmp_path / "preds/x.npy")
    spoil(tmp_path / "preds/x.npy")
    script("ensemble.py", "preds/x.npy", "--out", "ensembles/x.npy", "--dtype", "float32")
    assert np.array_equal(np.load("ensembles/x.npy"), ROWS)


def test_a_table_of_results_is_no_way_to_the_terminal(script, tmp_path):
    predictions(tmp_path / "preds/x\033[2J-dcl.npy")
    about(split="val\033[2J\n")(tmp_path / "preds/x\033[2J-dcl.npy")
    shown = script("report.py").stdout
    assert "\033" not in shown and shown.count("\\x1b[2J") == 2 and "\nbesides " in shown
    about(mean_class_error=None)(tmp_path / "preds/x\033[2J-dcl.npy")  # as if it had no labels
    assert "besides" not in script("report.py").stdout


def test_ids_and_names_of_members_with_new_lines_stay_on_theirs(script, tmp_path):
    predictions(tmp_path / "preds/x\n\033[2J.npz", K)
    ids = ["a\nb.jpg", *(f"{n}.jpg" for n in range(1, IMAGES))]
    flat = members(rest=np.full(IMAGES, 0.6, np.float32), probabilities=np.full((IMAGES, K), 0.2, np.float32))
    flat(tmp_path / "preds/x\n\033[2J.npz")
    about(image_ids=ids, labels=[0] * IMAGES)(tmp_path / "preds/x\n\033[2J.npz")
    done = script("ensemble.py", "preds/x\n\033[2J.npz", "--uncertain", "u.txt")
    assert Path("u.txt").read_text() == "".join(f"{one_line(image)}\n" for image in ids)
    assert "\033" not in done.stdout and "preds/x\\n\\x1b[2J.npz" in done.stdout


def test_one_long_id_does_not_give_every_id_as_much_room(script, tmp_path):
    predictions(tmp_path / "preds/x.npy")
    ids = ["x" * 2**20, *(f"{n}.jpg" for n in range(1, IMAGES))]
    about(split="test", image_ids=ids, unreadable=["1.jpg"])(tmp_path / "preds/x.npy")
    tracemalloc.start()
    script("tricks/pseudo_label.py", "preds/x.npy", "--threshold", 0)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 4 * 2**20 * IMAGES, "numpy's text has four bytes a letter, and the longest's letters for all"
    assert len(Path("pseudo_labels.csv").read_text().splitlines()) == 1 + IMAGES - 1


# --------------------------------------------------------------------------------------------------- indexes


def facts(**changes) -> Make:
    def make(folder: Path) -> None:
        now = json.loads((folder / "facts.json").read_text())
        (folder / "facts.json").write_text(json.dumps(now | changes))

    return make


def split_facts(place: int, value: object) -> Make:
    """Of the training split: labelled, names are ids, id_root, packed."""

    def make(folder: Path) -> None:
        now = json.loads((folder / "facts.json").read_text())
        now["splits"]["train"][place] = value
        (folder / "facts.json").write_text(json.dumps(now))

    return make


def numbers(part: str, change: Callable[[np.ndarray], np.ndarray]) -> Make:
    """An array of the training split, changed."""

    def make(folder: Path) -> None:
        path = folder / f"train.{part}.npy"
        np.save(path, change(np.load(path)), allow_pickle=True)

    return make


def put(place: int, value: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        values[place] = value
        return values

    return change


def paths(*some: str) -> Make:
    """The first paths of the training split are these, the others as they were."""

    def make(folder: Path) -> None:
        strings = Strings.of(*(np.load(folder / f"train.{part}.npy") for part in ("buffer", "offsets")))
        strings = Strings([*some, *list(strings)[len(some) :]])
        np.save(folder / "train.buffer.npy", strings.buffer)
        np.save(folder / "train.offsets.npy", strings.offsets)

    return make


def file_is(name: str, data: bytes) -> Make:
    return lambda folder: (folder / name).write_bytes(data)


def pipe(name: str) -> Make:
    return lambda folder: ((folder / name).unlink(), os.mkfifo(folder / name))


def packed(**changes: list) -> Make:
    """Names and sizes of the training split's shards, or their side."""

    def make(folder: Path) -> None:
        now = json.loads((folder / "facts.json").read_text())
        files, side = now["splits"]["train"][3]
        now["splits"]["train"][3] = [changes.get("files", files), changes.get("side", side)]
        (folder / "facts.json").write_text(json.dumps(now))

    return make


def huge(part: str) -> Make:
    """An array that declares more than there is."""
    start = f"{{'descr': '<i8', 'fortran_order': False, 'shape': ({HUGE},), }}\n".encode()
    return file_is(f"train.{part}.npy", b"\x93NUMPY\1\0" + struct.pack("<H", len(start)) + start)


INDEXES: dict[str, Make] = {
    "a root above the folder": facts(below="../.."),
    "an absolute root": facts(below="/etc"),
    "a root with a NUL": facts(below="a\0"),
    "a root that is none": facts(below=7),
    "a path above the folder": paths("../../etc/passwd"),
    "a path above it on the way": paths("train/../../x.jpg"),
    "a path that ends above it": paths("a/.."),
    "an absolute path": paths("train/a.jpg", "/etc/passwd"),
    "a path above it, on Windows": paths("a\\..\\..\\x.jpg"),
    "a path at an odd place": paths("a", "../x"),
    "a path across two pieces": paths("x" * (2**18 - 1) + "/../y", "z"),
    "a path with a NUL": paths("a\0b"),
    "a path that is nothing": paths("", "a"),
    "offsets that descend": numbers("offsets", put(1, 10**6)),
    "offsets from elsewhere": numbers("offsets", put(0, -1)),
    "offsets beyond the buffer": numbers("offsets", put(-1, 10**9)),
    "offsets short of the buffer": numbers("buffer", lambda values: np.append(values, values)),
    "offsets of another type": numbers("offsets", lambda values: values.astype(np.float64)),
    "offsets with bytes swapped": numbers("offsets", lambda values: values.astype(">i8")),
    "no offsets": numbers("offsets", lambda values: values[:0]),
    "one offset": numbers("offsets", lambda values: values[:1]),
    "a buffer of two dimensions": numbers("buffer", lambda values: values[:, None]),
    "a buffer of another type": numbers("buffer", lambda values: values.astype(np.int8)),
    "pickled objects": numbers("buffer", lambda values: np.array([Payload()], object)),
    "a pickle": file_is("train.buffer.npy", pickle.dumps(Payload())),
    "a zip file": file_is("train.buffer.npy", zipped()),
    "a huge array": huge("offsets"),
    "a pipe": pipe("train.buffer.npy"),
    "a pipe for its facts": pipe("facts.json"),
    "a label below 0": numbers("labels", put(0, -1)),
    "a label outside the classes": numbers("labels", put(-1, 2)),
    "too few labels": numbers("labels", lambda values: values[1:]),
    "too many labels": numbers("labels", lambda values: np.append(values, values)),
    "labels of another type": numbers("labels", lambda values: values.astype(np.int64)),
    "no labels": split_facts(0, False),
    "ids that are neither": split_facts(1, "yes"),
    "no root of ids": split_facts(2, None),
    "facts of another length": facts(splits={"train": [True]}),
    "another split": facts(splits={"../train": [True, True, "", None]}),
    "no splits": facts(splits={}),
    "no classes": facts(classes=[], class_ids=[]),
    "classes that are numbers": facts(classes=[1, 2]),
    "classes that are one text": facts(classes="ab", class_ids="ab"),
    "half a character": facts(classes=["\ud800", "b"]),
    "fewer ids than classes": facts(class_ids=["4"]),
    "a tree of fewer classes": facts(tree=[["a"]]),
    "a tree of other things": facts(tree=[[1], [2]]),
    "facts 10,000 deep": file_is("facts.json", b"[" * DEEP + b"]" * DEEP),
    "facts that are no JSON": file_is("facts.json", b"\xff\xfe"),
}
SHARD_INDEXES: dict[str, Make] = {
    "a shard above the folder": packed(files=[["../../etc/passwd", 9]]),
    "an absolute shard": packed(files=[["/etc/passwd", 9]]),
    "a shard in a folder": packed(files=[["a/b.tar", 9]]),
    "a shard that is the folder": packed(files=[["..", 9]]),
    "a shard without name": packed(files=[["", 9]]),
    "a shard of a name that is none": packed(files=[[7, 9]]),
    "a shard of no size": packed(files=[["train-000000.tar", None]]),
    "a shard of a huge size": packed(files=[["train-000000.tar", 2**64]]),
    "a shard below 0": packed(files=[["train-000000.tar", -1]]),
    "no shards": packed(files=[]),
    "a side that is none": packed(side="36"),
    "no facts of shards": split_facts(3, None),
    "a shard outside": numbers("shard", put(0, 1)),
    "a shard's number below 0": numbers("shard", put(0, -1)),
    "a start below 0": numbers("start", put(0, -1)),
    "a start beyond the shard": numbers("start", put(0, 10**9)),
    "a start and a size beyond int64": numbers("start", put(0, 2**63 - 1)),
    "a size below 0": numbers("size", put(0, -1)),
    "a size beyond the shard": numbers("size", put(0, 2**31 - 1)),
    "too few sizes": numbers("size", lambda values: values[1:]),
    "sizes of another type": numbers("size", lambda values: values.astype(np.int64)),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("spoil", INDEXES.values(), ids=INDEXES)
def test_a_catalogue_whose_index_was_tampered_with_is_read_anew(spoil, tmp_path, monkeypatch):
    monkeypatch.setattr("data.index.SMALLEST", 1)
    monkeypatch.chdir(tmp_path)
    aliproducts(make(tmp_path / "shop"))
    expected = list(open_catalogue("shop").split("train").paths)
    now = stamps(Path("shop"), aliproducts.FORMAT.sources(Path("shop")))
    opened = partial(load, Path("shop/.index"), "AliProducts", Path("shop"), now)
    assert opened() is not None
    spoil(tmp_path / "shop/.index")
    assert opened() is None
    assert list(open_catalogue("shop").split("train").paths) == expected
    assert opened() is not None, "and its index is made anew"
    assert not Path("executed").exists()


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("packed")
    for place in range(4):
        write_photograph(root / f"shop/train/{'ab'[place % 2]}/{place}.jpg", place)
    catalogue = open_catalogue(root / "shop")
    pack(Job(catalogue, root / "shards", 36, 90, 100, 0), workers=1)
    return root / "shards"


@pytest.mark.parametrize(
    "spoil",
    [pytest.param(spoil, id=what) for what, spoil in (INDEXES | SHARD_INDEXES).items()],
)
def test_shards_whose_index_was_tampered_with_are_refused(spoil, shards, script, tmp_path):
    shutil.copytree(shards, tmp_path / "shards")
    assert len(open_catalogue("shards").split("train")) == 4
    spoil(tmp_path / "shards/index")
    done = script("train.py", "--data", "shards", "--out", "run", *SMALL, code=2)
    refused(done, "shards: shards without a whole index", "run the same python -m data.pack again")
    assert not Path("run").exists() and not Path("executed").exists()


@pytest.mark.parametrize("make_so", [os.mkfifo, os.mkdir], ids=["a pipe", "a folder"])
def test_a_shard_that_is_no_ordinary_file_is_refused(make_so, shards, script, tmp_path):
    shutil.copytree(shards, tmp_path / "shards")
    (tmp_path / "shards/train-000000.tar").unlink()
    make_so(tmp_path / "shards/train-000000.tar")
    refused(script("train.py", "--data", "shards", *SMALL, code=2), "train-000000.tar: not an ordinary file")


def test_two_dots_in_a_name_are_no_fault_of_an_index(tmp_path, monkeypatch):
    monkeypatch.setattr("data.index.SMALLEST", 1)
    aliproducts(tmp_path)
    (tmp_path / "train.json").write_bytes(listing(*(entry(n, 4) for n in ("a..jpg", "...", "b.", ".c", "..d"))))
    (tmp_path / "val.json").unlink()
    first = list(open_catalogue(tmp_path).split("train").paths)
    monkeypatch.setattr(
        "data.formats.FORMATS", [format._replace(read=None) for format in FORMATS]
    )  # reading anew fails
    assert list(open_catalogue(tmp_path).split("train").paths) == first
