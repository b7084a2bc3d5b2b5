"""Look-into-object's heads around a backbone (Zhou et al., CVPR 2020)."""

from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, relu

from common.errors import InputError
from models.backbone import Heads, require_map
from models.create import STAGES


class LIO(Heads):
    """A backbone with fresh heads that learn where the object is and how its regions lie to each other.

    net: a network of this package; K its classes.
    grid: N, regions in a row and in a column.
    stage: 3, the last feature map; 2, the one before it, twice as fine.

    `predictor` maps the features of two regions (..., C//2 + C//2) to the distance and the angle between them (..., 2),
    see `losses.spatial_context_loss`. No head is needed at test time.

    Raises ValueError for another stage, InputError for a network without this map of places.
    """

    heads_predict = False

    def __init__(self, net: nn.Module, grid: int = 7, stage: int = 3):
        super().__init__(net, grid=grid, stage=stage)
        if stage not in STAGES:
            raise ValueError(f"stage {stage}: expected one of {', '.join(map(str, STAGES))}")
        require_map(net, "LIO")
        if stage == 2 and not net.trunk_dim:
            raise InputError("--stage 2: this network gives no feature map before its last one; give --stage 3")
        channels = net.feature_dim if stage == 3 else net.trunk_dim
        self.extent = nn.Conv2d(channels, 1, 1)
        self.context = nn.Conv2d(channels, channels // 2, 1)
        self.predictor = nn.Sequential(nn.Linear(channels // 2 * 2, 2), nn.ReLU())
        # Distance and angle lie in 0 … 1. From the middle the ReLU cuts off neither; it would not recover from 0.
        nn.init.constant_(self.predictor[0].bias, 0.5)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """images (B, 3, H, W) -> logits (B, K), features (B, C, N, N), extent (B, N, N), context (B, C//2, N, N)."""
        trunk = self.net.trunk(images)  # (B, trunk_dim, 2H', 2W')
        last = self.net.top(trunk)  # (B, feature_dim, H', W')
        features = adaptive_avg_pool2d(last if self.options["stage"] == 3 else trunk, self.options["grid"])
        active = relu(features)
        extent, context = self.extent(active).squeeze(1), relu(self.context(active))
        return self.classifier(self.net.pool(last)), features, extent, context

    def predict(self, images: Tensor) -> Tensor:
        """images (B, 3, H, W) -> logits (B, K) at test time: the backbone's own."""
        return self.net(images)
