"""How many near-duplicates of the demo are found, and what the search costs at full size.

    python benchmarks/duplicates.py                     # precision and recall on the demo's training split
    python benchmarks/duplicates.py --hashes 3000000    # candidate search among so many random hashes

A true pair is two photographs of one drawing. A pair is found if both photographs are in one cluster. --hashes adds
pairs whose hashes differ in 0 to 12 bits, and prints the share of them that is found. Prints Markdown.
"""

import resource
import sys
import time
from itertools import combinations
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from catalogues import open_catalogue
from common.command_line import Parser, number, run
from data.duplicates import BITS, candidate_pairs, find_clusters
from drawings.plan import plan_train


def on_the_demo() -> None:
    split, start = open_catalogue("demo").split("train"), time.perf_counter()
    clusters, _ = find_clusters([split])
    seconds = time.perf_counter() - start
    drawing = {plan.image_id(0): plan.drawing for plan in plan_train(0)}
    drawings = np.array([drawing[split.image_id(place)] for place in range(len(split))])
    true = {pair for d in np.unique(drawings) for pair in combinations(np.flatnonzero(drawings == d).tolist(), 2)}
    found = {tuple(sorted(pair)) for cluster in clusters for pair in combinations(cluster, 2)}
    print("| photographs | true pairs | found | precision | recall | seconds |\n|---|---|---|---|---|---|")
    right = len(found & true)
    print(f"| {len(split):,} | {len(true)} | {len(found)} | {right / len(found):.1%} ", end="")
    print(f"| {right / len(true):.1%} | {seconds:.1f} |")


def at_full_size(n: int, planted: int = 1000) -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, n, dtype=np.uint64)
    apart = np.arange(planted * 13) % 13
    for place, bits in enumerate(apart):
        flips = rng.choice(BITS, bits, replace=False).astype(np.uint64)
        hashes[n // 2 + place] = hashes[place] ^ np.bitwise_or.reduce(np.uint64(1) << flips, initial=np.uint64(0))
    start = time.perf_counter()
    pairs = candidate_pairs(hashes, 12)
    seconds = time.perf_counter() - start
    found = pairs[(pairs[:, 0] < len(apart)) & (pairs[:, 1] == pairs[:, 0] + n // 2), 0]
    shares = np.bincount(apart[found], minlength=13) / planted
    print(
        f"{n:,} hashes: {seconds:.0f} s on one core, {len(pairs):,} candidates of {n * (n - 1) // 2:.2e} pairs, ",
        end="",
    )
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB at most\n")
    print(f"| bits apart | {' | '.join(map(str, range(13)))} |\n|{'---|' * 14}")
    print(f"| found | {' | '.join(f'{share:.0%}' for share in shares)} |")


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--hashes", type=number(int, 30_000), help="search among this many random hashes")
    args = parser.parse_args()
    at_full_size(args.hashes) if args.hashes else on_the_demo()


if __name__ == "__main__":
    run(main)
