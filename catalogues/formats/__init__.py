"""The catalogue formats: each module here reads one and describes it as `FORMAT`; a new format is a line in `FORMATS`.

A folder is read by the first format that recognises it.
"""

from functools import partial
from pathlib import Path

from catalogues.catalogue import Catalogue
from catalogues.demo import demo_root
from catalogues.formats import aliproducts, class_folders, grocery, shards, tables, webdataset
from catalogues.formats.reading import Reading
from catalogues.index import Sources, cached
from common.errors import InputError

FORMATS = [
    aliproducts.FORMAT,
    grocery.FORMAT,
    tables.PRODUCTS_10K,
    class_folders.FORMAT,
    shards.FORMAT,
    tables.FORMAT,
    webdataset.FORMAT,
    class_folders.ONE,
]
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".7z", ".rar", ".gz")


def open_catalogue(data: str | Path, ignore_unknown_classes: bool = False) -> Catalogue:
    """Open the catalogue in the folder `data`, or that of a table; "demo" draws and opens the demo catalogue.

    ignore_unknown_classes: photographs of classes without a training photograph are left out.

    Raises InputError, naming file and value, for a folder that is missing or has no known format, and for labels that
    are missing, malformed, or unknown to the training split. `Catalogue.broken` says what is wrong with other splits.
    """
    root = demo_root() if str(data) == "demo" else Path(data)
    try:
        if root.is_file():
            return _open_file(root, ignore_unknown_classes)
        if not root.is_dir():
            raise InputError(f"--data {data}: no such folder; give a catalogue's folder, a table, or `demo`")
        for format in FORMATS:
            if format.recognise(root):
                return _open(root, format.name, format.read, ignore_unknown_classes, format.indexed)
    except OSError as error:
        raise InputError(f"--data {data}: cannot be read ({error}); allow it, or choose another folder") from error
    _refuse_archives(data, [path for path in sorted(root.iterdir()) if path.name.lower().endswith(ARCHIVES)])
    *layouts, last = [format.layout for format in FORMATS]
    raise InputError(f"--data {data}: no catalogue is recognised there; expected {', '.join(layouts)}, or {last}")


def _open(root: Path, name: str, read, ignore_unknown: bool, indexed: bool = True) -> Catalogue:
    def read_anew(root: Path, sources: Sources) -> Catalogue:
        return read(Reading(root, sources, ignore_unknown))

    kind = f"{name}, known classes alone" if ignore_unknown else name
    return cached(kind, root, read_anew) if indexed else read_anew(root, Sources(root))


def _open_file(path: Path, ignore_unknown: bool) -> Catalogue:
    _refuse_archives(path, [path] if path.name.lower().endswith(ARCHIVES) else [])
    if not path.name.lower().endswith(tables.ENDINGS):
        raise InputError(f"--data {path}: is no table; give a .csv or .tsv file, or a catalogue's folder")
    return _open(path.parent, f"table {path.name}", partial(tables.read_file, path=path), ignore_unknown)


def _refuse_archives(data: object, archives: list[Path]) -> None:
    if archives:
        others = f" and {len(archives) - 1:,} others" if len(archives) > 1 else ""
        raise InputError(f"--data {data}: {archives[0].name}{others}: is an archive; unpack it, and give the folder")
