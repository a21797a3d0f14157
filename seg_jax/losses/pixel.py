"""Losses that are means over pixels."""

import jax
import jax.numpy as jnp
from jax import nn

from seg_jax.losses.common import class_weights_of, one_hot, prepare, share


def cross_entropy(
    logits,
    labels,
    *,
    valid=None,
    class_weights=None,
    axis_name=None,
    label_smoothing: float = 0.0,
    pixel_weights=None,
) -> jax.Array:
    """Softmax cross-entropy, or binary cross-entropy where there is one logit.

    With w the class weights, u the pixel weights, ε the smoothing and K classes (2 if binary):
    Σᵢ uᵢ ((1 − ε) w[yᵢ] (−log pᵢ[yᵢ]) + ε/K Σₖ w[k] (−log pᵢ[k])) / Σᵢ uᵢ w[yᵢ],
    which is `torch.nn.CrossEntropyLoss(weight, label_smoothing=ε)` for u = 1. The binary loss is
    the same with two classes of logits (0, x); PyTorch's BCE differs where there are weights: its
    `pos_weight` doesn't normalise.

    Args:
      logits: (B, H, W, C) float.
      labels: (B, H, W) integer.
      valid: (B, H, W) bool, or None.
      class_weights: (C,), or (2,) if C is 1, or None.
      axis_name: mapped axis over which the batch is spread, or None.
      label_smoothing: ε, the share of the target spread evenly over the classes (Szegedy et al.
        2016).
      pixel_weights: (B, H, W) non-negative, such as `boundary_weights`; None weighs all alike.
    """
    logits, labels, valid = prepare(logits, labels, valid)
    log_p = _log_probabilities(logits)
    classes = log_p.shape[-1]
    weights = class_weights_of(class_weights, classes)
    target = one_hot(labels, range(classes))
    loss = -jnp.sum(jnp.where(target, weights * log_p, 0), axis=-1)
    if label_smoothing:
        smooth = -jnp.mean(weights * log_p, axis=-1)
        loss = (1 - label_smoothing) * loss + label_smoothing * smooth
    scale = jnp.where(valid, 1.0 if pixel_weights is None else pixel_weights, 0.0)
    return share(scale * loss, scale * jnp.sum(target * weights, axis=-1), axis_name)


def focal(
    logits, labels, *, valid=None, class_weights=None, axis_name=None, gamma: float = 2.0
) -> jax.Array:
    """Focal loss, cross-entropy that looks away from what is already right (Lin et al. 2017).

    Σᵢ w[yᵢ] (1 − pᵢ[yᵢ])^γ (−log pᵢ[yᵢ]) / Σᵢ w[yᵢ] over the valid pixels; γ = 0 is
    `cross_entropy`. The paper's α is `class_weights=(1 − α, α)`, but for the normalisation.

    Args:
      logits: (B, H, W, C) float.
      labels: (B, H, W) integer.
      valid: (B, H, W) bool, or None.
      class_weights: (C,), or (2,) if C is 1, or None.
      axis_name: mapped axis over which the batch is spread, or None.
      gamma: γ ≥ 0, how far a sure pixel is discounted.
    """
    logits, labels, valid = prepare(logits, labels, valid)
    log_p = _log_probabilities(logits)
    classes = log_p.shape[-1]
    target = one_hot(labels, range(classes))
    weights = jnp.sum(target * class_weights_of(class_weights, classes), axis=-1) * valid
    # log(1 − p) from the other classes: 1 − p would round to 0 and leave the power no gradient.
    log_rest = nn.logsumexp(jnp.where(target, -jnp.inf, log_p), axis=-1)
    loss = -jnp.exp(gamma * log_rest) * jnp.sum(jnp.where(target, log_p, 0), axis=-1)
    return share(weights * loss, weights, axis_name)


def _log_probabilities(logits):
    """(B, H, W, C) logits to (B, H, W, K) log-probabilities, K = 2 where C = 1."""
    if logits.shape[-1] > 1:
        return nn.log_softmax(logits)
    return nn.log_sigmoid(jnp.concatenate([-logits, logits], axis=-1))
