"""The life of an experiment: its configuration, its folder, its training, its checkpoints."""
