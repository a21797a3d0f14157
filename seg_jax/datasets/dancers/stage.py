"""The background behind the dancers: a wall and a floor, with things that aren't people."""

from typing import NamedTuple

import numpy as np

from seg_jax.datasets.dancers.figure import skin_like, vivid
from seg_jax.datasets.dancers.shapes import (
    PATTERNS,
    Window,
    box,
    capsule,
    paint,
    pattern,
    wave,
    window,
)
from seg_jax.datasets.nevi.fields import grid, noise, step


class Stage(NamedTuple):
    """A scene without people."""

    image: np.ndarray
    """(3, size, size) float32 between 0 and 1."""
    floor: np.ndarray
    """(size, size) bool."""
    edge: float
    """The y at which the wall meets the floor in the middle of the frame."""


def draw_stage(rng: np.random.Generator, size: int) -> Stage:
    """Draws a scene without people."""
    x, y = grid((size, size))
    edge, slope = rng.uniform(-0.1, 0.6), rng.normal(0, 0.025)
    below = y - edge - slope * x
    image = _wall(rng, x, y, size)
    for _ in range(rng.integers(1, 9)):
        _thing(rng, image, x, y, np.array([rng.uniform(-1, 1), rng.uniform(-1, edge)]))
    floor = _floor(rng, x, below, size)
    for _ in range(rng.integers(0, 4)):
        low = rng.uniform(edge + 0.1, 1.1)
        _thing(rng, floor, x, y, np.array([rng.uniform(-1, 1), low]), flat=0.45)
    image += np.clip(0.5 + below * size / 2, 0, 1) * (floor - image)
    board = rng.uniform(0.01, 0.04)
    if rng.random() < 0.5:
        strip = np.abs(below + board) - board
        paint(image, np.s_[:, :], strip, vivid(rng))
    image *= 1 - rng.uniform(0.1, 0.4) * np.exp(-((below / rng.uniform(0.03, 0.12)) ** 2))
    return Stage(image, below > 0, edge)


def _surface(rng: np.random.Generator, size: int) -> np.ndarray:
    """Returns a plain colour with blotches and grain (3, size, size)."""
    mottle = 0.06 * noise(rng, (size, size), 4, 3) + 0.04 * noise(rng, (size, size), 50, 2)
    colour = vivid(rng, (0.03, 0.45))
    return colour[:, None, None] * (1 + rng.uniform(0.3, 1.5) * mottle)


def _wall(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, size: int) -> np.ndarray:
    image = _surface(rng, size)
    kind = PATTERNS[rng.integers(len(PATTERNS))] if rng.random() < 0.55 else "bricks"
    period, second, opacity = rng.uniform(0.06, 0.4), vivid(rng), rng.uniform(0.15, 0.8)
    plain = rng.random() < 0.35
    turn = rng.normal(0, 0.05)
    u, v = x + turn * y, y - turn * x
    if kind == "bricks":
        row = np.floor(v / (0.5 * period))
        share = np.maximum(
            np.abs(np.mod(u / period + 0.5 * row, 1) - 0.5) * period,
            np.abs(np.mod(v / (0.5 * period), 1) - 0.5) * 0.5 * period + 0.25 * period,
        )
        share = np.clip(0.5 + (share - 0.475 * period) * size / 2, 0, 1)
    else:
        share = pattern(kind, v, u, period, 2 / size)
    if not plain:
        image += opacity * share * (second[:, None, None] - image)
    if rng.random() < 0.2:
        folds = rng.uniform(8, 25)
        image *= 0.85 + 0.15 * np.sin(folds * x + 0.6 * np.sin(2.3 * x + 1) + 0.3 * y)
    return image


def _floor(rng: np.random.Generator, x: np.ndarray, below: np.ndarray, size: int) -> np.ndarray:
    image = _surface(rng, size)
    share_of, opacity = rng.random(), rng.uniform(0.1, 0.7)
    second, period = vivid(rng, (0.03, 0.6)), rng.uniform(0.15, 0.5)
    eye = rng.uniform(0.25, 0.6)
    far = 1 / (np.maximum(below, 0) + eye)
    across, depth = x * far, far + 0 * x
    # Where the floor is seen at a slant a pixel spans more of it.
    planks = wave(across, period, 2 / size / eye)
    boards = wave(depth, period, 2 / size / eye**2)
    if share_of < 0.3:
        image += opacity * planks * (second[:, None, None] - image)
    elif share_of < 0.6:
        tiles = planks + boards - 2 * planks * boards
        image += opacity * tiles * (second[:, None, None] - image)
    return image * (1 + rng.normal(0, 0.2) * below)


def _thing(
    rng: np.random.Generator,
    image: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    centre: np.ndarray,
    flat: float = 1.0,
) -> None:
    """Paints a poster, a ball, a pole or something like a limb; `flat` foreshortens it."""
    kind = rng.choice(["poster", "ball", "pole", "limb"], p=(0.3, 0.2, 0.2, 0.3))
    colour, second = vivid(rng), vivid(rng)
    if kind == "limb" and rng.random() < 0.6:
        colour = skin_like(rng)
    half = rng.uniform(0.06, 0.32, 2) * (1, flat)
    turn, bend = rng.normal(0, 0.15), rng.uniform(-1.8, 1.8)
    heading = rng.uniform(0, 2 * np.pi)
    length, radius = rng.uniform(0.15, 0.55), rng.uniform(0.015, 0.055)
    share, period = PATTERNS[rng.integers(len(PATTERNS))], rng.uniform(0.03, 0.15)
    light, pixel = rng.uniform(-0.8, 0.8), 2 / image.shape[1]
    if kind == "pole":
        heading = rng.normal(np.pi / 2, 0.15) if flat == 1 else heading
        length, radius, bend = 2 * length, 0.6 * radius, 0.0
    if kind == "poster":
        where = window(image.shape[1], centre, centre, 0.5)
        if where is None:
            return
        distance, u, v = box(x[:, where[1]], y[where[0]], centre, half, turn)
        paint(image, where, distance, np.float32(0.5) * colour)
        cover = colour[:, None, None] + pattern(share, u, v, period, pixel) * (
            second - colour
        ).reshape(3, 1, 1)
        paint(image, where, distance + 0.012, cover)
        spot = np.sqrt(u * u + (v * half[0] / half[1]) ** 2) - 0.5 * half[0]
        paint(image, where, spot, second)
        return
    if kind == "ball":
        where = window(image.shape[1], centre, centre, 0.2)
        if where is not None:
            ends = (centre, centre)
            _round(image, where, x, y, ends, (half[0] * 0.5,) * 2, colour, light)
        return
    for _ in range(1 if kind == "pole" else 2):
        tip = centre + length * np.array([np.cos(heading), np.sin(heading) * flat])
        low, high = np.minimum(centre, tip), np.maximum(centre, tip)
        where = window(image.shape[1], low, high, radius + pixel)
        if where is not None:
            _round(image, where, x, y, (centre, tip), (radius, 0.75 * radius), colour, light)
        centre, radius, heading, length = tip, 0.75 * radius, heading + bend, 0.9 * length


def _round(
    image: np.ndarray,
    where: Window,
    x: np.ndarray,
    y: np.ndarray,
    ends: tuple[np.ndarray, np.ndarray],
    radii: tuple[float, float],
    colour: np.ndarray,
    light: float,
) -> None:
    distance, _, nx, ny = capsule(x[:, where[1]], y[where[0]], *ends, radii)
    nz = np.sqrt(np.clip(1 - nx * nx - ny * ny, 0, 1))
    shade = 0.45 + 0.55 * np.clip(light * nx - 0.4 * ny + 0.7 * nz, 0, 1)
    paint(image, where, distance, colour[:, None, None] * shade)


def light_up(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Returns the image (3, size, size) in uneven, coloured light, through a lens, with noise."""
    x, y = grid(image.shape[1:])
    slope = rng.normal(0, 0.15, 2)
    light = 1 + slope[0] * x + slope[1] * y
    tint = np.exp(rng.normal(0, 0.08, 3)).astype(np.float32)[:, None, None] * light
    for _ in range(rng.choice(3, p=(0.5, 0.3, 0.2))):
        cx, cy = rng.uniform(-1, 1, 2)
        radius, soft = rng.uniform(0.4, 1.0), rng.uniform(0.1, 0.5)
        spot = step((radius - np.sqrt((x - cx) ** 2 + (y - cy) ** 2)) / soft)
        beam = rng.uniform(0.3, 0.7) * (0.5 + vivid(rng, (0.0, 0.7)))
        tint = tint * (0.75 + beam[:, None, None] * spot)
    image = np.clip(image * tint, 0, None) ** rng.uniform(0.8, 1.2)
    # Most cameras expose for the mean.
    image *= rng.uniform(0.3, 0.55) / image.mean()
    image = _soften(image, rng.uniform(0, 0.0075) * image.shape[1] / 2)
    grain = rng.uniform(0.004, 0.025)
    image += grain * noise(rng, image.shape[1:], 180)
    for channel in image:
        channel += 0.5 * grain * noise(rng, image.shape[1:], 120)
    return image


def _soften(image: np.ndarray, sigma: float) -> np.ndarray:
    """Returns the image blurred by three taps along each axis: deviation min(sigma, 0.7) pixels."""
    side = min(sigma * sigma / 2, 0.25)
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = (1 - 2 * side) * padded[:, 1:-1] + side * (padded[:, :-2] + padded[:, 2:])
    return (1 - 2 * side) * rows[..., 1:-1] + side * (rows[..., :-2] + rows[..., 2:])
