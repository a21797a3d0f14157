"""What every task looks like to the rest of seg_jax."""

from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from jax import Array

from seg_jax.datasets.source import Example, Source

Batch = dict[str, Array]
Tree = Any


class Task(Protocol):
    """A task as an experiment holds it: a frozen dataclass that gives a network's maps a meaning.

    A network's `maps` (B, H, W, K) float32 become `predictions`, what may be averaged and resized;
    these are `decoded` into labels, objects or skeletons; a decoded batch is `measured` against the
    truth, image by image; and `scores` are taken of what was measured of many images. The first
    four run on the device and can be jitted, the last on the host.

    A task of coarser maps has a field `stride`, pixels of the picture from cell to cell, as its
    network has; its `predictions` are of every pixel again. Every method takes the `Source` first,
    which knows the classes, the things and the skeleton.
    """

    best: ClassVar[str]
    """The score that tells the best weights, the higher the better."""

    def check(self, data: Source) -> None:
        """Refuses data that lacks what the task needs.

        Raises:
          InputError: naming the field and the mend.
        """

    def maps(self, data: Source) -> tuple[str, ...]:
        """Names of the maps that the network predicts, one a channel."""

    def arrays(
        self, data: Source, example: Example, size: tuple[int, int]
    ) -> dict[str, np.ndarray]:
        """What a batch holds of an example beside its image, at a size (height, width).

        One of them is `label` (H, W) uint8, `VOID` where a pixel counts nowhere.
        """

    def objective(
        self, data: Source, maps: Array, batch: Batch, *, axis_name: str | None = None
    ) -> Array:
        """The loss, a float32 scalar; this device's share of it where `axis_name` is given.

        Args:
          data: the source.
          maps: (B, H, W, K) float32.
          batch: `arrays`, with `label` int32 and `valid` (B, H, W) bool.
          axis_name: mapped axis over which the batch is spread, or None.
        """

    def predictions(self, data: Source, maps: Array) -> Array:
        """Maps to what may be averaged over mirror images and sizes, (B, H, W, K) float32."""

    def mirrored(self, data: Source, predictions: Array, axes: tuple[int, ...]) -> Array:
        """The predictions for the images flipped along `axes` (1 and 2), from those for these."""

    def resized(self, data: Source, predictions: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Predictions (H, W, K) at another size, (*size, K)."""

    def decode(self, data: Source, predictions: Array, *, scale: float = 1.0) -> Tree:
        """Predictions to what they say, arrays of (B, ...).

        Args:
          data: the source.
          predictions: (B, H, W, K) float32.
          scale: pixels of theirs that are one of the training size, in which a task's fields count.
        """

    def enlarged(self, decoded: Tree, old: tuple[int, int], new: tuple[int, int]) -> Tree:
        """What one image's predictions at a size say, without a batch axis, at a larger one."""

    def measure(self, data: Source, decoded: Tree, batch: Batch) -> Tree:
        """What the scores need to know of each image, arrays of (B, ...)."""

    def scores(self, data: Source, measured: Tree) -> dict[str, float]:
        """Scores of N images from what was measured of them, `best` among them."""

    def summary(self, data: Source, measured: Tree, details: list[dict[str, float]]) -> dict:
        """The scores as they are reported: with intervals, and by class where there are several.

        Args:
          data: the source.
          measured: of N images.
          details: of the same images.
        """

    def details(self, data: Source, decoded: Tree, example: Example) -> dict[str, float]:
        """Scores of one image at its own size that only the host can take; may be none."""

    def save(
        self,
        data: Source,
        decoded: Tree,
        folder: Path,
        name: str,
        image: np.ndarray,
        truth: Example | None = None,
    ) -> list[dict[str, Any]]:
        """Writes predictions/NAME.png, where a picture can hold it, and overlays/NAME.jpg.

        Args:
          data: the source.
          decoded: of one image, without a batch axis, at least as large as the image.
          folder: where to write.
          name: the image's.
          image: (height, width, C) uint8.
          truth: drawn as well, if given.

        Returns:
          What is in the image as annotations in COCO's format, without `id` and `image_id`; a
          segment's number in the PNG is `segment`.
        """

    def categories(self, data: Source) -> list[dict[str, Any]]:
        """What the annotations' `category_id` names, in COCO's format; empty if there are none.

        Those of segments say by `isthing`, 0 or 1, whether they are objects.
        """
