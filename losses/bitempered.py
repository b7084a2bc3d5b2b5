"""Bi-tempered logistic loss: bounded for outliers, with a softmax of heavy tails."""

import torch
from torch import Tensor

from losses.mean import batch_mean, to_float32


def log_t(x: Tensor, t: float) -> Tensor:
    """(x^(1 − t) − 1) / (1 − t), the logarithm for t = 1; x at least 0, bounded below for t < 1."""
    return x.log() if t == 1 else (x ** (1 - t) - 1) / (1 - t)


def exp_t(x: Tensor, t: float) -> Tensor:
    """The inverse of `log_t`: [1 + (1 − t)·x]₊^(1 / (1 − t)), the exponential for t = 1."""
    return x.exp() if t == 1 else (1 + (1 - t) * x).clamp_min(0) ** (1 / (1 - t))


def tempered_softmax(logits: Tensor, t: float) -> Tensor:
    """exp_t(a − λ) with the λ that makes them sum to 1: heavier tails than the softmax for t > 1, zeros for t < 1.

    logits a (B, K) -> probabilities (B, K), with exact gradients. Σ exp_t(a − λ) − 1 falls in λ and is convex, so
    Newton's method from λ = max a, where it is at least 0, reaches the root from below. The gradient of
    λ is that of the implicit equation, p^t / Σ p^t.
    """
    if t == 1:
        return logits.softmax(1)
    logits = logits - logits.detach().amax(1, keepdim=True)  # changes nothing but the rounding
    eps = torch.finfo(logits.dtype).eps
    with torch.no_grad():
        lam, p = torch.zeros_like(logits[:, :1]), exp_t(logits, t)
        for _ in range(100):  # about 15 for 50,030 equal logits and t = 1.2
            excess, slope = p.sum(1, keepdim=True) - 1, (p**t).sum(1, keepdim=True)
            step = excess / slope
            if ((excess <= 16 * eps) | (step <= eps * lam.abs())).all():
                break
            lam = lam + step
            p = exp_t(logits - lam, t)
        share = p**t / slope
    return exp_t(logits - lam - (share * (logits - logits.detach())).sum(1, keepdim=True), t)


def bitempered_loss(
    logits: Tensor, target: Tensor, t1: float = 0.8, t2: float = 1.2, weight: Tensor | None = None
) -> Tensor:
    """mean of −log_t1(p_y) − (1 − Σ_k p_k^(2 − t1)) / (2 − t1), p = tempered_softmax(logits, t2).

    Amid et al., "Robust Bi-Tempered Logistic Loss Based on Bregman Divergences", NeurIPS 2019, for one-hot labels.
    Cross entropy at t1 = t2 = 1.

    logits (B, K); target (B,) int64; t1 from 0 to 1, bounded below 1; t2 at least 1; weight (B,): see `batch_mean`.
    """
    logits = to_float32(logits)
    if t1 == t2 == 1:
        losses = -logits.log_softmax(1).gather(1, target[:, None])[:, 0]
    else:
        p = tempered_softmax(logits, t2)  # (B, K)
        right = p.gather(1, target[:, None])[:, 0].clamp_min(torch.finfo(p.dtype).tiny)  # x^(1 − t) is steep at 0
        losses = -log_t(right, t1) - (1 - (p ** (2 - t1)).sum(1)) / (2 - t1)
    return batch_mean(losses, weight)
