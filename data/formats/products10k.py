"""Products-10K (Bai et al., 2020): train.csv with the columns name,class,group, photographs in train/NAME."""

from collections.abc import Iterator
from pathlib import Path

from common.errors import InputError
from data.catalogue import SPLITS, Catalogue
from data.formats.reading import Format, NumberedSplits, class_number, inside, read_table


def _entries(split: str, path: Path) -> Iterator[tuple[str, int | None]]:
    rows = read_table(path)
    source, header = next(rows, (str(path), []))
    if "name" not in header or ("class" not in header and split == "train"):
        raise InputError(f"{source}: expected the columns name,class,group; mend the first line")
    name, label = header.index("name"), header.index("class") if "class" in header else None
    for source, row in rows:
        if len(row) != len(header):
            raise InputError(f"{source}: {len(row)} cells under {len(header)} columns; mend that line")
        yield f"{split}/{inside(row[name], source)}", None if label is None else class_number(row[label], source)


def _read(root: Path) -> Catalogue:
    splits = NumberedSplits(root, names_are_ids=True)
    for split in SPLITS:
        path = root / f"{split}.csv"
        if path.exists():
            splits.add(split, str(path), _entries(split, path))
    return splits.catalogue(FORMAT.name, {})


FORMAT = Format(
    "Products-10K",
    "train.csv (Products-10K)",
    lambda root: (root / "train.csv").exists(),
    lambda root: [root / f"{split}.csv" for split in SPLITS],
    _read,
)
