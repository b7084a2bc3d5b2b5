"""The report's own loss: the expected error rate."""

import torch
from torch import Tensor

from losses.mean import batch_mean, to_float32


def accuracy_loss(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """1 − mean(p_t), the share of the batch that is expected to be wrong. The report's section 4, Eq. (1).

    The report writes 1 − mean(ŷ·y / (ŷ·y + (1 − y)·ŷ)) and calls y the prediction, ŷ the one-hot truth. Over the
    classes of a photograph whose true class is t:

    - so read, ŷ is zero but at t, where the fraction is p_t / (p_t + (1 − p_t)) = p_t;
    - read the other way round, y one-hot and ŷ the prediction, ŷ·y is zero but at t, where (1 − y)·ŷ is zero and the
      fraction is p_t / p_t = 1. Summed over the classes first, numerator p_t, denominator p_t + Σ_{k ≠ t} p_k = 1, it
      is p_t again.

    Elsewhere the first reading has 0/0; from the logits nothing is divided. p_t is the probability of being right, if
    one answers at random as the network believes, so the loss is the expected error rate.

    Its gradient at logit k is p_t·(p_k − [k = t]): it dies not only where p_t → 1, as cross entropy's does, but also
    where p_t → 0. A network that is far from right learns nothing from it; so it finetunes one that is nearly there.

    logits (B, K) of any float type and size; target (B,) int64; weight (B,): see `batch_mean`.
    """
    log_p = to_float32(logits).log_softmax(1).gather(1, target[:, None])[:, 0]  # (B,)
    return batch_mean(-torch.expm1(log_p), weight)  # 1 − p_t, without the digits that a subtraction loses
