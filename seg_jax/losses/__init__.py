"""Losses as pure functions of logits and labels.

Every loss is called as `loss(logits, labels, *, valid=None, class_weights=None, ...)` and returns a
`Mean`: a sum and its weight, both float32 scalars, computed in float32 whatever the dtype of the
logits. Its `value` is the loss. The Means of the parts of a batch add up to the Mean of the whole
batch, so a loss needs to know nothing about devices.

*   `logits` (B, H, W, C) float. With C = 1 the task is binary: a sigmoid gives the probability of
    the foreground. With C > 1 a softmax gives the probabilities of C classes.
*   `labels` (B, H, W) integer: the class of each pixel, 0 or 1 for a binary task.
*   `valid` (B, H, W) bool, or None if every pixel is valid. Pixels that aren't valid are left out,
    and so are pixels whose label is not one of the classes, such as `VOID`. Without any valid pixel
    the loss is 0.
*   `class_weights` (C,), or (2,) for a binary task with the background first; None for equal
    weights. The loss is a weighted mean, so multiplying all weights by one number changes nothing.

`cross_entropy` and `focal` are means over pixels. `dice`, `jaccard`, `tversky` and `lovasz` are
computed for each image and class, then averaged over the classes, then over the images that have a
valid pixel. For these four a binary task has one class, the foreground, so class weights change
nothing. With several classes each class counts, also the background; a class weight of 0 leaves a
class out.
"""

from seg_jax.losses.boundary import boundary_weights
from seg_jax.losses.combined import Loss
from seg_jax.losses.mean import Mean, mean, total_of
from seg_jax.losses.pixel import cross_entropy, focal
from seg_jax.losses.region import dice, jaccard, lovasz, tversky

__all__ = [
    "Loss",
    "Mean",
    "boundary_weights",
    "cross_entropy",
    "dice",
    "focal",
    "jaccard",
    "lovasz",
    "mean",
    "total_of",
    "tversky",
]
