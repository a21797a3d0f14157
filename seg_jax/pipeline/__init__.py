"""From examples to batches on the device: read, resized, kept, augmented."""
