"""Tables that commands write into documents, so that nobody types a figure."""

from pathlib import Path

from errors import InputError
from files import atomic_write


def marks(name: str, command: str) -> tuple[str, str]:
    """The lines before and after what `command` writes."""
    return f"<!-- {name}: written by {command} -->", f"<!-- end of {name} -->"


def write_between(name: str, command: str, text: str, path: Path) -> None:
    """Put `text` between the marks of `name` in the document at `path`, in place of what stands there.

    Raises:
        InputError: there is no such document, or the marks do not stand in it once each, in their order.
    """
    first, last = marks(name, command)
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); name a Markdown file") from error
    if [content.count(mark) for mark in (first, last)] != [1, 1] or content.index(first) > content.index(last):
        raise InputError(f"{path}: expected the lines {first} and {last} once each; put them where it may write")
    before, _, rest = content.partition(first)
    after = rest.partition(last)[2]
    with atomic_write(path) as file:
        file.write(f"{before}{first}\n{text}\n{last}{after}".encode())
