"""What every script does with its command line: recipes as defaults, clear errors, exit codes."""

import argparse
import errno
import multiprocessing
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from common.errors import InputError, one_line, out_of_handles
from common.files import release_folders
from common.flags import Parser, number, numbers

__all__ = [
    "Interrupted",
    "Parser",
    "accepted",
    "number",
    "numbers",
    "parse",
    "run",
    "stop_requests",
    "this_command",
    "typed",
]


FIRST_PRINTS = 3.0  # seconds: when one process ends, torchrun ends the others, also the one that prints the error


class Interrupted(Exception):
    """A signal asked the run to stop; its state is saved, and `resume` is the command that goes on."""

    def __init__(self, signum: int, resume: str):
        super().__init__(resume)
        self.signum, self.resume = signum, resume


def run(main: Callable[[], None], tool: bool = False) -> None:
    """Run the `main` of a script. An error that the user can correct is one line and exit code 2.

    A signal exits with 128 + its number. Any other exception is a bug and keeps its traceback.

    tool: it works on files that the user names, so that every OSError is the user's to correct.
    """
    try:
        _run(main)
    except (MemoryError, RuntimeError, OSError) as error:
        reason = str(error).strip().partition("\n")[0] or "no more of it"
        if out_of_memory(error):
            message = f"out of memory ({reason}); lower --batch-size, or train in pieces with --accumulate"
        elif out_of_handles(error):
            message = f"{reason}; raise the limit of file handles with ulimit -n, or give fewer --workers"
        elif isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            message = f"{error.filename}: the name is too long; give a shorter one"
        elif isinstance(error, OSError) and tool:
            message = str(error)
        else:
            raise
        print(f"error: {one_line(message)}", file=sys.stderr)
        sys.exit(2)
    finally:
        release_folders()


def out_of_memory(error: BaseException) -> bool:
    """Whether numpy, or torch on a CPU or a GPU, also in a loader's process, got no memory."""
    in_words = "can't allocate memory" in str(error) or "out of memory" in str(error)
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or in_words


def _run(main: Callable[[], None]) -> None:
    rank = os.environ.get("RANK", "0")
    sys.stdout.reconfigure(errors="backslashreplace")  # names that are not UTF-8 are shown, and break nothing
    try:
        main()
        leave(0)
    except InputError as error:
        if rank == "0" or joined():  # before they join, all processes of torchrun have the same error
            print(f"error{'' if rank == '0' else f' in process {rank}'}: {one_line(error)}", file=sys.stderr)
            for line in getattr(error, "lines", ()):
                print(f"  {one_line(line)}", file=sys.stderr)
        else:
            time.sleep(FIRST_PRINTS)
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


def this_command() -> str:
    """What to type to start this script: `python train.py`, or `python -m tricks.bbn`."""
    path, tricks = Path(sys.argv[0]), Path(__file__).resolve().parent.parent / "tricks"
    is_trick = path.parent.name == "tricks" and (tricks / path.name).exists()  # not of a checkout that is called so
    return f"python -m tricks.{path.stem}" if is_trick else f"python {shlex.quote(sys.argv[0])}"


def joined() -> bool:
    """Whether this process works with others. It does not import torch, which some scripts do not need."""
    distributed = sys.modules.get("torch.distributed")
    return distributed is not None and distributed.is_initialized()


def leave(code: int) -> None:
    """End a process that works with others, at once and with this exit code.

    Threads of gloo that outlive the interpreter sometimes abort it, which torchrun takes for a failure.
    """
    if not joined():
        return
    release_folders()
    sys.modules["torch.distributed"].destroy_process_group()
    for worker in multiprocessing.active_children():
        worker.terminate()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """A list that receives SIGINT and SIGTERM instead of the process, so that a step always ends whole."""
    received = []
    before = {s: signal.signal(s, lambda signum, _: received.append(signum)) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def typed(flag: str) -> bool:
    """Whether a flag, such as --lr, is on the command line."""
    return any(word.partition("=")[0] == flag for word in sys.argv[1:])


def parse(parser: argparse.ArgumentParser, recipe: Callable[[argparse.Namespace], dict]) -> argparse.Namespace:
    """Parse the command line. `recipe(args)` gives defaults that depend on other arguments (the catalogue, a run).

    The command line wins over the recipe, and the recipe over the parser's defaults.
    """
    parser.set_defaults(**recipe(parser.parse_args()))
    return parser.parse_args()


def accepted(parser: argparse.ArgumentParser, settings: dict, source: object, but: Collection[str] = ()) -> dict:
    """The settings of a file that the parser has arguments for, except those named in `but`.

    Raises InputError for one that the parser would not accept on the command line.
    """
    actions = {action.dest: action for action in parser._actions if action.option_strings and action.dest not in but}
    known = {name: value for name, value in settings.items() if name in actions}
    for name, value in known.items():
        if not _accepts(actions[name], value):
            shown, flag = f"a {type(value).__name__}", actions[name].option_strings[0]
            if isinstance(value, str | int | float):
                shown = repr(value)[:50]
            raise InputError(
                f"{source}: its setting {name} is {shown}, which {flag} does not accept; use another checkpoint"
            )
    return known


def _accepts(action: argparse.Action, value: object) -> bool:
    if value is None:
        return action.default is None
    if action.nargs == 0:  # a switch
        return isinstance(value, bool)
    text = ",".join(map(repr, value)) if isinstance(value, list) else value if isinstance(value, str) else repr(value)
    try:
        converted = action.type(text) if action.type else text
    except (argparse.ArgumentTypeError, ValueError, TypeError):
        return False
    if type(converted) is not type(value) and (type(converted), type(value)) != (float, int):
        return False
    return "\0" not in text and converted == value and (action.choices is None or converted in action.choices)
