"""Writes the tables of commands into documents, between marks."""

from pathlib import Path

from common.errors import InputError
from common.files import atomic_write


def marks(name: str, command: str) -> tuple[str, str]:
    """The lines before and after what `command` writes."""
    return f"<!-- {name}: written by {command} -->", f"<!-- end of {name} -->"


def write_between(name: str, command: str, text: str, path: Path) -> None:
    """Replace what the document at `path` has between the marks of `name` by `text`.

    Raises:
        InputError: the document cannot be read, or does not have each mark once, in their order.
    """
    fill({name: text}, command, path)


def fill(texts: dict[str, str], command: str, path: Path) -> None:
    """As `write_between`, for each name whose marks the document has; it must have those of one."""
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); name a Markdown file") from error
    found = [name for name in texts if any(mark in content for mark in marks(name, command))]
    for name in found or list(texts)[:1]:
        first, last = marks(name, command)
        if [content.count(mark) for mark in (first, last)] != [1, 1] or content.index(first) > content.index(last):
            raise InputError(
                f"{path}: expected the lines {first} and {last} once each; put them where {command} may write"
            )
        before, _, rest = content.partition(first)
        content = f"{before}{first}\n{texts[name]}\n{last}{rest.partition(last)[2]}"
    with atomic_write(path) as file:
        file.write(content.encode(errors="backslashreplace"))
