"""The bilateral-branch network's second branch beside a backbone (Zhou et al., CVPR 2020)."""

from torch import Tensor, nn

from common.errors import InputError
from models.backbone import Heads


class BBN(Heads):
    """A backbone, the conventional branch, and a copy of its last stage and classifier, the re-balancing branch.

    Both read the same trunk.
    """

    heads_predict = True

    def __init__(self, net: nn.Module):
        super().__init__(net)
        if not net.trunk_dim:
            raise InputError("--arch: BBN copies the last stage of a network, and this one is not split into stages")
        self.rebalancing = net.without_trunk()

    def forward(self, images: Tensor, rebalanced: Tensor, alpha: float) -> Tensor:
        """α·W_c f_c + (1 − α)·W_r f_r, logits (B, K) of two batches (B, 3, H, W), a branch each. Their Eq. (1)."""
        conventional = self.net(images)
        other = self.rebalancing
        return alpha * conventional + (1 - alpha) * other.classifier(other.pool(other.top(self.net.trunk(rebalanced))))

    def predict(self, images: Tensor) -> Tensor:
        """images (B, 3, H, W) -> logits (B, K) at test time: both branches at α = ½."""
        trunk, other = self.net.trunk(images), self.rebalancing
        conventional = self.classifier(self.net.pool(self.net.top(trunk)))
        return (conventional + other.classifier(other.pool(other.top(trunk)))) / 2
