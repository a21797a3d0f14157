"""A mean as a sum and its weight, so that parts of a batch add up to the mean of the whole."""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Mean:
    """A weighted mean before the division: its value is total / weight, or 0 if the weight is 0.

    Means of parts of a batch can be added. The sum has the value and the gradient of the whole
    batch, however unequal the parts are. The weight depends on the labels alone, never on what the
    network predicts, so it has no gradient.
    """

    total: Array
    """() float32: the sum of the weighted values."""
    weight: Array
    """() float32: the sum of the weights."""

    @property
    def value(self) -> Array:
        """() float32: the mean."""
        return self.total / jnp.where(self.weight == 0, 1, self.weight)

    def __add__(self, other: "Mean") -> "Mean":
        return Mean(self.total + other.total, self.weight + other.weight)

    def __rmul__(self, factor: float) -> "Mean":
        """`factor` times the mean, with the same weight."""
        return Mean(factor * self.total, self.weight)


def mean(values: Array, weights: Array) -> Mean:
    """The weighted mean of values that are already multiplied by their weights; any shapes."""
    return Mean(jnp.sum(values), jnp.sum(weights))


def total_of(terms: Mapping[str, Mean]) -> Array:
    """() float32: the loss, the sum of the values of its terms."""
    return sum(term.value for term in terms.values())
