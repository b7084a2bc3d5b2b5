"""What the tests of strangers' files share: damaged files, and what a refusal looks like."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from test_photographs import photograph


def saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


SMOOTH = photograph((90, 80))


JPEG, PNG = saved(SMOOTH, "jpeg"), saved(SMOOTH, "png")


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.png", PNG)
    return file.getvalue()


Make = Callable[[Path], object]  # writes the photograph at the path


def make(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


GOOD = {
    "train.json": [("a.jpg", 4), ("b.jpg", 17), ("c.jpg", "4")],
    "val.json": [("v.jpg", 4), ("w.jpg", 17)],
    "test.json": [("t.jpg", None), ("u.jpg", None)],
}


DEEP = 10_000


def listing(*entries: dict | object) -> bytes:
    return json.dumps({"images": entries}).encode()


def entry(image_id: object, class_id: object) -> dict:
    return {"image_id": image_id} | ({} if class_id is None else {"class_id": class_id})


def aliproducts(root: Path) -> None:
    for name, entries in GOOD.items():
        (root / name).write_bytes(listing(*(entry(*each) for each in entries)))


def refused(done, *named: str) -> None:
    """One line, for people to read, that names all this."""
    line = done.stderr.removesuffix("\n")
    assert line.startswith("error: ") and line.isprintable() and len(line) < 1000, line
    assert all(each in line for each in named), (line, named)
    assert done.stdout == ""


class Payload:
    """Whoever unpickles it makes a file."""

    def __reduce__(self):
        return open, ("executed", "w")


HUGE = 10**12
