"""Distillation: learn a teacher's probabilities of all classes."""

from torch import Tensor

from losses.mean import batch_mean, to_float32


def soften(probabilities: Tensor, temperature: float) -> Tensor:
    """softmax(log(p) / T) of probabilities p (B, K): what the same logits give at temperature T."""
    return (to_float32(probabilities).clamp_min(1e-30).log() / temperature).softmax(1)


def distillation_loss(logits: Tensor, soft: Tensor, temperature: float, weight: Tensor | None = None) -> Tensor:
    """T² · KL(soft ‖ softmax(logits / T)), mean over the batch; T² keeps the gradient's size for every temperature.

    Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2. It differs from their
    cross entropy by the teacher's entropy, which has no gradient: it is zero where student and teacher are equal.

    logits (B, K) of the student; soft (B, K): the teacher's probabilities at temperature T > 0, each row with sum 1;
    weight (B,): see `batch_mean`.
    """
    soft, log_p = to_float32(soft), (to_float32(logits) / temperature).log_softmax(1)
    divergence = soft * (soft.clamp_min(1e-30).log() - log_p)  # (B, K): 0 where the teacher gives nothing
    return temperature**2 * batch_mean(divergence.sum(1), weight)
