"""Losses of whole regions, per image and class: Tversky with Dice and Jaccard, and Lovász."""

import jax
import jax.numpy as jnp
from jax import Array, lax, nn
from jax.typing import ArrayLike

from seg_jax.losses.common import class_weights_of, one_hot, prepare
from seg_jax.losses.mean import Mean, mean


def tversky(
    logits,
    labels,
    *,
    valid=None,
    class_weights=None,
    alpha: float = 0.3,
    beta: float = 0.7,
    smooth: float = 1.0,
) -> Mean:
    """Soft Tversky loss (Salehi et al. 2017).

    1 − (TP + s) / (TP + α FP + β FN + s) per image and class, with the sums over valid pixels
    TP = Σ p t, FP = Σ p (1 − t), FN = Σ (1 − p) t; then the mean over classes, then images.

    Args:
      logits: (B, H, W, C) float.
      labels: (B, H, W) integer.
      valid: (B, H, W) bool, or None.
      class_weights: (C,), or (2,) if C is 1 (without effect), or None.
      alpha: α ≥ 0, weight of false positives.
      beta: β ≥ 0, weight of false negatives.
      smooth: s > 0 in pixels. Where an image lacks the class, s makes the loss fall smoothly to 0
        as the predicted area does.
    """
    logits, labels, valid = prepare(logits, labels, valid)
    p = nn.sigmoid(logits) if logits.shape[-1] == 1 else nn.softmax(logits)
    p = p * valid[..., None]
    target = _region_targets(logits, labels, valid)
    overlap = jnp.sum(p * target, axis=(1, 2))
    false_positive = jnp.sum(p * ~target, axis=(1, 2))
    # Not Σ t − TP: that difference loses its digits where almost all pixels are found.
    false_negative = jnp.sum((1 - p) * target, axis=(1, 2))
    score = (overlap + smooth) / (overlap + alpha * false_positive + beta * false_negative + smooth)
    weights = _region_weights(class_weights, logits.shape[-1])
    return _image_mean(1 - score, jnp.broadcast_to(weights, score.shape), valid)


def dice(logits, labels, *, valid=None, class_weights=None, smooth: float = 1.0) -> Mean:
    """Soft Dice loss (Milletari et al. 2016, with plain sums in place of squares).

    1 − (2 Σ p t + s) / (Σ p + Σ t + s) per image and class; then the mean over classes, then
    images. It is `tversky` with α = β = ½ and half the constant. See there for the arguments.
    """
    return tversky(
        logits,
        labels,
        valid=valid,
        class_weights=class_weights,
        alpha=0.5,
        beta=0.5,
        smooth=smooth / 2,
    )


def jaccard(logits, labels, *, valid=None, class_weights=None, smooth: float = 1.0) -> Mean:
    """Soft Jaccard loss, one minus the soft intersection over union (Rahman & Wang 2016).

    1 − (Σ p t + s) / (Σ p + Σ t − Σ p t + s) per image and class; then the mean over classes,
    then images. It is `tversky` with α = β = 1. See there for the arguments.
    """
    return tversky(
        logits,
        labels,
        valid=valid,
        class_weights=class_weights,
        alpha=1.0,
        beta=1.0,
        smooth=smooth,
    )


def lovasz(logits, labels, *, valid=None, class_weights=None) -> Mean:
    """Lovász hinge (binary) or Lovász-softmax loss (Berman et al. 2018), per image.

    The convex extension of the Jaccard loss: Σᵢ gᵢ mᵢ over the pixels in order of falling error mᵢ,
    where gᵢ is how much the Jaccard loss grows when pixel i is made wrong after all pixels before
    it. The errors are mᵢ = max(0, 1 − xᵢ (2tᵢ − 1)) for the hinge and |tᵢ − pᵢ| for the softmax,
    whose mean is over the classes present in the image. For an image without foreground it is the
    largest hinge error. It equals the authors' code with `per_image=True, classes="present"`.

    Args:
      logits: (B, H, W, C) float.
      labels: (B, H, W) integer.
      valid: (B, H, W) bool, or None.
      class_weights: (C,), or (2,) if C is 1 (without effect), or None.
    """
    logits, labels, valid = prepare(logits, labels, valid)
    target = _region_targets(logits, labels, valid)
    weights = _region_weights(class_weights, logits.shape[-1])
    if logits.shape[-1] == 1:
        errors = nn.relu(1 - jnp.where(target, logits, -logits))
        weights = jnp.broadcast_to(weights, (len(logits), 1))
    else:
        errors = jnp.abs(target - nn.softmax(logits))
        weights = weights * jnp.any(target, axis=(1, 2))
    errors = jnp.where(valid[..., None], errors, 0)
    batch, _, _, classes = errors.shape
    extension = jax.vmap(jax.vmap(_lovasz_extension, in_axes=1), in_axes=0)
    values = extension(errors.reshape(batch, -1, classes), target.reshape(batch, -1, classes))
    return _image_mean(values, weights, valid)


def _region_targets(logits: Array, labels: Array, valid: Array) -> Array:
    """(B, H, W, C) bool, false where a pixel isn't valid; C = 1 is the foreground."""
    classes = range(logits.shape[-1]) if logits.shape[-1] > 1 else [1]
    return one_hot(labels, classes) & valid[..., None]


def _region_weights(class_weights: ArrayLike | None, maps: int) -> Array:
    """(C,) float32: the weights of the classes, or 1 for the foreground of a binary task."""
    weights = class_weights_of(class_weights, max(maps, 2))
    return weights if maps > 1 else jnp.ones(1)


def _lovasz_extension(errors: Array, target: Array) -> Array:
    """Σ g m of one image and class: errors (N,) ≥ 0 and target (N,) bool to a scalar.

    The steps g are in closed form. The authors take differences of the Jaccard loss, which lose
    their digits in float32 where images are large.
    """
    order = jnp.argsort(lax.stop_gradient(errors), descending=True)
    wanted = target[order]
    total = jnp.sum(wanted)
    union = (total + jnp.cumsum(~wanted)).astype(jnp.float32)
    intersection = (total - jnp.cumsum(wanted)).astype(jnp.float32)
    steps = jnp.where(wanted, 1 / union, intersection / (union * jnp.maximum(union - 1, 1)))
    steps = steps.at[0].add(total == 0)
    return jnp.sum(errors * jnp.zeros_like(steps).at[order].set(steps, unique_indices=True))


def _image_mean(values: Array, weights: Array, valid: Array) -> Mean:
    """Weighted mean over classes, then over images with a valid pixel; values, weights (B, K)."""
    total = jnp.sum(weights, axis=-1)
    per_image = jnp.sum(values * weights, axis=-1) / jnp.where(total == 0, 1, total)
    counted = jnp.any(valid, axis=(1, 2)).astype(jnp.float32)
    return mean(per_image * counted, counted)
