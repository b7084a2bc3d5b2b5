"""What every script does with its command line: recipes as defaults, clear errors, exit codes."""

import argparse
import math
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from errors import InputError, one_line


class Interrupted(Exception):
    """A signal asked the run to stop; its state is saved, and `resume` is the command that goes on."""

    def __init__(self, signum: int, resume: str):
        super().__init__(resume)
        self.signum, self.resume = signum, resume


def run(main: Callable[[], None]) -> None:
    """Run a script's `main`. What a user can mend is one line and exit code 2; a signal exits with 128 + its number."""
    rank = os.environ.get("RANK", "0")
    sys.stdout.reconfigure(errors="backslashreplace")  # names that are not UTF-8 are shown, and break nothing
    try:
        main()
        leave(0)
    except InputError as error:
        if rank == "0" or joined():  # before they have joined, all processes of torchrun complain of the same
            print(f"error{'' if rank == '0' else f' in process {rank}'}: {one_line(error)}", file=sys.stderr)
        sys.exit(2)
    except Interrupted as stop:
        if rank == "0":
            print(f"\nstopped; everything is saved. Go on with:\n  {stop.resume}", file=sys.stderr)
        leave(128 + stop.signum)
        sys.exit(128 + stop.signum)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:  # the reader of our output, `head` say, has left
        sys.stderr.close()
        sys.exit(128 + signal.SIGPIPE)


def joined() -> bool:
    """Whether this process works with others; without importing torch, which ensemble.py does without."""
    torch = sys.modules.get("torch")
    return torch is not None and torch.distributed.is_initialized()


def leave(code: int) -> None:
    """End a process that works with others, with this exit code.

    At once: threads of gloo that outlive the interpreter now and then abort it, which torchrun takes for a failure.
    """
    if not joined():
        return
    sys.modules["torch"].distributed.destroy_process_group()
    for worker in multiprocessing.active_children():
        worker.terminate()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """A list that receives SIGINT and SIGTERM instead of the process, so that a step is never cut in half."""
    received = []
    before = {s: signal.signal(s, lambda signum, _: received.append(signum)) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are the same single line as every other error."""

    def error(self, message: str):
        raise InputError(f"{message} (see {self.prog} --help)")


def number(kind: type, low: float, high: float = math.inf, above: bool = False) -> Callable[[str], float]:
    """An argparse type: a finite `kind` (int or float) from `low` to `high`; `above`: `low` itself is too small."""

    def convert(text: str):
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and low <= value <= high) or (above and value == low):
            expected = f"{'an integer' if kind is int else 'a number'} {'above' if above else 'of at least'} {low}"
            raise argparse.ArgumentTypeError(
                f"{text!r}: expected {expected}" + (f", at most {high}" * (high < math.inf))
            )
        return value

    return convert


def numbers(text: str) -> list[float]:
    """An argparse type: comma-separated non-negative numbers; "" and "none" are the empty list."""
    if text in ("", "none"):
        return []
    return [number(float, 0)(part) for part in text.split(",")]


def parse(parser: argparse.ArgumentParser, recipe: Callable[[argparse.Namespace], dict]) -> argparse.Namespace:
    """Parse the command line; `recipe(args)` gives defaults that depend on other arguments (the catalogue, a run).

    What stands on the command line wins over the recipe, and the recipe over the parser's own defaults.
    """
    parser.set_defaults(**recipe(parser.parse_args()))
    return parser.parse_args()
