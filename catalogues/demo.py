"""The folder of the demo catalogue, which is drawn at first use."""

import shutil
import sys
from pathlib import Path

from drawings import draw_demo, is_drawn


def demo_root(parent: Path | None = None, seed: int = 0) -> Path:
    """The folder `demo` beside the scripts (or in `parent`), drawn on first use and when the drawings have changed."""
    root = (parent or Path(__file__).resolve().parent.parent) / "demo"
    if not is_drawn(root, seed):
        print(f"drawing the demo catalogue into {root} (once, about 15 s) …", file=sys.stderr, flush=True)
        if root.exists():
            shutil.rmtree(root)
        draw_demo(root, seed)
    return root
