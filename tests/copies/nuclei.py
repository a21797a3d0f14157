"""Tiny nuclei with the names of the 200 images."""

import numpy as np
from PIL import Image

from seg_jax.datasets.nuclei import IDS

NUMBERS = np.array(
    [
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 7, 7, 7, 3, 3, 3, 0],
        [0, 7, 7, 7, 3, 3, 3, 0],
        [0, 7, 7, 7, 3, 3, 3, 0],
        [0, 0, 0, 0, 0, 0, 0, 900],
    ],
    np.uint16,
)
"""The nuclei of each image."""


def image(index):
    """A greyscale image of 8×5, different for each index."""
    return np.random.RandomState(index).randint(0, 256, (5, 8), np.uint8)


def write(root):
    """Writes images/ and instances/, as they are named in smaller copies; returns the folder."""
    for folder in ("images", "instances"):
        (root / folder).mkdir(parents=True)
    for index, name in enumerate(IDS):
        Image.fromarray(image(index)).convert("RGB").save(root / f"images/{name}.png")
        Image.fromarray(NUMBERS).save(root / f"instances/{name}.png")
    return root
