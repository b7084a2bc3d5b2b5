"""Find near-duplicate photographs: in several splits, or with different labels.

    python -m data.duplicates --data DIR                          # -> duplicates.csv: cluster,split,id,class,exclude
    python -m data.duplicates --data demo --sheet duplicates.jpg  # and a page of those that are marked
    python -m data.duplicates --splits train                      # the report's trick, which did not work for it
    python train.py --exclude duplicates.csv

A photograph's perceptual hash changes little when it is cropped, brightened or saved again. Only pairs whose hashes
agree in one of several random samples of bits are compared: first by the whole hash, then pixel by pixel after
alignment. Training photographs are marked for --exclude where a near-duplicate stands in val or test, whose error would
be too low. Among those of one cluster with different labels, every photograph outside the majority's class is marked;
all are if no class has a majority.
"""

import argparse
import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from catalogues.catalogue import SPLITS, Catalogue, Split
from catalogues.copies import exact_copies
from catalogues.formats import open_catalogue
from catalogues.label_files import EXCLUDE_COLUMNS
from catalogues.shards import PackedPhotograph
from common import flags
from common.command_line import run as run_main
from common.errors import InputError
from common.files import atomic_write, named_failures, prepare_place
from common.lazy import LazyModule
from common.pictures import picture_format, save_picture
from common.workers import in_processes
from data.photographs import UnreadablePhotograph, read_photograph

cv2, imagehash, scipy = map(LazyModule, ("cv2", "imagehash", "scipy"))  # slow imports, not for --help

BITS = 64  # of a hash
DISTANCE = 12  # bits in which the hashes of near-duplicates differ at most
RESIDUAL = 0.25  # greatest difference of near-duplicates after alignment, as a share of the contrast
TABLES = 24  # samples of bits: among 3 million hashes, 95 % of the pairs 6 bits apart agree in one sample
SIDE = 64  # pixels, of the photographs that are aligned
LARGEST_BUCKET = 1000  # neighbours compared in a bucket: thousands of blank photographs would give millions of pairs


def perceptual_hash(path: str | PackedPhotograph) -> int | None:
    """64 bits from the lowest frequencies of the photograph's cosine transform; None: it cannot be read."""
    try:
        bits = imagehash.phash(read_photograph(path)).hash.flatten()
    except UnreadablePhotograph:
        return None
    return int(np.packbits(bits).view(">u8")[0])


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Number of bits in which the uint64 hashes a and b (n,) differ, (n,)."""
    return np.bitwise_count(a ^ b)


def candidate_pairs(hashes: np.ndarray, distance: int, seed: int = 0) -> np.ndarray:
    """Most pairs (m, 2), first < second, of uint64 hashes (n,) that differ in at most `distance` bits.

    Equal hashes give a chain of pairs. Different hashes are compared if they agree in one of TABLES random samples of
    about log₂(n) − 4 bits: about 16 share a bucket where hashes are random, TABLES · 8 · n comparisons in all.
    """
    unique, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    chain = np.flatnonzero(inverse[order[1:]] == inverse[order[:-1]])
    pairs = [np.stack([order[chain], order[chain + 1]], 1)]
    rng, sample = np.random.default_rng(seed), max(6, int(np.ceil(np.log2(max(2, len(unique))))) - 4)
    for _ in range(TABLES):
        mask = np.bitwise_or.reduce(np.uint64(1) << rng.choice(BITS, sample, replace=False).astype(np.uint64))
        place = np.argsort(unique & mask, kind="stable")
        key, whole = (unique & mask)[place], unique[place]
        alike = np.arange(len(place) - 1)
        for step in range(1, LARGEST_BUCKET):  # each hash and its step-th neighbour in the bucket
            alike = alike[alike < len(place) - step]
            alike = alike[key[alike] == key[alike + step]]
            if not len(alike):
                break
            near = alike[distances(whole[alike], whole[alike + step]) <= distance]
            pairs.append(first[np.stack([place[near], place[near + step]], 1)])
    return np.unique(np.sort(np.concatenate(pairs), axis=1), axis=0)


@lru_cache(maxsize=256)
def _thumbnail(path: str | PackedPhotograph) -> np.ndarray:
    return np.asarray(read_photograph(path).resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.float32)


def residual(paths: tuple[str | PackedPhotograph, str | PackedPhotograph]) -> float:
    """The difference of two photographs after alignment, as a share of the first one's contrast.

    The affine map of the best correlation (Evangelidis and Psarakis, PAMI 2008; OpenCV) undoes a crop, a common
    factor undoes brightness. 0: the same photograph. 1 and more: nothing in common, or no alignment was found.
    """
    one, other = (_thumbnail(path) for path in paths)
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (one, other)]
    try:
        _, warp = cv2.findTransformECC(*grey, np.eye(2, 3, dtype=np.float32), cv2.MOTION_AFFINE, (3, 50, 1e-4), None, 5)
    except cv2.error:  # no convergence: nothing fits, or one is blank
        return float(np.abs(one - other).max() > 0)
    flags = cv2.WARP_INVERSE_MAP
    seen = cv2.warpAffine(np.ones_like(grey[0]), warp, (SIDE, SIDE), flags=flags | cv2.INTER_NEAREST) > 0
    moved = cv2.warpAffine(other, warp, (SIDE, SIDE), flags=flags | cv2.INTER_LINEAR)
    one, moved = (cv2.GaussianBlur(image, (5, 5), 0)[seen] for image in (one, moved))  # ignores JPEG's noise
    if not len(one):
        return 1.0
    left = one - moved * (one * moved).sum() / max((moved * moved).sum(), 1e-9)
    contrast = np.sqrt(((one - one.mean(0)) ** 2).mean()) + 5  # + 5 of 255: noise of a blank photograph
    return float(np.sqrt((left**2).mean()) / contrast)


class Together(Sequence):
    """The photographs of several splits in one row: what reads each of them."""

    def __init__(self, splits: Sequence[Split]):
        self.splits = splits
        self.starts = np.cumsum([0, *map(len, splits)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def place(self, index: int) -> tuple[Split, int]:
        """The split of a photograph, and its place there."""
        number = int(np.searchsorted(self.starts, index, "right")) - 1
        return self.splits[number], index - int(self.starts[number])

    def __getitem__(self, index: int) -> str | PackedPhotograph:
        split, place = self.place(index)
        return split.path(place)

    def label(self, index: int) -> int | None:
        split, place = self.place(index)
        return None if split.labels is None else int(split.labels[place])


def find_clusters(
    splits: Sequence[Split], distance: int = DISTANCE, limit: float = RESIDUAL, workers: int | None = None
) -> tuple[list[list[int]], int]:
    """A list of places in `Together(splits)` for every cluster of near-duplicates, and how many cannot be read.

    distance: most bits in which hashes may differ. limit: greatest `residual`. workers: processes; None: one a core.
    """
    photographs, n = Together(splits), sum(map(len, splits))
    bar = dict(unit="image", desc="hashes", disable=None, leave=False)
    hashed = list(tqdm(in_processes(perceptual_hash, (photographs[k] for k in range(n)), workers, 32), total=n, **bar))
    readable = np.array([place for place, value in enumerate(hashed) if value is not None], np.int64)
    hashes = np.array([value for value in hashed if value is not None], np.uint64)
    pairs = readable[candidate_pairs(hashes, distance)] if len(readable) else np.empty((0, 2), np.int64)
    both = ((photographs[a], photographs[b]) for a, b in pairs.tolist())
    bar |= dict(unit="pair", desc="pairs")
    left = np.array(list(tqdm(in_processes(residual, both, workers, 32), total=len(pairs), **bar)))
    pairs = pairs[left <= limit] if len(pairs) else pairs
    graph = scipy.sparse.coo_matrix((np.ones(len(pairs)), pairs.T), (n, n))
    _, component = scipy.sparse.csgraph.connected_components(graph, directed=False)
    order = np.argsort(component, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(component[order])) + 1)
    return [group.tolist() for group in groups if len(group) > 1], n - len(readable)


def excluded(labels: list[int]) -> list[bool]:
    """Which photographs of a cluster with these labels are not of its majority's class, if labels differ."""
    (majority, count), *_ = Counter(labels).most_common(1)
    right = majority if 2 * count > len(labels) else None
    return [len(set(labels)) > 1 and label != right for label in labels]


def marks(photographs: Together, cluster: list[int]) -> list[bool]:
    """Which photographs of a cluster are to be left out of training; never one of val or test."""
    in_train = [photographs.place(index)[0].name == "train" for index in cluster]
    if not all(in_train):
        return in_train
    return excluded([photographs.label(index) for index in cluster])


def rows(
    catalogue: Catalogue, photographs: Together, clusters: list[list[int]]
) -> Iterator[tuple[int, str, str, str, int]]:
    """(cluster, split, id, class, exclude) of every photograph in a cluster; no class where it has no label."""
    for number, cluster in enumerate(clusters):
        for index, out in zip(cluster, marks(photographs, cluster), strict=True):
            (split, place), label = photographs.place(index), photographs.label(index)
            name = "" if label is None else catalogue.class_ids[label]
            yield number, split.name, split.image_id(place), name, int(out)


def leaks(photographs: Together, clusters: list[list[int]]) -> Counter:
    """How many photographs of each other split have a near-duplicate in train."""
    found: Counter = Counter()
    for cluster in clusters:
        names = [photographs.place(index)[0].name for index in cluster]
        if "train" in names:
            found.update(name for name in names if name != "train")
    return found


def contact_sheet(
    catalogue: Catalogue, photographs: Together, clusters: list[list[int]], side: int = 160, most: int = 24
) -> Image.Image:
    """The first clusters with marked photographs, one a row; those have their split and class in red."""
    font = ImageFont.load_default(12)
    shown = [cluster for cluster in clusters if any(marks(photographs, cluster))][:most]
    columns = min(6, max(map(len, shown), default=1))
    page = Image.new("RGB", (columns * (side + 8) + 8, max(1, len(shown)) * (side + 28) + 8), "white")
    draw = ImageDraw.Draw(page)
    for row, cluster in enumerate(shown):
        for column, (index, out) in enumerate(list(zip(cluster, marks(photographs, cluster), strict=True))[:columns]):
            left, top = 8 + column * (side + 8), 8 + row * (side + 28)
            page.paste(read_photograph(photographs[index]).resize((side, side)), (left, top))
            label = photographs.label(index)
            name = f"{photographs.place(index)[0].name} {'' if label is None else catalogue.classes[label]}"
            draw.text((left, top + side + 3), name[: side // 7], (200, 0, 0) if out else "black", font)
    return page


def arguments() -> argparse.Namespace:
    parser = flags.Parser(prog="python -m data.duplicates", description=__doc__)
    add = parser.add_argument
    add("--data", default="demo", help="folder or table of a catalogue, or `demo` (default: demo)")
    flags.add_ignore_unknown(add)
    add("--out", type=Path, default="duplicates.csv", help="(default: duplicates.csv)")
    add("--sheet", type=Path, help="picture file for the clusters with marked photographs")
    add("--splits", metavar="A,B", help="splits to compare (default: all of train, val and test that there are)")
    add(
        "--distance",
        type=flags.number(int, 0, BITS),
        default=DISTANCE,
        help=f"most bits of 64 in which hashes may differ (default: {DISTANCE})",
    )
    add(
        "--residual",
        type=flags.number(float, 0, 1),
        default=RESIDUAL,
        help=f"greatest difference after alignment, as a share of the contrast (default: {RESIDUAL})",
    )
    add("--workers", type=flags.number(int, 1, 1024), help="processes (default: one a core)")
    args = parser.parse_args()
    args.splits = args.splits.split(",") if args.splits else []
    if strange := [name for name in args.splits if name not in SPLITS or args.splits.count(name) > 1]:
        raise InputError(f"--splits: {strange[0]!r} is none of {', '.join(SPLITS)}, or stands there twice")
    if args.out.suffix != ".csv":
        raise InputError(f"--out {args.out}: expected a name that ends in .csv")
    if args.sheet:
        picture_format(args.sheet)
    for path in (args.out, args.sheet):
        if path and not path.parent.is_dir():
            raise InputError(f"{path}: no such folder; make it first")
        if path:
            with named_failures(path, path):
                prepare_place(path)
    return args


def main() -> None:
    args = arguments()
    catalogue = open_catalogue(args.data, args.ignore_unknown_classes)
    catalogue.print_notes()
    splits = [catalogue.split(name) for name in args.splits or SPLITS if args.splits or name in catalogue.splits]
    photographs = Together(splits)
    clusters, unreadable = find_clusters(splits, args.distance, args.residual, args.workers)
    table = list(rows(catalogue, photographs, clusters))
    with atomic_write(args.out, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(EXCLUDE_COLUMNS)
        writer.writerows(table)
    if args.sheet:
        save_picture(contact_sheet(catalogue, photographs, clusters), args.sheet)
    marked = sum(row[-1] for row in table)
    print(f"{args.out}: {len(table):,} of {len(photographs):,} photographs in {len(clusters):,} clusters, ", end="")
    print(f"{marked:,} marked for --exclude, {unreadable:,} unreadable")
    others = [split for split in splits if split.name != "train"]
    if len(others) < len(splits):
        copies, found = exact_copies(catalogue), leaks(photographs, clusters)
        for split in others:
            print(f"{split.name}: {found[split.name]:,} of {len(split):,} have a near-duplicate in train, ", end="")
            print(f"{len(copies[split.name]):,} an exact copy")


def run() -> None:
    run_main(main, tool=True)


if __name__ == "__main__":
    run()
