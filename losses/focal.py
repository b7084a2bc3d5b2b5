"""Focal loss: photographs that are nearly right weigh less."""

import torch
from torch import Tensor

from losses.mean import batch_mean, to_float32


def focal_loss(logits: Tensor, target: Tensor, gamma: float = 2.0, weight: Tensor | None = None) -> Tensor:
    """mean of −(1 − p_t)^γ · log(p_t), p the softmax of the logits. Lin et al., ICCV 2017, Eq. (4), multi-class form.

    logits (B, K), target (B,) int64, gamma at least 0, where it is cross entropy; weight (B,): see `batch_mean`.
    """
    log_p = to_float32(logits).log_softmax(1).gather(1, target[:, None])[:, 0]  # (B,)
    wrong = -torch.expm1(log_p)  # 1 − p_t, without the digits that a subtraction loses
    # The slope of x^γ at 0 is infinite for γ < 1.
    return batch_mean(-(wrong.clamp_min(torch.finfo(wrong.dtype).tiny) ** gamma) * log_p, weight)
