"""The loss of destruction and construction learning."""

from torch import Tensor
from torch.nn.functional import cross_entropy, l1_loss


def dcl_loss(
    logits: Tensor,
    swap_logits: Tensor,
    law: Tensor,
    target: Tensor,
    destructed: Tensor,
    law_target: Tensor,
    beta: float = 1.0,
    gamma: float = 1.0,
) -> Tensor:
    """CE(logits, y) + β·CE(swap_logits, y + K·d) + γ·L1(law, law_target), each a mean over the batch.

    Chen et al., CVPR 2019, Eq. (8): classification, adversarial and region construction loss. As in their release, the
    adversary tells 2K classes, y and its destructed twin y + K; with two columns, intact (0) and destructed (1).

    logits (B, K); swap_logits (B, 2K) or (B, 2); target y (B,) int64 in 0 … K − 1; destructed d (B,) bool.
    law, law_target (B, N²): predicted and true place of the region at each place, (index − N²//2) / N².
    beta, gamma: weights of the two; γ = 0.01 is the release's choice for rigid objects such as cars.

    Raises ValueError where swap_logits fit neither form, or law and law_target have other shapes.
    """
    classes, columns = logits.shape[1], swap_logits.shape[1]
    if columns not in (2, 2 * classes):
        raise ValueError(f"swap_logits have {columns} columns: expected 2 or, for {classes} classes, {2 * classes}")
    if law.shape != law_target.shape:  # l1_loss would broadcast them
        raise ValueError(f"law is {tuple(law.shape)}, law_target {tuple(law_target.shape)}: expected the same")
    swap_target = target + classes * destructed if columns == 2 * classes else destructed.long()
    return (
        cross_entropy(logits, target)
        + beta * cross_entropy(swap_logits, swap_target)
        + gamma * l1_loss(law, law_target)
    )
