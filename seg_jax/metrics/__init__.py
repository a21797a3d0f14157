"""Scores of pixels, of objects and stuff (`segments`), of skeletons (`people`); their intervals.

Pixels are counted on the device; scores are computed from the counts on the host, in float64.
"""

from seg_jax.metrics.intervals import bootstrap, bootstrap_interval, rounded_interval, sum_of_rows
from seg_jax.metrics.pixels import (
    Counts,
    accuracy,
    assd,
    class_accuracy,
    confusion_matrix,
    count,
    dice,
    global_accuracy,
    hd95,
    iou,
    mean_iou,
    nanmean,
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
    "class_accuracy",
    "confusion_matrix",
    "count",
    "dice",
    "global_accuracy",
    "hd95",
    "iou",
    "mean_iou",
    "nanmean",
    "pooled",
    "precision",
    "rounded_interval",
    "sensitivity",
    "specificity",
    "sum_of_rows",
]
