"""Body parts, objects and skeletons of people at once, from one network."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from seg_jax.datasets.source import Example, Source
from seg_jax.errors import InputError
from seg_jax.export.overlay import (
    segment_overlay,
    shrunk,
    side_by_side,
    skeleton_overlay,
    write_overlay,
)
from seg_jax.tasks.panoptic import Panoptic
from seg_jax.tasks.pose import Pose


class Both(NamedTuple):
    """What belongs to the one task and to the other."""

    panoptic: Any
    pose: Any


@dataclass(frozen=True)
class Together:
    """`Panoptic` and `Pose` on the same features: a `seg_jax.tasks.Task`.

    The maps are those of the one, then those of the other. The losses are added.
    """

    panoptic: Panoptic = field(default_factory=Panoptic)
    """Classes and objects."""
    pose: Pose = field(default_factory=Pose)
    """Skeletons."""
    weight: float = 1.0
    """Weight of the skeletons' loss beside the other."""

    best: ClassVar[str] = "pq_ap"

    def __post_init__(self):
        if self.pose.stride != 1:
            raise InputError(
                f"task.pose.stride is {self.pose.stride}, but objects need maps of every pixel; "
                "set --task.pose.stride 1"
            )

    def check(self, data: Source) -> None:
        """Refuses data without objects or joints."""
        for name in ("panoptic", "pose"):
            with _named(name):
                getattr(self, name).check(data)

    def maps(self, data: Source) -> tuple[str, ...]:
        """Those of both."""
        return self.panoptic.maps(data) + self.pose.maps(data)

    def arrays(
        self, data: Source, example: Example, size: tuple[int, int]
    ) -> dict[str, np.ndarray]:
        """Those of both."""
        found = {}
        for name in ("panoptic", "pose"):
            with _named(name):
                found |= getattr(self, name).arrays(data, example, size)
        return found

    def objective(self, data: Source, maps: Array, batch: dict, *, axis_name=None) -> Array:
        """The sum of both, the second weighed."""
        first, second = self._parts(data, maps)
        value = self.panoptic.objective(data, first, batch, axis_name=axis_name)
        return value + self.weight * self.pose.objective(data, second, batch, axis_name=axis_name)

    def predictions(self, data: Source, maps: Array) -> Array:
        """Those of both."""
        first, second = self._parts(data, maps)
        return jnp.concatenate(
            [self.panoptic.predictions(data, first), self.pose.predictions(data, second)], -1
        )

    def mirrored(self, data: Source, predictions: Array, axes: tuple[int, ...]) -> Array:
        """Each as its task does."""
        first, second = self._parts(data, predictions)
        return jnp.concatenate(
            [self.panoptic.mirrored(data, first, axes), self.pose.mirrored(data, second, axes)], -1
        )

    def resized(self, data: Source, predictions: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Each as its task does."""
        first, second = self._parts(data, predictions)
        return np.concatenate(
            [self.panoptic.resized(data, first, size), self.pose.resized(data, second, size)], -1
        )

    def decode(self, data: Source, predictions: Array, *, scale: float = 1.0) -> Both:
        """Objects, and candidates for joints."""
        first, second = self._parts(data, predictions)
        return Both(
            self.panoptic.decode(data, first, scale=scale),
            self.pose.decode(data, second, scale=scale),
        )

    def enlarged(self, decoded: Both, old: tuple[int, int], new: tuple[int, int]) -> Both:
        """Each as its task does."""
        return Both(
            self.panoptic.enlarged(decoded.panoptic, old, new),
            self.pose.enlarged(decoded.pose, old, new),
        )

    def measure(self, data: Source, decoded: Both, batch: dict) -> Both:
        """What each task's scores need."""
        return Both(
            self.panoptic.measure(data, decoded.panoptic, batch),
            self.pose.measure(data, decoded.pose, batch),
        )

    def scores(self, data: Source, measured: Both) -> dict[str, float]:
        """Those of both, and the mean of PQ and AP."""
        first = self.panoptic.scores(data, measured.panoptic)
        second = self.pose.scores(data, measured.pose)
        return {"pq_ap": (first["pq"] + second["ap"]) / 2} | first | second

    def summary(self, data: Source, measured: Both, details: list[dict]) -> dict:
        """Those of both."""
        first = self.panoptic.summary(data, measured.panoptic, details)
        second = self.pose.summary(data, measured.pose, details)
        mean = {"pq_ap": (first["pq"] + second["ap"]) / 2}
        return mean | first | second | {"per_class": first["per_class"] | second["per_class"]}

    def details(self, data: Source, decoded: Both, example: Example) -> dict[str, float]:
        """Those of both."""
        return self.panoptic.details(data, decoded.panoptic, example) | self.pose.details(
            data, decoded.pose, example
        )

    def save(
        self,
        data: Source,
        decoded: Both,
        folder: Path,
        name: str,
        image: np.ndarray,
        truth: Example | None = None,
    ) -> list[dict[str, Any]]:
        """Skeletons are drawn over the objects; people of either kind are annotations."""
        objects = self.panoptic.keep(data, decoded.panoptic, folder, name, image)
        people, sure = self.pose.people_of(data, decoded.pose)
        small, limbs = shrunk(image), data.skeleton.limbs
        sizes = image.shape[:2], small.shape[:2]
        pairs = zip(
            self.panoptic.shown(decoded.panoptic, *sizes, truth),
            self.pose.shown(people, *sizes, truth),
            strict=True,
        )
        pictures = [
            skeleton_overlay(segment_overlay(small, number), joints, limbs)
            for number, joints in pairs
            if number is not None
        ]
        write_overlay(folder, name, side_by_side(pictures))
        *_, skeleton = self.categories(data)
        return objects + [
            found | {"category_id": skeleton["id"]}
            for found in self.pose.annotations(data, people, sure)
        ]

    def categories(self, data: Source) -> list[dict[str, Any]]:
        """The segments', and one more of people with joints."""
        segments = self.panoptic.categories(data)
        (person,) = self.pose.categories(data)
        free = max(category["id"] for category in segments) + 1
        return [*segments, person | {"id": free, "name": "skeleton"}]

    def _parts(self, data: Source, maps):
        """The maps of both, from (..., K)."""
        count = len(self.panoptic.maps(data))
        return maps[..., :count], maps[..., count:]


@contextlib.contextmanager
def _named(task: str) -> Iterator[None]:
    """A field that a refusal names is the field of one of the tasks."""
    try:
        yield
    except InputError as error:
        named = re.sub(r"(but |--)task\.", rf"\1task.{task}.", str(error))
        raise InputError(named) from error
