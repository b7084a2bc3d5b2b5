"""The settings that differ from step to step, with their sources: defaults that the command line can change.

`recipe(step, arch, data)` gives those of one call. A script prints them in the line `recipe`, as one types them.
What all steps share are the defaults of `training.arguments`: resize 256, crop 224, RandomResizedCrop, flip,
AutoAugment, Cutout, SGD (the report, section 1). What one method needs (DCL's grid, LIO's positives) are defaults of
its script.

Sources: "report" is the winning solution's report, "release" the authors' code at JDAI-CV. What has no source is ours.
"""

# Without --init, a network starts from ImageNet weights or from scratch, and needs the longer schedule of the two.
# The report names the kind of schedule (manual decay), its losses, photographs and sizes, but not its numbers.
REPORT = {
    # 1: the whole set, cross entropy (report, section 1)
    "base": dict(epochs=12, lr=0.02, decay_at=[6, 9], batch_size=64),
    # 1b: 30 photographs a class (report, section 1, by --balanced 30); a lower rate, since only the balance is learned
    "balanced": dict(epochs=8, lr=0.005, decay_at=[4, 6], batch_size=64),
    # 4: 2 to 3 epochs on the balanced set (report, section 4)
    "accuracy": dict(epochs=3, lr=0.002, decay_at=[2], batch_size=64),
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
}

# The demo's drawings are small and learned from scratch, so that two cores suffice: small pictures, crops and holes
# that leave most of a product visible, every block of the network in every step.
_SMALL = dict(min_scale=0.5, autoaugment=False, cutout=0.25)
_TRAIN = dict(weights="none", resize=56, crop=48, **_SMALL, batch_size=32, warmup=0.5, drop_connect=0.0)
# Maps of 4 × 4 places, one a region. Pairs instead of groups of four: of 32 classes a batch then holds more, and the
# fewer it holds, the worse it represents the catalogue.
_LIO = dict(weights="none", resize=72, crop=64, stage=2, grid=4, **_SMALL)
_LIO |= dict(batch_size=64, positives=1, drop_connect=0.0)
_BBN = dict(weights="none", resize=56, crop=48, **_SMALL, batch_size=64, drop_connect=0.0)
DEMO = {
    "base": _TRAIN | dict(epochs=10, lr=0.1, decay_at=[7, 9]),
    "balanced": _TRAIN | dict(epochs=6, lr=0.07, decay_at=[4, 5], warmup=0.0),
    "accuracy": _TRAIN | dict(epochs=3, lr=0.02, decay_at=[2], warmup=0.0),
    # The demo's networks are trained at 48 pixels; at 56 the feature map has 2 × 2 places, one a region.
    "dcl": dict(balanced=30, epochs=10, lr=0.02, decay_at=[7, 9], batch_size=32, resize=64, crop=56, grid=2)
    | _SMALL
    | dict(drop_connect=0.0),
    "lio": _LIO | dict(epochs=6, lr=0.1, decay_at=[4, 5.4], warmup=0.3),
    "lio from a network": _LIO | dict(epochs=4, lr=0.07, decay_at=[2.6, 3.4]),
    "bbn": _BBN | dict(epochs=10, lr=0.1, decay_at=[7, 9], warmup=0.5),
    "bbn from a network": _BBN | dict(epochs=3, lr=0.07, decay_at=[2, 2.5]),
}
# At 0.1 the first epochs of an EfficientNet diverge on the demo: after ten epochs B4 was hardly better than chance.
DEMO_EFFICIENTNET = dict(lr=0.02)


def recipe(step: str, arch: str, data: str) -> dict:
    """The settings of a step, a key of REPORT, for networks of `arch` on the catalogue `data` (`demo` or a folder)."""
    if data != "demo":
        return dict(REPORT[step])
    slower = arch.startswith("efficientnet") and step != "dcl"  # DCL's rate is lower already
    return DEMO[step] | (DEMO_EFFICIENTNET if slower else {})
