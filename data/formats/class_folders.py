"""Class folders: train/CLASS/*.jpg and val/CLASS/*.jpg; test/CLASS/*.jpg or, without labels, test/*.jpg."""

from pathlib import Path

import numpy as np

from common.errors import InputError
from data.catalogue import SPLITS, Catalogue, Split, Strings
from data.formats.reading import Format, photographs_in, photographs_in_each, split_folders, subfolders


def _read(root: Path) -> Catalogue:
    classes = [folder.name for folder in subfolders(root / "train")]
    label_of = {name: label for label, name in enumerate(classes)}
    splits = {}
    for split in SPLITS:
        folder = root / split
        if not folder.is_dir():
            continue
        paths, labels, folders = [], [], subfolders(folder)
        for class_folder, photographs in zip(folders, photographs_in_each(folders), strict=True):
            if class_folder.name not in label_of:
                raise InputError(
                    f"{class_folder}: class {class_folder.name!r} has no folder in {root / 'train'}; add or remove it"
                )
            if not photographs:
                raise InputError(f"{class_folder}: holds no photographs; add some, or remove the folder")
            paths += [f"{split}/{class_folder.name}/{name}" for name in photographs]
            labels += [label_of[class_folder.name]] * len(photographs)
        if not paths and split == "test":
            paths = [f"{split}/{name}" for name in photographs_in(folder)]
        if not paths:
            raise InputError(f"{folder}: holds no photographs in class folders; fill or remove it")
        labels = np.array(labels, np.int32) if labels else None
        splits[split] = Split(split, root, Strings(paths), labels, id_root=f"{split}/")
    return Catalogue(FORMAT.name, root, classes, classes, splits)


FORMAT = Format(
    "class folders",
    "class folders train/CLASS/*.jpg",
    lambda root: (root / "train").is_dir() and bool(subfolders(root / "train")),
    split_folders,
    _read,
)
