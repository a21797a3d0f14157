"""What all losses share: which pixels and classes count, and a device's share of a mean."""

import jax.numpy as jnp
from jax import lax

from seg_jax.errors import InputError


def prepare(logits, labels, valid):
    """Logits as float32 and labels as int32, both 0 where a pixel doesn't count, and valid."""
    if labels.shape != logits.shape[:-1]:
        raise ValueError(f"logits {logits.shape} need labels {logits.shape[:-1]}: {labels.shape}")
    labels = labels.astype(jnp.int32)
    known = (labels >= 0) & (labels < max(logits.shape[-1], 2))
    valid = known if valid is None else known & valid
    logits = jnp.where(valid[..., None], logits, 0).astype(jnp.float32)
    return logits, jnp.where(valid, labels, 0), valid


def one_hot(labels, classes):
    """(B, H, W) labels to (B, H, W, K) bool, by a sequence of K classes."""
    return labels[..., None] == jnp.array(classes)


def class_weights_of(class_weights, classes):
    """(K,) float32, ones for None."""
    weights = jnp.ones(classes) if class_weights is None else jnp.asarray(class_weights)
    if weights.shape != (classes,):
        raise InputError(
            f"class_weights has {weights.size} entries, the task {classes} classes: give one a "
            "class (background and foreground for a binary task)"
        )
    return weights.astype(jnp.float32)


def share(numerator, denominator, axis_name):
    """Σ numerator on this device / Σ denominator on all devices, and 0 for 0/0."""
    total = jnp.sum(denominator)
    if axis_name is not None:
        total = lax.psum(total, axis_name)
    return jnp.sum(numerator) / jnp.where(total == 0, 1, total)
