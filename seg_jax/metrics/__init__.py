"""Scores of pixels, of objects and stuff (`segments`), of skeletons (`people`); their intervals.

What is counted is counted on the device; scores are taken of it on the host, in float64.
"""

from seg_jax.metrics.intervals import bootstrap, bootstrap_interval, rounded_interval
from seg_jax.metrics.pixels import (
    Counts,
    accuracy,
    assd,
    confusion_matrix,
    count,
    dice,
    hd95,
    iou,
    macro,
    pooled,
    precision,
    sensitivity,
    specificity,
)

__all__ = [
    "Counts",
    "accuracy",
    "assd",
    "bootstrap",
    "bootstrap_interval",
    "confusion_matrix",
    "count",
    "dice",
    "hd95",
    "iou",
    "macro",
    "pooled",
    "precision",
    "rounded_interval",
    "sensitivity",
    "specificity",
]
