"""Plans a training step for hardware that you don't have."""
