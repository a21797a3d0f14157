"""Objects as maps, and maps as objects, after Panoptic-DeepLab (Cheng et al. 2020).

An object is a peak of the heat map of centres, and the pixels whose offsets point at it.
https://arxiv.org/abs/1911.10194
"""

import jax
import jax.numpy as jnp
from jax import Array


def targets(
    instance: Array, valid: Array, *, max_objects: int, sigma: float
) -> tuple[Array, Array, Array]:
    """What the network should predict of one image's objects.

    A centre is the mean place of its object's valid pixels. The heat map is the maximum of the
    Gaussians exp(−d²/2σ²) around the centres.

    Args:
      instance: (H, W) int32, objects from 1 to `max_objects`, 0 for none.
      valid: (H, W) bool.
      max_objects: most objects.
      sigma: σ in pixels.

    Returns:
      Heat map (H, W) float32; offsets (H, W, 2) float32 from each pixel to the centre of its
      object, down and to the right, in pixels; and (H, W) bool, where there is an object.
    """
    height, width = instance.shape
    number = jnp.where(valid, instance, 0)
    row, column = (x.astype(jnp.float32) for x in jnp.mgrid[:height, :width])
    sums = jax.ops.segment_sum(
        jnp.stack([jnp.ones_like(row), row, column], -1).reshape(-1, 3),
        number.ravel(),
        max_objects + 1,
    )
    there = sums[1:, 0] > 0
    centres = sums[:, 1:] / jnp.maximum(sums[:, :1], 1)
    down = jnp.exp(-((jnp.arange(height) - centres[1:, :1]) ** 2) / (2 * sigma**2))
    right = jnp.exp(-((jnp.arange(width) - centres[1:, 1:]) ** 2) / (2 * sigma**2))
    # One object after another: XLA on a CPU vectorises this, but not the maximum over an axis.
    heat, _ = jax.lax.scan(
        lambda highest, one: (jnp.maximum(highest, one[0][:, None] * one[1]), None),
        jnp.zeros((height, width)),
        (down * there[:, None], right),
    )
    offsets = centres[number] - jnp.stack([row, column], -1)
    return heat, offsets, number > 0


def nearest_centre(offsets: Array, centres: Array, there: Array) -> Array:
    """The centre nearest to where the offset of each pixel points.

    Args:
      offsets: (H, W, 2) in pixels, down and to the right.
      centres: (count, 2) rows and columns.
      there: (count,) bool, false for an empty slot.

    Returns:
      (H, W) int32: the number of the centre, from 1; 0 if all slots are empty.
    """
    height, width = offsets.shape[:2]
    pointed = offsets + jnp.stack(jnp.mgrid[:height, :width], -1)

    # One centre after another: all distances at once would be count times the image.
    def closer(best, one):
        distance, number = best
        centre, is_there, this = one
        to_this = jnp.where(is_there, ((pointed - centre) ** 2).sum(-1), jnp.inf)
        return (jnp.minimum(distance, to_this), jnp.where(to_this < distance, this, number)), None

    first = (jnp.full((height, width), jnp.inf), jnp.zeros((height, width), jnp.int32))
    numbers = jnp.arange(1, len(centres) + 1, dtype=jnp.int32)
    (_, number), _ = jax.lax.scan(closer, first, (centres, there, numbers))
    return number
