"""Weighted sums of losses, as an experiment holds them."""

import dataclasses
import math
from functools import partial

from seg_jax.errors import InputError
from seg_jax.losses.mean import Mean
from seg_jax.losses.pixel import cross_entropy, focal
from seg_jax.losses.region import dice, jaccard, lovasz, tversky

_TERMS = ("cross_entropy", "dice", "jaccard", "tversky", "focal", "lovasz", "boundary")
"""The fields of `Loss` that are weights of terms."""


@dataclasses.dataclass(frozen=True)
class Loss:
    """A weighted sum of losses; a term of weight 0 isn't computed.

    Raises:
      InputError: if a field is out of its range, or every weight is 0.
    """

    cross_entropy: float = 1.0
    """Weight of the (binary or softmax) cross-entropy."""
    dice: float = 0.0
    """Weight of the soft Dice loss."""
    jaccard: float = 0.0
    """Weight of the soft Jaccard loss."""
    tversky: float = 0.0
    """Weight of the soft Tversky loss."""
    focal: float = 0.0
    """Weight of the focal loss."""
    lovasz: float = 0.0
    """Weight of the Lovász hinge or softmax loss."""
    boundary: float = 0.0
    """Weight of U-Net's cross-entropy, in which pixels between two objects weigh more."""
    label_smoothing: float = 0.0
    """Share of the cross-entropy's target that is spread evenly over the classes; 0 to below 1."""
    class_weights: tuple[float, ...] | None = None
    """A weight for each class (binary: background, foreground); equal weights if not given."""
    tversky_alpha: float = 0.3
    """Weight of false positives in the Tversky loss."""
    tversky_beta: float = 0.7
    """Weight of false negatives in the Tversky loss."""
    focal_gamma: float = 2.0
    """The greater, the less a pixel counts in the focal loss that is classified well."""

    def __post_init__(self):
        options = ("tversky_alpha", "tversky_beta", "focal_gamma")
        for name in (*_TERMS, *options):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"loss.{name} is {getattr(self, name)}; give 0 or more")
        if not any(getattr(self, name) for name in _TERMS):
            raise InputError(f"loss: every weight is 0; set one of {', '.join(_TERMS)} above 0")
        if not 0 <= self.label_smoothing < 1:
            raise InputError(
                f"loss.label_smoothing is {self.label_smoothing}; give 0 or more, below 1"
            )
        weights = self.class_weights
        if weights is not None and not (
            all(0 <= weight < math.inf for weight in weights) and any(weights)
        ):
            raise InputError(
                f"loss.class_weights is {weights}; give one for each class, none below 0 and at "
                "least one above 0"
            )

    def __call__(self, logits, labels, *, valid=None, pixel_weights=None) -> dict[str, Mean]:
        """The terms times their weights, by the names of the fields; the loss is their sum.

        Args:
          logits: (B, H, W, C) float.
          labels: (B, H, W) integer.
          valid: (B, H, W) bool, or None.
          pixel_weights: (B, H, W), such as `boundary_weights`; only the boundary term uses it.

        Raises:
          InputError: if the boundary term has no pixel weights, or `class_weights` doesn't have one
            for each class.
        """
        if self.boundary and pixel_weights is None:
            raise InputError(
                "loss.boundary needs pixel weights, which this task doesn't give; "
                "set loss.boundary to 0"
            )
        smoothed = partial(cross_entropy, label_smoothing=self.label_smoothing)
        terms = {
            "cross_entropy": smoothed,
            "dice": dice,
            "jaccard": jaccard,
            "tversky": partial(tversky, alpha=self.tversky_alpha, beta=self.tversky_beta),
            "focal": partial(focal, gamma=self.focal_gamma),
            "lovasz": lovasz,
            "boundary": partial(smoothed, pixel_weights=pixel_weights),
        }
        weights = {name: getattr(self, name) for name in _TERMS}
        common = {"valid": valid, "class_weights": self.class_weights}
        return {
            name: weight * terms[name](logits, labels, **common)
            for name, weight in weights.items()
            if weight
        }
