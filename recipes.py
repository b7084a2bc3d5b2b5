"""The settings that differ from step to step, with their sources: defaults that the command line can change.

`recipe(step, arch, data, weights, epochs)` gives those of one call. A script prints them in the line `recipe`, as one
types them. What all steps share are the defaults of `training.arguments`: resize 256, crop 224, RandomResizedCrop,
flip, AutoAugment, Cutout, SGD (the report, section 1). What one method needs (DCL's grid, LIO's positives) are defaults
of its script.

Sources: "report" is the winning solution's report, "release" the authors' code at JDAI-CV. What has no source is ours.
"""

# A catalogue of one's own, from ImageNet weights as in the report. The report names the kind of schedule (manual
# decay), its losses, photographs and sizes, but not its numbers. Without --init a network needs the longer schedule of
# the two that a method has.
REPORT = {
    # 1: the whole set, cross entropy (report, section 1)
    "base": dict(epochs=12, lr=0.015, decay_at=[7, 10], batch_size=32),
    # 1b: 30 photographs a class (report, section 1, by --balanced 30); a lower rate, since only the balance is learned
    "balanced": dict(epochs=8, lr=0.005, decay_at=[4, 6], batch_size=32),
    # 4: 2 to 3 epochs on the balanced set (report, section 4)
    "accuracy": dict(epochs=3, lr=0.002, decay_at=[2], batch_size=32),
    # 2: on the balanced set, crops of 448 (report, section 2). The rate is the release's, 0.0008 for a batch of 16, in
    # proportion to ours (Goyal et al. 2017).
    "dcl": dict(balanced=30, epochs=8, lr=0.0016, decay_at=[4, 6], batch_size=32),
    # 3: the rates of steps 1 and 1b. An epoch visits every photograph as an anchor and as one of three positives of
    # others: a quarter of the epochs.
    "lio": dict(epochs=3, lr=0.02, decay_at=[1.5, 2.25], batch_size=64),
    "lio from a network": dict(epochs=2, lr=0.005, decay_at=[1, 1.5], batch_size=64),
    # BBN (report, section 6): steps 1 and 1b; a batch holds the photographs of both branches
    "bbn": dict(epochs=12, lr=0.02, decay_at=[6, 9], batch_size=128),
    "bbn from a network": dict(epochs=8, lr=0.005, decay_at=[4, 6], batch_size=128),
    # a linear classifier on frozen features: 20 epochs of it in one of the run
    "probe": dict(epochs=1, lr=0.02, decay_at=[], batch_size=64, head_epochs=20),
}

# The same from scratch: what comes after step 1 is the same. He et al., CVPR 2016, in proportion to the batch: 0.1 for
# 256 photographs.
REPORT_SCRATCH = REPORT | {
    "base": dict(epochs=60, lr=0.025, decay_at=[30, 50], batch_size=64, warmup=1),
    "lio": dict(epochs=15, lr=0.025, decay_at=[7.5, 12.5], batch_size=64, warmup=0.25),
    "bbn": dict(epochs=60, lr=0.025, decay_at=[30, 50], batch_size=128, warmup=1),
}

# The demo's drawings are small, so that two cores suffice: crops and holes that leave most of a product visible.
_SMALL = dict(min_scale=0.5, autoaugment=False, cutout=0.25)
_TRAIN = dict(resize=112, crop=96, **_SMALL, batch_size=32)
DEMO = {
    "base": _TRAIN | dict(epochs=5, lr=0.015, decay_at=[3, 4]),
    "balanced": _TRAIN | dict(epochs=4, lr=0.005, decay_at=[2, 3]),
    "accuracy": _TRAIN | dict(epochs=3, lr=0.002, decay_at=[2]),
    # At 160 pixels the last map has 5 × 5 places, one a region.
    "dcl": _TRAIN | dict(balanced=30, epochs=4, lr=0.0016, decay_at=[2, 3], resize=184, crop=160, grid=5),
    # Maps of 3 × 3 places, one a region. The map before the last stage is finer, but in these networks nothing bounds
    # its values, and LIO's loss of them was so large that it ruined the network. Pairs instead of groups of four: of 32
    # classes a batch then holds more, and the fewer it holds, the worse it represents the catalogue.
    "lio": _TRAIN | dict(epochs=3, lr=0.015, decay_at=[2, 2.5], grid=3, positives=1),
    "lio from a network": _TRAIN | dict(epochs=2, lr=0.005, decay_at=[1, 1.5], grid=3, positives=1),
    "bbn": _TRAIN | dict(epochs=5, lr=0.015, decay_at=[3, 4], batch_size=64),
    "bbn from a network": _TRAIN | dict(epochs=4, lr=0.005, decay_at=[2, 3], batch_size=64),
    "probe": _TRAIN | REPORT["probe"],
}

# The demo from scratch, at lower resolution, with every block of the network in every step.
_SCRATCH = dict(resize=56, crop=48, **_SMALL, batch_size=32, warmup=0.5, drop_connect=0.0)
# Maps of 4 × 4 places, one a region, and pairs, see above.
_LIO = dict(resize=72, crop=64, stage=2, grid=4, **_SMALL, batch_size=64, positives=1, drop_connect=0.0)
_BBN = dict(resize=56, crop=48, **_SMALL, batch_size=64, drop_connect=0.0)
DEMO_SCRATCH = {
    "base": _SCRATCH | dict(epochs=10, lr=0.1, decay_at=[7, 9]),
    "balanced": _SCRATCH | dict(epochs=6, lr=0.07, decay_at=[4, 5], warmup=0.0),
    "accuracy": _SCRATCH | dict(epochs=3, lr=0.02, decay_at=[2], warmup=0.0),
    # These networks are trained at 48 pixels; at 56 the feature map has 2 × 2 places, one a region.
    "dcl": dict(balanced=30, epochs=10, lr=0.02, decay_at=[7, 9], batch_size=32, resize=64, crop=56, grid=2)
    | _SMALL
    | dict(drop_connect=0.0),
    "lio": _LIO | dict(epochs=6, lr=0.1, decay_at=[4, 5.4], warmup=0.3),
    "lio from a network": _LIO | dict(epochs=4, lr=0.07, decay_at=[2.6, 3.4]),
    "bbn": _BBN | dict(epochs=10, lr=0.1, decay_at=[7, 9], warmup=0.5),
    "bbn from a network": _BBN | dict(epochs=3, lr=0.07, decay_at=[2, 2.5]),
    "probe": _SCRATCH | dict(warmup=0.0) | REPORT["probe"],
}
# At 0.1 the first epochs of an EfficientNet diverge on the demo: after ten epochs B4 was hardly better than chance.
DEMO_EFFICIENTNET = dict(lr=0.02)


def recipe(step: str, arch: str, data: str, weights: str = "imagenet", epochs: int | None = None) -> dict:
    """The settings of a step, a key of REPORT, for networks of `arch` on the catalogue `data` (`demo` or a folder).

    weights: what the network has started from, in this run or in the one that it goes on from: imagenet, none, or a
        file, which counts as ImageNet's. epochs: how many, if not the recipe's: the schedule is scaled to them.
    """
    scratch = weights == "none"
    if data == "demo":
        chosen = (DEMO_SCRATCH if scratch else DEMO)[step]
        if scratch and arch.startswith("efficientnet") and step not in ("dcl", "probe"):  # DCL's rate is lower already
            chosen = chosen | DEMO_EFFICIENTNET
    else:
        chosen = (REPORT_SCRATCH if scratch else REPORT)[step]
    chosen = chosen | dict(weights=weights)
    return stretched(chosen, epochs) if epochs else chosen


def run_folder(arch: str, kind: str) -> str:
    """The default of --out. kind: what comes behind the network's name, such as -dcl."""
    return f"runs/{arch.replace(':', '-')}{kind}"


def stretched(settings: dict, epochs: int) -> dict:
    """The settings with `epochs` epochs: warmup and decays keep their places in the schedule."""
    factor = epochs / settings["epochs"]
    decay_at = [factor * epoch for epoch in settings["decay_at"]]
    return settings | dict(epochs=epochs, decay_at=decay_at, warmup=factor * settings.get("warmup", 0.0))
