"""Weighted sums of losses, as an experiment holds them."""

import dataclasses
import math

from seg_jax.errors import InputError
from seg_jax.losses.pixel import cross_entropy, focal
from seg_jax.losses.region import dice, jaccard, lovasz, tversky


@dataclasses.dataclass(frozen=True)
class Loss:
    """A weighted sum of losses; a term of weight 0 isn't computed."""

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
    """Weight of the cross-entropy that weighs pixels between objects more (U-Net's)."""
    label_smoothing: float = 0.0
    """Share of the cross-entropy's target spread evenly over the classes, from 0 to below 1."""
    class_weights: tuple[float, ...] | None = None
    """One weight a class (binary: background, foreground); none weighs all alike."""
    tversky_alpha: float = 0.3
    """Price of a false positive in the Tversky loss."""
    tversky_beta: float = 0.7
    """Price of a false negative in the Tversky loss."""
    focal_gamma: float = 2.0
    """How far the focal loss discounts pixels that are already right."""

    def __post_init__(self):
        terms = ("cross_entropy", "dice", "jaccard", "tversky", "focal", "lovasz", "boundary")
        options = ("tversky_alpha", "tversky_beta", "focal_gamma")
        for name in (*terms, *options):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"loss.{name} is {getattr(self, name)}: give 0 or more")
        if not any(getattr(self, name) for name in terms):
            raise InputError(f"loss: every weight is 0; give one of {', '.join(terms)} more than 0")
        if not 0 <= self.label_smoothing < 1:
            raise InputError(
                f"loss.label_smoothing is {self.label_smoothing}: give 0 or more, below 1"
            )
        weights = self.class_weights
        if weights is not None and not (
            all(0 <= weight < math.inf for weight in weights) and any(weights)
        ):
            raise InputError(
                f"loss.class_weights is {weights}: give one a class, each 0 or more, one above 0"
            )

    def __call__(self, logits, labels, *, valid=None, pixel_weights=None, axis_name=None):
        """The weighted sum, a float32 scalar; this device's share of it where `axis_name` is given.

        Args:
          logits: (B, H, W, C) float.
          labels: (B, H, W) integer.
          valid: (B, H, W) bool, or None.
          pixel_weights: (B, H, W), such as `boundary_weights`; read by the boundary term alone.
          axis_name: mapped axis over which the batch is spread, or None.

        Raises:
          InputError: if the boundary term has no pixel weights, or `class_weights` isn't one a
            class.
        """
        if self.boundary and pixel_weights is None:
            raise InputError(
                "loss.boundary needs pixel weights, which this input doesn't give; set it to 0"
            )
        args = (logits, labels)
        common = {"valid": valid, "class_weights": self.class_weights, "axis_name": axis_name}
        smoothing = {"label_smoothing": self.label_smoothing}
        total = 0.0
        if self.cross_entropy:
            total += self.cross_entropy * cross_entropy(*args, **common, **smoothing)
        if self.dice:
            total += self.dice * dice(*args, **common)
        if self.jaccard:
            total += self.jaccard * jaccard(*args, **common)
        if self.tversky:
            prices = {"alpha": self.tversky_alpha, "beta": self.tversky_beta}
            total += self.tversky * tversky(*args, **common, **prices)
        if self.focal:
            total += self.focal * focal(*args, **common, gamma=self.focal_gamma)
        if self.lovasz:
            total += self.lovasz * lovasz(*args, **common)
        if self.boundary:
            total += self.boundary * cross_entropy(
                *args, **common, **smoothing, pixel_weights=pixel_weights
            )
        return total
