"""The one training loop and what surrounds it; it names no method of the report."""
