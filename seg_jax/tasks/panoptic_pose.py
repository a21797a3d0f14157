"""Body parts, objects and skeletons of people at once, from one network."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from seg_jax.errors import InputError
from seg_jax.found import Found
from seg_jax.labels import Example, Kind, Labels
from seg_jax.losses import Mean
from seg_jax.resize import Resize
from seg_jax.tasks.panoptic import Panoptic
from seg_jax.tasks.pose import Pose
from seg_jax.tasks.task import Batch, Decoded, ScoreName, Task


class Both(NamedTuple):
    """What was measured or is kept for each of the two tasks."""

    panoptic: Any
    pose: Any


@dataclass(frozen=True)
class PanopticPose(Task):
    """`Panoptic` and `Pose` on the same features.

    The maps are those of the first, then those of the second. The losses are added.
    """

    panoptic: Panoptic = field(default_factory=Panoptic)
    """Classes and objects."""
    pose: Pose = field(default_factory=Pose)
    """Skeletons."""
    pose_weight: float = 1.0
    """Weight of the skeletons' loss beside the other."""

    finds: ClassVar[tuple[str, ...]] = Panoptic.finds + Pose.finds
    kinds: ClassVar[Mapping[str, Kind]] = {**Panoptic.kinds, **Pose.kinds}
    score_names: ClassVar[Mapping[str, ScoreName]] = {
        "pq_ap": ScoreName("Mean of PQ and OKS AP"),
        **Panoptic.score_names,
        **Pose.score_names,
    }

    def best(self, labels: Labels) -> str:
        """The mean of the panoptic quality and of the skeletons' AP."""
        return "pq_ap"

    def check(self, labels: Labels) -> None:
        """Refuses labels without things or joints.

        Raises:
          InputError: naming the field and the fix.
        """
        with _fields_of("panoptic"):
            self.panoptic.check(labels)
        with _fields_of("pose"):
            self.pose.check(labels)

    def maps(self, labels: Labels) -> tuple[str, ...]:
        """Those of both."""
        return self.panoptic.maps(labels) + self.pose.maps(labels)

    def arrays(
        self, labels: Labels, example: Example, size: tuple[int, int]
    ) -> dict[str, np.ndarray]:
        """Those of both.

        Raises:
          InputError: if there are more objects or people than the fields allow.
        """
        with _fields_of("panoptic"):
            objects = self.panoptic.arrays(labels, example, size)
        with _fields_of("pose"):
            people = self.pose.arrays(labels, example, size)
        return objects | people

    def objective(self, labels: Labels, maps: Array, batch: Batch) -> dict[str, Mean]:
        """The terms of both, those of the skeletons times `pose_weight`."""
        first, second = self._parts(labels, maps)
        of_pose = self.pose.objective(labels, second, batch)
        return {
            **self.panoptic.objective(labels, first, batch),
            **{name: self.pose_weight * term for name, term in of_pose.items()},
        }

    def predictions(self, labels: Labels, maps: Array, size: tuple[int, int]) -> Array:
        """Those of both."""
        first, second = self._parts(labels, maps)
        return jnp.concatenate(
            [
                self.panoptic.predictions(labels, first, size),
                self.pose.predictions(labels, second, size),
            ],
            -1,
        )

    def mirrored(self, labels: Labels, predictions: Array, axes: tuple[int, ...]) -> Array:
        """Each as its task does."""
        first, second = self._parts(labels, predictions)
        return jnp.concatenate(
            [
                self.panoptic.mirrored(labels, first, axes),
                self.pose.mirrored(labels, second, axes),
            ],
            -1,
        )

    def resized(self, labels: Labels, predictions: Array, resize: Resize) -> Array:
        """Each as its task does."""
        first, second = self._parts(labels, predictions)
        return jnp.concatenate(
            [
                self.panoptic.resized(labels, first, resize),
                self.pose.resized(labels, second, resize),
            ],
            -1,
        )

    def probabilities(self, labels: Labels, predictions: Array) -> Array:
        """Those of the classes, then the heat maps of the joints."""
        first, second = self._parts(labels, predictions)
        return jnp.concatenate(
            [self.panoptic.probabilities(labels, first), self.pose.probabilities(labels, second)],
            -1,
        )

    def decode(self, labels: Labels, predictions: Array, *, scale: float = 1.0) -> Decoded:
        """Classes, objects and stuff, and candidates for joints."""
        first, second = self._parts(labels, predictions)
        decoded = self.panoptic.decode(labels, first, scale=scale)
        candidates = self.pose.decode(labels, second, scale=scale).candidates
        return decoded._replace(candidates=candidates)

    def found(self, labels: Labels, decoded: Decoded, size: tuple[int, int]) -> Found:
        """Classes, objects and stuff, and people."""
        people = self.pose.found(labels, decoded, size)
        return dataclasses.replace(
            self.panoptic.found(labels, decoded, size),
            skeletons=people.skeletons,
            skeleton_scores=people.skeleton_scores,
        )

    def measure(self, labels: Labels, decoded: Decoded, batch: Batch) -> Both:
        """What the scores of each task need."""
        return Both(
            self.panoptic.measure(labels, decoded, batch),
            self.pose.measure(labels, decoded, batch),
        )

    def record(self, labels: Labels, measured: Both, found: Found | None = None) -> Both:
        """Those of both."""
        return Both(
            self.panoptic.record(labels, measured.panoptic, found),
            self.pose.record(labels, measured.pose, found),
        )

    def scores(self, labels: Labels, records: Sequence[Both]) -> dict[str, float]:
        """The mean of PQ and AP, then the scores of both."""
        first = self.panoptic.scores(labels, [record.panoptic for record in records])
        second = self.pose.scores(labels, [record.pose for record in records])
        return {"pq_ap": (first["pq"] + second["ap"]) / 2} | first | second

    def summary(
        self, labels: Labels, records: Sequence[Both], details: Sequence[dict[str, float]]
    ) -> dict[str, Any]:
        """The mean of PQ and AP, then the summaries of both."""
        first = self.panoptic.summary(labels, [record.panoptic for record in records], details)
        second = self.pose.summary(labels, [record.pose for record in records], details)
        mean = {"pq_ap": (first["pq"] + second["ap"]) / 2}
        return mean | first | second | {"per_class": first["per_class"] | second["per_class"]}

    def details(self, labels: Labels, found: Found, example: Example) -> dict[str, float]:
        """Those of both."""
        return self.panoptic.details(labels, found, example) | self.pose.details(
            labels, found, example
        )

    def _parts(self, labels: Labels, maps: Array) -> tuple[Array, Array]:
        """The maps (..., K) of each task."""
        count = len(self.panoptic.maps(labels))
        return maps[..., :count], maps[..., count:]


@contextlib.contextmanager
def _fields_of(task: str) -> Iterator[None]:
    """Lets a task inside name its fields as this one's: task.max_people → task.pose.max_people."""
    try:
        yield
    except InputError as error:
        raise error.inside(task) from error
