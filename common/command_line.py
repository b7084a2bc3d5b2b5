"""What every script does with its command line: recipes as defaults, clear errors, exit codes."""

import argparse
import errno
import multiprocessing
import os
import shlex
import signal
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from common.errors import InputError, one_line
from common.files import release_folders
from common.flags import Parser, number, numbers

__all__ = ["Interrupted", "Parser", "accepted", "number", "numbers", "parse", "run", "stop_requests", "this_command"]


class Interrupted(Exception):
    """A signal asked the run to stop; its state is saved, and `resume` is the command that goes on."""

    def __init__(self, signum: int, resume: str):
        super().__init__(resume)
        self.signum, self.resume = signum, resume


def run(main: Callable[[], None]) -> None:
    """Run a script's `main`. What a user can mend is one line and exit code 2; a signal exits with 128 + its number."""
    try:
        _run(main)
    except (MemoryError, RuntimeError, OSError) as error:
        reason = str(error).strip().partition("\n")[0] or "no more of it"
        if out_of_memory(error):
            told = f"out of memory ({reason}); lower --batch-size, or train in pieces with --accumulate"
        elif isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            told = f"{error.filename}: no name may be so long; give a shorter one"
        else:
            raise
        print(f"error: {one_line(told)}", file=sys.stderr)
        sys.exit(2)
    finally:
        release_folders()


def out_of_memory(error: BaseException) -> bool:
    """Whether numpy, or torch on a CPU or a GPU, also in a loader's process, has found no memory."""
    told = "can't allocate memory" in str(error) or "out of memory" in str(error)
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or told


def _run(main: Callable[[], None]) -> None:
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


def this_command() -> str:
    """What to type to start this script: `python train.py`, or `python -m tricks.bbn`."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if Path(sys.argv[0]).parent.name == "tricks":
        return f"python -m tricks.{Path(sys.argv[0]).stem}"
    return f"python -m {spec.name}" if spec and spec.name.startswith("data.") else f"python {shlex.quote(sys.argv[0])}"


def joined() -> bool:
    """Whether this process works with others; this must not import torch, which some scripts do without."""
    distributed = sys.modules.get("torch.distributed")
    return distributed is not None and distributed.is_initialized()


def leave(code: int) -> None:
    """End a process that works with others, with this exit code.

    At once: threads of gloo that outlive the interpreter now and then abort it, which torchrun takes for a failure.
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
    """A list that receives SIGINT and SIGTERM instead of the process, so that a step is never cut in half."""
    received = []
    before = {s: signal.signal(s, lambda signum, _: received.append(signum)) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def parse(parser: argparse.ArgumentParser, recipe: Callable[[argparse.Namespace], dict]) -> argparse.Namespace:
    """Parse the command line; `recipe(args)` gives defaults that depend on other arguments (the catalogue, a run).

    What stands on the command line wins over the recipe, and the recipe over the parser's own defaults.
    """
    parser.set_defaults(**recipe(parser.parse_args()))
    return parser.parse_args()


def accepted(parser: argparse.ArgumentParser, settings: dict, source: object, but: Collection[str] = ()) -> dict:
    """Of settings out of a file, those that the parser has arguments for besides `but`.

    Raises InputError for one that the parser would not have accepted on the command line.
    """
    actions = {action.dest: action for action in parser._actions if action.option_strings and action.dest not in but}
    kept = {name: value for name, value in settings.items() if name in actions}
    for name, value in kept.items():
        if not _accepts(actions[name], value):
            shown, flag = f"a {type(value).__name__}", actions[name].option_strings[0]
            if isinstance(value, str | int | float):
                shown = repr(value)[:50]
            raise InputError(
                f"{source}: its setting {name} is {shown}, which {flag} does not accept; use another checkpoint"
            )
    return kept


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
