"""Names of splits as people write them: in any case, and the usual synonyms."""

import os
from pathlib import Path

from catalogues.catalogue import SPLITS
from common.errors import InputError

SYNONYMS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}


def is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or into a closed folder
        return False


def split_named(name: str) -> str | None:
    """The split that `name` stands for: train, val, test, or None."""
    return SYNONYMS.get(name.strip().casefold())


def split_folders(root: Path) -> dict[str, Path]:
    """The folder of each split, in the order of SPLITS. Raises InputError where two folders are one split."""
    return _places(root, lambda entry: entry.name if is_folder(entry) else "", strict=True)


def split_files(root: Path, ending: str, **more: str) -> dict[str, Path]:
    """The file of each split, such as train.json. more: a name that stands for a split, too."""

    def stem(entry: os.DirEntry) -> str:
        name = entry.name[: -len(ending)] if entry.name.lower().endswith(ending) and not is_folder(entry) else ""
        return more.get(name.casefold(), name)

    return _places(root, stem, strict=True)


def folder_names(root: Path) -> dict[str, str]:
    """The name of each split's folder, where a list says which split a photograph is in; `train` if there is none."""
    found = _places(root, lambda entry: entry.name if is_folder(entry) else "", strict=False)
    return {split: found[split].name if split in found else split for split in SPLITS}


def _places(root: Path, name_of, strict: bool) -> dict[str, Path]:
    found: dict[str, Path] = {}
    with os.scandir(root) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            split = split_named(name_of(entry))
            if split in found and strict:
                raise InputError(
                    f"{root}: {found[split].name} and {entry.name} are both the {split} split; rename or remove one"
                )
            if split and (split not in found or entry.name == split):
                found[split] = root / entry.name
    return {split: found[split] for split in SPLITS if split in found}
