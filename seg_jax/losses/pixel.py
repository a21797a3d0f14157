"""Losses that are means over pixels."""

import jax.numpy as jnp
from jax import Array, nn

from seg_jax.losses.common import class_weights_of, one_hot, prepare
from seg_jax.losses.mean import Mean, mean


def cross_entropy(
    logits,
    labels,
    *,
    valid=None,
    class_weights=None,
    label_smoothing: float = 0.0,
    pixel_weights=None,
) -> Mean:
    """Softmax cross-entropy, or binary cross-entropy where there is one logit.

    With w the class weights, u the pixel weights, ε the smoothing and K classes (2 if binary):
    Σᵢ uᵢ ((1 − ε) w[yᵢ] (−log pᵢ[yᵢ]) + ε/K Σₖ w[k] (−log pᵢ[k])) / Σᵢ uᵢ w[yᵢ],
    which is `torch.nn.CrossEntropyLoss(weight, label_smoothing=ε)` for u = 1. The binary loss is
    the same with two classes of logits (0, x). With weights PyTorch's binary loss differs: it
    doesn't divide by the sum of its `pos_weight`.

    Args:
      logits: (B, H, W, C) float.
      labels: (B, H, W) integer.
      valid: (B, H, W) bool, or None.
      class_weights: (C,), or (2,) if C is 1, or None.
      label_smoothing: ε, the share of the target spread evenly over the classes (Szegedy et al.
        2016).
      pixel_weights: (B, H, W) non-negative, such as `boundary_weights`; None for equal weights.
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
    return mean(scale * loss, scale * jnp.sum(target * weights, axis=-1))


def focal(logits, labels, *, valid=None, class_weights=None, gamma: float = 2.0) -> Mean:
    """Focal loss, cross-entropy in which sure pixels count less (Lin et al. 2017).

    Σᵢ w[yᵢ] (1 − pᵢ[yᵢ])^γ (−log pᵢ[yᵢ]) / Σᵢ w[yᵢ] over the valid pixels; γ = 0 is
    `cross_entropy`. The paper's α is `class_weights=(1 − α, α)`, except that the paper doesn't
    divide by the weights.

    Args:
      logits: (B, H, W, C) float.
      labels: (B, H, W) integer.
      valid: (B, H, W) bool, or None.
      class_weights: (C,), or (2,) if C is 1, or None.
      gamma: γ ≥ 0; the greater, the less a pixel counts that is classified well.
    """
    logits, labels, valid = prepare(logits, labels, valid)
    log_p = _log_probabilities(logits)
    classes = log_p.shape[-1]
    target = one_hot(labels, range(classes))
    weights = jnp.sum(target * class_weights_of(class_weights, classes), axis=-1) * valid
    # log(1 − p) from the other classes: 1 − p would round to 0, where its power has no gradient.
    log_rest = nn.logsumexp(jnp.where(target, -jnp.inf, log_p), axis=-1)
    loss = -jnp.exp(gamma * log_rest) * jnp.sum(jnp.where(target, log_p, 0), axis=-1)
    return mean(weights * loss, weights)


def _log_probabilities(logits: Array) -> Array:
    """(B, H, W, C) logits to (B, H, W, K) log-probabilities, K = 2 where C = 1."""
    if logits.shape[-1] > 1:
        return nn.log_softmax(logits)
    return nn.log_sigmoid(jnp.concatenate([-logits, logits], axis=-1))
