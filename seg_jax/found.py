"""What is found in one image: the same few arrays for every task."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import numpy as np


class Segments(NamedTuple):
    """Which pixels belong together, as (H, W) numbers of segments; 0 is none."""

    number: jax.Array | np.ndarray
    """(H, W) integer, from 0 to S."""
    category: jax.Array | np.ndarray
    """(S + 1,) int32 category of each segment, from 1; 0 where there is no such segment."""
    score: jax.Array | np.ndarray
    """(S + 1,) float32 in [0, 1]."""


@dataclass(frozen=True, eq=False)
class Found:
    """What is found in one image, at the image's own size (height, width).

    A task fills the fields that it is about; the others are None.
    """

    label: np.ndarray | None = None
    """(height, width) uint8: the class of each pixel; 0 and 1 for a binary task."""
    segments: Segments | None = None
    """Objects, numbered from 1, then one segment for each category of stuff; `number` is
    (height, width) uint16, categories are those of `Labels.categories`."""
    skeletons: np.ndarray | None = None
    """(people, joints, 3) float32: x, y and score of each joint, all 0 where it wasn't found."""
    skeleton_scores: np.ndarray | None = None
    """(people,) float32, the highest first."""
    make_probabilities: Callable[[], np.ndarray] | None = field(default=None, repr=False)
    """Computes `probabilities` when they are asked for."""

    @property
    def probabilities(self) -> np.ndarray:
        """(height, width, K) float32: of each class, or the heat map of each joint.

        Computed at every call, because they take 4 K bytes a pixel.
        """
        return self.make_probabilities()

    @property
    def objects(self) -> np.ndarray:
        """(height, width) uint16: the number of each pixel's segment, 0 for none."""
        return self.segments.number
