"""A script of the project, run and killed again and again: python kill_loop.py '{"folder": …, "first": [...], …}'.

first: the command of a first run; again: that of the next runs, if the file `last` is there. OUT in them is a number:
1, 2, …: a job that is done begins anew in another folder, until `kills` runs have ended by SIGKILL, in both ways. OUT
0 is done in one run. seed; longest: seconds of the longest run. Prints how many runs ended by the clock, and how many
while they wrote.

Half of the runs are killed at a random moment, half in the middle of writing: behind some bytes of a file, before it is
flushed, before it takes its name and after. A run is a fork of this process, which has imported everything.
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
    """Arm this process: it dies in one of the next writes."""
    count = draw.randrange(1, 6)

    def armed(function, before: bool):
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

    moment = draw.choice(["bytes", "flush", "name", "named"])
    if moment == "bytes":

        def half(state, file):
            nonlocal count
            count -= 1
            if count:
                return whole(state, file)
            file.write(os.urandom(draw.randrange(1 << 20)))
            file.flush()
            die()

        whole, models.checkpoint.torch.save = torch.save, half
    elif moment == "flush":
        os.fsync = armed(os.fsync, before=True)
    else:
        os.replace = armed(os.replace, before=moment == "name")


def live(command: list[str], draw: random.Random | None) -> None:
    os.fsync = lambda file: None  # the system is not killed
    if draw:
        die_while_writing(draw)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
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
    draw, ended, out = random.Random(job["seed"]), {"by the clock": 0, "while writing": 0}, 0
    os.chdir(job["folder"])
    for life in range(10_000):
        enough = sum(ended.values()) >= job["kills"] and (all(ended.values()) or not job["kills"])
        killing = out > 0 and not enough
        writing = killing and life % 2 == 1
        last = Path(job["last"].replace("OUT", str(out)))
        command = [word.replace("OUT", str(out)) for word in job["again" if last.exists() else "first"]]
        child = os.fork()
        if not child:
            live(command, random.Random(draw.random()) if writing else None)
        draw.random()
        if killing and not writing:
            time.sleep(draw.uniform(0, job["longest"]))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        # A worker that was the one to die is a death, too; its process says so, and ends with code 2.
        if os.WIFSIGNALED(status) or (writing and os.WEXITSTATUS(status) == 2 and job["workers_write"]):
            ended["while writing" if writing else "by the clock"] += 1
        elif status:
            sys.exit(f"life {life} ended with code {os.WEXITSTATUS(status)}")
        elif enough:
            print(json.dumps(ended))
            return
        else:
            out += 1
    sys.exit("it never ended")


main()
