"""Hierarchy loss: the coarser levels of the product tree are targets too."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import cross_entropy

from losses.mean import batch_mean, to_float32


def hierarchy_loss(
    logits: Tensor, target: Tensor, levels: Tensor, level_weights: Sequence[float], weight: Tensor | None = None
) -> Tensor:
    """mean of CE(logits, y) + Σ_l w_l · −log Σ_{k in the node of y at level l} p_k, p the softmax of the logits.

    The probability of a coarse class is the sum over its leaves. So the coarser levels need no outputs of their own.

    logits (B, K); target (B,) int64; levels (L, K) int64: node of every class at each coarser level.
    level_weights: L weights, at least 0; weight (B,): see `batch_mean`.
    """
    logits = to_float32(logits)
    losses, total = cross_entropy(logits, target, reduction="none"), logits.logsumexp(1)  # (B,)
    for nodes, level_weight in zip(levels, level_weights, strict=True):
        outside = nodes[None] != nodes[target][:, None]  # (B, K): the target's own class is never masked
        losses = losses + level_weight * (total - logits.masked_fill(outside, -float("inf")).logsumexp(1))
    return batch_mean(losses, weight)
