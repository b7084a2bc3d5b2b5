"""Run a script of the project and kill it, again and again: python kill_loop.py '{"folder": …, "first": [...], …}'.

The argument is a JSON object:

folder: the working directory.
first, again: the commands of a job's first run and of its next runs. A next run is one that finds the file `last`.
kills: the number of runs to kill. seed: of the random draws. longest: seconds before the latest kill by the clock.
workers_write: whether worker processes write, so that a kill while writing may hit a worker.

The word OUT in `first`, `again` and `last` stands for the number of the job. Job 0 is never killed. Jobs 1, 2, … are
killed until `kills` runs have ended by SIGKILL; a job that is done is followed by the next one. Half of the runs are
killed at a random moment ("by the clock"), half in the middle of writing: after some bytes of a file, before it is
flushed, before it is renamed, or after that. It prints the number of kills of both kinds.

Each run is a fork of this process, which has imported everything.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

import data.pack
import finetune_dcl
import models.checkpoint
import predict
import train
import train_lio
from common.command_line import run

SCRIPTS = {"train.py": train, "finetune_dcl.py": finetune_dcl, "train_lio.py": train_lio, "predict.py": predict}
SCRIPTS["data.pack"] = data.pack


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_while_writing(draw: random.Random) -> None:
    """Prepare this process to die in one of its next writes."""
    count = draw.randrange(1, 6)

    def dying(function, before: bool):
        def call(*arguments, **options):
            nonlocal count
            count -= 1
            if count == 0 and before:
                die()
            result = function(*arguments, **options)
            if count == 0:
                die()
            return result

        return call

    moment = draw.choice(["bytes", "flush", "before the name", "after the name"])
    if moment == "bytes":

        def save_some_bytes(state, file):
            nonlocal count
            count -= 1
            if count:
                return save(state, file)
            file.write(os.urandom(draw.randrange(1 << 20)))
            file.flush()
            die()

        save, models.checkpoint.torch.save = torch.save, save_some_bytes
    elif moment == "flush":
        os.fsync = dying(os.fsync, before=True)
    else:
        os.replace = dying(os.replace, before=moment == "before the name")


def run_in_fork(command: list[str], draw: random.Random | None) -> None:
    """Run the command in this forked process and end it; with `draw`, it dies while it writes."""
    os.fsync = lambda file: None  # only processes are killed, not the system
    if draw:
        die_while_writing(draw)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.argv = command
    code = 0
    try:
        run(SCRIPTS[command[0]].main)
    except SystemExit as end:
        code = end.code or 0
    sys.stderr.flush()
    os._exit(code)


def main() -> None:
    job = json.loads(sys.argv[1])
    draw, killed, out = random.Random(job["seed"]), {"by the clock": 0, "while writing": 0}, 0
    os.chdir(job["folder"])
    for turn in range(10_000):
        enough = sum(killed.values()) >= job["kills"] and (all(killed.values()) or not job["kills"])
        killing = out > 0 and not enough
        writing = killing and turn % 2 == 1
        last = Path(job["last"].replace("OUT", str(out)))
        command = [word.replace("OUT", str(out)) for word in job["again" if last.exists() else "first"]]
        child = os.fork()
        if not child:
            run_in_fork(command, random.Random(draw.random()) if writing else None)
        draw.random()
        if killing and not writing:
            time.sleep(draw.uniform(0, job["longest"]))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        # A killed worker counts too: its process reports it and ends with code 2.
        if os.WIFSIGNALED(status) or (writing and os.WEXITSTATUS(status) == 2 and job["workers_write"]):
            killed["while writing" if writing else "by the clock"] += 1
        elif status:
            sys.exit(f"run {turn} ended with code {os.WEXITSTATUS(status)}")
        elif enough:
            print(json.dumps(killed))
            return
        else:
            out += 1
    sys.exit("10,000 runs were not enough")


main()
