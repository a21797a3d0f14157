"""One step of training and one of evaluation: pure functions that know no devices.

`parallel.py` puts them onto devices. With `axis_name` set, a step sees its device's share of the
batch and sums over that axis what belongs to the whole batch, so one device and many give the
same numbers.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct, traverse_util
from jax import Array

from seg_jax.datasets.source import VOID
from seg_jax.errors import InputError
from seg_jax.pipeline.augment import Augment, augment

Batch = dict[str, Array]
Variables = dict[str, Any]
Step = Callable[..., tuple[Any, Any]]
Objective = Callable[..., Array]
"""`objective(maps, batch, *, axis_name)`: the loss of maps (B, H, W, K) float32, a scalar; with
`axis_name` this device's share of it."""


class TrainState(struct.PyTreeNode):
    """All that training changes, and so all that a checkpoint holds."""

    step: Array
    """() int32: updates done."""
    variables: Variables
    """What the model is applied to: "params", and "batch_stats" where it has any."""
    opt_state: optax.OptState
    average: Variables
    """Exponential moving average of `variables`: what is evaluated, saved as best and predicts."""


def init_state(
    model: nn.Module, optimiser: optax.GradientTransformation, *, seed: int, shape: tuple[int, ...]
) -> TrainState:
    """The state before the first step; equal seeds give equal states.

    Args:
      model: the network.
      optimiser: the optax transformation.
      seed: of the initial weights.
      shape: (H, W, C) of one image.
    """
    key = jax.random.key(seed)
    variables = jax.jit(lambda: model.init(key, jnp.zeros((1, *shape)), train=False))()
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        variables=variables,
        opt_state=optimiser.init(variables["params"]),
        average=jax.tree.map(jnp.copy, variables),  # a buffer can be donated only once
    )


def fitting(own: Variables, others: Variables) -> dict[str, Array]:
    """Those of another net's variables, by name, that agree in name and shape with a net's own.

    Raises:
      InputError: if no kernel does.
    """
    own, others = (traverse_util.flatten_dict(x, sep="/") for x in (own, others))
    found = {n: x for n, x in others.items() if n in own and own[n].shape == x.shape}
    if all(x.ndim < 2 for x in found.values()):
        raise InputError(
            "weights_from: that net has no weights of the names and shapes of this one's; name a "
            "run of a like net"
        )
    return found


def begin_with(state: TrainState, variables: Variables) -> tuple[TrainState, list[str]]:
    """The state with what is `fitting` of another net's variables in place of its own.

    Returns:
      The state, and the names of the net's own that stayed.

    Raises:
      InputError: if no kernel fits.
    """
    taken = fitting(state.variables, variables)
    own = traverse_util.flatten_dict(state.variables, sep="/")
    found = jax.tree.map(jnp.array, traverse_util.unflatten_dict(own | taken, sep="/"))
    average = jax.tree.map(jnp.copy, found)
    return state.replace(variables=found, average=average), sorted(own.keys() - taken.keys())


def to_float(image: Array) -> Array:
    """Pixels of uint8 to float32 in [0, 1]."""
    return image.astype(jnp.float32) / 255.0


def normalise(image: Array, *, standardise: bool = False) -> Array:
    """Pixels of [0, 1] to about zero mean and unit variance, as the networks take them.

    Args:
      image: (B, H, W, C) float32.
      standardise: by each image's own mean and deviation instead of the same for all.
    """
    if not standardise:
        return (image - 0.5) * 4.0
    mean = image.mean((1, 2, 3), keepdims=True)
    deviation = image.std((1, 2, 3), keepdims=True)
    return (image - mean) / jnp.maximum(deviation, 1e-3)


def make_train_step(
    model: nn.Module,
    optimiser: optax.GradientTransformation,
    objective: Objective,
    *,
    augmentation: Augment,
    seed: int,
    average: float = 0.0,
    accumulate: int = 1,
    standardise: bool = False,
) -> Step:
    """Builds `train_step(state, batch, *, axis_name=None) -> (state, scalars)`.

    The batch holds `image` (B, H, W, C) uint8, `label` (B, H, W) uint8 with `VOID` where unknown,
    `epoch` and `index` (B,) int32, and what else the objective wants. The scalars are `loss` and
    `grad_norm`, float32, of the whole batch.

    Randomness is a function of the seed and, for augmentation, each example's epoch and index, or
    for dropout the step: a resumed run draws what the uninterrupted one would have drawn.

    Args:
      model: the network, called as `model.apply(variables, images, train=True)`.
      optimiser: the optax transformation.
      objective: called with the network's maps and the batch, its `label` int32 and its `valid`
        (B, H, W) bool false where the label is `VOID`.
      augmentation: what happens to the images first.
      seed: of augmentation and dropout.
      average: decay of the moving average of the weights; 0 keeps the weights themselves. Early on
        it is (1 + step) / (10 + step) if that is less, so that the average forgets the start.
      accumulate: number of parts, each of B / accumulate images, whose gradients are averaged
        before the update, for batches that don't fit at once.
      standardise: as in `normalise`.
    """
    augmentation_key, dropout_root = jax.random.split(jax.random.key(seed))

    def train_step(state: TrainState, batch: Batch, *, axis_name: str | None = None):
        keys = jax.vmap(
            lambda epoch, index: jax.random.fold_in(
                jax.random.fold_in(augmentation_key, epoch), index
            )
        )(batch["epoch"], batch["index"])
        dropout_key = jax.random.fold_in(dropout_root, state.step)
        if axis_name is not None:
            dropout_key = jax.random.fold_in(dropout_key, jax.lax.axis_index(axis_name))
        data = _opened({n: x for n, x in batch.items() if n not in ("epoch", "index")})

        def share_of_loss(params, rest, part, key):
            maps, changed = model.apply(
                {"params": params, **rest},
                normalise(part["image"], standardise=standardise),
                train=True,
                axis_name=axis_name,
                mutable=list(rest),
                rngs={"dropout": key},
            )
            return objective(maps, part, axis_name=axis_name), dict(changed)

        def accumulate_part(carry, part):
            gradient, value, rest = carry
            part, part_keys, dropout = part
            part = augment(augmentation, part_keys, part)
            (part_value, rest), part_gradient = jax.value_and_grad(share_of_loss, has_aux=True)(
                params, rest, part, dropout
            )
            gradient = jax.tree.map(lambda g, p: g + p / accumulate, gradient, part_gradient)
            return (gradient, value + part_value / accumulate, rest), None

        params = state.variables["params"]
        rest = {name: value for name, value in state.variables.items() if name != "params"}
        parts = jax.tree.map(
            lambda x: x.reshape(accumulate, x.shape[0] // accumulate, *x.shape[1:]), (data, keys)
        )
        zero = (jax.tree.map(jnp.zeros_like, params), jnp.zeros(()), rest)
        dropout_keys = jax.random.split(dropout_key, accumulate)
        if accumulate == 1:
            first = jax.tree.map(lambda x: x[0], (*parts, dropout_keys))
            (gradient, value, rest), _ = accumulate_part(zero, first)
        else:
            (gradient, value, rest), _ = jax.lax.scan(accumulate_part, zero, (*parts, dropout_keys))
        if axis_name is not None:
            gradient, value = jax.lax.psum((gradient, value), axis_name)

        updates, opt_state = optimiser.update(gradient, state.opt_state, params)
        variables = {"params": optax.apply_updates(params, updates), **rest}
        step = state.step + 1
        decay = jnp.minimum(average, (1.0 + step) / (10.0 + step))
        state = TrainState(
            step=step,
            variables=variables,
            opt_state=opt_state,
            average=jax.tree.map(lambda a, v: v + decay * (a - v), state.average, variables),
        )
        return state, {"loss": value, "grad_norm": optax.tree.norm(gradient)}

    return train_step


def make_eval_step(
    model: nn.Module,
    objective: Objective,
    measure: Callable[[Array, Batch], Any],
    *,
    standardise: bool = False,
) -> Step:
    """Builds `eval_step(variables, batch, *, axis_name=None) -> (measured, loss)`.

    What is measured is of each image of the batch, (B, ...); the loss is the whole batch's. An
    image whose label is `VOID` throughout counts nowhere: so the last batch is filled up.

    Args:
      model: the network.
      objective: as in training.
      measure: called with the network's maps and the batch.
      standardise: as in `normalise`.
    """

    def eval_step(variables: Variables, batch: Batch, *, axis_name: str | None = None):
        data = _opened(batch)
        maps = model.apply(
            variables, normalise(data["image"], standardise=standardise), train=False
        )
        value = objective(maps, data, axis_name=axis_name)
        value = value if axis_name is None else jax.lax.psum(value, axis_name)
        return measure(maps, data), value

    return eval_step


def _opened(batch: Batch) -> Batch:
    """A batch as it comes from the host as the objective takes it."""
    return batch | {
        "image": to_float(batch["image"]),
        "label": batch["label"].astype(jnp.int32),
        "valid": batch["label"] != VOID,
    }
