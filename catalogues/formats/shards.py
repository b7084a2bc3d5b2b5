"""WebDataset shards, as data.pack writes them: `pack.json` first, the index last."""

import stat

from catalogues.catalogue import Catalogue
from catalogues.formats.reading import Format, Reading
from catalogues.index import load
from common.errors import InputError

PACK_SETTINGS, PACK_INDEX = "pack.json", "index"


def _read(reading: Reading) -> Catalogue:
    root = reading.root
    catalogue = load(root / PACK_INDEX, FORMAT.name, root)
    if catalogue is None or not all(split.shards for split in catalogue.splits.values()):
        raise InputError(
            f"{root}: shards without a whole index, packing has not ended; run the same python -m data.pack again"
        )
    for split in catalogue.splits.values():
        for name, size in split.shards.files:
            try:
                status = (root / name).stat()
                found = f"{status.st_size:,} bytes" if stat.S_ISREG(status.st_mode) else "not an ordinary file"
            except OSError as error:
                found = error.strerror
            if found != f"{size:,} bytes":
                raise InputError(
                    f"{root / name}: {found}, expected a shard of {size:,} bytes; restore it, or remove it and run the "
                    "same python -m data.pack again, which makes what is missing"
                )
    return catalogue


FORMAT = Format(
    "WebDataset shards",
    "pack.json (shards)",
    lambda root: (root / PACK_SETTINGS).exists() or (root / PACK_INDEX / "facts.json").exists(),
    _read,
    indexed=False,
)
