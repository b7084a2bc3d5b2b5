"""From the losses of photographs to the loss of a batch."""

import torch
from torch import Tensor


def batch_mean(losses: Tensor, weight: Tensor | None = None) -> Tensor:
    """The mean of losses (B,), weighted by `weight` (B,) of the photographs: at least 0, not all 0."""
    return losses.mean() if weight is None else (losses * weight).sum() / weight.sum()


def to_float32(x: Tensor) -> Tensor:
    """x in float32 where its type is coarser: differences of bf16 numbers have few digits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
