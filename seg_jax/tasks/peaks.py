"""Where heat maps are highest: joints of people, centres of objects."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax


class Peaks(NamedTuple):
    """Places in each heat map, the highest first; a slot is empty where its score is 0."""

    x: jax.Array
    """(B, J, count) float32, in cells of the map."""
    y: jax.Array
    """(B, J, count) float32."""
    score: jax.Array
    """(B, J, count) float32: the map's height there."""


def peaks(heat, *, count: int, threshold: float, window: int = 3) -> Peaks:
    """The local maxima of heat maps, to a fraction of a pixel.

    A pixel is a peak if no pixel in the window around it is higher. Of equally high pixels, such as
    the two beside a peak halfway between them, it is the first in reading order. The place is then
    refined to the top of the parabola through the logarithms of the pixel and its two neighbours,
    along x and along y, which is exact for a Gaussian. This is DARK (Zhang et al. 2020) without the
    mixed derivative, which is 0 for a round Gaussian. A peak at the border stays there.

    Args:
      heat: (B, H, W, J) float.
      count: slots for each map; lower peaks than fit are dropped. At most H · W.
      threshold: peaks that aren't above it are dropped; not negative.
      window: odd side of the window in pixels.
    """
    batch, height, width, channels = heat.shape
    heat = jnp.moveaxis(heat, -1, 1).astype(jnp.float32)
    reach = window // 2

    def highest(x, axis, low, high):
        """The highest of x[i + low], …, x[i + high] along an axis."""
        size = x.shape[axis]
        padding = [(max(0, -low), max(0, high)) if a == axis else (0, 0) for a in range(4)]
        padded = jnp.pad(x, padding, constant_values=-jnp.inf)
        first = max(0, low)
        shifts = (
            lax.slice_in_dim(padded, first + k, first + k + size, axis=axis)
            for k in range(high - low + 1)
        )
        return functools.reduce(jnp.maximum, shifts, jnp.full_like(x, -jnp.inf))

    left, right = highest(heat, 3, -reach, -1), highest(heat, 3, 1, reach)
    row = jnp.maximum(heat, jnp.maximum(left, right))
    before = jnp.maximum(left, highest(row, 2, -reach, -1))
    after = jnp.maximum(right, highest(row, 2, 1, reach))
    peak = (heat > before) & (heat >= after) & (heat > threshold)

    flat = heat.reshape(batch, channels, -1)
    score, index = lax.top_k(jnp.where(peak, heat, 0).reshape(flat.shape), count)
    y, x = jnp.divmod(index, width)

    def refinement(place, size, step):
        def log(at):
            value = jnp.take_along_axis(flat, jnp.clip(at, 0, height * width - 1), axis=-1)
            return jnp.log(jnp.maximum(value, 1e-10))

        down, up = log(index) - log(index - step), log(index) - log(index + step)
        inside = (place > 0) & (place < size - 1)
        known = inside & (jnp.minimum(down, up) >= 0) & (down + up > 0)
        return jnp.where(known, (down - up) / (2 * jnp.where(known, down + up, 1)), 0)

    there = score > 0
    return Peaks(
        jnp.where(there, x + refinement(x, width, 1), 0),
        jnp.where(there, y + refinement(y, height, width), 0),
        score,
    )
