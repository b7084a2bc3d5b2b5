"""Destruction and construction learning's heads around a backbone (Chen et al., CVPR 2019)."""

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from models.backbone import Heads, require_map
from models.create import ADVERSARIES


class DCL(Heads):
    """A backbone with two fresh heads that learn from destructed images; it uses the backbone's classifier.

    net: a network of this package; K its classes.
    grid: N, regions in a row and in a column.
    adversary: "2k", intact and destructed images of a class are two classes; "2", only intact against destructed.

    Raises ValueError for another adversary, InputError for a network without a map of places.
    """

    heads_predict = True

    def __init__(self, net: nn.Module, grid: int = 7, adversary: str = "2k"):
        super().__init__(net, grid=grid, adversary=adversary)
        if adversary not in ADVERSARIES:
            raise ValueError(f"adversary {adversary!r}: expected one of {', '.join(ADVERSARIES)}")
        require_map(net, "DCL")
        outputs = 2 * net.classifier.out_features if adversary == "2k" else 2
        self.swap_classifier = nn.Linear(net.classifier.in_features, outputs, bias=False)
        self.law = nn.Conv2d(net.feature_dim, 1, 1)
        if adversary == "2k":  # what the classifier knows of a class holds for its intact and its destructed images
            with torch.no_grad():
                self.swap_classifier.weight.copy_(net.classifier.weight.repeat(2, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """images (B, 3, H, W) -> logits (B, K), swap_logits (B, 2K) or (B, 2), law (B, N²) in −1 … 1."""
        features = self.net.features(images)  # (B, C, H', W')
        pooled = self.net.pool(features)  # (B, C)
        law = adaptive_avg_pool2d(self.law(features), self.options["grid"])  # (B, 1, N, N)
        return self.classifier(pooled), self.swap_classifier(pooled), law.float().tanh().flatten(1)

    def predict(self, images: Tensor) -> Tensor:
        """images (B, 3, H, W) -> logits (B, K) at test time: the sum of those of y, intact y and destructed y."""
        logits, swap_logits, _ = self(images)
        if self.options["adversary"] == "2":
            return logits
        intact, destructed = swap_logits.chunk(2, dim=1)  # (B, K) each
        return logits + intact + destructed
