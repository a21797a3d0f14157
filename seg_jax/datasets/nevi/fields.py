"""Random fields and strands in units of the frame, so that a picture is the same at every size."""

import functools

import numpy as np


def grid(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns x (1, width) and y (height, 1) of the pixel centres; the frame is [-1, 1]²."""
    height, width = shape
    x = (2 * np.arange(width, dtype=np.float32) + 1) / width - 1
    y = (2 * np.arange(height, dtype=np.float32) + 1) / height - 1
    return x[None, :], y[:, None]


@functools.lru_cache(maxsize=64)
def _spline(cells: int, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Knots and weights, each (taps, pixels), of a uniform cubic B-spline along the frame.

    Where cells are finer than pixels the spline is widened to a pixel, so that small pictures
    show the mean of the field and don't alias.
    """
    scale = max(1, cells / pixels)
    centre = (np.arange(pixels) + 0.5) * cells / pixels + 1
    first = np.floor(centre - 2 * scale).astype(int) + 1
    knots = first + np.arange(int(np.ceil(4 * scale)))[:, None]
    distance = np.abs(centre - knots) / scale
    weights = np.where(
        distance < 1,
        2 / 3 - distance**2 + distance**3 / 2,
        np.clip(2 - distance, 0, None) ** 3 / 6,
    )
    weights *= (knots >= 0) & (knots < cells + 3)
    return np.clip(knots, 0, cells + 2), (weights / weights.sum(0)).astype(np.float32)


def _stretch(knots: np.ndarray, pixels: int) -> np.ndarray:
    """Evaluates the splines with knots (cells + 3, n) at the pixels: (pixels, n)."""
    # Four taps a row are fast without a matrix product, whose threads starve in a busy process.
    total = np.zeros((pixels, knots.shape[1]), np.float32)
    for knot, weight in zip(*_spline(len(knots) - 3, pixels), strict=True):
        total += knots.take(knot, axis=0) * weight[:, None]
    return total


def _refine(knots: np.ndarray) -> np.ndarray:
    """Returns the knots (2 cells + 3, n) of the same splines on half as wide cells."""
    fine = np.empty((2 * len(knots) - 3, knots.shape[1]), np.float32)
    fine[0::2] = (knots[:-1] + knots[1:]) / 2
    fine[1::2] = (knots[:-2] + 6 * knots[1:-1] + knots[2:]) / 8
    return fine


def noise(
    rng: np.random.Generator,
    shape: tuple[int, int],
    cells: int,
    octaves: int = 1,
    gain: float = 0.5,
) -> np.ndarray:
    """Draws fractal spline noise of mean 0 and standard deviation about 1.

    Args:
      rng: source of the knots; how many are drawn doesn't depend on `shape`.
      shape: (height, width) in pixels.
      cells: knots along the frame in the coarsest octave; each further one has twice as many.
      octaves: how many octaves are summed.
      gain: amplitude of an octave relative to the coarser one.

    Returns:
      (height, width) float32.
    """
    knots = rng.standard_normal((cells + 3, cells + 3), dtype=np.float32)
    for octave in range(1, octaves):
        finer = rng.standard_normal([(cells << octave) + 3] * 2, dtype=np.float32)
        knots = _refine(_refine(knots).T).T + np.float32(gain**octave) * finer
    # White noise through a cubic B-spline keeps 0.48 of its deviation in two dimensions.
    knots /= np.float32(0.48 * sum(gain ** (2 * k) for k in range(octaves)) ** 0.5)
    return _stretch(np.ascontiguousarray(_stretch(knots.T, shape[1]).T), shape[0])


def step(value: np.ndarray) -> np.ndarray:
    """Smoothstep: 0 below -1, 1 above 1, 0.5 at 0."""
    t = np.clip(value * 0.5 + 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def strands(
    shape: tuple[int, int],
    start: np.ndarray,
    heading: np.ndarray,
    bend: np.ndarray,
    twist: np.ndarray,
    length: np.ndarray,
    width: np.ndarray,
) -> np.ndarray:
    """Rasterises tapering curved strands (hairs, vessels, glints), antialiased.

    A strand's heading after a fraction s of its length is `heading + bend s + twist s²`.

    Args:
      shape: (height, width) in pixels.
      start: (n, 2) starting points (x, y).
      heading: (n,) radians.
      bend: (n,) radians over the whole length.
      twist: (n,) radians over the whole length.
      length: (n,) in units of half the frame.
      width: (n,) in units of half the frame.

    Returns:
      (height, width) float32, the share of each pixel that is covered.
    """
    height, breadth = shape
    if not len(start):
        return np.zeros(shape, np.float32)
    along = int(np.ceil(max(shape) * length.max() * 0.75)) + 2
    across = int(np.ceil(max(shape) * width.max() * 0.75)) + 1
    s = (np.arange(along) + 0.5) / along
    angle = heading[:, None] + bend[:, None] * s + twist[:, None] * s**2
    ds = length[:, None] / along
    local_width = width[:, None] * np.clip(8 * s + 0.4, 0, 1) * (1 - 0.8 * s**2)
    offset = ((np.arange(across) + 0.5) / across - 0.5) * local_width[..., None]
    x = start[:, :1] + np.cumsum(np.cos(angle) * ds, axis=1)
    y = start[:, 1:] + np.cumsum(np.sin(angle) * ds, axis=1)
    column = ((x[..., None] - np.sin(angle)[..., None] * offset) + 1) * breadth / 2 - 0.5
    row = ((y[..., None] + np.cos(angle)[..., None] * offset) + 1) * height / 2 - 0.5
    area = np.broadcast_to((ds * local_width / across)[..., None], row.shape) * height * breadth / 4

    inside = (row > 0) & (row < height - 1) & (column > 0) & (column < breadth - 1)
    row, column, area = row[inside], column[inside], area[inside]
    top, left = row.astype(np.int64), column.astype(np.int64)
    down, right = row - top, column - left
    corner = top * breadth + left
    covered = np.zeros(height * breadth)
    for shift, part in (
        (0, (1 - down) * (1 - right)),
        (1, (1 - down) * right),
        (breadth, down * (1 - right)),
        (breadth + 1, down * right),
    ):
        covered += np.bincount(corner + shift, area * part, height * breadth)
    return np.clip(covered, 0, 1).reshape(shape).astype(np.float32)
