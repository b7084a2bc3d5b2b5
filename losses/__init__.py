"""The losses of the report as functions of tensors, a file a loss; cross entropy is torch's."""

import lazy_loader

LOSSES = ("cross-entropy", "accuracy", "focal", "asoftmax", "hierarchy", "bitempered")  # of `choose_loss`

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "accuracy": ["accuracy_loss"],
        "asoftmax": ["annealed_lambda", "asoftmax_loss"],
        "bitempered": ["bitempered_loss", "tempered_softmax"],
        "choice": ["Criterion", "choose_loss"],
        "dcl": ["dcl_loss"],
        "distillation": ["distillation_loss", "soften"],
        "focal": ["focal_loss"],
        "hierarchy": ["hierarchy_loss"],
        "lio": ["object_extent_loss", "object_regions", "pseudo_extent", "spatial_context_loss"],
    },
)
