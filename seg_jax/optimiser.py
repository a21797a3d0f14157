"""How the weights are updated: optax chains with settings that an experiment can hold."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import jax
import optax
from optax import contrib

from seg_jax.errors import InputError


class Optimiser(ABC):
    """An optimiser as an experiment holds it: a frozen dataclass that builds an optax chain."""

    @abstractmethod
    def chain(self, steps: int) -> tuple[optax.GradientTransformation, optax.Schedule]:
        """The transformation for a run of this many steps, and the learning rate by step."""


@dataclass(frozen=True)
class AdamW(Optimiser):
    """AdamW (Loshchilov and Hutter 2019) with a linear warm-up and a cosine to zero."""

    learning_rate: float = 1e-3
    """Largest learning rate, reached at the end of the warm-up."""
    warmup: float = 0.05
    """Fraction of all steps in which the learning rate rises from 0."""
    cosine: bool = True
    """Let the learning rate fall to 0 along a cosine; otherwise it stays constant."""
    weight_decay: float = 1e-4
    """Decoupled weight decay of every parameter with more than one axis."""
    clip: float | None = 1.0
    """Largest global norm of the gradient; larger gradients are scaled down to it."""

    def __post_init__(self):
        _check(self)

    def chain(self, steps: int) -> tuple[optax.GradientTransformation, optax.Schedule]:
        """The transformation for a run of this many steps, and the learning rate by step."""
        schedule = _schedule(self, self.learning_rate, steps)
        adamw = optax.adamw(schedule, weight_decay=self.weight_decay, mask=_is_kernel)
        return optax.chain(_clip(self), adamw), schedule


@dataclass(frozen=True)
class Muon(Optimiser):
    """Muon (Jordan 2024, https://kellerjordan.github.io/posts/muon) with the schedule of `AdamW`.

    The momentum of each kernel is taken as a matrix: the last axis are the outputs, all other axes
    together the inputs (for an up-convolution, also its 2×2 positions). It is replaced by a nearly
    orthogonal matrix close to it, times √max(1, outputs / inputs), so that all directions are
    learnt at the same rate. Biases and the scales of normalisations are updated by Adam with
    Nesterov's momentum. docs/results.md compares Muon with `AdamW`.
    """

    learning_rate: float = 0.03
    """Largest learning rate of the kernels, reached at the end of the warm-up."""
    adam_learning_rate: float = 2e-3
    """Largest learning rate of everything else."""
    warmup: float = 0.05
    """Fraction of all steps in which the learning rates rise from 0."""
    cosine: bool = True
    """Let the learning rates fall to 0 along a cosine; otherwise they stay constant."""
    weight_decay: float = 0.01
    """Weight decay of the kernels, times their learning rate."""
    clip: float | None = 1.0
    """Largest global norm of the gradient; larger gradients are scaled down to it."""

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
    """The learning rate by step: it rises to the largest, then falls or stays."""
    warmup = round(settings.warmup * steps)
    rise = optax.linear_schedule(0.0, largest, warmup)
    stay = optax.constant_schedule(largest)
    fall = optax.cosine_decay_schedule(largest, max(1, steps - warmup))
    return optax.join_schedules([rise, fall if settings.cosine else stay], [warmup])


def _clip(settings: AdamW | Muon) -> optax.GradientTransformation:
    clip = settings.clip
    return optax.identity() if clip is None else optax.clip_by_global_norm(clip)


def _is_kernel(params: optax.Params) -> optax.Params:
    """Which parameters are kernels; biases and the scales of normalisations aren't."""
    return jax.tree.map(lambda p: p.ndim > 1, params)


def _as_matrices(params: optax.Params) -> optax.Params:
    """Which axes of a kernel are a matrix's: the last by all others. None for other parameters."""

    def matrix(p: jax.Array) -> contrib.MuonDimensionNumbers | None:
        if p.ndim < 2:
            return None
        *inputs, output = range(p.ndim)
        return contrib.MuonDimensionNumbers(tuple(inputs), (output,))

    return jax.tree.map(matrix, params)
