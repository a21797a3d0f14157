"""Artefacts between skin and lens: hairs, gel bubbles, glints, rulers and colour patches."""

import math

import numpy as np

from seg_jax.datasets.nevi.fields import grid, strands

_PATCHES = np.array(
    [[0.15, 0.25, 0.6], [0.75, 0.15, 0.15], [0.2, 0.5, 0.25], [0.9, 0.75, 0.15]], np.float32
)


def cover(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Returns the image (3, height, width) with artefacts drawn over it."""
    image = _hairs(rng, image)
    image = _glints(rng, image)
    image = _bubbles(rng, image)
    image = _ruler(rng, image)
    return _patch(rng, image)


def vessels(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Returns the coverage (height, width) of thin winding vessels."""
    n = rng.integers(3, 10)
    return strands(
        shape,
        rng.uniform(-1, 1, (n, 2)),
        rng.uniform(0, 2 * np.pi, n),
        rng.normal(0, 1.5, n),
        rng.normal(0, 2.0, n),
        rng.uniform(0.1, 0.5, n),
        rng.uniform(0.010, 0.022, n),
    )


def _hairs(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    kind = rng.random()
    if kind < 0.35:
        return image
    n = rng.integers(1, 8) if kind < 0.88 else rng.integers(12, 30)
    trend = rng.uniform(0, 2 * np.pi)
    coverage = strands(
        image.shape[1:],
        rng.uniform(-1.1, 1.1, (n, 2)),
        trend + rng.normal(0, 0.7, n),
        rng.normal(0, 0.9, n) * np.where(rng.random(n) < 0.1, 4, 1),
        rng.normal(0, 0.8, n),
        rng.uniform(0.5, 2.2, n),
        rng.uniform(0.004, 0.009, n) * rng.uniform(0.8, 1.6),
    )
    if rng.random() < 0.15:
        colour, opacity = np.array([0.93, 0.88, 0.80], np.float32), 0.6
    else:
        colour = np.array([0.16, 0.10, 0.08], np.float32) * rng.uniform(0.6, 2.4)
        opacity = rng.uniform(0.5, 0.95)
    return image + opacity * coverage * (colour[:, None, None] - image)


def _glints(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Short bright scratches where the gel leaves the lens."""
    if rng.random() < 0.55:
        return image
    n = rng.integers(3, 40)
    middle = rng.uniform(-0.8, 0.8, 2)
    coverage = strands(
        image.shape[1:],
        middle + rng.normal(0, rng.uniform(0.1, 0.5), (n, 2)),
        rng.uniform(0, 2 * np.pi, n),
        rng.normal(0, 1.5, n),
        rng.normal(0, 2.0, n),
        rng.uniform(0.01, 0.12, n),
        rng.uniform(0.004, 0.009, n),
    )
    return image + rng.uniform(0.3, 0.7) * coverage * (0.95 - image)


def _bubbles(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Rings, dark inside and bright towards the light, with a highlight."""
    if rng.random() < 0.7:
        return image
    x, y = grid(image.shape[1:])
    middle = rng.uniform(-0.9, 0.9, 2)
    light = rng.uniform(0, 2 * np.pi)
    for _ in range(rng.integers(1, 12)):
        cx, cy = (middle + rng.normal(0, 0.3, 2)).tolist()
        r = rng.uniform(0.015, 0.055)
        columns = np.flatnonzero(np.abs(x[0] - cx) < 1.3 * r)
        rows = np.flatnonzero(np.abs(y[:, 0] - cy) < 1.3 * r)
        if not (columns.size and rows.size):
            continue
        window = np.s_[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        u, v = (x[:, window[2]] - cx) / r, (y[window[1]] - cy) / r
        radius = np.sqrt(u * u + v * v) + 1e-6
        facing = 0.5 + 0.5 * (u * math.cos(light) + v * math.sin(light)) / radius
        rim = np.exp(-(((radius - 1) / 0.14) ** 2)) * (0.25 + 0.75 * facing)
        shadow = np.exp(-(((radius - 0.75) / 0.2) ** 2)) * 0.25
        spot = np.exp(-((u - 0.4 * math.cos(light)) ** 2 + (v - 0.4 * math.sin(light)) ** 2) / 0.03)
        patch = image[window] * (1 - shadow)
        image[window] = patch + np.clip(0.45 * rim + 0.8 * spot, 0, 1) * (0.97 - patch)
    return image


def _ruler(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Ticks of a scale along one side."""
    if rng.random() < 0.94:
        return image
    pitch, phase = rng.uniform(0.06, 0.1), rng.uniform(0, 0.1)
    place = np.arange(-1 + phase, 1, pitch)
    n = len(place)
    length = np.where(np.arange(n) % 5 == 0, 0.14, 0.08)
    side = rng.integers(4)
    start = np.stack([place, np.full(n, -0.97)], axis=1)
    for _ in range(side):
        start = np.stack([-start[:, 1], start[:, 0]], axis=1)
    heading = np.full(n, np.pi / 2 * (1 + side))
    straight = np.zeros(n)
    ticks = strands(image.shape[1:], start, heading, straight, straight, length, np.full(n, 0.012))
    return image * (1 - 0.85 * ticks)


def _patch(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """A sticker for calibrating colours, cut by the frame's corner."""
    if rng.random() < 0.95:
        return image
    x, y = grid(image.shape[1:])
    cx, cy = (rng.choice([-1, 1], 2) * rng.uniform(0.9, 1.1, 2)).tolist()
    inside = (x - cx) ** 2 + (y - cy) ** 2 < rng.uniform(0.2, 0.35) ** 2
    colour = _PATCHES[rng.integers(len(_PATCHES))]
    return np.where(inside, 0.25 * image + 0.75 * colour[:, None, None], image)
