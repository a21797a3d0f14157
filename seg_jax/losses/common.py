"""What all losses share: which pixels count, and the weights of the classes."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from seg_jax.errors import InputError


def prepare(logits: Array, labels: Array, valid: Array | None) -> tuple[Array, Array, Array]:
    """Logits as float32 and labels as int32, both 0 where a pixel doesn't count, and where it does.

    Args:
      logits: (B, H, W, C) float.
      labels: (B, H, W) integer.
      valid: (B, H, W) bool, or None.

    Returns:
      The logits, the labels, and (B, H, W) bool: valid, and labelled with one of the classes.
    """
    if labels.shape != logits.shape[:-1]:
        raise ValueError(f"logits {logits.shape} need labels {logits.shape[:-1]}: {labels.shape}")
    labels = labels.astype(jnp.int32)
    known = (labels >= 0) & (labels < max(logits.shape[-1], 2))
    valid = known if valid is None else known & valid
    logits = jnp.where(valid[..., None], logits, 0).astype(jnp.float32)
    return logits, jnp.where(valid, labels, 0), valid


def one_hot(labels: Array, classes: Sequence[int]) -> Array:
    """(B, H, W, K) bool: whether a pixel of `labels` (B, H, W) is of each of K classes."""
    return labels[..., None] == jnp.array(classes)


def class_weights_of(class_weights: ArrayLike | None, classes: int) -> Array:
    """(K,) float32 weights of K classes, all 1 for None.

    Raises:
      InputError: if there are more or fewer weights than classes.
    """
    weights = jnp.ones(classes) if class_weights is None else jnp.asarray(class_weights)
    if weights.shape != (classes,):
        raise InputError(
            f"loss.class_weights has {weights.size} entries, the task {classes} classes; give one "
            "for each class (background and foreground for a binary task)"
        )
    return weights.astype(jnp.float32)
