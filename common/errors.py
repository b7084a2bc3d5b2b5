"""The error of a user's input, a system without file handles, and text that is safe to print."""

import errno
import os


class InputError(ValueError):
    """One line that names the file or value at fault, what was expected, and what to do next.

    Scripts print it after `error: ` and exit with code 2; anything else is a bug and keeps its traceback.
    """


class InputErrors(InputError):
    """Several errors of one input. `lines` holds them, the worst first; the message itself is a line above them."""

    def __init__(self, message: str, lines: list[str]):
        super().__init__(message)
        self.lines = lines


class Faults:
    """Gathers what is wrong with one input, so that a user can mend all of it after one run.

    source: names the input in the message. At most `most` faults are told, those of the lowest `rank` first.
    """

    def __init__(self, source: object, most: int = 20):
        self.source, self.most = source, most
        self.count = 0
        self.kept: dict[int, list[str]] = {}

    def add(self, message: object, rank: int = 1) -> None:
        """rank: 0 for a fault of a whole file or folder, 1 for one of an entry, 2 for a class."""
        self.count += 1
        kept = self.kept.setdefault(rank, [])
        if len(kept) < self.most:
            kept.append(str(message))

    def first(self) -> str:
        """The worst fault, and how many more there are."""
        worst = self.kept[min(self.kept)][0]
        return worst if self.count == 1 else f"{worst} (and {self.count - 1:,} more faults)"

    def require_none(self) -> None:
        """Raise InputError for the only fault, InputErrors for several."""
        lines = [message for rank in sorted(self.kept) for message in self.kept[rank]][: self.most]
        if self.count == 1:
            raise InputError(lines[0])
        if self.count:
            more = [f"and {self.count - len(lines):,} more"] if self.count > len(lines) else []
            raise InputErrors(f"{self.source}: {self.count:,} faults, the worst first", lines + more)


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
