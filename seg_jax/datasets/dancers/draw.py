"""Draws pictures of people who dance in front of a wall, with exact parts, instances and joints."""

import numpy as np

from seg_jax.datasets.dancers.figure import (
    FOREARM,
    HEAD,
    NECK,
    SHIN,
    SIDE,
    THIGH,
    TORSO,
    UPPER_ARM,
    Figure,
    Shape,
    draw_figure,
    place,
)
from seg_jax.datasets.dancers.shapes import capsule, paint, pattern, polygon, window
from seg_jax.datasets.dancers.stage import Stage, draw_stage, light_up
from seg_jax.datasets.nevi.fields import grid
from seg_jax.datasets.skeletons import LSP_SKELETON
from seg_jax.labels import Example

CLASSES = ("wall", "floor", "head", "torso", "arm", "leg")

# In the order of the parts' numbers.
_PART_CLASS = np.array(
    [
        CLASSES.index(name)
        for name in ("wall", "torso", "torso", "head", *2 * ("arm", "arm", "leg", "leg"))
    ],
    np.uint8,
)
_PART_LIMB = np.array([0, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6], np.uint8)

_ENDS_IN = {
    "ankle": (SHIN,),
    "knee": (SHIN, THIGH),
    "hip": (THIGH, TORSO),
    "wrist": (FOREARM,),
    "elbow": (FOREARM, UPPER_ARM),
    "shoulder": (UPPER_ARM, TORSO),
    "neck": (NECK, TORSO),
    "head_top": (HEAD,),
}
"""Parts whose pixels show a joint, by the numbers of the right limbs."""


def _shows() -> np.ndarray:
    """Returns, for each joint and part, whether the part's pixels show the joint."""
    shows = np.zeros((len(LSP_SKELETON.joints), len(_PART_CLASS)), bool)
    for joint, name in enumerate(LSP_SKELETON.joints):
        left = name.startswith("left_")
        for part in _ENDS_IN[name.removeprefix("left_").removeprefix("right_")]:
            shows[joint, part + SIDE * (left and part >= UPPER_ARM)] = True
    return shows


_SHOWS = _shows()
_MIN_JOINTS = 7
"""How many joints of each dancer lie in the frame and behind no other dancer."""
_TRIES = 60
"""How many poses and places are tried for a dancer."""


def draw_dancers(
    seed: int, index: int, size: int = 192, people: tuple[int, int] = (1, 5)
) -> Example:
    """Draws one picture; a function of its arguments alone.

    Args:
      seed: of the whole set.
      index: of the picture in the set.
      size: side in pixels; the scene is the same at every size.
      people: smallest and largest number of dancers; there are fewer if they don't fit.

    Returns:
      The example; its labels are positions in `CLASSES`, its dancers numbered from the front.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, index]))
    stage = draw_stage(rng, size)
    cast = _place_dancers(rng, stage.edge, int(rng.integers(people[0], people[1] + 1)))
    light = np.array([rng.uniform(-0.8, 0.8), rng.uniform(-0.8, -0.2), rng.uniform(0.4, 0.9)])
    light /= np.linalg.norm(light)
    ambient = rng.uniform(0.4, 0.65)
    _shadows(stage, cast, rng.uniform(0.1, 0.6))
    owner, part = np.zeros((size, size), np.uint16), np.zeros((size, size), np.uint8)
    for number in range(len(cast), 0, -1):
        for shape in cast[number - 1].shapes:
            _cover(stage.image, owner, part, shape, number, light, ambient)
    image = np.clip(light_up(rng, stage.image) * 255 + 0.5, 0, 255).astype(np.uint8)
    area = np.bincount(owner.ravel(), minlength=len(cast) + 1)[1:]
    return Example(
        f"dancers{index:04d}",
        np.ascontiguousarray(image.transpose(1, 2, 0)),
        np.where(owner > 0, _PART_CLASS[part], stage.floor.astype(np.uint8)),
        owner,
        np.stack([_annotate(f, n, owner, part) for n, f in enumerate(cast, 1)]),
        area.astype(np.float32),
    )


def _place_dancers(rng: np.random.Generator, edge: float, count: int) -> list[Figure]:
    """Places dancers from the front to the back, each with at least `_MIN_JOINTS` in sight."""
    cast = []
    largest = 1.8 if count < 4 else 1.55
    for height in -np.sort(-rng.uniform(0.7, largest, count)):
        for _ in range(_TRIES):
            figure = draw_figure(rng, float(height))
            # Whoever is larger stands nearer, and so lower in the frame.
            nearer = (height - 0.7) / 1.1
            foot = edge + 0.1 + (1.02 - edge) * nearer + rng.normal(0, 0.05)
            if rng.random() < 0.15:
                foot -= height * rng.uniform(0.05, 0.15)
            figure = place(figure, rng.uniform(-0.95, 0.95), foot)
            if _joints_in_sight(figure, cast) >= _MIN_JOINTS:
                cast.append(figure)
                break
    return cast


def _joints_in_sight(figure: Figure, cast: list[Figure]) -> int:
    """Counts the joints of a dancer that lie in the frame and behind no other dancer."""
    points = figure.joints[:, :2].astype(np.float32)
    seen = (np.abs(points) < 0.97).all(axis=1)
    x, y = points[:, 0], points[:, 1]
    for other in cast:
        for shape in other.shapes:
            seen &= capsule(x, y, shape.a, shape.b, shape.radii)[0] > 0
    return int(seen.sum())


def _shadows(stage: Stage, cast: list[Figure], opacity: float) -> None:
    """Darkens the floor under the dancers, in place."""
    image, (x, y) = stage.image, grid(stage.floor.shape)
    for figure in cast:
        ankles = figure.joints[[0, 5], :2]
        middle, low = ankles[:, 0].mean(), max(s.b[1] for s in figure.shapes)
        wide = 0.12 * figure.height + 0.5 * abs(ankles[0, 0] - ankles[1, 0])
        radius = ((x - middle) / wide) ** 2 + ((y - low) / (0.045 * figure.height)) ** 2
        image *= 1 - opacity * np.exp(-radius) * stage.floor


def _cover(
    image: np.ndarray,
    owner: np.ndarray,
    part: np.ndarray,
    shape: Shape,
    number: int,
    light: np.ndarray,
    ambient: float,
) -> None:
    """Draws a shape of a dancer over the image and the maps, in place."""
    size = len(owner)
    pixel = 2 / size
    a, b, radii = shape.a, shape.b, shape.radii
    points = np.stack([a[:2], b[:2]]) if shape.outline is None else shape.outline
    reach = shape.rounding if shape.outline is not None else max(radii)
    where = window(size, points.min(0), points.max(0), 1.4 * reach + pixel)
    if where is None:
        return
    x, y = grid(owner.shape)
    x, y = x[:, where[1]], y[where[0]]
    distance, along, nx, ny = capsule(x, y, a, b, radii)
    if shape.outline is not None:
        distance = polygon(x, y, shape.outline) - shape.rounding
    nz = np.sqrt(np.clip(1 - nx * nx - ny * ny, 0, 1))
    shade = ambient + (1 - ambient) * 1.15 * np.clip(
        float(light[0]) * nx + float(light[1]) * ny + float(light[2]) * nz, 0, 1
    )
    axis = (b - a)[:2]
    length = float(np.linalg.norm(b - a))
    nx, ny = np.clip(nx, -1, 1), np.clip(ny, -1, 1)
    if shape.head is not None:
        colour = _face(shape, along, nx, ny, nz, pixel)
    else:
        across = (nx * axis[1] - ny * axis[0]) / max(np.linalg.norm(axis), 1e-6)
        colour = _clothe(shape, along * length, across * radii[0], along, pixel)
    # A soft shadow on the dancer's other limbs and body sets off a limb before them.
    other = (owner[where] == number) & (_PART_LIMB[part[where]] != _PART_LIMB[shape.part])
    shadow = np.clip(1 - distance / (0.5 * reach), 0, 1) * other
    image[(slice(None), *where)] *= 1 - 0.45 * shadow
    paint(image, where, distance, colour * shade)
    inside = distance <= 0
    owner[where][inside] = number
    part[where][inside] = shape.part


def _clothe(
    shape: Shape, s: np.ndarray, t: np.ndarray, along: np.ndarray, pixel: float
) -> np.ndarray:
    """Returns the colours (3, height, width) at lengths s along a shape and t across it."""
    cloth = shape.cloth
    share = pattern(cloth.kind, s, t, cloth.period, pixel)
    colour = cloth.colour[:, None, None] + share * (cloth.second - cloth.colour)[:, None, None]
    if cloth.until <= 1:
        length = float(np.linalg.norm((shape.b - shape.a)[:2]))
        bare = np.clip(0.5 + (along - cloth.until) * length / pixel, 0, 1)
        colour = colour + bare * (cloth.beyond[:, None, None] - colour)
    return colour


def _face(
    shape: Shape, along: np.ndarray, nx: np.ndarray, ny: np.ndarray, nz: np.ndarray, pixel: float
) -> np.ndarray:
    """Returns the colours (3, height, width) of a head: hair, and a face where it looks."""
    radius = shape.radii[1]
    half = float(np.linalg.norm(shape.b - shape.a)) / 2 + radius
    lift = (along - 0.5) * (2 * (half - radius))
    left, up, front = shape.head @ np.stack([nx, ny, nz]).reshape(3, -1) * (radius / half)
    left, up, front = (v.reshape(nx.shape) for v in (left, up, front))
    up = up + lift / half
    soft = 2 * half / pixel

    def spot(u: float, v: float, wide: float, tall: float) -> np.ndarray:
        away = np.sqrt(((left - u) / wide) ** 2 + ((up - v) / tall) ** 2) - 1
        return np.clip(0.5 - away * tall * soft / 2, 0, 1) * (front > 0.1)

    skin, hair = shape.cloth.beyond[:, None, None], shape.cloth.colour[:, None, None]
    bare = np.clip(0.5 + (front - 0.85 * np.clip(up, 0, 1) - 0.12) * soft / 2, 0, 1)
    colour = hair + bare * (skin - hair)
    dark = np.maximum(spot(-0.30, 0.10, 0.15, 0.10), spot(0.30, 0.10, 0.15, 0.10))
    colour = colour * (1 - 0.85 * dark)
    colour = colour * (1 - 0.35 * spot(0, -0.16, 0.10, 0.17))
    lips = np.array([0.65, 0.15, 0.15], np.float32)[:, None, None]
    return colour + 0.6 * spot(0, -0.50, 0.26, 0.08) * (lips - colour)


def _annotate(figure: Figure, number: int, owner: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Returns the joints (14, 3) of a dancer in pixels."""
    size = len(owner)
    xy = (figure.joints[:, :2] + 1) * size / 2 - 0.5
    column, row = np.floor(xy + 0.5).astype(int).T
    inside = (column >= 0) & (row >= 0) & (column < size) & (row < size)
    row, column = row.clip(0, size - 1), column.clip(0, size - 1)
    joint = np.arange(len(xy))
    shown = _SHOWS[joint, part[row, column]] & (owner[row, column] == number)
    found = np.concatenate([xy, 1 + shown[:, None]], axis=1)
    return np.where(inside[:, None], found, 0).astype(np.float32)
