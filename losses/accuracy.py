"""The report's own loss: the expected error rate."""

import torch
from torch import Tensor

from losses.mean import batch_mean, to_float32


def accuracy_loss(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """1 − mean(p_t), the share of the batch that is expected to be wrong. The report's section 4, Eq. (1).

    The report writes 1 − mean(ŷ·y / (ŷ·y + (1 − y)·ŷ)) and calls y the prediction, ŷ the one-hot truth. Over the
    classes of a photograph whose true class is t:

    - In this reading ŷ is zero except at t, where the fraction is p_t / (p_t + (1 − p_t)) = p_t.
    - In the other reading y is one-hot and ŷ the prediction. ŷ·y is zero except at t, where (1 − y)·ŷ is zero and the
      fraction is p_t / p_t = 1. With sums over the classes first, the numerator is p_t, the denominator
      p_t + Σ_{k ≠ t} p_k = 1, and the fraction is p_t again.

    At the other classes the first reading has 0/0; here, from the logits, nothing is divided. If an answer is drawn
    with the network's probabilities, p_t is the probability that it is right. So the loss is the expected error rate.

    The gradient at logit k is p_t·(p_k − [k = t]). It vanishes where p_t → 1, as that of cross entropy does, and also
    where p_t → 0: a network that is far from right learns nothing from it. So it is a loss for finetuning.

    logits (B, K) of any float type and size; target (B,) int64; weight (B,): see `batch_mean`.
    """
    log_p = to_float32(logits).log_softmax(1).gather(1, target[:, None])[:, 0]  # (B,)
    return batch_mean(-torch.expm1(log_p), weight)  # 1 − p_t, without the digits that a subtraction loses
