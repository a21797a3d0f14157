"""What every task looks like to the rest of seg_jax."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jax import Array

from seg_jax.export import overlay
from seg_jax.export.overlay import Legend
from seg_jax.found import Found, Segments
from seg_jax.labels import Example, Kind, Labels
from seg_jax.losses import Mean
from seg_jax.resize import Resize, resize_label, resize_points
from seg_jax.tasks.peaks import Peaks

Batch = dict[str, Array]
Tree = Any


class ScoreName(NamedTuple):
    """How a score is shown."""

    title: str
    digits: int = 3
    """Digits after the point."""


class Candidates(NamedTuple):
    """Candidates for joints, and how well pairs of them are joined by a limb; (B, ...)."""

    joints: Peaks
    limbs: Array
    """(B, L, n, n) float32, for n candidates of each joint."""


class Decoded(NamedTuple):
    """What predictions say, arrays of (B, ...); a task leaves out what it isn't about."""

    label: Array | None = None
    """(B, H, W) uint8, the likeliest class."""
    segments: Segments | None = None
    """Objects, numbered from 1; then one segment for each category of stuff."""
    candidates: Candidates | None = None
    """Of skeletons, which are put together on the host."""


class Task(ABC):
    """A task as an experiment holds it: a frozen dataclass that gives a network's maps a meaning.

    A network's maps (B, H / stride, W / stride, K) become `predictions` (B, H, W, K), which may be
    averaged and resized. These are `decoded` into labels, segments or candidates for joints, and
    `found` makes of them what a user gets. A decoded batch is `measured` against the truth; of each
    image a small `record` is kept; `scores` and `summary` are taken of many records.

    `objective`, `predictions`, `mirrored`, `resized`, `decode` and `measure` run on the device and
    can be jitted; the others run on the host. A task knows no data set, no folder and no device:
    every method takes the `Labels`, which say what the numbers mean.
    """

    finds: ClassVar[tuple[str, ...]]
    """Fields of `Found` that it fills: "label", "segments", "skeletons"."""
    kinds: ClassVar[Mapping[str, Kind]]
    """What each of its `arrays` is."""
    score_names: ClassVar[Mapping[str, ScoreName]] = {}
    """How its scores are shown; a score that isn't named here is shown by its own name."""
    coarse: ClassVar[bool] = False
    """Whether it can learn from maps whose stride is above 1."""
    pixelwise: ClassVar[bool] = False
    """Whether what it finds at a pixel depends on the predictions at that pixel alone."""

    @abstractmethod
    def best(self, labels: Labels) -> str:
        """The score that tells the best weights, the higher the better."""

    @abstractmethod
    def check(self, labels: Labels) -> None:
        """Refuses labels that lack what the task needs.

        Raises:
          InputError: naming the field and the fix.
        """

    @abstractmethod
    def maps(self, labels: Labels) -> tuple[str, ...]:
        """Names of the maps that the network predicts, one a channel."""

    @abstractmethod
    def arrays(
        self, labels: Labels, example: Example, size: tuple[int, int]
    ) -> dict[str, np.ndarray]:
        """What a batch holds of an example beside its image, at a size (height, width).

        One of them is `label` (H, W) uint8, `VOID` where a pixel counts nowhere.

        Raises:
          InputError: if the example has more than the task's fields allow, naming the field.
        """

    @abstractmethod
    def objective(self, labels: Labels, maps: Array, batch: Batch) -> dict[str, Mean]:
        """The terms of the loss, by name; the loss is the sum of their values.

        Args:
          labels: what the labels mean.
          maps: (B, h, w, K) float32, of the network's stride.
          batch: `arrays`, with `label` int32 and `valid` (B, H, W) bool.
        """

    @abstractmethod
    def predictions(self, labels: Labels, maps: Array, size: tuple[int, int]) -> Array:
        """Maps to what may be averaged over mirror images and sizes.

        Args:
          labels: what the labels mean.
          maps: (B, h, w, K) float32, of the network's stride.
          size: H, W of the images that the network was given.

        Returns:
          (B, H, W, K) float32.
        """

    @abstractmethod
    def mirrored(self, labels: Labels, predictions: Array, axes: tuple[int, ...]) -> Array:
        """The predictions for the images flipped along `axes` (1 and 2), from those for these."""

    @abstractmethod
    def resized(self, labels: Labels, predictions: Array, resize: Resize) -> Array:
        """Predictions (B, H, W, K) at another size, (B, *resize.shape, K)."""

    def probabilities(self, labels: Labels, predictions: Array) -> Array:
        """Those of the predictions (..., K) that are probabilities, for `Found.probabilities`."""
        return predictions

    @abstractmethod
    def decode(self, labels: Labels, predictions: Array, *, scale: float = 1.0) -> Decoded:
        """Predictions (B, H, W, K) float32 to what they say.

        Args:
          labels: what the labels mean.
          predictions: at any size.
          scale: pixels of theirs that are one of the training size, in which a task's fields count.
        """

    def enlarged(self, decoded: Decoded, old: tuple[int, int], new: tuple[int, int]) -> Decoded:
        """What one image's predictions say (NumPy, no batch axis), from one size to a larger one.

        Labels and segments take the nearest pixel; joints are moved as points.
        """
        label, segments, candidates = decoded
        if label is not None:
            label = resize_label(label[: old[0], : old[1]], new)
        if segments is not None:
            number = resize_label(segments.number[: old[0], : old[1]], new)
            segments = segments._replace(number=number)
        if candidates is not None:
            joints = candidates.joints
            places = resize_points(np.stack([joints.x, joints.y], -1), old, new)
            joints = joints._replace(x=places[..., 0], y=places[..., 1])
            candidates = candidates._replace(joints=joints)
        return Decoded(label, segments, candidates)

    def found(self, labels: Labels, decoded: Decoded, size: tuple[int, int]) -> Found:
        """What a user gets of one image.

        Args:
          labels: what the labels mean.
          decoded: of one image, in NumPy, without a batch axis; its maps may be padded below and
            at the right.
          size: height and width of the image.
        """
        label, segments, _ = decoded
        height, width = size
        if label is not None:
            label = label[:height, :width]
        if segments is not None:
            number = segments.number[:height, :width].astype(np.uint16)
            segments = segments._replace(number=number)
        return Found(label=label, segments=segments)

    @abstractmethod
    def measure(self, labels: Labels, decoded: Decoded, batch: Batch) -> Tree:
        """What the scores need to know of each image, arrays of (B, ...)."""

    @abstractmethod
    def record(self, labels: Labels, measured: Tree, found: Found | None = None) -> Any:
        """What is kept of one image for the scores, as small as possible, in NumPy.

        Args:
          labels: what the labels mean.
          measured: of the image, in NumPy, without a batch axis.
          found: what `found` made of the same predictions, where that is at hand already.
        """

    @abstractmethod
    def scores(self, labels: Labels, records: Sequence[Any]) -> dict[str, float]:
        """Scores of the images of some records, the one that `best` names among them.

        An image that is void throughout counts nowhere.
        """

    @abstractmethod
    def summary(
        self, labels: Labels, records: Sequence[Any], details: Sequence[dict[str, float]]
    ) -> dict[str, Any]:
        """The scores as they are reported, the most important first.

        `NAME_ci95` is the interval of the score NAME; `per_class` has scores by class, where there
        are several.

        Args:
          labels: what the labels mean.
          records: of all images.
          details: of the same images, or none.
        """

    def details(self, labels: Labels, found: Found, example: Example) -> dict[str, float]:
        """Scores of one image at its own size that only the host can take; may be none."""
        return {}

    def score_note(self, labels: Labels) -> str:
        """How the scores of many images are taken, in a sentence for the report."""
        return "Over all images together, with 95 % bootstrap intervals over the images."

    def picture(
        self, labels: Labels, found: Found, image: np.ndarray, truth: Example | None = None
    ) -> np.ndarray:
        """What is found, drawn on the image, beside the truth where it is known.

        Args:
          labels: what the labels mean.
          found: in this image.
          image: (height, width, C) uint8.
          truth: the image's example.

        Returns:
          (height, width or more, 3) uint8, smaller where the image is large.
        """
        return overlay.draw(labels, found, image, truth)

    def legend(self, labels: Labels) -> Legend:
        """What the colours and sides of `picture` mean."""
        return overlay.legend(labels, self.finds)
