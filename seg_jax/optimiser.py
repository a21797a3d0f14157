"""How the weights move: optax chains whose settings an experiment can hold."""

from dataclasses import dataclass

import jax
import optax
from optax import contrib

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
        _check(self)

    def chain(self, steps: int) -> tuple[optax.GradientTransformation, optax.Schedule]:
        """The transformation for a run of this many steps, and its learning rate by step."""
        schedule = _schedule(self, self.learning_rate, steps)
        adamw = optax.adamw(schedule, weight_decay=self.weight_decay, mask=_is_kernel)
        return optax.chain(_clip(self), adamw), schedule


@dataclass(frozen=True)
class Muon:
    """Muon (Jordan 2024, https://kellerjordan.github.io/posts/muon) under the schedule of `AdamW`.

    The momentum of every kernel, as a matrix of its last axis by all others, is replaced by a
    nearly orthogonal matrix near it times √max(1, outputs / inputs), so that all directions are
    learnt at one pace. (The others of an up-convolution are its four taps and its inputs.) Biases
    and the scales of normalisations move by Adam with Nesterov's momentum. Beside `AdamW`:
    docs/results.md.
    """

    learning_rate: float = 0.03
    """Largest learning rate of the kernels, reached at the end of the warm-up."""
    adam_learning_rate: float = 2e-3
    """Largest learning rate of everything else."""
    warmup: float = 0.05
    """Share of all steps over which the learning rates rise from 0."""
    cosine: bool = True
    """Let the learning rates fall to 0 along a cosine; else they stay."""
    weight_decay: float = 0.01
    """Weight decay of the kernels, times their learning rate."""
    clip: float | None = 1.0
    """Largest global norm of the gradient; longer ones are shortened to it."""

    def __post_init__(self):
        _check(self)
        if self.adam_learning_rate <= 0:
            raise InputError(
                f"optimiser.adam_learning_rate is {self.adam_learning_rate}; it must be above 0"
            )

    def chain(self, steps: int) -> tuple[optax.GradientTransformation, optax.Schedule]:
        """The transformation for a run of this many steps, and the kernels' learning rate."""
        schedule = _schedule(self, self.learning_rate, steps)
        muon = contrib.muon(
            schedule,
            weight_decay=self.weight_decay,
            adam_learning_rate=_schedule(self, self.adam_learning_rate, steps),
            muon_weight_dimension_numbers=_as_matrices,
        )
        return optax.chain(_clip(self), muon), schedule


def _check(settings: AdamW | Muon) -> None:
    rate, warmup = settings.learning_rate, settings.warmup
    if rate <= 0:
        raise InputError(f"optimiser.learning_rate is {rate}; it must be above 0")
    if not 0 <= warmup < 1:
        raise InputError(f"optimiser.warmup is {warmup}; it is a share of all steps: 0 to 1")


def _schedule(settings: AdamW | Muon, largest: float, steps: int) -> optax.Schedule:
    """Up to the largest rate and down again."""
    warmup = round(settings.warmup * steps)
    rise = optax.linear_schedule(0.0, largest, warmup)
    stay = optax.constant_schedule(largest)
    fall = optax.cosine_decay_schedule(largest, max(1, steps - warmup))
    return optax.join_schedules([rise, fall if settings.cosine else stay], [warmup])


def _clip(settings: AdamW | Muon) -> optax.GradientTransformation:
    clip = settings.clip
    return optax.identity() if clip is None else optax.clip_by_global_norm(clip)


def _is_kernel(params: optax.Params) -> optax.Params:
    """Biases and the scales of normalisations aren't decayed."""
    return jax.tree.map(lambda p: p.ndim > 1, params)


def _as_matrices(params: optax.Params) -> optax.Params:
    """Kernels as matrices: their last axis by all others. The rest are none."""

    def matrix(p: jax.Array) -> contrib.MuonDimensionNumbers | None:
        if p.ndim < 2:
            return None
        *inputs, output = range(p.ndim)
        return contrib.MuonDimensionNumbers(tuple(inputs), (output,))

    return jax.tree.map(matrix, params)
