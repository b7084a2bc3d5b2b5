"""A classifier by angles alone (SphereFace, Liu et al., CVPR 2017)."""

from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from models.backbone import Heads


class Angular(Heads):
    """A backbone whose classifier has weights of length 1 and no bias: logit k is |x|·cos(θ_k), x the pooled features.

    It has no parameters of its own: it uses the weights of the backbone's classifier, without the bias.
    """

    heads_predict = True

    def __init__(self, net: nn.Module):
        super().__init__(net)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images (B, 3, H, W) -> logits (B, K): |x|·cos(θ), and |x| (B,), for `losses.asoftmax_loss`."""
        pooled = self.net.pool(self.net.features(images))  # (B, feature_dim)
        logits = linear(pooled, normalize(self.classifier.weight))
        return logits, pooled.float().norm(dim=1).clamp_min(1e-12)

    def predict(self, images: Tensor) -> Tensor:
        """images (B, 3, H, W) -> logits (B, K) at test time, without a margin."""
        return self(images)[0]
