"""One step of training and one step of evaluation, as pure functions.

`parallel.py` puts them onto devices. With `axis_name` set, a step sees its device's part of the
batch and sums over that axis what belongs to the whole batch. So one device and many devices give
the same numbers.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct, traverse_util
from jax import Array

from seg_jax.errors import InputError
from seg_jax.labels import VOID, Kind
from seg_jax.losses import Mean, total_of
from seg_jax.pipeline.augment import ALWAYS_MAPS, Augment, augment

Batch = dict[str, Array]
Variables = dict[str, Any]
Step = Callable[..., tuple[Any, Any]]
Objective = Callable[[Array, Batch], dict[str, Mean]]
"""`objective(maps, batch)`: the terms of the loss of maps (B, h, w, K) float32, by name."""


class TrainState(struct.PyTreeNode):
    """All that training changes, which is what a checkpoint holds."""

    step: Array
    """() int32: the number of updates so far."""
    variables: Variables
    """The model's variables: "params", and "batch_stats" where it has any."""
    opt_state: optax.OptState
    average: Variables
    """Exponential moving average of `variables`, with which a run evaluates and predicts."""


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


def matching_weights(own: Variables, others: Variables) -> dict[str, Array]:
    """Another net's variables that have the name and the shape of one of this net's own.

    Args:
      own: this net's variables, or their shapes (`jax.ShapeDtypeStruct`).
      others: the other net's variables.

    Returns:
      The variables of the other net, by their path such as "params/head/kernel".

    Raises:
      InputError: if no kernel is among them.
    """
    own, others = (traverse_util.flatten_dict(x, sep="/") for x in (own, others))
    matching = {n: x for n, x in others.items() if n in own and own[n].shape == x.shape}
    if all(x.ndim < 2 for x in matching.values()):
        raise InputError(
            "weights_from: that run's net has no weights of the names and shapes of this one's; "
            "name a run of a similar net"
        )
    return matching


def take_weights(state: TrainState, others: Variables) -> tuple[TrainState, list[str]]:
    """The state with the `matching_weights` of another net in place of its own.

    Args:
      state: before the first step.
      others: the other net's variables.

    Returns:
      The new state, and the paths of the variables that stayed this net's own.

    Raises:
      InputError: if no kernel matches.
    """
    taken = matching_weights(state.variables, others)
    own = traverse_util.flatten_dict(state.variables, sep="/")
    variables = jax.tree.map(jnp.array, traverse_util.unflatten_dict(own | taken, sep="/"))
    average = jax.tree.map(jnp.copy, variables)  # a buffer can be donated only once
    return state.replace(variables=variables, average=average), sorted(own.keys() - taken.keys())


def to_float(image: Array) -> Array:
    """Pixels of uint8 to float32 in [0, 1]."""
    return image.astype(jnp.float32) / 255.0


def normalise(image: Array, *, standardise: bool = False) -> Array:
    """Pixels in [0, 1] to pixels of about zero mean and unit variance, as the networks take them.

    Args:
      image: (B, H, W, C) float32.
      standardise: whether to subtract each image's own mean and divide by its own standard
        deviation. Otherwise all images are changed alike, to 4 (image − 0.5).
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
    kinds: Mapping[str, Kind] = ALWAYS_MAPS,
    ema_decay: float = 0.0,
    accumulate: int = 1,
    standardise: bool = False,
) -> Step:
    """Builds `train_step(state, batch, *, axis_name=None) -> (state, scalars)`.

    The batch holds `image` (B, H, W, C) uint8, `label` (B, H, W) uint8 with `VOID` where unknown,
    `epoch` and `index` (B,) int32, and the other arrays that the objective needs. The scalars are
    `loss` and `grad_norm`, float32, of the whole batch.

    Random numbers depend on the seed and, for augmentation, on each example's epoch and index, or,
    for dropout, on the step. So a resumed run draws the same numbers as one without a break.

    Args:
      model: the network, called as `model.apply(variables, images, train=True, axis_name=…)`.
      optimiser: the optax transformation.
      objective: called with the network's maps and the batch, in which `label` is int32 and `valid`
        (B, H, W) bool is false where the label is `VOID`.
      augmentation: how the images are changed first.
      seed: of augmentation and dropout.
      kinds: what each array of the batch is, as in `augment`.
      ema_decay: decay of the moving average of the weights; 0 keeps the weights themselves. In the
        first steps (1 + step) / (10 + step) is used where it is less, so that the initial weights
        leave the average soon.
      accumulate: number of parts, each of B / accumulate images, that are run one after another,
        for batches that don't fit into memory. The loss is the mean of the parts' losses.
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
        data = _prepare({n: x for n, x in batch.items() if n not in ("epoch", "index")})

        def share_of_loss(params, rest, part, key):
            maps, changed = model.apply(
                {"params": params, **rest},
                normalise(part["image"], standardise=standardise),
                train=True,
                axis_name=axis_name,
                mutable=list(rest),
                rngs={"dropout": key},
            )
            return _share(objective(maps, part), axis_name), dict(changed)

        def accumulate_part(carry, part):
            gradient, value, rest = carry
            part, part_keys, part_dropout_key = part
            part = augment(augmentation, part_keys, part, kinds)
            (part_value, rest), part_gradient = jax.value_and_grad(share_of_loss, has_aux=True)(
                params, rest, part, part_dropout_key
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
        decay = jnp.minimum(ema_decay, (1.0 + step) / (10.0 + step))
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

    `measured` has a row for each image of the batch, (B, ...); the loss is that of the whole batch.
    An image whose label is `VOID` throughout adds nothing to the loss; such images pad the last
    batch.

    Args:
      model: the network.
      objective: as in `make_train_step`.
      measure: called with the network's maps and the batch, returns arrays of (B, ...).
      standardise: as in `normalise`.
    """

    def eval_step(variables: Variables, batch: Batch, *, axis_name: str | None = None):
        data = _prepare(batch)
        maps = model.apply(
            variables, normalise(data["image"], standardise=standardise), train=False
        )
        value = _share(objective(maps, data), axis_name)
        value = value if axis_name is None else jax.lax.psum(value, axis_name)
        return measure(maps, data), value

    return eval_step


def _share(terms: dict[str, Mean], axis_name: str | None) -> Array:
    """This device's share of the loss of the whole batch: the sum of all shares is that loss.

    Each device divides its sums by the weights of the whole batch. So the sum of the shares'
    gradients is the gradient of the loss, however unequally the valid pixels are spread over the
    devices.
    """
    if axis_name is not None:
        terms = {
            name: replace(term, weight=jax.lax.psum(term.weight, axis_name))
            for name, term in terms.items()
        }
    return total_of(terms)


def _prepare(batch: Batch) -> Batch:
    """A batch from the host as augmentation and objective take it: image as float, `valid`."""
    return batch | {
        "image": to_float(batch["image"]),
        "label": batch["label"].astype(jnp.int32),
        "valid": batch["label"] != VOID,
    }
