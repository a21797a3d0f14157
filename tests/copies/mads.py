"""Tiny frames of MADS in the folders of its archive."""

import numpy as np
from PIL import Image

from seg_jax.datasets.mads import IDS


def pixels(name):
    """An image of 8×6 and its mask, in two greys around the threshold."""
    random = np.random.RandomState(IDS.index(name))
    image = random.randint(0, 256, (6, 8, 3), np.uint8)
    return image, random.choice(np.array([0, 127, 128, 255], np.uint8), (6, 8))


def write(root, names):
    """Writes frames, with every other mask stored as RGB; returns the folder."""
    for kind in ("images", "masks", "collages"):
        (root / kind).mkdir(parents=True)
    for index, name in enumerate(names):
        image, mask = pixels(name)
        picture = Image.fromarray(mask)
        Image.fromarray(image).save(root / "images" / f"{name}.png", compress_level=0)
        (picture.convert("RGB") if index % 2 else picture).save(root / "masks" / f"{name}.png")
    Image.new("RGB", (16, 6)).save(root / "collages" / f"{names[0]}.jpg")
    return root
