"""What a network found, as files that other programs read."""
