"""What is found in images, as files that other programs read."""
