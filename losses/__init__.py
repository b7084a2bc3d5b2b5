"""Losses of the report as functions of tensors, a file a loss; cross entropy is torch's own."""

from losses.dcl import dcl_loss

__all__ = ["dcl_loss"]
