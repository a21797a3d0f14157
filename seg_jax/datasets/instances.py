"""Maps of objects: (height, width) integers, the number of each pixel's object, 0 for none."""

import numpy as np


def renumbered(objects: np.ndarray) -> np.ndarray:
    """Numbers the objects 1, 2, … in the order of their old numbers.

    Args:
      objects: (height, width) integers, 0 where no object is; at most 65535 objects.

    Returns:
      (height, width) uint16.
    """
    numbers, positions = np.unique(objects, return_inverse=True)
    new = np.cumsum(numbers != 0).astype(np.uint16)
    new[numbers == 0] = 0
    return new[positions.reshape(objects.shape)]


def borders(objects: np.ndarray) -> np.ndarray:
    """Marks the pixels of objects that share a side with a pixel of something else.

    Between two objects that touch there is a border of two pixels, one in each object. An object
    that is cut by the image's edge has no border there.

    Args:
      objects: (height, width) integers, 0 where no object is.

    Returns:
      (height, width) bool.
    """
    padded = np.pad(objects, 1, mode="edge")
    beside = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    return (objects > 0) & np.any([other != objects for other in beside], axis=0)
