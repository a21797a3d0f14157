"""Semantic segmentation: the class of every pixel."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from PIL import Image

from seg_jax import losses, metrics
from seg_jax.datasets.source import VOID, Example, Source
from seg_jax.errors import InputError
from seg_jax.export.overlay import overlay, shrunk, write_overlay
from seg_jax.losses import Loss
from seg_jax.metrics import Counts
from seg_jax.resize import resize_image, resize_label

SCORES = {
    "dice": metrics.dice,
    "iou": metrics.iou,
    "accuracy": metrics.accuracy,
    "sensitivity": metrics.sensitivity,
    "specificity": metrics.specificity,
    "precision": metrics.precision,
}
"""The scores of an image, all from its counts."""

DISTANCES = {"hd95": metrics.hd95, "assd": metrics.assd}
"""The scores of an image in pixels, from its mask's outline."""


@dataclass(frozen=True)
class Semantic:
    """The class of every pixel: a `seg_jax.tasks.Task`.

    The maps are logits of the classes, or one of the foreground for a binary task. Scores are taken
    of each image, then averaged; those of several classes are means over the classes that are in
    the image or were predicted there.
    """

    loss: Loss = field(default_factory=Loss)
    """What is minimised."""

    best: ClassVar[str] = "dice"

    def check(self, data: Source) -> None:
        """Refuses data without classes, and class weights that aren't one a class."""
        check_classes(data, self.loss)

    def maps(self, data: Source) -> tuple[str, ...]:
        """The classes."""
        return data.classes

    def arrays(
        self, data: Source, example: Example, size: tuple[int, int]
    ) -> dict[str, np.ndarray]:
        """`label`, and `weight` (H, W) float32 where the loss wants pixels between objects more."""
        label = resize_label(example.label, size)
        if not self.loss.boundary:
            return {"label": label}
        weight = losses.boundary_weights(np.where(label == VOID, 0, label))
        return {"label": label, "weight": weight}

    def objective(self, data: Source, maps: Array, batch: dict, *, axis_name=None) -> Array:
        """The `loss` of logits and labels."""
        return self.loss(
            maps,
            batch["label"],
            valid=batch["valid"],
            pixel_weights=batch.get("weight"),
            axis_name=axis_name,
        )

    def predictions(self, data: Source, maps: Array) -> Array:
        """Probabilities of the classes."""
        return probabilities_of(maps)

    def mirrored(self, data: Source, predictions: Array, axes: tuple[int, ...]) -> Array:
        """Probabilities move with their pixels."""
        return jnp.flip(predictions, axes)

    def resized(self, data: Source, predictions: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Bilinear."""
        return resize_image(predictions, size)

    def decode(self, data: Source, predictions: Array, *, scale: float = 1.0) -> Array:
        """(B, H, W) uint8, the likeliest class."""
        return labels_of(predictions)

    def enlarged(
        self, decoded: np.ndarray, old: tuple[int, int], new: tuple[int, int]
    ) -> np.ndarray:
        """By the nearest pixel."""
        return resize_label(decoded[: old[0], : old[1]], new)

    def measure(self, data: Source, decoded: Array, batch: dict) -> Counts:
        """Right and wrong pixels by class, (B, K)."""
        classes = len(data.classes)
        return metrics.count(decoded, batch["label"], classes=classes, valid=batch["valid"])

    def scores(self, data: Source, measured: Counts) -> dict[str, float]:
        """Means over the images."""
        return {
            name: float(np.nanmean(_per_image(score, measured))) for name, score in SCORES.items()
        }

    def summary(self, data: Source, measured: Counts, details: list[dict]) -> dict:
        """Means over the images with their bootstrap intervals, and pooled scores by class."""
        values = {name: _per_image(score, measured) for name, score in SCORES.items()}
        values |= {name: np.array([d[name] for d in details]) for name in (details or [{}])[0]}
        found: dict = {name: float(np.nanmean(v)) for name, v in values.items()}
        found |= {f"{name}_ci95": metrics.rounded_interval(v) for name, v in values.items()}
        if len(data.classes) > 1:
            pooled = metrics.pooled(measured)
            by_class = {name: score(pooled, empty=np.nan) for name, score in SCORES.items()}
            found["per_class"] = {
                c: {name: float(of[k]) for name, of in by_class.items()}
                for k, c in enumerate(data.classes)
            }
        return found

    def details(self, data: Source, decoded: np.ndarray, example: Example) -> dict[str, float]:
        """Distances in pixels; for several classes the mean over those in prediction or label."""
        label, binary = example.label, len(data.classes) == 1
        decoded = decoded[: label.shape[0], : label.shape[1]]
        seen = label != VOID
        present = [1] if binary else np.union1d(decoded[seen], label[seen])
        if not len(present):
            return dict.fromkeys(DISTANCES, math.nan)
        return {
            name: float(np.mean([distance((decoded == k) & seen, label == k) for k in present]))
            for name, distance in DISTANCES.items()
        }

    def save(
        self,
        data: Source,
        decoded: np.ndarray,
        folder: Path,
        name: str,
        image: np.ndarray,
        truth: Example | None = None,
    ) -> list[dict[str, Any]]:
        """The mask has the image's size, 0 and 255 for one class, else labels."""
        decoded = decoded[: image.shape[0], : image.shape[1]]
        path = folder / "predictions" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(decoded * 255 if len(data.classes) == 1 else decoded).save(path)
        image = shrunk(image)
        prediction = resize_label(decoded, image.shape[:2])
        label = None if truth is None else resize_label(truth.label, image.shape[:2])
        write_overlay(folder, name, overlay(image, prediction, label, data.classes))
        return []

    def categories(self, data: Source) -> list[dict[str, Any]]:
        """None."""
        return []


def check_classes(data: Source, loss: Loss) -> None:
    """Refuses data without classes, and class weights that aren't one a class.

    Raises:
      InputError: naming the field and the mend.
    """
    classes, weights = data.classes, loss.class_weights
    if not classes:
        raise InputError("data: has no classes to tell apart; choose another task or data set")
    if weights is not None and len(weights) != max(2, len(classes)):
        order = " (background first)" * (len(classes) == 1)
        raise InputError(
            f"the loss's class_weights has {len(weights)} numbers; set --task.loss.class-weights "
            f"to {max(2, len(classes))}, one for each class{order}"
        )


def probabilities_of(logits: Array) -> Array:
    """Logits (..., K) to probabilities (..., K): sigmoid for one map, softmax over several."""
    return jax.nn.sigmoid(logits) if logits.shape[-1] == 1 else jax.nn.softmax(logits, axis=-1)


def labels_of(probabilities: Array) -> Array:
    """Probabilities (..., K) to labels (...) uint8: one half and above, or the largest."""
    if probabilities.shape[-1] == 1:
        return (probabilities[..., 0] >= 0.5).astype(np.uint8)
    return probabilities.argmax(-1).astype(np.uint8)


def _per_image(score, counts: Counts) -> np.ndarray:
    """(N,) from counts (N, K): the foreground's score, or the mean over the classes present."""
    if counts.tp.shape[-1] == 1:
        return score(counts)[:, 0]
    there = counts.tp + counts.fp + counts.fn > 0
    return metrics.macro(np.where(there, score(counts, empty=np.nan), np.nan))
