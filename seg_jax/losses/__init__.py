"""Losses as pure functions of logits and labels.

Every loss has one signature, `loss(logits, labels, *, valid, class_weights, axis_name, ...)`, and
returns a float32 scalar, computed in float32 whatever the dtype of the logits:

*   `logits` (B, H, W, C) float. C = 1 is a binary task: a sigmoid gives the probability of the
    foreground. C > 1 is a softmax over C classes.
*   `labels` (B, H, W) integer classes, 0 and 1 for a binary task.
*   `valid` (B, H, W) bool, None for all. A pixel that isn't valid, or whose label is none of the
    classes (`VOID`), counts nowhere, and an image without a valid pixel counts nowhere.
*   `class_weights` (C,), for a binary task (2,), background first. None weighs all alike. Weights
    normalise: the loss is a weighted mean, so that their scale changes nothing.
*   `axis_name`: inside `pmap` or `shard_map`, the mapped axis over which the batch is spread. The
    result is then this device's share of the loss: its own sum, divided by the count (or sum of
    weights) of all devices. The `psum` of the shares is the loss over the whole batch, and the
    `psum` of their gradients its gradient, however unequally the valid pixels are spread.

`cross_entropy` and `focal` are means over pixels. `dice`, `jaccard`, `tversky` and `lovasz` are
taken per image and class, then averaged. For them a binary task has one class, the foreground
(class weights then change nothing), and of several classes each one counts, the background too
where there is one; a class weight of 0 leaves it out.
"""

from seg_jax.losses.boundary import boundary_weights
from seg_jax.losses.combined import Loss
from seg_jax.losses.pixel import cross_entropy, focal
from seg_jax.losses.region import dice, jaccard, lovasz, tversky

__all__ = [
    "Loss",
    "boundary_weights",
    "cross_entropy",
    "dice",
    "focal",
    "jaccard",
    "lovasz",
    "tversky",
]
