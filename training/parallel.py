"""One network that several processes train together: they share gradients and, with --sync-bn, batch statistics."""

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed._functional_collectives import all_reduce
from torch.nn.parallel import DistributedDataParallel

from common.errors import InputError
from common.processes import world
from data import Batch


def same_buffers(*nets: nn.Module) -> None:
    """Copy the first process's batch statistics to all processes: all must validate the network that is saved."""
    if world().size > 1:
        for net in nets:
            for buffer in net.buffers():
                dist.broadcast(buffer, 0)


class Distributed(DistributedDataParallel):
    """A network whose gradients are averaged over all processes. Its other attributes are those of the network."""

    def __getattr__(self, name: str):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)


def distributed(net: nn.Module) -> nn.Module:
    """`net`, with gradients averaged over all processes if there are several."""
    return Distributed(net) if world().size > 1 else net


class SyncedBatchNorm(nn.BatchNorm2d):
    """Batch norm with the statistics of all processes' batches. It works on CPUs, unlike nn.SyncBatchNorm."""

    def forward(self, images: Tensor) -> Tensor:
        if not self.training:
            return super().forward(images)
        x = images.to(torch.promote_types(images.dtype, torch.float32))  # (B, C, H, W)
        everyone = dist.group.WORLD
        count = all_reduce(x.new_tensor(len(x) * x[0, 0].numel()), "sum", everyone)
        mean = all_reduce(x.sum((0, 2, 3)), "sum", everyone) / count
        centred = x - mean[:, None, None]
        variance = all_reduce(centred.square().sum((0, 2, 3)), "sum", everyone) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight / (variance + self.eps).sqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(images.dtype)


def with_synced_batch_norm(net: nn.Module) -> nn.Module:
    """`net`, with batch norms that compute their statistics over the photographs of all processes."""
    if next(net.parameters()).is_cuda:
        return nn.SyncBatchNorm.convert_sync_batchnorm(net)
    for module in list(net.modules()):
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                synced = SyncedBatchNorm(child.num_features, child.eps, child.momentum).to(child.weight)
                synced.load_state_dict(child.state_dict())
                setattr(module, name, synced)
    return net


def require_share(batch_size: int, groups: int, group: int) -> None:
    """Raise InputError if a process gets fewer than two photographs of the smallest batch.

    groups: number of groups in the smallest batch. group: number of photographs in a group; they stay together.
    """
    size = world().size
    if size > 1 and groups // size * group < 2:
        raise InputError(
            f"--batch-size {batch_size}: some batches have only {groups * group} photographs for {size} processes; "
            "start fewer, or raise --batch-size (with groups of photographs, a lower --balanced helps too)"
        )


def dropout_seed(seed: int, epoch: int, batch: int, piece: int) -> int:
    """The seed of the network's own random draws (dropout), which do not belong to one photograph."""
    key = [seed, epoch, batch, piece, world().rank]
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)


def black_batch(n: int, side: int) -> Batch:
    """A batch of n black photographs of `side` pixels."""
    zeros = torch.zeros(n, dtype=torch.int64)
    return Batch(torch.zeros(n, 3, side, side, dtype=torch.uint8), zeros, zeros, [], seeds=zeros, whole=n)
