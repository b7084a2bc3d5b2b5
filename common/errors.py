"""The error of a user's input, a system without file handles, and text that is safe to print."""

import errno
import os


class InputError(ValueError):
    """One line that names the file or value at fault, what was expected, and what to do next.

    Scripts print it after `error: ` and exit with code 2; anything else is a bug and keeps its traceback.
    """


def out_of_handles(error: BaseException) -> bool:
    """Whether the system has refused to open a file because too many are open, also in a loader's process."""
    numbers = (errno.EMFILE, errno.ENFILE)
    number = getattr(error, "errno", None)  # None in what torch makes of an error
    return number in numbers if number is not None else any(os.strerror(each) in str(error) for each in numbers)


def one_line(message: object) -> str:
    """The message with every control character escaped, a new line as \\n.

    Names come from strangers' files. They must not start a new line, and must not send commands to the terminal.
    """
    return "".join(c if c.isprintable() or c == " " else c.encode("unicode_escape").decode() for c in str(message))


def shortened(message: object, length: int, end: float = 1 / 3) -> str:
    """As `one_line`, but at most `length` characters: a longer text keeps its beginning and its end.

    end: share of the characters that the end gets. Similar products often differ in the end of their names.
    """
    text = one_line(message)
    last = int((length - 1) * end)
    return text if len(text) <= length else f"{text[: length - 1 - last]}…{text[len(text) - last :]}"
