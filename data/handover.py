"""How a worker hands its batches to the process that uses them: in shared memory, or through its pipe.

Torch puts each tensor of a batch into a file of /dev/shm, which is 64 MB in a container by default. A worker that finds
no room there prints a traceback, and its batch never arrives. Here only the images go there, and only if there is room.
"""

import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.multiprocessing.reductions import reduce_storage
from torch.utils.data import get_worker_info

from common.errors import one_line
from common.processes import world
from common.workers import cause_not_to_share, lacking_room


class Handover:
    """A loader's `collate_fn`: the batches of `collate`, packed if a worker makes them; unpickling unpacks them.

    batch_bytes: of the images of one batch.
    """

    def __init__(self, collate: Callable[[list], NamedTuple], batch_bytes: int):
        self.collate, self.batch_bytes = collate, batch_bytes
        self.cause = ""  # why nothing goes through shared memory; "": it does

    def prepare(self, workers: int) -> None:
        """Choose the way before so many workers are started: they inherit it."""
        self.cause = cause_not_to_share(workers, self.batch_bytes, world().local_size)

    def __call__(self, visits: list):
        batch = self.collate(visits)
        return Packed(batch, self) if get_worker_info() else batch

    def shared(self, images: Tensor) -> tuple | None:
        """(function, arguments) that find the images in shared memory; None where that fails, and always after that.

        All that sharing needs of the system is taken here, and nothing later, when the pair goes through the pipe.
        """
        # Other programs may have taken what `prepare` saw. Torch leaves a file behind when it finds no room.
        self.cause = self.cause or lacking_room(images.nbytes)
        try:
            return None if self.cause else reduce_storage(images.untyped_storage())
        except (RuntimeError, OSError) as error:
            self.cause = str(error).partition("\n")[0]


class Packed:
    """A batch on its way out of a worker: a named tuple with `images` uint8 (B, 3, H, W), and with smaller tensors."""

    def __init__(self, batch: NamedTuple, handover: Handover):
        self.batch, self.handover = batch, handover

    def __reduce__(self) -> tuple:
        fields = self.batch._asdict()
        images = fields.pop("images").permute(0, 2, 3, 1)  # (B, H, W, 3), contiguous
        small = {name: each.numpy() if isinstance(each, Tensor) else each for name, each in fields.items()}
        shared = self.handover.shared(images)
        return unpacked, (type(self.batch), small, images.shape, shared or images.numpy(), self.handover.cause)


def unpacked(kind: type, small: dict, shape: torch.Size, images: tuple | np.ndarray, cause: str) -> NamedTuple:
    """The batch that a worker has packed. shape: (B, H, W, 3)."""
    if cause:
        note_pipes(cause)
    tensors = {name: torch.from_numpy(each) if isinstance(each, np.ndarray) else each for name, each in small.items()}
    if isinstance(images, np.ndarray):
        images = torch.from_numpy(images)
    else:
        found, arguments = images
        images = torch.empty(0, dtype=torch.uint8).set_(found(*arguments), 0, shape)
    return kind(images=images.permute(0, 3, 1, 2), **tensors)


_told: list[str] = []


def note_pipes(cause: str) -> None:
    """Print once in a run that batches go through pipes."""
    if not _told and world().first:
        note = f"note: batches of workers go through pipes, which is slower: {cause}. "
        note += "Docker's --shm-size gives more memory, ulimit -n more file handles; --workers 0 needs neither"
        print(one_line(note), file=sys.stderr)
    _told.append(cause)
