"""Losses of the report as functions of tensors, a file a loss; cross entropy is torch's own."""

from losses.dcl import dcl_loss
from losses.lio import object_extent_loss, object_regions, pseudo_extent, spatial_context_loss

__all__ = ["dcl_loss", "object_extent_loss", "object_regions", "pseudo_extent", "spatial_context_loss"]
