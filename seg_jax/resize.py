"""Images, labels, maps and points of one size at another: on the host, and on the device."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from PIL import Image


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Antialiased bilinear resizing of (H, W, C) uint8 to (*size, C), on the host."""
    how = Image.Resampling.BILINEAR

    def resized(channel: np.ndarray) -> np.ndarray:
        # Across first, then down: left to itself, Pillow 13 chooses the order by the sizes.
        across = Image.fromarray(channel).resize((size[1], channel.shape[0]), how)
        return np.asarray(across.resize(size[::-1], how))

    channels = (np.ascontiguousarray(image[..., c]) for c in range(image.shape[-1]))
    return np.stack([resized(channel) for channel in channels], axis=-1)


def resize_label(label: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Nearest-neighbour resizing of (H, W) uint8, uint16 or int32 to `size`."""
    return np.asarray(Image.fromarray(label).resize(size[::-1], Image.Resampling.NEAREST))


def resize_points(points: np.ndarray, old: tuple[int, int], new: tuple[int, int]) -> np.ndarray:
    """Points (..., 2) of x and y, pixel centres at whole numbers, in the same picture resized."""
    scale = np.array([new[1] / old[1], new[0] / old[0]], np.float32)
    return (points + 0.5) * scale - 0.5


MAX_UNROLLED = 16
"""Pixels that a pixel of the result may depend on, along an axis, before they are looped over."""


class Axis(NamedTuple):
    """Which pixels along an axis a pixel of the result depends on; weights that are 0 pad it."""

    source: np.ndarray
    """(count, taps) int32 places before."""
    weight: np.ndarray
    """(count, taps) float32, adding up to 1; all 0 beyond the picture."""
    fixed: np.ndarray
    """(count, taps) int32: the weights times 2²², as Pillow has them for uint8."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Resize:
    """A change of size on the device: antialiased, as Pillow's bilinear and bicubic resizing.

    Maps may be padded below and at the right, before and after. A Resize holds weights, not sizes,
    so one compiled program serves all sizes that fit into the same arrays.
    """

    scale: np.ndarray
    """(2,) float32: magnification along height and width."""
    bilinear: tuple[Axis, Axis]
    """Weights along height and width."""
    bicubic: tuple[Axis, Axis]
    """Weights along height and width."""

    @classmethod
    def between(
        cls, old: tuple[int, int], new: tuple[int, int], shape: tuple[int, int] | None = None
    ) -> "Resize":
        """From one size to another.

        Args:
          old: height and width of the picture before.
          new: height and width of the picture after.
          shape: height and width of the result, which is 0 beyond the picture; `new` if not given.
        """
        scale = np.divide(new, old).astype(np.float32)
        bilinear, bicubic = (
            tuple(
                _axis(*lengths, reach, kernel)
                for lengths in zip(old, new, shape or new, strict=True)
            )
            for reach, kernel in ((1, _triangle), (2, _keys))
        )
        return cls(scale, bilinear, bicubic)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the result."""
        down, across = self.bilinear
        return len(down.source), len(across.source)

    def __call__(self, x: Array, *, cubic: bool = False) -> Array:
        """Resizes maps.

        Bilinear, or bicubic: that keeps a peak's place between the pixels, but goes beyond the
        values around a step.

        Args:
          x: (B, H, W, C) float, or uint8, which is rounded along each axis exactly as Pillow does.
          cubic: whether to resize bicubically (Keys 1981, a = −1/2).

        Returns:
          (B, *shape, C), float32 or uint8.
        """
        down, across = self.bicubic if cubic else self.bilinear
        return _resized(_resized(x, 2, across), 1, down)  # across first, as Pillow does


def _resized(x: Array, axis: int, weights: Axis) -> Array:
    """Resizes along one axis: a sum of pixels, tap by tap."""
    bytes_ = x.dtype == jnp.uint8
    along = [1] * x.ndim
    along[axis] = weights.source.shape[0]
    source = jnp.asarray(weights.source)
    weight = jnp.asarray(weights.fixed if bytes_ else weights.weight)

    def add_tap(k: int, total: Array) -> Array:
        pixels = jnp.take(x, source[:, k], axis=axis, mode="clip")
        return total + pixels * weight[:, k].reshape(along)

    shape = (*x.shape[:axis], len(source), *x.shape[axis + 1 :])
    total = jnp.zeros(shape, weight.dtype)
    taps = source.shape[1]
    if taps > MAX_UNROLLED:  # a loop is a little slower, but a long sum takes minutes to compile
        total = jax.lax.fori_loop(0, taps, add_tap, total)
    else:
        for k in range(taps):
            total = add_tap(k, total)
    if bytes_:
        return jnp.clip((total + 2**21) >> 22, 0, 255).astype(jnp.uint8)
    return total


def _axis(old: int, new: int, count: int, reach: int, kernel: Callable) -> Axis:
    """The weights of `count` pixels, `new` of which show the `old` ones (Pillow's Resample.c)."""
    stretch = max(1.0, old / new)
    taps = math.ceil(2 * reach * stretch)
    if stretch > 1:  # sizes that differ a little share a compiled program
        taps += -taps % 8
    place = np.arange(count)
    centre = (place + 0.5) * (old / new)
    first = np.floor(centre - reach * stretch + 0.5).astype(np.int32)
    source = first[:, None] + np.arange(taps, dtype=np.int32)
    weight = kernel((source + 0.5 - centre[:, None]) / stretch)
    weight[(source < 0) | (source >= old)] = 0
    weight[place < new] /= weight[place < new].sum(1, keepdims=True)
    weight[place >= new] = 0
    fixed = np.trunc(weight * 2**22 + np.copysign(0.5, weight)).astype(np.int32)
    return Axis(np.clip(source, 0, old - 1), weight.astype(np.float32), fixed)


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(0, 1 - np.abs(x))


def _keys(x: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))
