"""The one exception a user may see: what was given cannot be used."""


class InputError(ValueError):
    """One line that names the file or value at fault, what was expected, and what to do next.

    Scripts print it after `error: ` and exit with code 2; anything else is a bug and keeps its traceback.
    """
