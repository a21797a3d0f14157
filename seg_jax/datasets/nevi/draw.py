"""Draws dermoscopic pictures of moles: skin, a lesion, and artefacts over them.

Colour follows a model of absorption: skin reflects a base colour, and each pigment of density c
and absorption a per channel multiplies it by exp(-c a), as in Beer-Lambert's law. All lengths are
in units of half the frame, so the same lesion can be drawn at any size.
"""

import math
from typing import NamedTuple

import numpy as np

from seg_jax.datasets.nevi import artefacts
from seg_jax.datasets.nevi.fields import grid, noise, step

DIAGNOSES = ("common_nevus", "atypical_nevus", "melanoma")

_SKIN = np.array(
    [
        [0.90, 0.76, 0.68],  # pale
        [0.89, 0.70, 0.62],  # pink
        [0.84, 0.65, 0.48],  # tan
        [0.86, 0.60, 0.34],  # orange light
        [0.90, 0.62, 0.58],  # reddened
        [0.66, 0.50, 0.43],  # dark
    ],
    np.float32,
)
_SKIN_SHARE = (0.30, 0.24, 0.19, 0.12, 0.07, 0.08)

_BROWN = np.array(
    [
        [0.34, 0.66, 0.95],  # warm brown
        [0.20, 0.52, 1.00],  # orange brown
        [0.55, 0.80, 0.92],  # grey brown
        [0.42, 0.78, 0.85],  # red brown
    ],
    np.float32,
)
_BLACK = np.array([1.00, 1.05, 1.00], np.float32)
_BLUE = np.array([1.00, 0.88, 0.62], np.float32)
_RED = np.array([0.12, 0.75, 0.65], np.float32)


class Nevus(NamedTuple):
    """One drawn lesion."""

    image: np.ndarray
    """(height, width, 3) uint8 RGB."""
    mask: np.ndarray
    """(height, width) uint8: 1 in the lesion, one connected region without holes."""
    diagnosis: str
    """One of `DIAGNOSES`."""


class _Habit(NamedTuple):
    """How lesions of one diagnosis look; ranges are (low, high)."""

    cover: tuple[float, float, float]  # median, lowest and highest share of the frame
    aspect: float  # lowest ratio of the axes
    waves: tuple[float, float]  # amplitude of the outline's Fourier terms
    rough: tuple[float, float]  # amplitude of its fractal noise
    blotch: tuple[float, float]  # relative deviation of the pigment's density
    second: tuple[float, float]  # density of the second colour
    odds: tuple[float, float, float]  # of a veil, of regression, of a black blotch


_HABITS = (
    _Habit((0.17, 0.03, 0.55), 0.60, (0.01, 0.05), (0.015, 0.04), (0.10, 0.25), (0.0, 0.5),
           (0.0, 0.0, 0.0)),
    _Habit((0.24, 0.05, 0.80), 0.55, (0.04, 0.09), (0.030, 0.06), (0.20, 0.40), (0.3, 0.9),
           (0.05, 0.15, 0.3)),
    _Habit((0.48, 0.08, 0.98), 0.50, (0.06, 0.12), (0.045, 0.09), (0.30, 0.50), (0.5, 1.2),
           (0.6, 0.5, 0.8)),
)  # fmt: skip


def draw_nevus(seed: int, index: int, size: int | tuple[int, int] = 256) -> Nevus:
    """Draws one picture; a function of its arguments alone.

    Args:
      seed: of the whole set.
      index: of the picture in the set.
      size: side in pixels, or (height, width), to which the square scene is then stretched.

    Returns:
      The image, the mask and the diagnosis.
    """
    shape = (size, size) if isinstance(size, int) else tuple(size)
    rng = np.random.default_rng(np.random.SeedSequence([seed, index]))
    kind = int(rng.choice(3, p=(0.4, 0.4, 0.2)))
    habit = _HABITS[kind]
    depth, mask, span = _outline(rng, shape, habit)
    skin, shade = _skin(rng, shape)
    absorption = _pigment(rng, depth, span, habit) + _blemishes(rng, depth)
    image = skin * np.exp(-absorption)
    image = _veil(rng, image, depth, span, habit)
    image = artefacts.cover(rng, image * shade)
    image += 0.012 * noise(rng, shape, 200)
    image = np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)
    return Nevus(np.ascontiguousarray(image.transpose(1, 2, 0)), mask, DIAGNOSES[kind])


def _outline(
    rng: np.random.Generator, shape: tuple[int, int], habit: _Habit
) -> tuple[np.ndarray, np.ndarray, float]:
    """Returns the depth (about the signed distance to the outline), the mask and the radius."""
    # SciPy takes longer to import than all data sets together.
    from scipy import ndimage

    median, low, high = habit.cover
    cover = float(np.clip(median * np.exp(0.75 * rng.standard_normal()), low, high))
    span = (4 * cover / np.pi) ** 0.5
    aspect = rng.uniform(habit.aspect, 1) ** 0.5
    turn = rng.uniform(0, np.pi)
    reach = max(0.05, 0.8 - span) if cover < 0.4 else 0.35
    cx, cy = np.clip(rng.normal(0, 0.16, 2), -reach, reach).tolist()

    x, y = grid(shape)
    bend = rng.uniform(0.5, 2.0) * habit.rough[1]
    x = x - cx + bend * noise(rng, shape, 3)
    y = y - cy + bend * noise(rng, shape, 3)
    u = (x * math.cos(turn) + y * math.sin(turn)) / aspect
    v = (y * math.cos(turn) - x * math.sin(turn)) * aspect
    radius = np.sqrt(u * u + v * v)
    # The rim is a Fourier series in the angle: a polynomial of the direction, by Horner's rule.
    direction = (u + 1j * v) / (radius + 1e-6)
    amplitude = rng.uniform(*habit.waves)
    rim = np.zeros(shape, np.complex64)
    for k in range(7, 0, -1):
        wave = complex(*rng.standard_normal(2)) * amplitude * 2 / k if k > 1 else 0
        rim = (rim + wave) * direction
    depth = span * (1 + rim.real) - radius
    depth += rng.uniform(*habit.rough) * span**0.5 * noise(rng, shape, 6, 4, 0.55)

    # Shifts the depth so that the lesion covers the share of the frame that was drawn above.
    count = max(1, round(cover * depth.size))
    depth -= np.partition(depth.ravel(), -count)[-count]
    regions, _ = ndimage.label(depth >= 0)
    mask = regions == np.bincount(regions.ravel())[1:].argmax() + 1
    mask = ndimage.binary_fill_holes(mask)
    # Outside the mask the depth is negative, in islands too, and inside it isn't, nor in holes.
    depth = np.where(mask, np.abs(depth), -np.abs(depth)).astype(np.float32)
    return depth, mask.astype(np.uint8), span


def _skin(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the skin's reflectance (3, height, width) and the light (height, width) on it."""
    x, y = grid(shape)
    tone = _SKIN[rng.choice(len(_SKIN), p=_SKIN_SHARE)]
    tone = tone * np.exp(rng.normal(0, 0.05) + rng.normal(0, 0.02, 3)).astype(np.float32)
    mottle = 0.025 * noise(rng, shape, 5, 4, 0.6) + 0.016 * noise(rng, shape, 64, 2, 0.8)
    wander = 1.5 * noise(rng, shape, 6, 2)
    turn, pitch = rng.uniform(0, np.pi), rng.uniform(35, 70)
    furrows = sum(
        np.sin(x * (pitch * math.cos(a)) + y * (pitch * math.sin(a)) + k * wander) ** 2
        for a, k in ((turn, 1), (turn + rng.uniform(0.8, 1.5), -1))
    )
    mottle = mottle + rng.uniform(0, 0.025) * (1 - furrows) * (1 + 0.5 * noise(rng, shape, 10))
    blush = rng.uniform(0.01, 0.045) * noise(rng, shape, 3, 3)
    log = mottle - blush * _RED[:, None, None]
    skin = tone[:, None, None] * np.exp(log)

    slope = rng.normal(0, 0.06, 2).tolist()
    shade = 1 + slope[0] * x + slope[1] * y
    if rng.random() < 0.15:
        a = rng.uniform(0, 2 * np.pi)
        side = x * math.cos(a) + y * math.sin(a) + 0.1 * noise(rng, shape, 3)
        shade = shade * (1 - rng.uniform(0.15, 0.4) * step((side - rng.uniform(0.6, 1)) / 0.4))
    if rng.random() < 0.75:
        width, height = rng.uniform(0.98, 1.25), rng.uniform(1.1, 1.45)
        x, y = (x - rng.normal(0, 0.04)) / width, (y - rng.normal(0, 0.04)) / height
        tube = np.sqrt(x * x + y * y)
        soft = rng.uniform(0.03, 0.15)
        shade = shade * (1 - rng.uniform(0.55, 0.85) * step((tube - 1) / soft))
        shade = shade * (1.04 - 0.12 * tube**2)
    return skin, shade


def _pigment(rng: np.random.Generator, depth: np.ndarray, span: float, habit: _Habit) -> np.ndarray:
    """Returns the lesion's absorption (3, height, width)."""
    shape = depth.shape
    brown = _BROWN[rng.choice(len(_BROWN), p=(0.4, 0.2, 0.2, 0.2))]
    strength = rng.uniform(0.45, 1.5)
    soft = np.clip(rng.uniform(0.02, 0.09) * (1 + 0.4 * noise(rng, shape, 4)), 0.012, 0.12)
    # Experts draw the outline on the faint side of the edge.
    edge = step(depth / soft - 0.3 + 0.3 * noise(rng, shape, 40, 2, 0.8))
    inner = np.clip(depth / (0.8 * span), 0, 1)
    level = rng.uniform(0.5, 1.0)
    blotch = rng.uniform(*habit.blotch) * noise(rng, shape, 4, 4, 0.6)
    body = edge * (level + (1 - level) * inner) * np.exp(blotch - 0.1)
    body = body * _texture(rng, depth)

    veil, regression, black = rng.random(3) < habit.odds
    if regression:
        pale = step((noise(rng, shape, 3, 3) - 0.4) / 0.5) * step((inner - 0.2) / 0.2)
        body = body * (1 - 0.75 * pale)
    second = rng.uniform(*habit.second) * edge * step((noise(rng, shape, 3, 4) - 0.2) / 0.8)
    if rng.random() < 0.6:
        second = 0.4 * second + rng.uniform(0.2, 0.9) * step((inner - rng.uniform(0.2, 0.5)) / 0.3)
    absorption = strength * body * brown[:, None, None]
    other = _BROWN[rng.integers(len(_BROWN))] if not veil else _BLUE
    absorption += second * _texture(rng, depth) * other[:, None, None]
    if black:
        blot = step((noise(rng, shape, 3, 4) - 0.5) / 0.3) * step((inner - 0.1) / 0.15)
        absorption += rng.uniform(0.4, 1.0) * blot * _BLACK[:, None, None]
    if rng.random() < 0.3:
        absorption += rng.uniform(0.05, 0.2) * step(depth / 0.2 + 0.5) * _RED[:, None, None]
    return absorption


def _texture(rng: np.random.Generator, depth: np.ndarray) -> np.ndarray:
    """Returns a factor of mean about 1: pigment network, globules or plain grain."""
    shape = depth.shape
    pattern = rng.choice(3, p=(0.4, 0.3, 0.3))
    grain = np.exp(rng.uniform(0.1, 0.25) * noise(rng, shape, 30, 3, 0.9))
    cells = int(rng.integers(40, 72))
    if pattern == 0:
        lines = 1 - np.minimum(np.abs(noise(rng, shape, cells)) / 0.8, 1)
        return grain * (0.8 + rng.uniform(0.2, 0.65) * lines)
    if pattern == 1:
        dots = step((noise(rng, shape, cells) - 0.9) / 0.35)
        return grain * (0.85 + rng.uniform(0.5, 1.2) * dots)
    return grain


def _blemishes(rng: np.random.Generator, depth: np.ndarray) -> np.ndarray:
    """Returns the absorption (3, height, width) of freckles and vessels outside the lesion."""
    x, y = grid(depth.shape)
    clear = step((-depth - 0.12) / 0.06)
    freckles = np.zeros(depth.shape, np.float32)
    for _ in range(rng.integers(1, 14) if rng.random() < 0.5 else 0):
        (cx, cy), (a, b) = rng.uniform(-1, 1, 2).tolist(), rng.uniform(0.012, 0.05, 2).tolist()
        dark = rng.uniform(0.1, 0.45)
        freckles += dark * np.exp(-(((x - cx) / a) ** 2)) * np.exp(-(((y - cy) / b) ** 2))
    freckles *= clear * (1 + 0.3 * noise(rng, depth.shape, 30))
    absorption = freckles * _BROWN[1][:, None, None]
    if rng.random() < 0.25:
        vessels = artefacts.vessels(rng, depth.shape)
        absorption = absorption + 0.35 * vessels * _RED[:, None, None]
    return absorption


def _veil(
    rng: np.random.Generator, image: np.ndarray, depth: np.ndarray, span: float, habit: _Habit
) -> np.ndarray:
    """Lays a blue-white veil over a part of the lesion."""
    if rng.random() >= habit.odds[0]:
        return image
    part = step((noise(rng, depth.shape, 3, 4) - 0.5) / 0.7) * step((depth / span - 0.15) / 0.15)
    part *= rng.uniform(0.3, 0.6) * (1 + 0.15 * noise(rng, depth.shape, 30, 2, 0.9))
    colour = np.array([0.49, 0.50, 0.60], np.float32) * rng.uniform(0.7, 1.15)
    return image + part * (colour[:, None, None] - image)
