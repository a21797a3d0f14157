"""How the weights move: optax chains whose settings an experiment can hold."""

from dataclasses import dataclass

import jax
import optax

from seg_jax.errors import InputError


@dataclass(frozen=True)
class AdamW:
    """AdamW (Loshchilov and Hutter 2019) under a linear warm-up and a cosine to zero.

    Any frozen dataclass with a method `chain(steps)` that returns an optax transformation and a
    schedule takes its place in an experiment.
    """

    learning_rate: float = 1e-3
    """Largest learning rate, reached at the end of the warm-up."""
    warmup: float = 0.05
    """Share of all steps over which the learning rate rises from 0."""
    cosine: bool = True
    """Let the learning rate fall to 0 along a cosine; else it stays."""
    weight_decay: float = 1e-4
    """Decoupled weight decay of every parameter with more than one axis."""
    clip: float | None = 1.0
    """Largest global norm of the gradient; longer ones are shortened to it."""

    def __post_init__(self):
        if self.learning_rate <= 0:
            raise InputError(f"optimiser.learning_rate is {self.learning_rate}; it must be above 0")
        if not 0 <= self.warmup < 1:
            raise InputError(
                f"optimiser.warmup is {self.warmup}; it is a share of all steps: 0 to 1"
            )

    def chain(self, steps: int) -> tuple[optax.GradientTransformation, optax.Schedule]:
        """The transformation for a run of this many steps, and its learning rate by step."""
        warmup = round(self.warmup * steps)
        rise = optax.linear_schedule(0.0, self.learning_rate, warmup)
        stay = optax.constant_schedule(self.learning_rate)
        fall = optax.cosine_decay_schedule(self.learning_rate, max(1, steps - warmup))
        schedule = optax.join_schedules([rise, fall if self.cosine else stay], [warmup])
        clip = optax.identity() if self.clip is None else optax.clip_by_global_norm(self.clip)
        adamw = optax.adamw(schedule, weight_decay=self.weight_decay, mask=_is_kernel)
        return optax.chain(clip, adamw), schedule


def _is_kernel(params: optax.Params) -> optax.Params:
    """Biases and the scales of normalisations aren't decayed."""
    return jax.tree.map(lambda p: p.ndim > 1, params)
