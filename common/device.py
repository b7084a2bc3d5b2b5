"""Where and in which precision to compute: the same scripts on CPU and CUDA."""

import ctypes
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from common.errors import InputError
from common.flags import MEMORY_FORMATS, PRECISIONS
from common.processes import join, world

# Pixels of the images that go through a network at once without gradients. On a CPU: what fits its cache, ten crops of
# 224 pixels and some more; benchmarks/NOTES.md has the measurements. On a GPU: ten crops of 32 photographs at 224.
PIXELS = {"cpu": 600_000, "cuda": 320 * 224**2}
# In one thread torch gives float32 convolutions of fewer than 16 images to kernels that take 1.5 times as long. Two
# photographs have 20 crops.
FEWEST_IN_ONE_THREAD = 20


@dataclass(frozen=True)
class Compute:
    """A device with the number format and memory layout that suit it."""

    device: torch.device
    bf16: bool
    memory_format: torch.memory_format
    bf16_in_testing: bool | None = None  # where that differs from `bf16`

    def for_testing(self) -> "Compute":
        """The same without gradients: bf16 then pays for more networks."""
        return self if self.bf16_in_testing is None else replace(self, bf16=self.bf16_in_testing, bf16_in_testing=None)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def network(self, net: nn.Module) -> nn.Module:
        return net.to(self.device, memory_format=self.memory_format)

    def images_at_once(self, side: int) -> int:
        """How many images of `side` pixels go through a network at once without gradients, at least 1."""
        images = max(1, PIXELS.get(self.device.type, PIXELS["cuda"]) // side**2)
        one_thread = self.device.type == "cpu" and not self.bf16 and torch.get_num_threads() == 1
        return max(images, FEWEST_IN_ONE_THREAD) if one_thread else images

    def describe(self) -> str:
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else f"{os.cpu_count()} cores"
        layout = "channels_last" if self.memory_format == torch.channels_last else "contiguous"
        precision = "bf16" if self.bf16 else "float32, tested in bf16" if self.bf16_in_testing else "float32"
        return f"{self.device} ({name}), {precision}, {layout}"


def in_pieces(rows: Callable[[Tensor], Tensor], images: Tensor, most: int) -> Tensor:
    """The `rows` of images (B, …), computed for at most `most` of them at a time."""
    return torch.cat([rows(piece) for piece in images.tensor_split(max(1, -(-len(images) // most)))])


def compile_training(net: nn.Module) -> None:
    """Compile the training step of `net` by torch.compile; validation and the state dict stay as they are.

    Raises InputError where there is no C++ compiler.
    """
    if not any(map(shutil.which, (os.environ.get("CXX", "g++"), "g++", "clang++"))):
        raise InputError("--compile: there is no C++ compiler here; install g++, or leave --compile out")
    eager, compiled = net.forward, torch.compile(net.forward, dynamic=False)
    net.forward = lambda images: compiled(images) if net.training else eager(images)


M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # parameters of glibc's mallopt, from its malloc.h


def keep_freed_memory() -> None:
    """Keep freed memory for the next allocation, where the C library is glibc.

    By default large blocks go back to the system at once, and the system fills new pages with zeros. A training step on
    a CPU frees and allocates gigabytes: this took a fifth to a third of its time.
    """
    with suppress(AttributeError, OSError, TypeError):  # other C libraries, other systems
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def choose_compute(
    net: nn.Module,
    device: str | None = None,
    precision: str = "auto",
    memory_format: str = "auto",
    join_processes: bool = True,
) -> Compute:
    """The device named `device`, else CUDA where there is one; bf16 where the processor multiplies it natively.

    Without such units bf16 is emulated: 20 times slower than float32 on a CPU with AVX2 alone.

    net: a network of `models`, which says whether it trains in bf16 on a CPU that has bf16. All are tested in it there.
    device: cpu, cuda, cuda:1, …; precision: one of PRECISIONS; memory_format: one of MEMORY_FORMATS.
    join_processes: wait for the other processes of torchrun, see `common.processes.join`.

    Raises InputError for a device that cannot be used here, and for an unknown precision or memory format.
    """
    _require_known("precision", precision, PRECISIONS)
    _require_known("memory-format", memory_format, MEMORY_FORMATS)
    place = _usable_device(device)
    if precision == "auto":
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False) if place.type == "cuda" else _cpu_has_bf16()
        bf16, in_testing = has_bf16 and (place.type == "cuda" or net.bf16_pays_on_cpu), has_bf16
    else:
        bf16 = in_testing = precision == "bf16"
    if join_processes:
        join()
    keep_freed_memory()  # before the loaders' processes are made, which inherit it
    layout = "channels_last" if memory_format == "auto" else memory_format
    formats = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
    return Compute(place, bf16, formats[layout], in_testing)


def _require_known(flag: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(f"--{flag} {value}: expected one of {', '.join(known)}")


def _usable_device(device: str | None) -> torch.device:
    own_gpu = f"cuda:{world().local_rank}" if world().size > 1 else "cuda"  # torchrun starts a process for each GPU
    wanted = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(own_gpu if wanted == "cuda" else wanted)
        torch.zeros(1, device=place).item()  # `meta` holds no numbers
        if place.type == "cuda":
            torch.cuda.set_device(place)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"--device {wanted}: not usable here ({reason}); try --device cpu") from error
    return place


def _cpu_has_bf16() -> bool:
    abilities = torch.cpu.get_capabilities()
    return bool(abilities.get("avx512_bf16") or abilities.get("amx_bf16"))


def default_workers() -> int:
    """The number of loader processes that a GPU needs; with a network on the CPU one is enough."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(16, max(1, cores // world().local_size)) if torch.cuda.is_available() else 1
