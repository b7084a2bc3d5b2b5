"""The catalogue formats: each module here reads one and describes it as `FORMAT`; a new format is a line in `FORMATS`.

A folder is read by the first format that recognises it.
"""

from pathlib import Path

from common.errors import InputError
from data.catalogue import Catalogue
from data.formats import aliproducts, class_folders, grocery, products10k, shards
from data.index import cached

FORMATS = [aliproducts.FORMAT, grocery.FORMAT, products10k.FORMAT, class_folders.FORMAT, shards.FORMAT]


def open_catalogue(data: str | Path) -> Catalogue:
    """Open the catalogue in the folder `data`; "demo" draws and opens the demo catalogue.

    Raises InputError, naming file and value, for a folder that is missing or has no known format, and for labels that
    are missing, malformed, or unknown to the training split.
    """
    from data.demo import demo_root  # here, so that `python -m data.demo` is not imported before it is run

    root = demo_root() if str(data) == "demo" else Path(data)
    if not root.is_dir():
        raise InputError(f"--data {data}: no such folder; give a catalogue's folder, or `demo`")
    for format in FORMATS:
        if format.recognise(root):
            return cached(format.name, root, format.sources, format.read) if format.sources else format.read(root)
    *layouts, last = [format.layout for format in FORMATS]
    raise InputError(f"--data {data}: no catalogue is recognised there; expected {', '.join(layouts)}, or {last}")
