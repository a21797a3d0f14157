"""Dancers in three dimensions: their proportions, poses, clothes and shapes.

Points are (x, y, z) in units of half the frame, x to the right, y down and z at the viewer. A basis
(3, 3) holds a body's left, up and front as rows.
"""

import colorsys
from typing import NamedTuple

import numpy as np

from seg_jax.datasets.dancers.shapes import PATTERNS
from seg_jax.datasets.skeletons import LSP_SKELETON

TORSO, NECK, HEAD = 1, 2, 3
UPPER_ARM, FOREARM, THIGH, SHIN = 4, 5, 6, 7
"""Numbers of the right limbs' parts; the left ones' are `SIDE` more, and 0 is no part."""
SIDE = 4

_LEFT, _UP, _FRONT = 0, 1, 2

_CROWN = 0.88
"""Height of the joint head_top above a head's centre, in half heights: below the hair's outline."""

_SKIN = np.array(
    [
        [0.96, 0.82, 0.73], [0.93, 0.73, 0.62], [0.86, 0.66, 0.50], [0.74, 0.53, 0.38],
        [0.58, 0.39, 0.27], [0.42, 0.27, 0.19], [0.30, 0.19, 0.14],
    ]
)  # fmt: skip
_HAIR = np.array(
    [
        [0.07, 0.06, 0.06], [0.20, 0.12, 0.07], [0.38, 0.23, 0.12], [0.78, 0.62, 0.35],
        [0.55, 0.22, 0.10], [0.62, 0.60, 0.58], [0.70, 0.15, 0.40], [0.15, 0.40, 0.60],
    ]
)  # fmt: skip
_HAIR_SHARE = np.array([0.26, 0.2, 0.16, 0.12, 0.1, 0.08, 0.04, 0.04])


class Cloth(NamedTuple):
    """The cloth that covers a shape from its beginning, and the colour of the rest."""

    colour: np.ndarray
    second: np.ndarray
    kind: str
    """One of `PATTERNS`."""
    period: float
    beyond: np.ndarray
    """Colour after the end of the cloth."""
    until: float = 2.0
    """Position along the shape, from 0 to 1, where the cloth ends; it covers all if above 1."""


class Shape(NamedTuple):
    """A tapered capsule, or a rounded outline around one."""

    a: np.ndarray
    b: np.ndarray
    radii: tuple[float, float]
    part: int
    near: float
    """Shapes of a figure are drawn in the order of this."""
    cloth: Cloth
    outline: np.ndarray | None = None
    """(n, 2) corners of a polygon; the shape reaches `rounding` beyond it."""
    rounding: float = 0.0
    head: np.ndarray | None = None
    """A head's basis, on which a face and hair are painted."""


class Figure(NamedTuple):
    """One dancer."""

    joints: np.ndarray
    """(14, 3) in the order of `LSP_SKELETON`."""
    shapes: tuple[Shape, ...]
    """From the back to the front."""
    height: float
    """Standing height."""


def _turn(basis: np.ndarray, axis: int, towards: int, degrees: float) -> np.ndarray:
    """Turns the body so that one of its axes moves towards another."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turned = basis.copy()
    turned[axis] = c * basis[axis] + s * basis[towards]
    turned[towards] = c * basis[towards] - s * basis[axis]
    return turned


def _bend(along: np.ndarray, towards: np.ndarray, degrees: float) -> np.ndarray:
    """Turns a unit vector towards another by an angle."""
    across = towards - (towards @ along) * along
    across = across / max(np.linalg.norm(across), 1e-6)
    return np.cos(np.radians(degrees)) * along + np.sin(np.radians(degrees)) * across


def _swing(basis: np.ndarray, out: np.ndarray, lift: float, forward: float) -> np.ndarray:
    """Returns a limb's direction: lifted from hanging, to its own side or forward (degrees)."""
    lift, forward = np.radians(lift), np.radians(forward)
    level = np.cos(forward) * out + np.sin(forward) * basis[_FRONT]
    return -np.cos(lift) * basis[_UP] + np.sin(lift) * level


def vivid(rng: np.random.Generator, saturation: tuple[float, float] = (0.05, 0.9)) -> np.ndarray:
    """Draws a colour (3,)."""
    hue, value = rng.random(), rng.uniform(0.15, 0.97)
    return np.array(colorsys.hsv_to_rgb(hue, rng.uniform(*saturation), value), np.float32)


def skin_like(rng: np.random.Generator) -> np.ndarray:
    """Draws a colour (3,) of skin."""
    tone = _SKIN[rng.integers(len(_SKIN))] * np.exp(rng.normal(0, 0.06, 3) * (0.6, 0.8, 1))
    return tone.clip(0, 1).astype(np.float32)


def _cloth(rng: np.random.Generator, height: float, beyond: np.ndarray) -> Cloth:
    kind = PATTERNS[rng.choice(len(PATTERNS), p=(0.5, 0.17, 0.13, 0.1, 0.1))]
    return Cloth(vivid(rng), vivid(rng), kind, height * rng.uniform(0.02, 0.07), beyond)


def draw_figure(rng: np.random.Generator, height: float) -> Figure:
    """Draws a dancer of a standing height whose lowest point is at y 0 and whose hips' x is 0."""
    joints, frame = _pose(rng, height)
    shapes = _dress(rng, height, joints, frame)
    low = max(max(s.a[1] + s.radii[0], s.b[1] + s.radii[1]) for s in shapes)
    return place(Figure(joints, tuple(sorted(shapes, key=lambda s: s.near)), height), 0, -low)


def place(figure: Figure, x: float, y: float) -> Figure:
    """Moves a figure."""
    shift = np.array([x, y, 0])
    shapes = tuple(
        s._replace(
            a=s.a + shift,
            b=s.b + shift,
            outline=None if s.outline is None else s.outline + shift[:2],
        )
        for s in figure.shapes
    )
    return figure._replace(joints=figure.joints + shift, shapes=shapes)


class _Frame(NamedTuple):
    """What drawing a posed dancer needs in addition to the joints."""

    hips: np.ndarray
    """(3, 3) basis; so are `chest` and `skull`."""
    chest: np.ndarray
    skull: np.ndarray
    waist: np.ndarray
    """(3,) where hips and chest meet."""
    hands: np.ndarray
    """(2, 3) tips, the right one first; so are `toes`."""
    toes: np.ndarray
    head_radius: float
    head_half: float
    """Half the height of the head."""
    width: float
    """How stout the dancer is, 1 for the average."""


def _pose(rng: np.random.Generator, height: float) -> tuple[np.ndarray, _Frame]:
    """Poses a dancer whose hips are at 0; returns the joints (14, 3) and the frame."""

    def about(mean: float, spread: float = 0.07) -> float:
        return height * mean * float(np.exp(rng.uniform(-spread, spread)))

    upright = np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, 1]])
    facing = rng.normal(0, 28) if rng.random() < 0.7 else rng.uniform(-65, 65)
    away = 180 if rng.random() < 0.4 else 0
    hips = _turn(upright, _FRONT, _LEFT, np.clip(facing, -70, 70) + away)
    hips = _turn(hips, _UP, _LEFT, rng.normal(0, 6))
    chest = _turn(hips, _FRONT, _LEFT, rng.uniform(-25, 25))
    bent = rng.random()
    chest = _turn(chest, _UP, _FRONT, rng.uniform(30, 75) if bent < 0.12 else rng.uniform(-15, 20))
    sideways = rng.choice([-1, 1]) * rng.uniform(25, 50) if bent > 0.82 else rng.normal(0, 9)
    chest = _turn(chest, _UP, _LEFT, sideways)
    skull = _turn(chest, _FRONT, _LEFT, rng.uniform(-35, 35))
    skull = _turn(skull, _UP, _FRONT, rng.uniform(-18, 22))
    skull = _turn(skull, _UP, _LEFT, rng.normal(0, 10))

    width = float(np.exp(rng.normal(0, 0.13)))
    head_half = about(0.068, 0.05) * (1.35 if rng.random() < 0.15 else 1.05)
    head_radius = head_half * rng.uniform(0.72, 0.82)
    waist = hips[_UP] * about(0.10)
    neck = waist + chest[_UP] * about(0.21)
    head = neck + (0.6 * chest[_UP] + 0.4 * skull[_UP]) * about(0.035) + skull[_UP] * head_half
    shoulder, hip = about(0.105) * width**0.7, about(0.058) * width**0.5
    upper, lower, palm = about(0.17), about(0.15), about(0.05)
    thigh, shin, foot = about(0.245), about(0.225), about(0.085)

    found = {"neck": neck, "head_top": head + _CROWN * head_half * skull[_UP]}
    hands, toes = [], []
    kicking = rng.random() < 0.4
    kicker = int(rng.integers(2))
    squat = rng.uniform(0, 45) if rng.random() < 0.3 else rng.uniform(0, 12)
    for side, sign in (("right", -1), ("left", 1)):
        start = neck - chest[_UP] * 0.02 * height + sign * shoulder * chest[_LEFT]
        kind = rng.random()
        lift = rng.uniform(*((105, 175) if kind < 0.4 else (60, 105) if kind < 0.72 else (8, 55)))
        along = _swing(chest, sign * chest[_LEFT], lift, rng.uniform(-25, 75))
        inward = rng.uniform((0.2, -0.2, -0.5), 1) @ np.stack(
            [chest[_FRONT], -sign * chest[_LEFT], chest[_UP]]
        )
        bend = rng.uniform(0, 35) if rng.random() < 0.45 else rng.uniform(30, 125)
        elbow = start + upper * along
        along = _bend(along, inward, bend)
        wrist = elbow + lower * along
        hands.append(wrist + palm * _bend(along, rng.normal(size=3), rng.uniform(0, 30)))
        found |= {f"{side}_shoulder": start, f"{side}_elbow": elbow, f"{side}_wrist": wrist}

        start = sign * hip * hips[_LEFT]
        lift, forward = squat + rng.uniform(2, 16), rng.uniform(-15, 70)
        bend = 1.6 * squat + rng.uniform(0, 15)
        if kicking and kicker == (sign > 0):
            lift, forward = rng.uniform(30, 110), rng.uniform(-20, 90)
            bend = rng.uniform(0, 20) if rng.random() < 0.5 else rng.uniform(30, 120)
        along = _swing(hips, sign * hips[_LEFT], lift, forward)
        knee = start + thigh * along
        along = _bend(along, -hips[_FRONT] - 0.3 * hips[_UP], bend)
        ankle = knee + shin * along
        ahead = hips[_FRONT] + sign * rng.uniform(0, 0.8) * hips[_LEFT]
        toes.append(ankle + foot * _bend(along, ahead, rng.uniform(25, 80)))
        found |= {f"{side}_hip": start, f"{side}_knee": knee, f"{side}_ankle": ankle}

    joints = np.stack([found[name] for name in LSP_SKELETON.joints])
    hands, toes = np.stack(hands), np.stack(toes)
    return joints, _Frame(hips, chest, skull, waist, hands, toes, head_radius, head_half, width)


def _dress(
    rng: np.random.Generator, height: float, joints: np.ndarray, frame: _Frame
) -> list[Shape]:
    """Returns the shapes of a posed dancer."""
    at = dict(zip(LSP_SKELETON.joints, joints, strict=True))
    skin = skin_like(rng)
    # Hair like the skin would hide which way a head looks.
    share = _HAIR_SHARE * (np.abs(_HAIR - skin).max(axis=1) > 0.25)
    hair = _HAIR[rng.choice(len(_HAIR), p=share / share.sum())].astype(np.float32)
    bottom = _cloth(rng, height, skin)
    top = _cloth(rng, height, skin)
    sleeve = rng.random()
    sleeves = top if rng.random() < 0.75 else _cloth(rng, height, skin)
    legs = rng.random()
    shoe = Cloth(vivid(rng) if rng.random() < 0.8 else skin, skin, "plain", 1, skin)
    bare = Cloth(skin, skin, "plain", 1, skin)
    stout = height * frame.width

    def limb(a, b, radii, part, near, cloth) -> Shape:
        radii = (radii[0] * stout, radii[1] * stout)
        return Shape(a, b, radii, part, (a[2] + b[2]) / 2 + near * height, cloth)

    neck, chest, hips = at["neck"], frame.chest, frame.hips
    corners = [
        p
        for sign, side in ((1, "left"), (-1, "right"))
        for p in (
            neck + sign * 0.022 * stout * chest[_LEFT],
            at[f"{side}_shoulder"]
            - sign * 0.014 * stout * chest[_LEFT]
            - 0.018 * stout * chest[_UP],
            frame.waist + sign * rng.uniform(0.045, 0.06) * stout * hips[_LEFT],
            at[f"{side}_hip"] + sign * 0.004 * stout * hips[_LEFT],
        )[::sign]
    ]
    rounding = rng.uniform(0.032, 0.042) * stout
    pelvis = -0.02 * height * hips[_UP]
    torso = Shape(
        neck,
        pelvis,
        (0.13 * stout, 0.10 * stout),
        TORSO,
        (neck[2] + pelvis[2]) / 2 + 0.03 * height,
        top._replace(beyond=bottom.colour, until=rng.uniform(0.72, 0.9)),
        np.stack(corners)[:, :2],
        rounding,
    )
    skull = frame.skull
    centre = at["head_top"] - _CROWN * frame.head_half * skull[_UP]
    reach = (frame.head_half - frame.head_radius) * skull[_UP]
    crown = Cloth(hair, hair, "plain", 1, skin)
    head = Shape(
        centre - reach,
        centre + reach,
        (frame.head_radius * 0.93, frame.head_radius),
        HEAD,
        centre[2] + 0.045 * height,
        crown,
        head=skull,
    )
    shapes = [torso, head]
    shapes.append(limb(neck, centre, (0.026, 0.028), NECK, 0.036, bare))
    if rng.random() < 0.4:
        root = centre - 0.5 * frame.head_radius * skull[_FRONT]
        tip = root - (0.5 * skull[_UP] + 0.5 * chest[_UP]) * height * rng.uniform(0.06, 0.17)
        tip = tip - 0.04 * height * chest[_FRONT]
        radius = frame.head_radius / stout
        tail = (0.85 * radius, rng.uniform(0.4, 0.9) * radius)
        shapes.append(limb(root, tip, tail, HEAD, 0.025, crown))
    arm, leg = rng.uniform(0.85, 1.15), rng.uniform(0.88, 1.12)
    for k, side in enumerate(("right", "left")):
        shoulder, elbow, wrist = (at[f"{side}_{name}"] for name in ("shoulder", "elbow", "wrist"))
        upper = sleeves._replace(until=0.05 if sleeve < 0.15 else 0.6 if sleeve < 0.5 else 2.0)
        lower = sleeves._replace(until=0.9) if sleeve > 0.5 else bare
        shift = k * SIDE
        shapes += [
            limb(shoulder, elbow, (0.036 * arm, 0.029 * arm), UPPER_ARM + shift, 0.035, upper),
            limb(elbow, wrist, (0.028 * arm, 0.021 * arm), FOREARM + shift, 0.04, lower),
            limb(wrist, frame.hands[k], (0.022, 0.020), FOREARM + shift, 0.039, bare),
        ]
        hip, knee, ankle = (at[f"{side}_{name}"] for name in ("hip", "knee", "ankle"))
        thigh = bottom._replace(until=0.6 if legs < 0.35 else 2.0)
        shin = bottom._replace(until=0.85) if legs > 0.35 else bare
        shapes += [
            limb(hip, knee, (0.058 * leg, 0.042 * leg), THIGH + shift, 0, thigh),
            limb(knee, ankle, (0.041 * leg, 0.027 * leg), SHIN + shift, 0.002, shin),
            limb(ankle, frame.toes[k], (0.028, 0.021), SHIN + shift, 0.003, shoe),
        ]
    return shapes
