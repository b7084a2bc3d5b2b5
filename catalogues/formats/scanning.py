"""A tree of folders: which files in it are photographs, and why the others are left out."""

import os
import unicodedata
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from catalogues.formats.splits import is_folder
from catalogues.index import FOLDER, Sources
from catalogues.picture_formats import begins_a_photograph, endings
from common.errors import InputError

# Folders and files that systems and programs leave in everybody's folders; hidden ones are alike.
OF_SYSTEM = {"__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found"}
OF_SYSTEM |= {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}
HIDDEN = "hidden or of the system"
NO_ENDING = "without a known ending"
LINK = "a link to a folder that is there already"
EMPTY = "without photographs"
LONGEST_ENDING = 9  # characters, ".geojson" for example
FIRST_BYTES = 32


class Folder(NamedTuple):
    """What lies in one folder: names of photographs and of folders, both sorted, and (name, why it is left out)."""

    photographs: list[str]
    folders: list[str]
    left: list[tuple[str, str]]


def same_name(name: str) -> str:
    """The name in Unicode's composed form: a Mac's archive has the same letters in another one."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def is_hidden(name: str) -> bool:
    return name[0] == "." or name.casefold() in OF_SYSTEM


def ending_of(name: str) -> str:
    """The ending of a file's name with its dot, or "" where what follows the last dot is none: "Nr. 5", "x.2024"."""
    ending = name[name.rfind(".") :] if "." in name else ""
    short = 1 < len(ending) <= LONGEST_ENDING and ending[1:].isascii()
    return ending if short and ending[1:].isalnum() and not ending[1:].isdigit() else ""


def looks_like_a_photograph(path: str) -> bool:
    """Whether the first bytes of an ordinary file are those of a photograph."""
    try:
        if not os.path.isfile(path):
            return False
        with open(path, "rb", buffering=0) as file:
            start = file.read(FIRST_BYTES)
    except OSError:
        return False
    return begins_a_photograph(start)


def _by_content(entry: os.DirEntry, sources: Sources | None) -> bool:
    """Whether a file whose name says nothing is a photograph; no other file is opened, which would take time."""
    if "?" not in entry.name and ending_of(entry.name):
        return False
    found = looks_like_a_photograph(entry.path)
    if sources and not found:  # it may become one; what is one already needs no stamp
        sources.note(entry.path)
    return found


def look_into(folder: str, sources: Sources | None = None) -> Folder:
    """The photographs, the folders and what else lies in `folder`. Raises InputError where it cannot be listed."""
    known, photographs, folders, left = endings(), [], [], []
    try:
        if sources:
            sources.note(folder)
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith(FOLDER):  # our own index
                    continue
                if is_hidden(name):
                    left.append((name, HIDDEN))
                elif is_folder(entry):
                    folders.append(name)
                elif name.lower().endswith(known) or _by_content(entry, sources):
                    photographs.append(name)
                else:
                    left.append((name, ending_of(name.partition("?")[0]) or NO_ENDING))
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({error.strerror}); allow it, or remove the folder") from error
    return Folder(sorted(photographs), sorted(folders), sorted(left))


def scan(top: Path, sources: Sources | None = None) -> dict[str, Folder]:
    """Every folder below `top`, by its path below it; "" is `top` itself.

    Threads list them, since disks and networks answer many requests at once.
    """
    found: dict[str, Folder] = {}
    level, linked = [""], set()
    bar = dict(desc="folders", unit="folder", delay=2, leave=False, disable=None)
    with ThreadPoolExecutor(32) as pool, tqdm(**bar) as progress:
        while level:
            paths = [os.path.join(top, below) if below else str(top) for below in level]
            for below, folder in zip(level, pool.map(lambda path: look_into(path, sources), paths), strict=True):
                found[below] = folder
                progress.update()
            level = [child for below in level for child in _children(top, below, found[below], linked)]
    return found


def _children(top: Path, below: str, folder: Folder, linked: set[str]) -> Iterator[str]:
    """The paths of the folders in a folder. A link to a folder outside of `top` is followed once, so circles end.

    linked: where links have led so far.
    """
    for name in list(folder.folders):
        child = f"{below}/{name}" if below else name
        path = os.path.join(top, child)
        if os.path.islink(path):
            place, known = os.path.realpath(path), [os.path.realpath(top), *linked]
            if any(os.path.commonpath([place, other]) in (place, other) for other in known):
                folder.folders.remove(name)
                folder.left.append((name, LINK))
                continue
            linked.add(place)
        yield child


def beside(top: Path, listed: set[str], sources: Sources | None = None) -> Iterator[str]:
    """Photographs that lie in one folder with `listed` ones and are not listed themselves; paths are below `top`."""

    def others(folder: str) -> list[str]:
        try:
            names = look_into(os.path.join(top, folder) if folder else str(top), sources).photographs
        except InputError:  # nothing lies there, and whoever reads the listed photographs says so
            return []
        return [path for path in (f"{folder}/{name}" if folder else name for name in names) if path not in listed]

    with ThreadPoolExecutor(32) as pool:
        for found in pool.map(others, sorted({path.rpartition("/")[0] for path in listed})):
            yield from found


def is_empty(found: dict[str, Folder], below: str) -> bool:
    """Whether there is no photograph at any depth of a folder that `scan` has found."""
    left = [below]
    while left:
        folder = found[path := left.pop()]
        if folder.photographs:
            return False
        left += [f"{path}/{name}" if path else name for name in folder.folders]
    return True
