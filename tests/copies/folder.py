"""Images and masks as a user has them."""

import numpy as np
from PIL import Image

SHAPE = (6, 9)


def write_image(path, seed=0, shape=SHAPE):
    """Saves an image of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def write_mask(path, *values, shape=SHAPE, **options):
    """Saves a mask whose first pixels are the values given and whose rest is 0."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros(shape, np.uint8)
    pixels.flat[: len(values)] = values
    Image.fromarray(pixels).save(path, **options)
    return pixels


def write_folder(root, **masks):
    """Writes images/NAME.png and masks/NAME.png of these values; returns the folder."""
    for seed, (name, values) in enumerate(masks.items()):
        write_image(root / f"images/{name}.png", seed)
        write_mask(root / f"masks/{name}.png", *values)
    return root
