"""What the tools `python -m data.NAME` do with their command line, as `engine.cli` does it for the scripts."""

import argparse
import sys
from collections.abc import Callable

from errors import InputError, one_line


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are the same single line as every other error."""

    def error(self, message: str):
        raise InputError(f"{message} (see {self.prog} --help)")


def run(main: Callable[[], None]) -> None:
    """`main`; what a user can mend is one line and exit code 2."""
    sys.stdout.reconfigure(errors="backslashreplace")  # names that are not UTF-8 are shown, and break nothing
    try:
        main()
    except (InputError, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
