"""Photographs of catalogues: reading, transforms, samplers and loaders. Names are imported at first use."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["demo", "duplicates", "pack", "photographs"],
    submod_attrs={
        "batch": ["Batch", "collate", "collate_groups"],
        "fitting": ["fitted", "squash"],
        "held_back": ["are_of", "hold_back", "with_held_back"],
        "loader": [
            "NO_LABEL",
            "Photographs",
            "WorkerLost",
            "batches",
            "eval_loader",
            "train_loader",
        ],
        "photographs": ["UnreadablePhotograph", "read_photograph", "read_squashed"],
        "regions": ["move_regions", "shuffle_regions", "shuffled_places"],
        "samplers": [
            "Draw",
            "EpochBatches",
            "GroupBatches",
            "ReversedPairs",
            "ShardedBatches",
            "StreamBatches",
            "balanced_subset",
        ],
        "transforms": [
            "MEAN",
            "STD",
            "TrainTransform",
            "centre_crop",
            "cutout",
            "network_input",
            "normalise",
            "ten_crop",
        ],
    },
)
