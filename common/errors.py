"""The one exception a user may see, what was given cannot be used; and how it is shown."""


class InputError(ValueError):
    """One line that names the file or value at fault, what was expected, and what to do next.

    Scripts print it after `error: ` and exit with code 2; anything else is a bug and keeps its traceback.
    """


def one_line(message: object) -> str:
    """The message with every control character escaped, "\\n" as \\\\n: names come from files of strangers, and must
    neither break a line in two nor tell a terminal what to do."""
    return "".join(c if c.isprintable() or c == " " else c.encode("unicode_escape").decode() for c in str(message))


def shortened(message: object, length: int, end: float = 1 / 3) -> str:
    """As `one_line`; of more than `length` characters the beginning and the end, of which `end` is the share: products
    of one name differ in how it ends."""
    text = one_line(message)
    last = int((length - 1) * end)
    return text if len(text) <= length else f"{text[: length - 1 - last]}…{text[len(text) - last :]}"
