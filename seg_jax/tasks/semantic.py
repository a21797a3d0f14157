"""Semantic segmentation: the class of every pixel."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from seg_jax import losses, metrics
from seg_jax.errors import InputError
from seg_jax.found import Found
from seg_jax.labels import VOID, Example, Kind, Labels
from seg_jax.losses import Loss, Mean
from seg_jax.metrics import Counts
from seg_jax.resize import Resize, resize_label
from seg_jax.tasks.task import Batch, Decoded, ScoreName, Task

POOLED = {
    "miou": metrics.mean_iou,
    "class_accuracy": metrics.class_accuracy,
    "global_accuracy": metrics.global_accuracy,
}
"""Scores of all images together, from their counts summed over the images."""

SCORES = {
    "dice": metrics.dice,
    "iou": metrics.iou,
    "accuracy": metrics.accuracy,
    "sensitivity": metrics.sensitivity,
    "specificity": metrics.specificity,
    "precision": metrics.precision,
}
"""Scores of one image, from its counts."""

DISTANCES = {"hd95": metrics.hd95, "assd": metrics.assd}
"""Scores of one image in pixels, from the borders of its masks."""


@dataclass(frozen=True)
class Semantic(Task):
    """The class of every pixel.

    The maps are logits of the classes, or one of the foreground for a binary task.

    The scores of a binary task are means over the images. With several classes, the mean IoU, the
    class accuracy and the global accuracy come first: they are taken over the pixels of all images
    together. The other scores are taken in each image, as means over the classes that are in its
    labels or predicted there, and then averaged over the images.
    """

    loss: Loss = field(default_factory=Loss)
    """What is minimised."""

    finds: ClassVar[tuple[str, ...]] = ("label",)
    kinds: ClassVar[Mapping[str, Kind]] = {"label": Kind.MAP, "weight": Kind.MAP}
    score_names: ClassVar[Mapping[str, ScoreName]] = {
        "miou": ScoreName("Mean IoU"),
        "class_accuracy": ScoreName("Class accuracy"),
        "global_accuracy": ScoreName("Global accuracy"),
        "dice": ScoreName("Dice"),
        "iou": ScoreName("IoU"),
        "accuracy": ScoreName("Accuracy"),
        "sensitivity": ScoreName("Sensitivity"),
        "specificity": ScoreName("Specificity"),
        "precision": ScoreName("Precision"),
        "hd95": ScoreName("HD95 (px)", digits=2),
        "assd": ScoreName("ASSD (px)", digits=2),
    }
    pixelwise: ClassVar[bool] = True

    def best(self, labels: Labels) -> str:
        """The Dice of a binary task, the mean IoU of several classes."""
        return "dice" if labels.binary else "miou"

    def check(self, labels: Labels) -> None:
        """Refuses labels without classes, and another number of class weights than of classes.

        Raises:
          InputError: naming the field and the fix.
        """
        check_classes(labels, self.loss)

    def maps(self, labels: Labels) -> tuple[str, ...]:
        """The classes."""
        return labels.classes

    def arrays(
        self, labels: Labels, example: Example, size: tuple[int, int]
    ) -> dict[str, np.ndarray]:
        """`label`, and where the loss has a boundary term `weight` (H, W) float32."""
        label = resize_label(example.label, size)
        if not self.loss.boundary:
            return {"label": label}
        weight = losses.boundary_weights(np.where(label == VOID, 0, label))
        return {"label": label, "weight": weight}

    def objective(self, labels: Labels, maps: Array, batch: Batch) -> dict[str, Mean]:
        """The terms of `loss`."""
        return self.loss(
            maps, batch["label"], valid=batch["valid"], pixel_weights=batch.get("weight")
        )

    def predictions(self, labels: Labels, maps: Array, size: tuple[int, int]) -> Array:
        """Probabilities of the classes."""
        return probabilities_of(maps)

    def mirrored(self, labels: Labels, predictions: Array, axes: tuple[int, ...]) -> Array:
        """Probabilities move with their pixels."""
        return jnp.flip(predictions, axes)

    def resized(self, labels: Labels, predictions: Array, resize: Resize) -> Array:
        """Bilinear."""
        return resize(predictions)

    def decode(self, labels: Labels, predictions: Array, *, scale: float = 1.0) -> Decoded:
        """The likeliest class of each pixel."""
        return Decoded(label=labels_of(predictions))

    def measure(self, labels: Labels, decoded: Decoded, batch: Batch) -> Counts:
        """Right and wrong pixels by class, (B, K)."""
        return metrics.count(
            decoded.label, batch["label"], classes=len(labels.classes), valid=batch["valid"]
        )

    def record(self, labels: Labels, measured: Counts, found: Found | None = None) -> Counts:
        """Right and wrong pixels by class, (K,)."""
        return Counts(*map(np.array, measured))

    def scores(self, labels: Labels, records: Sequence[Counts]) -> dict[str, float]:
        """With several classes those of all images together; then means over the images."""
        counts = _counts(labels, records)
        means = {name: _mean(values) for name, values in _by_image(labels, counts).items()}
        return _pooled_scores(labels, metrics.pooled(counts)) | means

    def summary(
        self, labels: Labels, records: Sequence[Counts], details: Sequence[dict[str, float]]
    ) -> dict[str, Any]:
        """The scores and the means of the details, and all their bootstrap intervals.

        `per_class` has scores of the pixels of all images together.
        """
        counts = _counts(labels, records)
        values = _by_image(labels, counts)
        values |= {name: np.array([d[name] for d in details]) for name in (details or [{}])[0]}

        def pooled_scores(rows: np.ndarray) -> dict[str, float]:
            total = Counts(*(metrics.sum_of_rows(c, rows) for c in counts))
            return _pooled_scores(labels, total)

        summary: dict[str, Any] = _pooled_scores(labels, metrics.pooled(counts))
        summary |= {name: _mean(v) for name, v in values.items()}
        if not labels.binary:
            summary |= metrics.bootstrap(pooled_scores, len(counts.tp))
        summary |= {f"{name}_ci95": metrics.rounded_interval(v) for name, v in values.items()}
        if not labels.binary:
            pooled = metrics.pooled(counts)
            # The accuracy is that of all classes together, the same for each.
            of_a_class = {name: score for name, score in SCORES.items() if name != "accuracy"}
            by_class = {name: score(pooled, empty=np.nan) for name, score in of_a_class.items()}
            summary["per_class"] = {
                c: {name: float(of[k]) for name, of in by_class.items()}
                for k, c in enumerate(labels.classes)
            }
        return summary

    def details(self, labels: Labels, found: Found, example: Example) -> dict[str, float]:
        """Distances in pixels between the borders of what is found and what is true.

        With several classes, the mean over those in labels or prediction. NaN where no pixel's
        class is known.
        """
        label, known = example.label, example.label != VOID
        if not known.any():
            return dict.fromkeys(DISTANCES, math.nan)
        classes = [1] if labels.binary else np.union1d(found.label[known], label[known])
        return {
            name: float(
                np.mean([distance((found.label == k) & known, label == k) for k in classes])
            )
            for name, distance in DISTANCES.items()
        }

    def score_note(self, labels: Labels) -> str:
        """How the scores of many images are taken."""
        if labels.binary:
            return "Means over the images, each counting once, with 95 % bootstrap intervals."
        return (
            "Mean IoU, class accuracy and global accuracy are of all pixels together; the other "
            "scores are means over the images, each counting once. With 95 % bootstrap intervals "
            "over the images."
        )


def check_classes(labels: Labels, loss: Loss) -> None:
    """Refuses labels without classes, and another number of class weights than of classes.

    Raises:
      InputError: naming the field and the fix.
    """
    classes, weights = labels.classes, loss.class_weights
    if not classes:
        raise InputError("data: has no classes to tell apart; choose another task or data set")
    if weights is not None and len(weights) != max(2, len(classes)):
        order = " (background first)" * labels.binary
        raise InputError(
            f"the loss's class_weights has {len(weights)} numbers; set {{flag}} to "
            f"{max(2, len(classes))}, one for each class{order}",
            field="task.loss.class_weights",
        )


def probabilities_of(logits: Array) -> Array:
    """Logits (..., K) to probabilities (..., K): sigmoid for one map, softmax over several."""
    return jax.nn.sigmoid(logits) if logits.shape[-1] == 1 else jax.nn.softmax(logits, axis=-1)


def labels_of(probabilities: Array) -> Array:
    """Probabilities (..., K) to labels (...) uint8: 1 from one half on, or the likeliest class."""
    if probabilities.shape[-1] == 1:
        return (probabilities[..., 0] >= 0.5).astype(np.uint8)
    return probabilities.argmax(-1).astype(np.uint8)


def _counts(labels: Labels, records: Sequence[Counts]) -> Counts:
    """(N, K) counts of the images that have a valid pixel."""
    shape = len(records), len(Counts._fields), len(labels.classes)
    counts = np.array(records, np.float64).reshape(shape)  # whole numbers, exact up to 2⁵³
    counts = counts[counts.any((1, 2))]
    return Counts(*np.ascontiguousarray(np.moveaxis(counts, 1, 0)))


def _pooled_scores(labels: Labels, total: Counts) -> dict[str, float]:
    """From counts (K,) of all images; none for a binary task."""
    return {} if labels.binary else {name: score(total) for name, score in POOLED.items()}


def _by_image(labels: Labels, counts: Counts) -> dict[str, np.ndarray]:
    """Scores (N,) of images, from their counts (N, K): the foreground's, or means over classes."""
    if labels.binary:
        return {name: score(counts)[:, 0] for name, score in SCORES.items()}
    there = counts.tp + counts.fp + counts.fn > 0

    def macro(score: Callable[..., np.ndarray]) -> np.ndarray:
        """The mean over the classes that are in the image's labels or predicted there."""
        return metrics.nanmean(np.where(there, score(counts, empty=np.nan), np.nan))

    return {name: macro(score) for name, score in SCORES.items()}


def _mean(values: np.ndarray) -> float:
    return float(metrics.nanmean(values))
