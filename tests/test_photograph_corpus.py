"""Pillow's own test images: each is read, or unreadable, and nothing else. They are not part of this project.

git clone --depth 1 https://github.com/python-pillow/Pillow /tmp/Pillow
PILLOW_TESTS=/tmp/Pillow python -m pytest tests/test_photograph_corpus.py
"""

import os
import signal
import warnings
from pathlib import Path

import numpy as np
import pytest

from data import UnreadablePhotograph, read_photograph, read_squashed, squash

FOLDER = Path(os.environ.get("PILLOW_TESTS") or "nowhere") / "Tests/images"
FILES = sorted(path for path in FOLDER.rglob("*") if path.is_file())
SECONDS = 60  # for one file, three times; the slowest needs a few

needs_corpus = pytest.mark.skipif(not FILES, reason="PILLOW_TESTS names no checkout of Pillow")


@pytest.fixture(autouse=True)
def no_hang():
    def late(*_):
        pytest.fail(f"more than {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@needs_corpus
@pytest.mark.parametrize("path", FILES or [None], ids=lambda path: str(path and path.relative_to(FOLDER)))
def test_a_file_is_read_or_unreadable_and_both_ways_agree(path, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            pixels = np.array(read_photograph(path))
        except UnreadablePhotograph as error:
            assert str(error)
            with pytest.raises(UnreadablePhotograph):
                read_squashed(path, 32)
            return
        assert pixels.dtype == np.uint8 and pixels.shape[2:] == (3,)
        for size, most, mean in ((min(min(pixels.shape[:2]), 1000), 2, 0.1), (32, 60, 6)):
            error = np.abs(read_squashed(path, size).astype(int) - squash(pixels, size))
            assert error.max() <= most and error.mean() <= mean, f"{error.max()} {error.mean()} at {size}"
    said = capfd.readouterr()
    assert not said.out and not said.err, said


@needs_corpus
def test_most_of_them_are_read():
    def is_read(path: Path) -> bool:
        try:
            read_photograph(path)
        except UnreadablePhotograph:
            return False
        return True

    photographs = [path for path in FILES if path.suffix in (".jpg", ".png", ".webp", ".tif", ".avif")]
    assert sum(map(is_read, photographs)) > 0.85 * len(photographs)
