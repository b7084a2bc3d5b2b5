"""Losses of the report as functions of tensors, a file a loss; cross entropy is torch's own."""
