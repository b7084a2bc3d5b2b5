"""A-softmax: a margin of angles between the classes."""

import math

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from losses.mean import batch_mean, to_float32


def annealed_lambda(progress: float) -> float:
    """λ of the training share 0 … 1: from 1,000, nearly no margin, to 5.

    max(5, 1000 / (1 + 0.12·iteration)), the schedule of the authors' release for its 28,000 iterations, stretched or
    shrunk to the length of the run.
    """
    return max(5.0, 1000 / (1 + 0.12 * 28_000 * progress))


def asoftmax_loss(
    logits: Tensor, target: Tensor, norm: Tensor, margin: int = 4, lam: float = 5.0, weight: Tensor | None = None
) -> Tensor:
    """Cross entropy of the logits, the true one less by a margin. SphereFace (Liu et al., CVPR 2017), annealed.

    With θ the angle between the features x and the weights of the true class, its logit |x|·cos(θ) becomes
    |x|·(λ·cos(θ) + ψ(θ)) / (1 + λ), where ψ(θ) = (−1)^k·cos(mθ) − 2k, k = ⌊mθ/π⌋, falls from 1 to 1 − 2m.

    logits (B, K): |x|·cos(θ) of every class, of `models.Angular`; norm (B,): |x| > 0; target (B,) int64.
    margin: m at least 1, where it is plain cross entropy; lam: λ at least 0; weight (B,): see `batch_mean`.
    """
    logits, norm = to_float32(logits), to_float32(norm)
    cosine = (logits.gather(1, target[:, None])[:, 0] / norm).clamp(-1, 1)  # (B,)
    before, multiple = torch.ones_like(cosine), cosine  # Chebyshev's recurrence: cos(mθ) of cos(θ), smooth at 0 and π
    for _ in range(margin - 1):
        before, multiple = multiple, 2 * cosine * multiple - before
    k = (margin * cosine.detach().acos() / math.pi).floor().clamp_max(margin - 1)
    psi = (1 - 2 * (k % 2)) * multiple - 2 * k
    true = norm * (lam * cosine + psi) / (1 + lam)
    return batch_mean(
        cross_entropy(logits.scatter(1, target[:, None], true[:, None]), target, reduction="none"), weight
    )
