"""Try mutated files on each reader of strangers' files, for a given time, and keep those on which a reader fails.

    pip install -r tests/requirements-fuzz.txt
    python tests/fuzz.py --minutes 5                                   # a minute for each of the five targets
    python tests/fuzz.py --minutes 5 --target predictions --keep failures

A reader may give a correct result, or refuse as documented: UnreadablePhotograph, InputError of one printable line,
None for an index. All else is a failure: another exception, a wrong result, text on stderr, more than ten seconds, more
than two gigabytes, the end of the process. Atheris (libFuzzer) chooses the inputs by the Python code that they reach.
It does not see compiled code, so values of JSON and checksums of PNG are mutated here.
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]
with atheris.instrument_imports(
    include=["catalogues", "data", "models", "predictions", "training", "report_page", "PIL", "zipfile", "numpy.lib"]
):
    import numpy as np
    import pillow_heif
    import torch
    from PIL import Image, ImageCms

    import catalogues.index
    import data.photographs
    from catalogues import excluded_places, open_catalogue, with_extra_labels
    from catalogues.catalogue import Catalogue, Split, stays_below
    from common.errors import InputError, one_line
    from data import UnreadablePhotograph, read_squashed
    from data.pack import Job, pack
    from predictions import PredictionInfo, open_members, write_predictions

SECONDS, MEGABYTES = 10, 2048
Check = Callable[[bytes], str]  # gives the documented outcome of an input


# Targets: each makes (first inputs, a check of one input) in an empty folder. An input's first byte tells its file.


def photographs(root: Path) -> tuple[list[bytes], Check]:
    Image.MAX_IMAGE_PIXELS, data.photographs.MOST_SCANNED = 10**6, 10**8  # more inputs a minute
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (5, 6, 3), np.uint8)).resize((60, 50), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    wide = Image.fromarray(np.asarray(image)[..., 0].astype(np.uint16) * 257)
    made = [(image, "jpeg", {}), (image, "jpeg", dict(progressive=True)), (image, "jpeg", dict(exif=exif))]
    made += [(image.convert(mode), "jpeg", {}) for mode in ("L", "CMYK")]
    made += [(image.convert(mode), "png", {}) for mode in ("RGB", "RGBA", "LA", "1")] + [(wide, "png", {})]
    made += [(image.quantize(9), "png", dict(transparency=bytes(range(9)))), (image, "png", dict(exif=exif))]
    frames = dict(save_all=True, append_images=[image.rotate(90), image.rotate(180)])
    made += [(image, kind, options) for kind in ("gif", "webp", "png", "tiff") for options in ({}, frames)]
    made += [(image, "tiff", dict(compression=name)) for name in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")]
    made += [(wide, "tiff", {}), (image.convert("L").convert("F"), "tiff", {}), (image.convert("1"), "ppm", {})]
    made += [(image, kind, {}) for kind in ("bmp", "dib", "ppm", "tga", "ico", "avif", "jpeg2000", "qoi", "mpo")]
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    made += [(image, kind, dict(icc_profile=profile)) for kind in ("jpeg", "png", "webp", "tiff")]
    made += [(image, "avif", dict(exif=exif.tobytes())), (image, "png", dict(transparency=(0, 0, 0)))]
    files, path = [], root / "x.jpg"
    for picture, kind, options in made:
        file = io.BytesIO()
        picture.save(file, kind, **options)
        files.append(file.getvalue())
    for options in ({}, dict(exif=exif.tobytes(), icc_profile=profile)):
        file = io.BytesIO()
        pillow_heif.from_pillow(image).save(file, **options)
        files.append(file.getvalue())
    layers = np.asarray(image).transpose(2, 0, 1).tobytes()
    files.append(b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 50, 60, 8, 3) + bytes(12 + 2) + layers)  # Pillow writes none
    seeds = [bytes([number]) + file for file in files for number in range(3)]

    def check(content: bytes) -> str:
        size = (8, 24, 200)[content[0] % 3]
        path.write_bytes(content[1:])
        try:
            pixels = read_squashed(path, size)
        except UnreadablePhotograph as error:
            assert str(error), "no reason"
            return f"unreadable: {error}"
        assert pixels.shape == (size, size, 3) and pixels.dtype == np.uint8, "no photograph"
        return "read"

    return seeds, check


def with_file(files: list[Path], read: Callable[[Path], str]) -> tuple[list[bytes], Check]:
    """Inputs that replace one of these files each; the others are as they were."""
    originals = [file.read_bytes() for file in files]

    def check(content: bytes) -> str:
        file = files[content[0] % len(files)]
        file.write_bytes(content[1:])
        try:
            return read(file)
        except InputError as error:
            line = one_line(error)
            assert line.isprintable() and len(line) < 2000, f"no line to print: {line[:3000]}"
            return f"refused: {line.replace(str(file.parent), '')}"
        finally:
            file.write_bytes(originals[content[0] % len(files)])

    return [bytes([number]) + original for number, original in enumerate(originals)], check


def check_catalogue(catalogue: Catalogue, doubles: bool = False) -> None:
    assert len(catalogue.classes) == len(catalogue.class_ids) > 0
    for split in catalogue.splits.values():
        ids = [split.image_id(place) for place in range(len(split))]
        assert doubles or len(set(ids)) == len(ids) > 0, "an id twice"
        assert all(map(stays_below, split.paths)), "a path above the folder"
        if split.labels is not None:
            assert len(split.labels) == len(ids), "other labels"
            assert 0 <= split.labels.min() <= split.labels.max() < len(catalogue.classes), "labels out of range"
    catalogue.describe()
    if any(catalogue.tree):
        catalogue.levels()


def write_catalogues(root: Path) -> list[Path]:
    """Files of three catalogues, in a folder each."""
    images = [{"image_id": f"{n}.jpg", "class_id": (4, "17")[n % 2]} for n in range(6)]
    tree = {"drinks": {"tea": 4, "cups": {"cup": "17"}}}
    texts = {
        "a/train.json": json.dumps({"images": images}),
        "a/val.json": json.dumps({"images": images[:2]}),
        "a/test.json": json.dumps({"images": [{"image_id": f"t{n}.jpg"} for n in range(3)]}),
        "a/product_tree.json": json.dumps(tree),
        "b/classes.csv": "Class Name,Class ID,Coarse\nKiwi,4,Fruit\nFuji,17,Apple\n",
        "b/train.txt": "train/k/a.jpg, 4, 0\ntrain/f/b.jpg, 17, 0\n",
        "c/train.csv": "name,class,group\na.jpg,4,1\nb.jpg,17,1\n",
        "c/test.csv": "name\nt.jpg\nu.jpg\n",
    }
    for name, text in texts.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    return [root / name for name in texts]


def catalogues(root: Path) -> tuple[list[bytes], Check]:
    def read(file: Path) -> str:
        check_catalogue(open_catalogue(file.parent))
        return "opened"

    return with_file(write_catalogues(root), read)


def tables(root: Path) -> tuple[list[bytes], Check]:
    write_catalogues(root)
    catalogue = open_catalogue(root / "a")
    extra, marks = root / "extra.csv", root / "marks.csv"
    extra.write_text("id,class,probability\nt0.jpg,4,0.9\nt1.jpg,17,1\n")
    marks.write_text("cluster,id,class,exclude\n0,0.jpg,4,1\n0,1.jpg,17,0\n")

    def read(file: Path) -> str:
        if file == marks:
            places = excluded_places(catalogue.split("train"), file)
            assert places.dtype == np.int64 and (np.diff(places) > 0).all() and set(places) <= set(range(6))
            return f"{len(places)} left out"
        extended, weights = with_extra_labels(catalogue, file)
        check_catalogue(extended)
        assert len(weights) == len(extended.split("train")) and (weights >= 0).all() and (weights <= 1).all()
        return f"{len(weights)} to train on"

    return with_file([extra, marks], read)


def predictions(root: Path) -> tuple[list[bytes], Check]:
    n, classes = 5, 4
    rows = np.random.default_rng(0).dirichlet(np.ones(classes), n)
    for name, top_k in (("first.npy", None), ("x.npy", None), ("y.npz", 2)):
        ids, names = [f"{place}.jpg" for place in range(n)], [f"class {k}" for k in range(classes)]
        info = PredictionInfo("val", "net", [0] * n, ids, names, list(range(classes)), "abc", 32, 10, top_k=top_k)
        with write_predictions(root / name, info, "float16" if name == "x.npy" else "float32") as writer:
            writer.append(rows)

    def read(file: Path) -> str:
        name = "x.npy" if file.stem == "x" else "y.npz"
        member = open_members([root / "first.npy", root / name])[1]
        for rows in (member.rows(0, n), member.rows(1, 3), member.take(np.array([3, 0]))):
            assert rows.dtype == np.float32 and rows.shape[1] == classes and (rows >= 0).all()
            assert (np.abs(rows.sum(1) - 1) < 0.02).all(), "no distributions"
        return "opened"

    return with_file([root / name for name in ("x.npy", "x.json", "y.npz", "y.json")], read)


def indexes(root: Path) -> tuple[list[bytes], Check]:
    for place in range(4):
        path = root / f"shop/train/{'ab'[place % 2]}/{place}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), (40 * place, 0, 0)).save(path)
    catalogues.index.SMALLEST = 1
    plain = open_catalogue(root / "shop")
    with contextlib.redirect_stdout(None):
        pack(Job(plain, root / "shards", 9, 90, 100, 0), 1)

    def read(file: Path) -> str:
        if file.parent.name == ".index":
            catalogue = catalogues.index.load(file.parent, plain.format, root / "shop")
            if catalogue is None:
                return "none"
        else:
            catalogue = open_catalogue(root / "shards")
        check_catalogue(catalogue, doubles=True)
        return f"opened, {sum(map(readable, catalogue.splits.values()))} readable"

    def readable(split: Split) -> int:
        count = 0
        for place in range(len(split)):
            with contextlib.suppress(UnreadablePhotograph):
                path = split.path(place)
                name = path if isinstance(path, str) else path.shard
                assert root in Path(os.path.normpath(name)).parents, "above the folder"
                count += read_squashed(path, 8).shape == (8, 8, 3)
        return count

    folders = (root / "shop/.index", root / "shards/index")
    return with_file([file for folder in folders for file in sorted(folder.iterdir())], read)


TARGETS = dict(photographs=photographs, catalogues=catalogues, tables=tables, predictions=predictions, indexes=indexes)


# Mutations that libFuzzer does not hit upon

ODD = [None, True, False, 0, -1, 1, 2, 17, 2**31, 2**63, 10**30, 0.5, -0.0, 1e300, float("nan"), float("inf"), "", "17"]
ODD += ["-1", "../x", "/etc/passwd", "..\\x", "a\0b", "a\nb", "\033[2J", "\ud800", "\udcff", "é", "x" * 300, [], {}]
ODD += [[[]], {"a": 4}, ["a"], [4, 17], [None] * 4]


def mutated_json(content: bytes, rng: random.Random) -> bytes:
    """One value or key of it replaced, repeated, or left out."""
    tree = json.loads(content)
    places, left = [], [tree]
    while left:
        node = left.pop()
        if isinstance(node, (dict, list)) and node:
            places += [(node, key) for key in (node if isinstance(node, dict) else range(len(node)))]
            left += node.values() if isinstance(node, dict) else node
    if not places:
        return json.dumps(rng.choice(ODD)).encode()
    node, key = rng.choice(places)
    action = rng.randrange(5)
    if action == 0:
        del node[key]
    elif action == 1 and isinstance(node, list):
        node.insert(rng.randrange(len(node) + 1), node[key])
    elif action == 2 and isinstance(node, dict):
        node[rng.choice([odd for odd in ODD if isinstance(odd, str)])] = node.pop(key)
    elif action == 3:
        other, its = rng.choice(places)
        node[key] = json.loads(json.dumps(other[its]))
    else:
        node[key] = rng.choice(ODD)
    return json.dumps(tree).encode()


def mended_png(content: bytes) -> bytes:
    """With the checksums that its chunks have now."""
    result, place = content[:8], 8
    while place + 12 <= len(content):
        end = place + 8 + struct.unpack(">I", content[place : place + 4])[0]
        chunk = content[place + 4 : end]
        result += content[place : place + 4] + chunk + struct.pack(">I", zlib.crc32(chunk))
        place = end + 4
    return result


def mutate(content: bytes, max_size: int, seed: int) -> bytes:
    rng = random.Random(seed)
    if rng.random() < 0.6:
        with contextlib.suppress(ValueError, RecursionError):
            return (content[:1] + mutated_json(content[1:], rng))[:max_size]
    content = bytes(atheris.Mutate(content, max_size))
    if content[1:5] == b"\x89PNG" and rng.random() < 0.9:
        content = (content[:1] + mended_png(content[1:]))[:max_size]
    return content


# A process a target: what ends it must not end the others


def work(name: str, folder: Path, seconds: int) -> None:
    """Try inputs in this process, until libFuzzer ends it; counts and failures are left in `folder`."""
    torch.set_num_threads(1)
    warnings.simplefilter("always")
    (folder / "root").mkdir()
    seeds, check = TARGETS[name](folder / "root")
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds):
        assert not check(seed).startswith(("unreadable", "refused", "none")), f"seed {number}: {check(seed)}"
        (corpus / str(number)).write_bytes(seed)
    outcomes: Counter[str] = Counter()
    text, stderr = tempfile.TemporaryFile(), os.dup(2)  # noqa: SIM115 (as long as the process)
    written = [0.0]

    def judged(content: bytes) -> str:
        os.dup2(text.fileno(), 2)
        try:
            outcome = check(content)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            outcome = f"FAILURE {type(error).__name__} at {Path(where.filename).name}:{where.lineno}: {error}"
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
        if text.tell():
            text.seek(0)
            outcome = f"FAILURE text on stderr: {text.read().decode(errors='replace')[:300]}"
            text.seek(0)
            text.truncate()
        return outcome

    def try_one(content: bytes) -> None:
        if not content:
            return
        outcome = judged(content)
        # Two that differ in numbers and quoted names are one.
        kind = re.sub(r"\d+", "0", re.sub(r"'[^']*'|\"[^\"]*\"", "''", outcome))[:160]
        if kind.startswith("FAILURE") and not outcomes[kind]:
            digest = hashlib.sha256(content).hexdigest()[:12]
            (folder / f"{name}-{digest}").write_bytes(content)
            (folder / f"{name}-{digest}.txt").write_text(outcome, errors="backslashreplace")
        outcomes[kind] += 1
        if time.monotonic() - written[0] > 0.5:
            written[0] = time.monotonic()
            (folder / "counts.tmp").write_text(json.dumps(outcomes))
            os.replace(folder / "counts.tmp", folder / "counts.json")

    limits = [f"-max_total_time={seconds}", f"-timeout={SECONDS}", f"-rss_limit_mb={MEGABYTES}", "-max_len=20000"]
    quiet = ["-verbosity=0", "-print_final_stats=0", f"-artifact_prefix={folder}/{name}-"]
    atheris.Setup([sys.argv[0], *limits, *quiet, str(corpus)], try_one, custom_mutator=mutate)
    atheris.Fuzz()


def fuzz(name: str, seconds: float, keep: Path | None) -> list[str]:
    """Print a line of the table; the failures."""
    end, total, failures = time.monotonic() + seconds, Counter(), []
    while (left := end - time.monotonic()) > 2:  # again after what ended the process
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, "--target", name, "--work", folder, "--minutes", str(left / 60)]
            done = subprocess.run(command, capture_output=True, text=True, errors="replace")
            folder = Path(folder)
            counts = folder / "counts.json"
            total += Counter(json.loads(counts.read_text()) if counts.exists() else {})
            for file in folder.glob(f"{name}-*"):
                if keep:
                    keep.mkdir(parents=True, exist_ok=True)
                    shutil.copy(file, keep)
            if done.returncode:
                failures.append(f"the process ended with {done.returncode}: {done.stderr.strip()[-1500:]}")
                if not counts.exists():
                    break
    failures += [f"{count} × {kind}" for kind, count in total.items() if kind.startswith("FAILURE")]
    print(f"{name:12} {total.total():12,} {len(total):18,} {len(failures):9,}", flush=True)
    return failures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5, help="for all targets together (default: 5)")
    parser.add_argument("--target", choices=TARGETS, help="(default: all, one after the other)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where to put the inputs that fail")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        return work(args.target, args.work, max(1, round(60 * args.minutes)))
    names = [args.target] if args.target else list(TARGETS)
    print(f"{'target':12} {'inputs tried':>12} {'distinct outcomes':>18} {'failures':>9}", flush=True)
    failures = [f"{name}: {text}" for name in names for text in fuzz(name, 60 * args.minutes / len(names), args.keep)]
    for text in failures:
        print(one_line(text))
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
