"""Scores of a prediction, from counts of right and wrong pixels and from distances of borders.

Counts are taken on the device, per image and class (`count`, `confusion_matrix`), and divided once
on the host, in float64 (`dice`, `iou`, ...):

    counts = metrics.count(prediction, labels, classes=1, valid=valid)
    metrics.dice(counts)                                         # one score an image and class
    metrics.dice(metrics.pooled(counts))                         # over all pixels
    metrics.nanmean(metrics.dice(counts, empty=np.nan))          # mean over classes, per image
    metrics.mean_iou(metrics.pooled(counts))                     # mean over classes, of all pixels

Conventions:

*   A pixel that isn't valid, or whose label is none of the classes (`VOID`), counts nowhere.
*   A binary task (`classes=1`) has one class, the foreground; predictions and labels are 0 and 1.
*   A score of 0/0 is `empty`. The default of 1 says that it is right to find nothing where there
    is nothing; only then are Dice and IoU 0/0. Sensitivity is 0/0 wherever there is nothing to
    find, with false alarms or without; precision wherever nothing is found, with misses or without;
    specificity where the class is everywhere. `empty=np.nan` marks all of these, so that `nanmean`
    leaves them out.
*   An image without a valid pixel should count nowhere; here all its scores are 0/0.
*   In a mean over classes (`nanmean` of scores with `empty=np.nan`) a class that is neither in the
    labels nor in the prediction is left out; one that is predicted but isn't there has a Dice and
    an IoU of 0 and counts.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage


class Counts(NamedTuple):
    """Pixels by truth and prediction: (B, K) per image and class, or (K,) summed over images."""

    tp: jax.Array | np.ndarray
    """Of the class and predicted so."""
    fp: jax.Array | np.ndarray
    """Not of the class, but predicted so."""
    fn: jax.Array | np.ndarray
    """Of the class, but not predicted so."""
    tn: jax.Array | np.ndarray
    """Neither."""

    @property
    def valid(self) -> jax.Array | np.ndarray:
        """All pixels that count, the same number for every class."""
        return self.tp + self.fp + self.fn + self.tn


def count(prediction, labels, *, classes: int, valid=None) -> Counts:
    """Counts pixels of each image and class; can be jitted with static `classes`.

    Args:
      prediction: (B, H, W) integer or bool, the predicted class.
      labels: (B, H, W) integer, the true class.
      classes: number of classes; 1 is a binary task, whose foreground is counted.
      valid: (B, H, W) bool, or None for all.

    Returns:
      Counts of (B, K) int32, K = `classes`: exact below 2³¹ pixels an image (46,340²).
    """
    valid = _known(labels, classes, valid)
    which = np.arange(classes) if classes > 1 else np.array([1])
    found = (prediction[..., None] == which) & valid[..., None]
    wanted = (labels[..., None] == which) & valid[..., None]

    def pixels(mask):
        return jnp.sum(mask, axis=(1, 2), dtype=jnp.int32)

    tp = pixels(found & wanted)
    fp = pixels(found) - tp
    fn = pixels(wanted) - tp
    return Counts(tp, fp, fn, pixels(valid[..., None]) - tp - fp - fn)


def confusion_matrix(prediction, labels, *, classes: int, valid=None) -> jax.Array:
    """Counts pixels by true and predicted class; can be jitted with static `classes`.

    Args:
      prediction: (B, H, W) integer or bool, the predicted class.
      labels: (B, H, W) integer, the true class.
      classes: number of classes; 1 is a binary task, whose matrix is 2×2.
      valid: (B, H, W) bool, or None for all.

    Returns:
      (K, K) int32, the true class by row, the predicted one by column; exact below 2³¹ pixels.
    """
    valid = _known(labels, classes, valid)
    k = max(classes, 2)
    cell = labels.astype(jnp.int32) * k + prediction.astype(jnp.int32)
    cell = jnp.where(valid, cell, k * k)  # one cell more takes what doesn't count
    return jnp.bincount(cell.ravel(), length=k * k + 1)[:-1].reshape(k, k).astype(jnp.int32)


def pooled(counts: Counts) -> Counts:
    """Sums (N, K) counts of images to (K,) int64, so that every pixel weighs the same."""
    return Counts(*(np.sum(np.asarray(c), axis=0, dtype=np.int64) for c in counts))


def dice(counts: Counts, *, empty: float = 1.0) -> np.ndarray:
    """2 TP / (2 TP + FP + FN), shaped as the counts, float64; `empty` for 0/0."""
    tp, fp, fn, _ = counts
    return _ratio(2 * _float(tp), 2 * _float(tp) + fp + fn, empty)


def iou(counts: Counts, *, empty: float = 1.0) -> np.ndarray:
    """TP / (TP + FP + FN), shaped as the counts, float64; `empty` for 0/0."""
    tp, fp, fn, _ = counts
    return _ratio(_float(tp), _float(tp) + fp + fn, empty)


def sensitivity(counts: Counts, *, empty: float = 1.0) -> np.ndarray:
    """TP / (TP + FN), or recall, shaped as the counts, float64; `empty` for 0/0."""
    return _ratio(_float(counts.tp), _float(counts.tp) + counts.fn, empty)


def specificity(counts: Counts, *, empty: float = 1.0) -> np.ndarray:
    """TN / (TN + FP), shaped as the counts, float64; `empty` for 0/0."""
    return _ratio(_float(counts.tn), _float(counts.tn) + counts.fp, empty)


def precision(counts: Counts, *, empty: float = 1.0) -> np.ndarray:
    """TP / (TP + FP), shaped as the counts, float64; `empty` for 0/0."""
    return _ratio(_float(counts.tp), _float(counts.tp) + counts.fp, empty)


def accuracy(counts: Counts, *, empty: float = 1.0) -> np.ndarray:
    """The share of valid pixels whose class is right; `empty` where no pixel is valid.

    (TP + TN) / pixels for a binary task, Σₖ TPₖ / pixels for several classes. Float64, shaped as
    the counts like the other scores, and so the same for every class of an image.
    """
    tp, fp, fn, tn = (_float(c) for c in counts)
    right = tp + tn if tp.shape[-1] == 1 else tp.sum(-1, keepdims=True)
    return _ratio(np.broadcast_to(right, tp.shape), tp + fp + fn + tn, empty)


def mean_iou(counts: Counts) -> float:
    """Mean over classes of the IoU, from counts (K,) summed over images.

    A class that is neither in the labels nor predicted is left out; NaN if that is every class.
    """
    return float(nanmean(iou(counts, empty=np.nan)))


def class_accuracy(counts: Counts) -> float:
    """Mean over classes of the recall, from counts (K,) summed over images.

    A class that isn't in the labels is left out; NaN if that is every class.
    """
    return float(nanmean(sensitivity(counts, empty=np.nan)))


def global_accuracy(counts: Counts) -> float:
    """Right pixels by valid pixels, from counts (K,) summed over images; NaN if none is valid."""
    return float(accuracy(counts, empty=np.nan)[0])


def nanmean(scores) -> np.ndarray:
    """Mean over the last axis of what isn't NaN; NaN, without a warning, where nothing is left."""
    scores = _float(scores)
    there = ~np.isnan(scores)
    return _ratio(np.where(there, scores, 0).sum(-1), there.sum(-1), np.nan)


def hd95(prediction, label, spacing=(1.0, 1.0)) -> float:
    """The 95th percentile of the Hausdorff distance between two objects' borders.

    The percentile (linearly interpolated) is of the distances in both directions pooled, as in
    MedPy's `metric.binary.hd95`, so that numbers compare with the medical literature's. MONAI and
    DeepMind's surface-distance take the greater of the two directions' percentiles, which is
    never less. A pixel of the object belongs to its border if one of its four neighbours isn't of
    the object, or lies beyond the image.

    Args:
      prediction: (H, W) mask, the object where it isn't 0.
      label: (H, W) mask, the same.
      spacing: height and width of a pixel, in the unit of the result.

    Returns:
      The distance; 0 if both masks are empty, the image's diagonal if one is.
    """
    if (distance := _empty_distance(prediction, label, spacing)) is not None:
        return distance
    return float(np.percentile(np.concatenate(_border_distances(prediction, label, spacing)), 95))


def assd(prediction, label, spacing=(1.0, 1.0)) -> float:
    """Average symmetric distance between two objects' borders.

    The mean of the two directions' means, as in MedPy's `metric.binary.assd`. Borders, arguments
    and empty masks are as in `hd95`.
    """
    if (distance := _empty_distance(prediction, label, spacing)) is not None:
        return distance
    return float(np.mean([d.mean() for d in _border_distances(prediction, label, spacing)]))


def _known(labels, classes, valid):
    labels = labels.astype(np.int32)  # against bytes, 256 would be 0
    known = (labels >= 0) & (labels < max(classes, 2))
    return known if valid is None else known & valid


def _float(x):
    return np.asarray(x, np.float64)


def _ratio(numerator, denominator, empty):
    return np.where(denominator == 0, empty, numerator / np.where(denominator == 0, 1, denominator))


def _empty_distance(prediction, label, spacing):
    """0 if both masks are empty, the image's diagonal if one is, None if neither."""
    if np.shape(prediction) != np.shape(label):
        raise ValueError(f"masks differ in shape: {np.shape(prediction)} and {np.shape(label)}")
    empty = int(not np.any(prediction)) + int(not np.any(label))
    if not empty:
        return None
    return 0.0 if empty == 2 else float(np.linalg.norm(np.multiply(np.shape(label), spacing)))


def _border_distances(prediction, label, spacing):
    """From each border pixel of one mask to the other's nearest: two arrays, one a direction."""
    a, b = (_border(np.asarray(mask) != 0) for mask in (prediction, label))
    to_a, to_b = (ndimage.distance_transform_edt(~border, sampling=spacing) for border in (a, b))
    return to_b[a], to_a[b]


def _border(mask):
    return mask & ~ndimage.binary_erosion(mask)
