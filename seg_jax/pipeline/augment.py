"""Random changes of training images: pure functions of a key and an example, run on the device.

Flips and quarter turns only move pixels, so they are exact. Everything else that moves pixels
(rotation, scale, shear, shift, elastic deformation) is composed into one map from the pixels of the
result to points of the image, so the image is interpolated once; labels follow the same map, and
joints its inverse.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.ndimage import map_coordinates

from seg_jax.errors import InputError

Maps = dict[str, Array]

_LARGEST = {
    "rotate": 180,
    "shear": 60,
    "translate": 1,
    "elastic": 1,
    "brightness": 1,
    "contrast": 1,
    "saturation": 1,
    "hue": 180,
    "blur": 20,
    "noise": 1,
    "cutout": 1,
}

# The NTSC's luma, and its two axes of colour.
_RGB_TO_YIQ = np.array(
    [[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]], np.float32
)
_YIQ_TO_RGB = np.linalg.inv(_RGB_TO_YIQ)


@dataclass(frozen=True)
class Augment:
    """What happens to training images, anew at every visit; by default nothing.

    Magnitudes are drawn evenly from their range, each example's on its own.

    Raises:
      InputError: if a setting makes no sense.
    """

    flip: bool = False
    """Mirror left and right, half the time."""
    flip_vertical: bool = False
    """Mirror top and bottom, half the time."""
    rotate90: bool = False
    """Turn by 0, 90, 180 or 270°; by 0 or 180° where height and width differ."""
    rotate: float = 0.0
    """Largest rotation about the centre either way, in degrees."""
    scale: tuple[float, float] = (1.0, 1.0)
    """Least and largest magnification, drawn evenly in its logarithm."""
    shear: float = 0.0
    """Largest horizontal shear either way, in degrees."""
    translate: float = 0.0
    """Largest shift either way, as a fraction of the height and of the width."""
    elastic: float = 0.0
    """Standard deviation of the elastic displacements, as a fraction of the shorter side."""
    elastic_grid: int = 3
    """Displacements drawn along each side; the pixels between them follow smoothly."""
    brightness: float = 0.0
    """Multiply by 1 ± this at most."""
    contrast: float = 0.0
    """Multiply the difference from the image's mean grey by 1 ± this at most."""
    saturation: float = 0.0
    """Multiply the difference from each pixel's grey by 1 ± this at most (RGB only)."""
    hue: float = 0.0
    """Largest turn of the hue either way, in degrees (RGB only)."""
    blur: float = 0.0
    """Largest standard deviation of a Gaussian blur, in pixels."""
    noise: float = 0.0
    """Largest standard deviation of Gaussian noise, where white is 1."""
    cutout: float = 0.0
    """Side of a square painted over, as a fraction of the shorter side."""

    def __post_init__(self):
        for name, largest in _LARGEST.items():
            value = getattr(self, name)
            if not 0 <= value <= largest:
                raise InputError(f"augment.{name} is {value}; it must be from 0 to {largest}")
        low, high = self.scale
        if not 0 < low <= high < math.inf:
            raise InputError(
                f"augment.scale is {self.scale}; it must be the least and the largest "
                "magnification, both above 0, such as 0.8 1.25"
            )
        if self.elastic_grid < 2:
            raise InputError(f"augment.elastic_grid is {self.elastic_grid}; it must be at least 2")

    @property
    def mirrors(self) -> tuple[tuple[int, ...], ...]:
        """Axes along which an image may be flipped, 1 for rows and 2 for columns; () for none.

        Those of the flips and half turns that training shows.
        """
        half_turn = self.rotate90 or (self.flip and self.flip_vertical)
        rows = self.flip_vertical or (self.flip and self.rotate90)
        columns = self.flip or (self.flip_vertical and self.rotate90)
        shown = {(): True, (1,): rows, (2,): columns, (1, 2): half_turn}
        return tuple(axes for axes, is_shown in shown.items() if is_shown)


def augment(settings: Augment, keys: Array, batch: Maps) -> Maps:
    """Changes each example of a batch at random.

    The image is interpolated bilinearly; every other map takes the nearest pixel's value. A pixel
    whose source lies outside the image repeats the edge and isn't valid. What cutout (DeVries &
    Taylor 2017) paints over stays valid: the network is to guess it from its surroundings.

    Args:
      settings: what to do; static.
      keys: (B,) typed keys. The result for an example depends on its key and its own data alone
        (with JAX's default generator).
      batch: `image` (B, H, W, C) float32 in [0, 1], `label` (B, H, W) int32, `valid` (B, H, W)
        bool, and other maps (B, H, W). `joints` (B, P, J, 3) are moved as points; one that leaves
        the image is unlabelled. `mirrored` (B,) bool is turned over where left and right, or top
        and bottom, changed places. Anything else stays as it is.

    Returns:
      The same maps with the same shapes and dtypes, the image in [0, 1].
    """
    with jax.default_matmul_precision("highest"):
        return jax.vmap(partial(_augment_example, settings))(keys, batch)


class _Draws(NamedTuple):
    """Numbers from [0, 1); each has its place, so no setting changes what another draws."""

    flip: Array
    flip_vertical: Array
    turn: Array
    rotate: Array
    scale: Array
    shear: Array
    down: Array
    across: Array
    brightness: Array
    contrast: Array
    saturation: Array
    hue: Array
    blur: Array
    noise: Array
    cutout_row: Array
    cutout_column: Array


def _augment_example(settings: Augment, key: Array, example: Maps) -> Maps:
    draw, elastic, noise = (jax.random.fold_in(key, i) for i in range(3))
    draws = _Draws(*jax.random.uniform(draw, (len(_Draws._fields),)))
    shape = example["label"].shape
    stay = {name: x for name, x in example.items() if x.shape[:2] != shape}
    example = {name: x for name, x in example.items() if name not in stay}
    recolour = _recolour(settings, draws, example["image"])
    mean = example["image"].mean((0, 1))

    if (
        settings.rotate
        or settings.scale != (1.0, 1.0)
        or settings.shear
        or settings.translate
        or settings.elastic
    ):
        example = _sample(example, *_source(settings, draws, elastic, shape))
    else:
        example = _flip_and_turn(settings, draws, example)

    image = recolour(example["image"])
    if settings.blur:
        image = _blur(image, settings.blur * draws.blur)
    if settings.noise:
        sigma = settings.noise * draws.noise
        image += sigma * jax.random.normal(noise, image.shape)
    if settings.cutout:
        image = jnp.where(_square(settings, draws, image.shape)[..., None], recolour(mean), image)
    if "joints" in stay:
        stay["joints"] = _move_joints(settings, draws, elastic, shape, stay["joints"])
    if "mirrored" in stay:
        flip, flip_vertical, _ = _moves(settings, draws, shape)
        stay["mirrored"] ^= flip ^ flip_vertical
    return stay | example | {"image": jnp.clip(image, 0.0, 1.0)}


def _either_way(largest: float, draw: Array) -> Array:
    return largest * (2 * draw - 1)


def _moves(settings: Augment, draws: _Draws, shape: tuple[int, int]) -> tuple[Array, Array, Array]:
    """Whether to flip left and right, top and bottom, and by how many quarters to turn then."""
    quarters = settings.rotate90 * jnp.floor(4 * draws.turn)
    return (
        settings.flip & (draws.flip < 0.5),
        settings.flip_vertical & (draws.flip_vertical < 0.5),
        quarters if shape[0] == shape[1] else quarters - quarters % 2,
    )


def _flip_and_turn(settings: Augment, draws: _Draws, example: Maps) -> Maps:
    """Flips and turns on their own, without interpolation."""
    height, width = example["label"].shape
    flip, flip_vertical, quarters = _moves(settings, draws, (height, width))

    def moved(x: Array) -> Array:
        x = jnp.where(flip, jnp.fliplr(x), x)
        x = jnp.where(flip_vertical, jnp.flipud(x), x)
        x = jnp.where(quarters >= 2, jnp.rot90(x, 2), x)
        return jnp.where(quarters % 2 == 1, jnp.rot90(x), x) if height == width else x

    return jax.tree.map(moved, example)


class _Affine(NamedTuple):
    """From a pixel of the result to a point of the image: source = matrix (pixel − shown) + centre.

    Points are (row, column), pixels' centres at whole numbers.
    """

    matrix: Array
    """(2, 2)."""
    shown: Array
    """(2,) pixel of the result that shows the image's centre."""
    centre: Array
    """(2,)."""


def _affine(settings: Augment, draws: _Draws, shape: tuple[int, int]) -> _Affine:
    """The image is flipped, magnified, sheared and turned about its centre, then shifted."""
    flip, flip_vertical, quarters = _moves(settings, draws, shape)
    angle = _either_way(math.radians(settings.rotate), draws.rotate) + quarters * math.pi / 2
    slope = jnp.tan(_either_way(math.radians(settings.shear), draws.shear))
    low, high = settings.scale
    shrink = (high / low) ** -draws.scale / low
    cos, sin = shrink * jnp.cos(angle), shrink * jnp.sin(angle)
    turn = jnp.array([[cos, sin], [-sin - slope * cos, cos - slope * sin]])
    mirror = jnp.where(jnp.array([flip_vertical, flip]), -1.0, 1.0)
    size = jnp.array(shape, jnp.float32)
    moved = _either_way(settings.translate, jnp.array([draws.down, draws.across]))
    centre = (size - 1) / 2
    return _Affine(mirror[:, None] * turn, centre + moved * size, centre)


def _displacements(settings: Augment, key: Array, shape: tuple[int, int]) -> Array:
    """(H, W, 2) elastic displacements in pixels, to be added to the source of each pixel.

    They are those of Ronneberger et al. 2015 (there 0.02 on a grid of 3): normal displacements on
    a coarse grid, between them cubic interpolation.
    """
    grid = (settings.elastic_grid, settings.elastic_grid, 2)
    vectors = settings.elastic * min(shape) * jax.random.normal(key, grid)
    return jax.image.resize(vectors, (*shape, 2), "cubic")


def _source(
    settings: Augment, draws: _Draws, key: Array, shape: tuple[int, int]
) -> tuple[Array, Array]:
    """The point of the image, (row, column), that each pixel of the result shows.

    Returns:
      Rows and columns, each (H, W) float32.
    """
    affine = _affine(settings, draws, shape)
    row = jnp.arange(shape[0])[:, None] - affine.shown[0]
    column = jnp.arange(shape[1])[None, :] - affine.shown[1]
    row, column = (
        of[0] * row + of[1] * column + centre
        for of, centre in zip(affine.matrix, affine.centre, strict=True)
    )
    if settings.elastic:
        vectors = _displacements(settings, key, shape)
        row, column = row + vectors[..., 0], column + vectors[..., 1]
    return row, column


def _move_joints(
    settings: Augment, draws: _Draws, key: Array, shape: tuple[int, int], joints: Array
) -> Array:
    """Joints (P, J, 3) of the image in the result: the inverse of `_source`.

    Elastic displacements have no closed inverse; five steps of a fixed point leave well below a
    tenth of a pixel, as they change slowly.
    """
    affine = _affine(settings, draws, shape)
    inverse = jnp.linalg.inv(affine.matrix)
    source = joints[..., 1::-1]  # (row, column)

    def shown(source: Array) -> Array:
        return (source - affine.centre) @ inverse.T + affine.shown

    moved = shown(source)
    if settings.elastic:
        vectors = _displacements(settings, key, shape)
        for _ in range(5):
            places = [moved[..., 0], moved[..., 1]]
            there = [map_coordinates(vectors[..., i], places, 1, mode="nearest") for i in (0, 1)]
            moved = shown(source - jnp.stack(there, -1))
    inside = ((moved >= -0.5) & (moved < jnp.array(shape) - 0.5)).all(-1)
    labelled = inside & (joints[..., 2] > 0)
    return jnp.where(
        labelled[..., None], jnp.concatenate([moved[..., ::-1], joints[..., 2:]], -1), 0
    )


def _sample(example: Maps, row: Array, column: Array) -> Maps:
    """Reads maps at points: the image bilinearly, the others at the nearest pixel.

    A point belongs to the pixel in whose square it lies, and is valid if there is one.
    """
    height, width, channels = example["image"].shape
    inside = (row >= -0.5) & (row < height - 0.5) & (column >= -0.5) & (column < width - 0.5)
    row, column = jnp.clip(row, 0, height - 1), jnp.clip(column, 0, width - 1)

    nearest = _whole(row + 0.5) * width + _whole(column + 0.5)
    result = {
        name: jnp.take(x.reshape(-1), nearest, mode="clip")
        for name, x in example.items()
        if name != "image"
    }
    result["valid"] &= inside

    # The last row and column have no next one; its weight is 0 there, whatever is read.
    top, left = _whole(row), _whole(column)
    down, right = (row - top)[..., None], (column - left)[..., None]
    pixels, first = example["image"].reshape(-1, channels), top * width + left

    def pixel(offset: int) -> Array:
        return jnp.take(pixels, first + offset, axis=0, mode="clip")

    upper = (1 - right) * pixel(0) + right * pixel(1)
    lower = (1 - right) * pixel(width) + right * pixel(width + 1)
    return result | {"image": (1 - down) * upper + down * lower}


def _whole(x: Array) -> Array:
    return jnp.floor(x).astype(jnp.int32)


def _recolour(settings: Augment, draws: _Draws, image: Array) -> Callable[[Array], Array]:
    """The change of colour, one affine map of (..., C).

    Brightness, contrast and saturation are torchvision's; hue is turned in YIQ, where saturation
    scales the two axes of colour. The grey of a pixel is its luma, or the mean of its channels if
    it isn't RGB. The order is fixed, and nothing is clipped between.
    """
    brightness = 1 + _either_way(settings.brightness, draws.brightness)
    contrast = 1 + _either_way(settings.contrast, draws.contrast)
    saturation = 1 + _either_way(settings.saturation, draws.saturation)
    hue = _either_way(math.radians(settings.hue), draws.hue)

    rgb = image.shape[-1] == 3
    channels = image.mean((0, 1))
    grey = channels @ _RGB_TO_YIQ[0] if rgb else channels.mean()
    factor, offset = brightness * contrast, brightness * (1 - contrast) * grey
    if not rgb or not (settings.saturation or settings.hue):
        return lambda x: factor * x + offset if settings.brightness or settings.contrast else x

    cos, sin = saturation * jnp.cos(hue), saturation * jnp.sin(hue)
    turn = jnp.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    matrix = factor * _YIQ_TO_RGB @ turn @ _RGB_TO_YIQ
    return lambda x: x @ matrix.T + offset


def _blur(image: Array, sigma: Array) -> Array:
    """Gaussian blur as two matrix products; near the edge, the mean of what lies inside."""
    rows, columns = (_gaussian(size, sigma) for size in image.shape[:2])
    return jnp.einsum("ij,kl,jlc->ikc", rows, columns, image)


def _gaussian(size: int, sigma: Array) -> Array:
    """(size, size) weights of the pixels of a line in each pixel of the blurred line."""
    place = jnp.arange(size)
    distance = place[:, None] - place
    weights = jnp.exp(-0.5 * (distance / jnp.maximum(sigma, 1e-3)) ** 2)
    return weights / weights.sum(1, keepdims=True)


def _square(settings: Augment, draws: _Draws, shape: tuple[int, ...]) -> Array:
    """The pixels (H, W) of a square whose centre is any point of the image."""
    height, width = shape[:2]
    half = settings.cutout * min(height, width) / 2
    row = jnp.arange(height)[:, None] + 0.5 - height * draws.cutout_row
    column = jnp.arange(width) + 0.5 - width * draws.cutout_column
    return (jnp.abs(row) < half) & (jnp.abs(column) < half)
