"""A training step sized for hardware that isn't at hand."""
