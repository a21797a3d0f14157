"""Losses of whole regions, per image and class: Tversky with Dice and Jaccard, and Lovász."""

import jax
import jax.numpy as jnp
from jax import lax, nn

from seg_jax.losses.common import class_weights_of, one_hot, prepare, share


def tversky(
    logits,
    labels,
    *,
    valid=None,
    class_weights=None,
    axis_name=None,
    alpha: float = 0.3,
    beta: float = 0.7,
    smooth: float = 1.0,
) -> jax.Array:
    """Soft Tversky loss (Salehi et al. 2017).

    1 − (TP + s) / (TP + α FP + β FN + s) per image and class, with the sums over valid pixels
    TP = Σ p t, FP = Σ p (1 − t), FN = Σ (1 − p) t; then the mean over classes, then images.

    Args:
      logits: (B, H, W, C) float.
      labels: (B, H, W) integer.
      valid: (B, H, W) bool, or None.
      class_weights: (C,), or (2,) if C is 1 (without effect), or None.
      axis_name: mapped axis over which the batch is spread, or None.
      alpha: α, price of a false positive.
      beta: β, price of a false negative.
      smooth: s > 0 in pixels: where an image lacks the class, the loss goes to 0 with the
        predicted area instead of jumping.
    """
    logits, labels, valid = prepare(logits, labels, valid)
    p = nn.sigmoid(logits) if logits.shape[-1] == 1 else nn.softmax(logits)
    p = p * valid[..., None]
    target = _region_targets(logits, labels, valid)
    overlap = jnp.sum(p * target, axis=(1, 2))
    false_positive = jnp.sum(p * ~target, axis=(1, 2))
    # Not Σ t − TP: that difference cancels where almost all is found.
    false_negative = jnp.sum((1 - p) * target, axis=(1, 2))
    score = (overlap + smooth) / (overlap + alpha * false_positive + beta * false_negative + smooth)
    weights = _region_weights(class_weights, logits.shape[-1])
    return _image_mean(1 - score, jnp.broadcast_to(weights, score.shape), valid, axis_name)


def dice(
    logits, labels, *, valid=None, class_weights=None, axis_name=None, smooth: float = 1.0
) -> jax.Array:
    """Soft Dice loss (Milletari et al. 2016, with plain sums in place of squares).

    1 − (2 Σ p t + s) / (Σ p + Σ t + s) per image and class; then the mean over classes, then
    images. It is `tversky` with α = β = ½ and half the constant. See there for the arguments.
    """
    return tversky(
        logits,
        labels,
        valid=valid,
        class_weights=class_weights,
        axis_name=axis_name,
        alpha=0.5,
        beta=0.5,
        smooth=smooth / 2,
    )


def jaccard(
    logits, labels, *, valid=None, class_weights=None, axis_name=None, smooth: float = 1.0
) -> jax.Array:
    """Soft Jaccard loss, one minus the soft intersection over union (Rahman & Wang 2016).

    1 − (Σ p t + s) / (Σ p + Σ t − Σ p t + s) per image and class; then the mean over classes,
    then images. It is `tversky` with α = β = 1. See there for the arguments.
    """
    return tversky(
        logits,
        labels,
        valid=valid,
        class_weights=class_weights,
        axis_name=axis_name,
        alpha=1.0,
        beta=1.0,
        smooth=smooth,
    )


def lovasz(logits, labels, *, valid=None, class_weights=None, axis_name=None) -> jax.Array:
    """Lovász hinge (binary) or Lovász-softmax loss (Berman et al. 2018), per image.

    The convex extension of the Jaccard loss, linear in the pixels' errors: Σᵢ gᵢ mᵢ, with gᵢ what
    the Jaccard loss gains when pixel i, after all of greater error, turns wrong. The errors are
    mᵢ = max(0, 1 − xᵢ (2tᵢ − 1)) in the hinge and |tᵢ − pᵢ| in the softmax, whose mean is over the
    classes present in the image. An image without foreground costs its greatest hinge error.
    As the authors' code with `per_image=True, classes="present"`.

    Args:
      logits: (B, H, W, C) float.
      labels: (B, H, W) integer.
      valid: (B, H, W) bool, or None.
      class_weights: (C,), or (2,) if C is 1 (without effect), or None.
      axis_name: mapped axis over which the batch is spread, or None.
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
    return _image_mean(values, weights, valid, axis_name)


def _region_targets(logits, labels, valid):
    """(B, H, W, C) bool, false where a pixel isn't valid; C = 1 is the foreground."""
    classes = range(logits.shape[-1]) if logits.shape[-1] > 1 else [1]
    return one_hot(labels, classes) & valid[..., None]


def _region_weights(class_weights, maps):
    weights = class_weights_of(class_weights, max(maps, 2))
    return weights if maps > 1 else jnp.ones(1)


def _lovasz_extension(errors, target):
    """Σ g m of one image and class: errors (N,) ≥ 0 and target (N,) bool to a scalar.

    The steps g are in closed form, where the authors take differences of the Jaccard loss: for
    large images those cancel in float32.
    """
    order = jnp.argsort(lax.stop_gradient(errors), descending=True)
    wanted = target[order]
    total = jnp.sum(wanted)
    union = (total + jnp.cumsum(~wanted)).astype(jnp.float32)
    intersection = (total - jnp.cumsum(wanted)).astype(jnp.float32)
    steps = jnp.where(wanted, 1 / union, intersection / (union * jnp.maximum(union - 1, 1)))
    steps = steps.at[0].add(total == 0)
    return jnp.sum(errors * jnp.zeros_like(steps).at[order].set(steps, unique_indices=True))


def _image_mean(values, weights, valid, axis_name):
    """Weighted mean over classes, then over images with a valid pixel; values, weights (B, K)."""
    total = jnp.sum(weights, axis=-1)
    per_image = jnp.sum(values * weights, axis=-1) / jnp.where(total == 0, 1, total)
    counted = jnp.any(valid, axis=(1, 2)).astype(jnp.float32)
    return share(per_image * counted, counted, axis_name)
