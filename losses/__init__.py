"""Losses of the report as functions of tensors, a file a loss; cross entropy is torch's own."""

from losses.accuracy import accuracy_loss
from losses.asoftmax import annealed_lambda, asoftmax_loss
from losses.bitempered import bitempered_loss, tempered_softmax
from losses.choice import LOSSES, Criterion, choose_loss
from losses.dcl import dcl_loss
from losses.distillation import distillation_loss, soften
from losses.focal import focal_loss
from losses.hierarchy import hierarchy_loss
from losses.lio import object_extent_loss, object_regions, pseudo_extent, spatial_context_loss

__all__ = [
    "LOSSES",
    "Criterion",
    "accuracy_loss",
    "annealed_lambda",
    "asoftmax_loss",
    "bitempered_loss",
    "choose_loss",
    "dcl_loss",
    "distillation_loss",
    "focal_loss",
    "hierarchy_loss",
    "object_extent_loss",
    "object_regions",
    "pseudo_extent",
    "soften",
    "spatial_context_loss",
    "tempered_softmax",
]
