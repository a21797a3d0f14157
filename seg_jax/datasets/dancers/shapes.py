"""Round shapes and patterns, antialiased by their distance, in units of half the frame.

The frame is [-1, 1]² with x to the right and y down; z points at the viewer.
"""

import numpy as np

Window = tuple[slice, slice]


def window(size: int, low: np.ndarray, high: np.ndarray, margin: float) -> Window | None:
    """Returns the rows and columns that hold a box and its margin, None where they hold no pixel.

    Args:
      size: side of the picture in pixels.
      low: (2,) lowest x and y of the box.
      high: (2,) highest x and y of the box.
      margin: added to the box on every side.
    """
    first = np.floor((low - margin + 1) * size / 2).astype(int).clip(0, size)
    last = np.ceil((high + margin + 1) * size / 2).astype(int).clip(0, size)
    if (first >= last).any():
        return None
    return slice(first[1], last[1]), slice(first[0], last[0])


def capsule(
    x: np.ndarray, y: np.ndarray, a: np.ndarray, b: np.ndarray, radii: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Measures a tapered capsule.

    Args:
      x: broadcasts against `y`.
      y: broadcasts against `x`.
      a: (2,) or (3,), the beginning of its axis.
      b: (2,) or (3,), the end of its axis.
      radii: at the beginning and the end.

    Returns:
      The distance, negative inside; the position along the axis from 0 to 1; x and y of the
      normal, whose length is 1 on the outline.
    """
    dx, dy = float(b[0] - a[0]), float(b[1] - a[1])
    x, y = x - np.float32(a[0]), y - np.float32(a[1])
    scale = 1 / max(dx * dx + dy * dy, 1e-9)
    along = np.clip(x * (dx * scale) + y * (dy * scale), 0, 1)
    x, y = x - dx * along, y - dy * along
    radius = radii[0] + (radii[1] - radii[0]) * along
    return np.sqrt(x * x + y * y) - radius, along, x / radius, y / radius


def polygon(x: np.ndarray, y: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Returns the distance to a polygon with corners (n, 2), negative inside (even-odd rule)."""
    nearest = np.full(np.broadcast_shapes(x.shape, y.shape), np.inf, np.float32)
    within = np.zeros(nearest.shape, bool)
    for (ax, ay), (bx, by) in zip(corners.tolist(), np.roll(corners, -1, 0).tolist(), strict=True):
        dx, dy = bx - ax, by - ay
        u, v = x - ax, y - ay
        along = np.clip((u * dx + v * dy) / max(dx * dx + dy * dy, 1e-9), 0, 1)
        nearest = np.minimum(nearest, (u - along * dx) ** 2 + (v - along * dy) ** 2)
        if dy:
            within ^= ((ay > y) != (by > y)) & (u < v * (dx / dy))
    distance = np.sqrt(nearest)
    return np.where(within, -distance, distance)


def box(
    x: np.ndarray, y: np.ndarray, centre: np.ndarray, half: np.ndarray, turn: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the distance to a turned box and the coordinates along its sides."""
    u, v = x - centre[0], y - centre[1]
    c, s = np.cos(turn), np.sin(turn)
    u, v = u * c + v * s, v * c - u * s
    return np.maximum(np.abs(u) - half[0], np.abs(v) - half[1]), u, v


def wave(value: np.ndarray, period: float, pixel: float) -> np.ndarray:
    """Returns a square wave from 0 to 1 that fades to 0.5 if the pixels are too coarse for it."""
    sharp = max(period / (np.pi * pixel) - 0.6, 0)
    return 0.5 + 0.5 * np.clip(np.sin(value * (2 * np.pi / period)) * sharp, -1, 1)


PATTERNS = ("plain", "rings", "lines", "checks", "dots")


def pattern(kind: str, s: np.ndarray, t: np.ndarray, period: float, pixel: float) -> np.ndarray:
    """Returns the share of a cloth's second colour at positions s along and t across it."""
    if kind == "rings":
        return wave(s, period, pixel)
    if kind == "lines":
        return wave(t, period, pixel)
    if kind == "checks":
        return 0.5 * wave(s, period, pixel) + 0.5 * wave(t, period, pixel)
    if kind == "dots":
        return wave(s, period, pixel) * wave(t, period, pixel)
    return np.float32(0)


def paint(
    image: np.ndarray, where: Window, distance: np.ndarray, colour: np.ndarray, opacity: float = 1
) -> None:
    """Paints a shape, given by its distance in a window, over the image (3, size, size)."""
    pixel = 2 / image.shape[1]
    cover = np.clip(0.5 - distance / pixel, 0, 1) * opacity
    if colour.ndim == 1:
        colour = colour[:, None, None]
    patch = image[(slice(None), *where)]
    patch += cover * (colour - patch)
