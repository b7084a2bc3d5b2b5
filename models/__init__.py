"""The report's backbones, each with the mathematics and the state-dict keys of its original package.

Every network has

    net(images (B, 3, H, W)) -> logits (B, K)              any H, W from 32 pixels up
    net.predict(images)      -> logits (B, K)              at test time: the same
    net.trunk(images)        -> (B, trunk_dim, 2H', 2W')   the map before the last stage
    net.top(trunk)           -> (B, feature_dim, H', W')   the last stage
    net.features(images)     -> (B, feature_dim, H', W')   the last feature map, before pooling: top of trunk
    net.pool(features)       -> (B, feature_dim)           what the classifier reads
    net.stages()                                           lists of parameters, from the image to the last feature map
    net.without_trunk()                                    a copy with the last stage, pooling and classifier alone
    net.backbone                                           itself
    net.trunk_dim, net.feature_dim                         channels of the first and of the others
    net.classifier                                         the nn.Linear behind the pooling
    net.bf16_pays_on_cpu                                   whether a CPU with bf16 units trains faster in bf16

A method with heads of its own is a module around one, its `net`, with

    module(images)           -> what its loss needs, in training
    module.predict(images)   -> logits (B, K)              at test time
    module.options                                         the arguments of its constructor besides `net`
    module.classifier, module.bf16_pays_on_cpu             those of `net`
    module.backbone                                        `net`
    module.heads_predict                                   whether `predict` uses the heads; if not, best.pt has none

Names are imported at first use: `from models import ARCHS` does not import torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "angular": ["Angular"],
        "bbn": ["BBN"],
        "checkpoint": [
            "file_hash",
            "joined_weights",
            "load_checkpoint",
            "network_of",
            "prediction_name",
            "save_checkpoint",
            "split_weights",
            "without_heads",
        ],
        "create": ["ADVERSARIES", "ARCHS", "STAGES", "create_model", "require_imagenet"],
        "dcl": ["DCL"],
        "heads": ["HEADS"],
        "lio": ["LIO"],
        "weights": ["fetch_imagenet", "load_weights"],
    },
)
