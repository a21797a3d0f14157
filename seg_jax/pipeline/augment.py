"""Random changes of training images: pure functions of a key and an example, run on the device.

Flips and quarter turns move pixels onto pixels, so they are exact. Rotation, scale, shear, shift
and elastic deformation are composed into one function from the pixels of the result to points of
the image, so the image is interpolated only once. Labels are read at the same points, and joints
are moved by the inverse function. Of a crop, only the pixels that it shows are computed.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.ndimage import map_coordinates

from seg_jax.errors import InputError
from seg_jax.labels import Kind

Arrays = dict[str, Array]

ALWAYS_MAPS = MappingProxyType(dict.fromkeys(("image", "label", "valid"), Kind.MAP))
"""The kinds of the arrays that every batch of training has: maps."""

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
    """How training images are changed at random at every visit; by default not at all.

    Each example's magnitudes are drawn on their own, uniformly from their range.

    Raises:
      InputError: if a setting makes no sense.
    """

    flip: bool = False
    """Mirror left and right, half the time."""
    flip_vertical: bool = False
    """Mirror top and bottom, half the time."""
    rotate90: bool = False
    """Turn by 0, 90, 180 or 270°; by 0 or 180° where the image's height and width differ,
    whatever the crop."""
    rotate: float = 0.0
    """Largest rotation about the centre in either direction, in degrees."""
    scale: tuple[float, float] = (1.0, 1.0)
    """Least and largest magnification; its logarithm is drawn uniformly."""
    shear: float = 0.0
    """Largest horizontal shear in either direction, in degrees."""
    translate: float = 0.0
    """Largest shift in either direction, as a fraction of the height and of the width."""
    elastic: float = 0.0
    """Standard deviation of the elastic displacements, as a fraction of the shorter side."""
    elastic_grid: int = 3
    """Displacements drawn along each side; between them they are interpolated smoothly."""
    brightness: float = 0.0
    """Multiply by 1 ± this at most."""
    contrast: float = 0.0
    """Multiply the difference from the image's mean grey by 1 ± this at most."""
    saturation: float = 0.0
    """Multiply the difference from each pixel's grey by 1 ± this at most (RGB only)."""
    hue: float = 0.0
    """Largest turn of the hue in either direction, in degrees (RGB only)."""
    blur: float = 0.0
    """Largest standard deviation of a Gaussian blur, in pixels."""
    noise: float = 0.0
    """Largest standard deviation of Gaussian noise, where white is 1."""
    cutout: float = 0.0
    """Side of a square that is painted over, as a fraction of the shorter side of image or crop."""
    crop: tuple[int, int] | None = None
    """Height and width of a random part of each image that the network is trained on; the whole
    image if not given. It is cut out after the image was moved, at a place drawn uniformly, and
    before blur, noise and cutout."""

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
        if self.crop is not None and min(self.crop) < 1:
            raise InputError(
                f"augment.crop is {self.crop}; height and width must be at least 1, such as 256 256"
            )

    @property
    def mirrors(self) -> tuple[tuple[int, ...], ...]:
        """The flips that training shows, each by its axes: 1 for rows, 2 for columns, () for none.

        A half turn is a flip along both axes.
        """
        half_turn = self.rotate90 or (self.flip and self.flip_vertical)
        rows = self.flip_vertical or (self.flip and self.rotate90)
        columns = self.flip or (self.flip_vertical and self.rotate90)
        shown = {(): True, (1,): rows, (2,): columns, (1, 2): half_turn}
        return tuple(axes for axes, is_shown in shown.items() if is_shown)


def augment(
    settings: Augment, keys: Array, batch: Arrays, kinds: Mapping[str, Kind] = ALWAYS_MAPS
) -> Arrays:
    """Changes each example of a batch at random.

    The image is interpolated bilinearly; every other map takes the nearest pixel's value. A pixel
    whose source lies outside the image repeats the edge and isn't valid. Pixels that cutout
    (DeVries & Taylor 2017) paints over stay valid, so the network must guess them from their
    surroundings.

    A crop is a window of what the same settings make of the whole image, but for blur, noise and
    cutout, which change the crop alone.

    Args:
      settings: what to do; static. A crop must not be larger than H, W.
      keys: (B,) typed keys. The result for an example depends only on its key and its own data
        (with JAX's default generator).
      batch: `image` (B, H, W, C) float32 in [0, 1], `label` (B, H, W) int32, `valid` (B, H, W)
        bool, and other arrays (B, ...).
      kinds: by name what the other arrays are; static. Maps are moved with the pixels. Points are
        moved, too, and become all 0, unlabelled, where they leave the image or the crop. MIRRORED
        is negated where left and right, or top and bottom, changed places. An array that isn't
        named, or is of another kind, stays as it is.

    Returns:
      The same arrays with the same shapes and dtypes, but maps of the crop's height and width; the
      image in [0, 1].
    """
    with jax.default_matmul_precision("highest"):
        return jax.vmap(partial(_augment_example, settings, {**kinds, **ALWAYS_MAPS}))(keys, batch)


class _Window(NamedTuple):
    """The part of the whole result that is wanted."""

    corner: Array | tuple[int, int]
    """(2,) int32: row and column of its first pixel."""
    size: tuple[int, int]
    """Height and width."""


class _Draws(NamedTuple):
    """Random numbers in [0, 1); each has a name, so no setting changes what another one draws."""

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


def _augment_example(
    settings: Augment, kinds: Mapping[str, Kind], key: Array, example: Arrays
) -> Arrays:
    draw, elastic, noise, place = (jax.random.fold_in(key, i) for i in range(4))
    draws = _Draws(*jax.random.uniform(draw, (len(_Draws._fields),)))
    shape = example["label"].shape
    window = _window(settings, place, shape)
    recolour = _recolour(settings, draws, example["image"])
    mean = example["image"].mean((0, 1))
    of = {name: kinds.get(name, Kind.OTHER) for name in example}
    maps = {name: x for name, x in example.items() if of[name] is Kind.MAP}

    if (
        settings.rotate
        or settings.scale != (1.0, 1.0)
        or settings.shear
        or settings.translate
        or settings.elastic
    ):
        maps = _sample(maps, *_source(settings, draws, elastic, shape, window))
    else:
        maps = _flip_and_turn(settings, draws, maps, window)

    image = recolour(maps["image"])
    if settings.blur:
        image = _blur(image, settings.blur * draws.blur)
    if settings.noise:
        sigma = settings.noise * draws.noise
        image += sigma * jax.random.normal(noise, image.shape)
    if settings.cutout:
        image = jnp.where(_square(settings, draws, image.shape)[..., None], recolour(mean), image)
    maps["image"] = jnp.clip(image, 0.0, 1.0)

    moved = {}
    flip, flip_vertical, _ = _moves(settings, draws, shape)
    for name, x in example.items():
        if of[name] is Kind.POINTS:
            moved[name] = _move_points(settings, draws, elastic, shape, window, x)
        elif of[name] is Kind.MIRRORED:
            moved[name] = x ^ flip ^ flip_vertical
    return example | maps | moved


def _window(settings: Augment, key: Array, shape: tuple[int, int]) -> _Window:
    """Where the crop lies in the whole result; every place is equally likely."""
    if settings.crop is None:
        return _Window((0, 0), shape)
    places = np.subtract(shape, settings.crop) + 1
    return _Window(jax.random.randint(key, (2,), 0, places), settings.crop)


def _either_way(largest: float, draw: Array) -> Array:
    return largest * (2 * draw - 1)


def _moves(settings: Augment, draws: _Draws, shape: tuple[int, int]) -> tuple[Array, Array, Array]:
    """Whether to flip left and right, whether top and bottom, and then how many quarter turns."""
    quarters = settings.rotate90 * jnp.floor(4 * draws.turn)
    return (
        settings.flip & (draws.flip < 0.5),
        settings.flip_vertical & (draws.flip_vertical < 0.5),
        quarters if shape[0] == shape[1] else quarters - quarters % 2,
    )


def _flip_and_turn(settings: Augment, draws: _Draws, maps: Arrays, window: _Window) -> Arrays:
    """Flips and quarter turns alone, which need no interpolation.

    The part of the image that the window will show is cut out first.
    """
    height, width = maps["label"].shape
    flip, flip_vertical, quarters = _moves(settings, draws, (height, width))
    half, odd = quarters >= 2, quarters % 2 == 1

    def turned_by_half(x: Array, row: Array, column: Array, size: tuple[int, int]) -> Array:
        """The window of the flipped and half turned image whose first pixel is given."""
        row = jnp.where(flip_vertical ^ half, height - size[0] - row, row)
        column = jnp.where(flip ^ half, width - size[1] - column, column)
        x = _cut(x, _Window((row, column), size))
        x = jnp.where(flip, jnp.fliplr(x), x)
        x = jnp.where(flip_vertical, jnp.flipud(x), x)
        return jnp.where(half, jnp.rot90(x, 2), x)

    def moved(x: Array) -> Array:
        (row, column), (rows, columns) = window
        straight = turned_by_half(x, row, column, (rows, columns))
        if height != width:
            return straight
        # A quarter turn makes columns of rows, counted from the other end.
        turned = turned_by_half(x, column, width - rows - row, (columns, rows))
        return jnp.where(odd, jnp.rot90(turned), straight)

    return jax.tree.map(moved, maps)


def _cut(x: Array, window: _Window) -> Array:
    """A window of a map (H, W, ...)."""
    if x.shape[:2] == window.size:
        return x
    corner = (*window.corner, *[0] * (x.ndim - 2))
    return jax.lax.dynamic_slice(x, corner, (*window.size, *x.shape[2:]))


class _Affine(NamedTuple):
    """From a pixel of the result to a point of the image: source = matrix (pixel − shown) + centre.

    Points are (row, column), pixels' centres at whole numbers.
    """

    matrix: Array
    """(2, 2)."""
    shown: Array
    """(2,) pixel of the result, counted from the window's corner, that shows the image's centre."""
    centre: Array
    """(2,)."""


def _affine(settings: Augment, draws: _Draws, shape: tuple[int, int], window: _Window) -> _Affine:
    """Flips, magnifies, shears and turns the image about its centre, then shifts it."""
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
    shown = centre + moved * size - jnp.array(window.corner)
    return _Affine(mirror[:, None] * turn, shown, centre)


def _displacements(settings: Augment, key: Array, shape: tuple[int, int], window: _Window) -> Array:
    """(rows, columns, 2) elastic displacements in pixels, to be added to the source of each pixel.

    As Ronneberger et al. 2015 do it (there `elastic` 0.02 on a grid of 3): displacements on a
    coarse grid are drawn from a normal distribution; between them they are interpolated cubically.
    """
    grid = (settings.elastic_grid, settings.elastic_grid, 2)
    vectors = settings.elastic * min(shape) * jax.random.normal(key, grid)
    if window.size == shape:  # the same but for rounding, which a run's numbers depend on
        return jax.image.resize(vectors, (*shape, 2), "cubic")
    stretch = jnp.array(shape) / settings.elastic_grid
    shift = -jnp.array(window.corner)
    return jax.image.scale_and_translate(
        vectors, (*window.size, 2), (0, 1), stretch, shift, "cubic"
    )


def _source(
    settings: Augment, draws: _Draws, key: Array, shape: tuple[int, int], window: _Window
) -> tuple[Array, Array]:
    """The point of the image, (row, column), that each pixel of the window shows.

    Returns:
      Rows and columns, each float32 of the window's size.
    """
    affine = _affine(settings, draws, shape, window)
    row = jnp.arange(window.size[0])[:, None] - affine.shown[0]
    column = jnp.arange(window.size[1])[None, :] - affine.shown[1]
    row, column = (
        of[0] * row + of[1] * column + centre
        for of, centre in zip(affine.matrix, affine.centre, strict=True)
    )
    if settings.elastic:
        vectors = _displacements(settings, key, shape, window)
        row, column = row + vectors[..., 0], column + vectors[..., 1]
    return row, column


def _move_points(
    settings: Augment,
    draws: _Draws,
    key: Array,
    shape: tuple[int, int],
    window: _Window,
    points: Array,
) -> Array:
    """Points (N, J, 3) of the image at their places in the window: the inverse of `_source`.

    Elastic displacements have no closed inverse. They change slowly, so five steps of a fixed-point
    iteration come within much less than a tenth of a pixel. Beyond the window, the displacements of
    its border are repeated: no point comes into it by that, as long as the image isn't folded.
    """
    affine = _affine(settings, draws, shape, window)
    inverse = jnp.linalg.inv(affine.matrix)
    source = points[..., 1::-1]  # (row, column)

    def shown(source: Array) -> Array:
        return (source - affine.centre) @ inverse.T + affine.shown

    moved = shown(source)
    if settings.elastic:
        vectors = _displacements(settings, key, shape, window)
        for _ in range(5):
            places = [moved[..., 0], moved[..., 1]]
            there = [map_coordinates(vectors[..., i], places, 1, mode="nearest") for i in (0, 1)]
            moved = shown(source - jnp.stack(there, -1))
    inside = ((moved >= -0.5) & (moved < jnp.array(window.size) - 0.5)).all(-1)
    labelled = inside & (points[..., 2] > 0)
    return jnp.where(
        labelled[..., None], jnp.concatenate([moved[..., ::-1], points[..., 2:]], -1), 0
    )


def _sample(maps: Arrays, row: Array, column: Array) -> Arrays:
    """Reads maps at points: the image bilinearly, the others at the nearest pixel.

    A point belongs to the pixel in whose square it lies; without such a pixel it isn't valid.
    """
    height, width, channels = maps["image"].shape
    inside = (row >= -0.5) & (row < height - 0.5) & (column >= -0.5) & (column < width - 0.5)
    row, column = jnp.clip(row, 0, height - 1), jnp.clip(column, 0, width - 1)

    nearest = _whole(row + 0.5) * width + _whole(column + 0.5)
    result = {
        name: jnp.take(x.reshape(-1), nearest, mode="clip")
        for name, x in maps.items()
        if name != "image"
    }
    result["valid"] &= inside

    # After the last row and column comes nothing; whatever is read there has the weight 0.
    top, left = _whole(row), _whole(column)
    down, right = (row - top)[..., None], (column - left)[..., None]
    pixels, first = maps["image"].reshape(-1, channels), top * width + left

    def pixel(offset: int) -> Array:
        return jnp.take(pixels, first + offset, axis=0, mode="clip")

    upper = (1 - right) * pixel(0) + right * pixel(1)
    lower = (1 - right) * pixel(width) + right * pixel(width + 1)
    return result | {"image": (1 - down) * upper + down * lower}


def _whole(x: Array) -> Array:
    return jnp.floor(x).astype(jnp.int32)


def _recolour(settings: Augment, draws: _Draws, image: Array) -> Callable[[Array], Array]:
    """The change of colour as one affine function of pixels (..., C).

    Brightness, contrast and saturation are those of torchvision. Hue is turned in YIQ, whose two
    axes of colour saturation scales. The grey of a pixel is its luma, or the mean of its channels
    if it isn't RGB. The changes come in this order, without clipping between them.
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
    """Gaussian blur as two matrix products; near the edge, of the pixels inside the image alone."""
    rows, columns = (_gaussian(size, sigma) for size in image.shape[:2])
    return jnp.einsum("ij,kl,jlc->ikc", rows, columns, image)


def _gaussian(size: int, sigma: Array) -> Array:
    """(size, size): in row i, the weights of a line's pixels in pixel i of the blurred line."""
    place = jnp.arange(size)
    distance = place[:, None] - place
    weights = jnp.exp(-0.5 * (distance / jnp.maximum(sigma, 1e-3)) ** 2)
    return weights / weights.sum(1, keepdims=True)


def _square(settings: Augment, draws: _Draws, shape: tuple[int, ...]) -> Array:
    """(H, W) bool: the pixels of a square whose centre may be any point of the image."""
    height, width = shape[:2]
    half = settings.cutout * min(height, width) / 2
    row = jnp.arange(height)[:, None] + 0.5 - height * draws.cutout_row
    column = jnp.arange(width) + 0.5 - width * draws.cutout_column
    return (jnp.abs(row) < half) & (jnp.abs(column) < half)
