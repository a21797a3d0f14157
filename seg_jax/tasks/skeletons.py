"""Skeletons of several people as maps, and maps as skeletons, after OpenPose (Cao et al. 2019).

A joint is a peak of its heat map. A limb is a field of unit vectors, the part affinity field, that
points along it from one joint to the other. `heat_maps` and `part_affinity` draw true skeletons as
maps; `peaks` (of `seg_jax.tasks.peaks`) and `limb_scores` read maps on the device, and `assemble`
puts the people of one image together on the host. Sections are those of
https://arxiv.org/abs/1812.08008.

    heat = heat_maps(joints, shape, sigma=7)
    fields = part_affinity(joints, limbs, shape, width=5)
    found = peaks(heat, count=20, threshold=0.1)
    scores = limb_scores(fields, found, limbs)
    people, sure = assemble(*(v[0] for v in found), scores[0], limbs)

Coordinates are x, the column, and y, the row; pixel centres are at whole numbers. Joints are
(B, P, J, 3) with visibility as in `seg_jax.labels.Example`, padded to P people by joints of
visibility 0. The authors' loss leaves out only the pixels of crowds and of people without any
annotation (`genCOCOMask.m` of their training code), which are `VOID` in `Example.label`. Elsewhere
an unlabelled joint counts as background.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from seg_jax.metrics.people import greedy_pairs
from seg_jax.tasks.peaks import Peaks

Limbs = Sequence[tuple[int, int]]
"""For each limb, its first and its second joint, as in `Skeleton.limbs`."""


def heat_maps(joints, shape: tuple[int, int], *, sigma: float, stride: float = 1) -> jax.Array:
    """Where each joint is: maxₖ exp(−‖p − xₖ‖² / 2σ²) over the people k (section 3.3).

    The maximum, unlike the sum, keeps the peaks of people who stand close together apart. Both
    visible and hidden joints are drawn.

    Args:
      joints: (B, P, J, 3) float, in pixels of the picture.
      shape: H, W of the maps, in cells.
      sigma: σ in pixels of the picture.
      stride: pixels from cell to cell; cell i has its centre at stride · (i + 1/2) − 1/2.

    Returns:
      (B, H, W, J) float32 in [0, 1].
    """

    def profile(axis, size):
        # An unlabelled joint is infinitely far away, where the Gaussian is 0.
        places = jnp.where(joints[..., 2] > 0, joints[..., axis], jnp.inf)
        far = _centres(size, stride)[:, None] - places[:, :, None]
        return jnp.exp(-(far**2) / (2 * sigma**2))

    rows, columns = profile(1, shape[0]), profile(0, shape[1])
    # Person by person, unrolled: on a CPU XLA vectorises this, but not a reduction over people.
    people = (rows[:, p, :, None] * columns[:, p, None] for p in range(joints.shape[1]))
    empty = jnp.zeros((joints.shape[0], *shape, joints.shape[2]), jnp.float32)
    return functools.reduce(jnp.maximum, people, empty)


def part_affinity(
    joints, limbs: Limbs, shape: tuple[int, int], *, width: float, stride: float = 1
) -> jax.Array:
    """Where each limb is and where it points (section 3.4).

    With v the unit vector from a person's first joint a to the second b, the person's field is v at
    the pixels p with 0 ≤ v · (p − a) ≤ ‖b − a‖ and |v⊥ · (p − a)| ≤ width, and 0 elsewhere. Where
    the fields of several people aren't 0, the result is their mean. A limb with an unlabelled end
    or no length isn't drawn.

    Args:
      joints: (B, P, J, 3) float, in pixels of the picture.
      limbs: L pairs of joints.
      shape: H, W of the fields, in cells.
      width: half the width of a limb, in pixels of the picture; below stride / √2 lines have gaps.
      stride: pixels from cell to cell, as in `heat_maps`.

    Returns:
      (B, H, W, 2L) float32: x and y of the first limb, x and y of the second, and so on.
    """
    start, end = (joints[:, :, [limb[k] for limb in limbs]] for k in range(2))
    along = end[..., :2] - start[..., :2]
    square = jnp.sum(along**2, axis=-1)
    drawn = (start[..., 2] > 0) & (end[..., 2] > 0) & (square > 0)
    length = jnp.sqrt(jnp.where(drawn, square, 1))
    unit = along / length[..., None]

    def over_pixels(limb):
        """(B, P, L) to (B, P, 1, 1, L)."""
        return limb[:, :, None, None]

    x = _centres(shape[1], stride)[:, None] - over_pixels(start[..., 0])
    y = _centres(shape[0], stride)[:, None, None] - over_pixels(start[..., 1])
    x_along, y_along = over_pixels(along[..., 0]), over_pixels(along[..., 1])
    # Both are ‖b − a‖ times the formula's, so that whole coordinates stay exact.
    forward = x_along * x + y_along * y
    aside = x_along * y - y_along * x
    inside = (
        over_pixels(drawn)
        & (forward >= 0)
        & (forward <= over_pixels(square))
        & (jnp.abs(aside) <= over_pixels(width * length))
    )

    # Three reductions in one, as XLA on a CPU would visit all pixels of all people three times.
    terms = jnp.ones_like(length), unit[..., 0], unit[..., 1]
    people, x_sum, y_sum = lax.reduce(
        tuple(jnp.where(inside, over_pixels(term), 0) for term in terms),
        (np.float32(0),) * 3,
        lambda a, b: tuple(map(jnp.add, a, b)),
        dimensions=(1,),
    )
    fields = jnp.stack([x_sum, y_sum], axis=-1) / jnp.maximum(people, 1)[..., None]
    return fields.reshape(*fields.shape[:3], -1)


def limb_scores(
    fields,
    found: Peaks,
    limbs: Limbs,
    *,
    samples: int = 10,
    threshold: float = 0.05,
    share: float = 0.8,
) -> jax.Array:
    """How well the field follows the line between each pair of candidates (section 3.4).

    The mean over `samples` points of the line from a to b, both ends among them, of the dot product
    of the field and the line's unit vector, plus min(H / 2‖b − a‖ − 1, 0), which makes lines longer
    than half the height score less. The score is 0 where this isn't positive, where fewer than
    `share` of the points are above `threshold`, and where an end is an empty slot.

    This is as in the authors' code (Realtime_Multi-Person_Pose_Estimation,
    testing/python/demo.ipynb) with two differences: they take the field of the nearest pixel, where
    the bilinear value here finds short limbs as well, and demand more than `share` of the points.

    Args:
      fields: (B, H, W, 2L) float, as from `part_affinity`.
      found: of count n, in cells of the fields.
      limbs: L pairs of joints.
      samples: points on a line, 2 or more.
      threshold: what the dot product must exceed for a point to count as on the limb.
      share: fraction of the points that must be on the limb.

    Returns:
      (B, L, n, n) float32, the limb's first joint by row, its second by column.
    """
    batch, height, width, _ = fields.shape
    fields = fields.astype(jnp.float32).reshape(batch, height, width, len(limbs), 2)
    first, second = ([limb[k] for limb in limbs] for k in range(2))

    def between(values):
        """(B, L, n, n, samples): evenly from the first joint's to the second's."""
        a, b = values[:, first, :, None, None], values[:, second, None, :, None]
        return a + (b - a) * jnp.linspace(0, 1, samples)

    x, y = between(found.x), between(found.y)
    along = jnp.stack([v[..., -1] - v[..., 0] for v in (x, y)], axis=-1)
    square = jnp.sum(along**2, axis=-1)
    there = (found.score[:, first, :, None] > 0) & (found.score[:, second, None] > 0) & (square > 0)
    length = jnp.sqrt(jnp.where(there, square, 1))
    unit = along / length[..., None]

    left, top = jnp.floor(x), jnp.floor(y)
    right, low = x - left, y - top
    image = jnp.arange(batch)[:, None, None, None, None]
    limb = jnp.arange(len(limbs))[:, None, None, None]

    def on_line(down, across):
        """The field times the unit vector at one of the four pixels around each point."""
        row = jnp.clip(top.astype(jnp.int32) + down, 0, height - 1)
        column = jnp.clip(left.astype(jnp.int32) + across, 0, width - 1)
        return jnp.sum(fields[image, row, column, limb] * unit[..., None, :], axis=-1)

    upper = on_line(0, 0) * (1 - right) + on_line(0, 1) * right
    lower = on_line(1, 0) * (1 - right) + on_line(1, 1) * right
    points = upper * (1 - low) + lower * low

    score = jnp.mean(points, axis=-1) + jnp.minimum(0.5 * height / length - 1, 0)
    # Counts are compared, because the mean of 8 in 10 may differ from the float 0.8.
    enough = jnp.sum(points > threshold, axis=-1) >= np.ceil(share * samples - 1e-6)
    return jnp.where(there & enough, jnp.maximum(score, 0), 0)


def assemble(
    x,
    y,
    score,
    limb_scores,
    limbs: Limbs,
    *,
    min_joints: int = 4,
    min_score: float = 0.4,
) -> tuple[np.ndarray, np.ndarray]:
    """Puts the people of one image together from candidates, greedily, limb by limb (section 3.5).

    At first every candidate is a person of one joint. For each limb, the pair of candidates with
    the best positive score is taken first, then the best pair among the other candidates, and so
    on. The two people to whom a pair belongs become one. If they have a joint in common, which can
    only happen where the limbs form a cycle, the pair is dropped instead. There the authors' code
    replaces a joint, or lets two people share it; here a candidate belongs to one person.

    Args:
      x: (J, n), candidates as from `peaks`.
      y: (J, n).
      score: (J, n); 0 is an empty slot.
      limb_scores: (L, n, n), as from the function.
      limbs: L pairs of joints, the surest first.
      min_joints: a person with fewer joints is dropped.
      min_score: a person is dropped whose joints' and limbs' scores sum up to less, divided by
        the number of joints. Both defaults are those of the authors' code.

    Returns:
      people: (N, J, 3) float32, x, y and score of each joint; all 0 where it wasn't found.
      scores: (N,) float32, the same sum divided by the number of joints and limbs of a whole
        person, the highest first; at most 1 if no joint's or limb's score is higher.
    """
    x, y, score, limb_scores = (np.asarray(v, np.float64) for v in (x, y, score, limb_scores))
    owner = np.arange(score.size).reshape(score.shape)
    total = score.flatten()
    for (a, b), scores in zip(limbs, limb_scores, strict=True):
        for i, j in greedy_pairs(scores):
            p, q = owner[a, i], owner[b, j]
            if p != q:
                ours, theirs = owner == p, owner == q
                if (ours.any(axis=1) & theirs.any(axis=1)).any():
                    continue
                owner[theirs] = p
                total[p] += total[q]
            total[p] += scores[i, j]

    numbers, joints = np.unique(owner[score > 0], return_counts=True)
    numbers = numbers[(joints >= min_joints) & (total[numbers] >= min_score * joints)]
    numbers = numbers[np.argsort(-total[numbers], kind="stable")]
    people = np.zeros((len(numbers), len(score), 3), np.float32)
    for person, number in zip(people, numbers, strict=True):
        joint, slot = np.nonzero(owner == number)
        person[joint] = np.stack([v[joint, slot] for v in (x, y, score)], axis=-1)
    return people, (total[numbers] / (len(score) + len(limbs))).astype(np.float32)


def _centres(size, stride):
    return stride * (jnp.arange(size, dtype=jnp.float32) + 0.5) - 0.5
