"""How the losses of single photographs become the loss of a batch."""

import torch
from torch import Tensor


def batch_mean(losses: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean of losses (B,), where `weight` (B,), at least 0 and not all 0, says how much each photograph counts."""
    return losses.mean() if weight is None else (losses * weight).sum() / weight.sum()


def to_float32(x: Tensor) -> Tensor:
    """x in float32 where it is coarser: differences of bf16 numbers have few digits left."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
