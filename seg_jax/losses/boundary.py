"""The U-Net paper's pixel weights, which keep neighbouring objects apart."""

import math

import numpy as np
from scipy import ndimage

from seg_jax.labels import VOID


def boundary_weights(label: np.ndarray, w0: float = 10.0, sigma: float = 5.0) -> np.ndarray:
    """Pixel weights that keep neighbouring objects apart (Ronneberger et al. 2015, equation 2).

    w(x) = 1 + w₀ exp(−(d₁(x) + d₂(x))² / 2σ²), with d₁ and d₂ the Euclidean distances to the
    border of the nearest and second nearest object. An object is a connected component of one class
    other than 0 and `VOID`; pixels are connected where they share an edge. Its border are its own
    pixels that share an edge with a pixel outside the object. With fewer than two objects all
    weights are 1. The paper's weights that balance the classes are left out; use `class_weights`
    for that. Runs on the host.

    Args:
      label: (H, W) integer classes.
      w0: w₀ ≥ 0, the weight that is added where two borders meet.
      sigma: σ > 0 in pixels, how fast the added weight falls with the distance to the borders.

    Returns:
      (H, W) float32, for `cross_entropy(..., pixel_weights=...)`.
    """
    # Beyond this distance the added weight vanishes in float32, so each object's distances are
    # needed only near the object.
    reach = math.ceil(sigma * math.sqrt(2 * math.log(max(w0, 1.0) * 2**25)))
    first = np.full(label.shape, np.inf)
    second = first.copy()
    for value in set(np.unique(label).tolist()) - {0, VOID}:
        objects, _ = ndimage.label(label == value)
        for i, box in enumerate(ndimage.find_objects(objects), start=1):
            near = tuple(slice(max(s.start - reach, 0), s.stop + reach) for s in box)
            inside = objects[near] == i
            border = inside & ~ndimage.binary_erosion(inside, border_value=1)
            if not border.any():  # the object fills the image
                continue
            distance = ndimage.distance_transform_edt(~border)
            second[near] = np.minimum(second[near], np.maximum(first[near], distance))
            first[near] = np.minimum(first[near], distance)
    return (1 + w0 * np.exp(-((first + second) ** 2) / (2 * sigma**2))).astype(np.float32)
