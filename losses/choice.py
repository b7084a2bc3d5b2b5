"""The losses that one network can be trained with, by their names."""

from collections.abc import Callable, Sequence

from torch import Tensor
from torch.nn.functional import cross_entropy

from losses import LOSSES
from losses.accuracy import accuracy_loss
from losses.asoftmax import annealed_lambda, asoftmax_loss
from losses.bitempered import bitempered_loss
from losses.focal import focal_loss
from losses.hierarchy import hierarchy_loss
from losses.mean import batch_mean

Criterion = Callable[[Tensor | tuple[Tensor, Tensor], Tensor, Tensor | None, float], Tensor]


def choose_loss(
    name: str = "cross-entropy",
    label_smoothing: float = 0.0,
    focal_gamma: float = 2.0,
    margin: int = 4,
    levels: Tensor | None = None,
    level_weights: Sequence[float] = (),
    t1: float = 0.8,
    t2: float = 1.2,
) -> Criterion:
    """The loss called `name`, of LOSSES, as a function (outputs, target, weight, progress) -> scalar.

    outputs: logits (B, K), for asoftmax those of `models.Angular` with |x| (B,); target (B,) int64; weight (B,) or
    None; progress: share 0 … 1 of the training that is done. The other arguments are those of the losses.
    """
    match name:
        case "cross-entropy":
            return lambda logits, target, weight, _: batch_mean(
                cross_entropy(logits, target, reduction="none", label_smoothing=label_smoothing), weight
            )
        case "accuracy":
            return lambda logits, target, weight, _: accuracy_loss(logits, target, weight)
        case "focal":
            return lambda logits, target, weight, _: focal_loss(logits, target, focal_gamma, weight)
        case "asoftmax":
            return lambda outputs, target, weight, progress: asoftmax_loss(
                outputs[0], target, outputs[1], margin, annealed_lambda(progress), weight
            )
        case "hierarchy":
            return lambda logits, target, weight, _: hierarchy_loss(logits, target, levels, level_weights, weight)
        case "bitempered":
            return lambda logits, target, weight, _: bitempered_loss(logits, target, t1, t2, weight)
    raise ValueError(f"loss {name!r}: expected one of {', '.join(LOSSES)}")
