from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from seg_jax.datasets import Nevi
from seg_jax.errors import InputError
from seg_jax.inference.evaluate import measurement
from seg_jax.labels import VOID, Kind
from seg_jax.losses import Loss, mean
from seg_jax.models import UNet
from seg_jax.pipeline.augment import Augment
from seg_jax.pipeline.batches import training_batch
from seg_jax.step import init_state, make_eval_step, make_train_step, take_weights
from seg_jax.tasks import Semantic

LABELS = Nevi().labels
ADAM = optax.adam(1e-2)
NET = UNet(features=(4, 8))


def state_of(model=NET, optimiser=ADAM):
    return init_state(model, optimiser, seed=0, shape=(16, 16, 3))


def step_of(model=NET, optimiser=ADAM, *, loss=None, augmentation=None, seed=0, **options):
    return jax.jit(
        make_train_step(
            model,
            optimiser,
            partial(Semantic(loss or Loss()).objective, LABELS),
            augmentation=augmentation or Augment(),
            seed=seed,
            **options,
        )
    )


def eval_step_of(model):
    task = Semantic()
    return make_eval_step(model, partial(task.objective, LABELS), measurement(task, LABELS))


def assert_equal(a, b, **tolerance):
    compare = np.testing.assert_allclose if tolerance else np.testing.assert_array_equal
    jax.tree.map(lambda x, y: compare(x, y, **tolerance), a, b)


def test_four_images_are_learnt_by_heart(blobs):
    model = UNet(features=(8, 16))
    state = state_of(model)
    step = step_of(model, loss=Loss(cross_entropy=1.0, dice=1.0))
    batch = training_batch(blobs, 0, batch_size=4, seed=0)
    losses = []
    for _ in range(60):
        state, scalars = step(state, batch)
        losses.append(float(scalars["loss"]))
    assert losses[-1] < 0.1 * losses[0]
    counts, loss = eval_step_of(model)(state.variables, batch)
    assert int(counts.fp.sum() + counts.fn.sum()) <= 5
    assert float(loss) < 0.1


def test_equal_seeds_give_equal_weights_and_steps(blobs):
    batch = training_batch(blobs, 0, batch_size=4, seed=0)
    step = step_of(augmentation=Augment(flip=True, noise=0.1))
    assert_equal(step(state_of(), batch), step(state_of(), batch))


def test_weights_of_a_like_net_are_taken_but_for_its_head():
    other = init_state(NET.clone(outputs=3), ADAM, seed=1, shape=(16, 16, 3)).variables
    own = state_of()
    state, stayed = take_weights(own, other)
    assert stayed == ["params/head/bias", "params/head/kernel"]
    assert_equal(state.variables["params"]["head"], own.variables["params"]["head"])
    for name in ("encoder_0", "up_0"):
        assert_equal(state.variables["params"][name], other["params"][name])
    assert_equal(state.variables["batch_stats"], other["batch_stats"])
    assert_equal(state.average, state.variables)
    assert_equal((state.step, state.opt_state), (own.step, own.opt_state))
    jax.tree.map(lambda x: x.delete(), state.variables)  # as a step does that is given the state
    assert_equal(state.average["batch_stats"], other["batch_stats"])


def test_weights_of_which_none_fit_are_refused():
    with pytest.raises(InputError, match=r"weights_from: .* name a run of a similar net"):
        take_weights(state_of(), {"params": {"dense": {"kernel": np.ones((3, 3))}}})


def test_augmentation_depends_on_epoch_index_and_seed_not_on_the_place_in_the_batch(blobs):
    model = UNet(features=(4, 8), norm="none")
    batch = training_batch(blobs, 0, batch_size=4, seed=0)
    noisy = Augment(noise=0.5)

    def loss(batch, seed=0):
        return step_of(model, augmentation=noisy, seed=seed)(state_of(model), batch)[1]["loss"]

    turned = {name: values[::-1] for name, values in batch.items()}
    np.testing.assert_allclose(loss(batch), loss(turned), rtol=1e-5)
    assert loss(batch) != loss(batch | {"epoch": batch["epoch"] + 1})
    assert loss(batch) != loss(batch | {"index": batch["index"] + 1})
    assert loss(batch) != loss(batch, seed=1)


def test_dropout_depends_on_the_step(blobs):
    model = UNet(features=(4, 8), dropout=0.5)
    batch = training_batch(blobs, 0, batch_size=4, seed=0)
    step, state = step_of(model), state_of(model)
    first, later = step(state, batch), step(state.replace(step=state.step + 1), batch)
    assert first[1]["loss"] != later[1]["loss"]


def test_the_loss_is_the_sum_of_the_objectives_terms(blobs):
    batch = training_batch(blobs, 0, batch_size=4, seed=0)

    def objective(maps, batch):
        ones = jnp.ones(())
        return {"a": mean(3 * ones, 2 * ones), "b": 2.0 * mean(ones + 0 * maps.sum(), ones)}

    step = make_train_step(NET, ADAM, objective, augmentation=Augment(), seed=0)
    _, scalars = jax.jit(step)(state_of(), batch)
    assert scalars["loss"] == 3.5
    score = make_eval_step(NET, objective, lambda maps, batch: maps.shape)
    _, loss = score(state_of().variables, batch)
    assert loss == 3.5


def test_arrays_are_augmented_by_their_kind(blobs):
    """What the objective sees of arrays that all have the shape of a map."""
    batch = training_batch(blobs, 0, batch_size=8, seed=0)
    names = ("moved", "other", "unnamed")
    batch |= dict.fromkeys(names, batch["label"].astype(np.float32))

    def objective(maps, batch):
        different = jnp.stack([jnp.any(batch[n] != batch["label"], (1, 2)) for n in names])
        return {
            "a": mean(different.sum(1) @ jnp.array([100, 10, 1]) + 0 * maps.sum(), jnp.ones(()))
        }

    kinds = {"moved": Kind.MAP, "other": Kind.OTHER}
    step = make_train_step(
        NET, ADAM, objective, augmentation=Augment(flip=True), seed=0, kinds=kinds
    )
    loss = int(jax.jit(step)(state_of(), batch)[1]["loss"])
    moved, other, unnamed = loss // 100, loss // 10 % 10, loss % 10
    assert moved == 0
    assert other == unnamed
    assert 0 < other < 8


def test_accumulated_parts_are_one_batch(blobs):
    model = UNet(features=(4, 8), norm="none")
    batch = training_batch(blobs, 0, batch_size=8, seed=0)
    sgd = optax.sgd(0.1)
    whole = step_of(model, sgd)(state_of(model, sgd), batch)
    parts = step_of(model, sgd, accumulate=4)(state_of(model, sgd), batch)
    assert_equal(whole, parts, rtol=1e-4, atol=1e-6)


def test_the_loss_of_unequal_parts_is_the_mean_of_their_losses(blobs):
    model, sgd = UNet(features=(4, 8), norm="none"), optax.sgd(0.1)
    batch = training_batch(blobs, 0, batch_size=8, seed=0)
    batch["label"][:4, 3:] = VOID
    step = step_of(model, sgd)
    parts = [
        step(state_of(model, sgd), {n: x[p] for n, x in batch.items()})
        for p in (slice(4), slice(4, 8))
    ]
    both = step_of(model, sgd, accumulate=2)(state_of(model, sgd), batch)
    expected = jax.tree.map(lambda a, b: (a + b) / 2, *[state.variables for state, _ in parts])
    assert_equal(both[0].variables, expected, rtol=1e-4, atol=1e-6)
    losses = [scalars["loss"] for _, scalars in parts]
    np.testing.assert_allclose(both[1]["loss"], np.mean(losses), rtol=1e-5)
    assert abs(losses[0] - losses[1]) > 1e-3


def test_the_average_follows_the_weights(blobs):
    batch = training_batch(blobs, 0, batch_size=4, seed=0)
    before = state_of()
    after, _ = step_of(ema_decay=0.999)(before, batch)
    decay = 2 / 11  # of the first step, less than 0.999
    expected = jax.tree.map(
        lambda a, v: decay * a + (1 - decay) * v, before.average, after.variables
    )
    assert_equal(after.average, expected, rtol=1e-4, atol=1e-6)
    kept, _ = step_of(ema_decay=0.0)(before, batch)
    assert_equal(kept.average, kept.variables)


def test_void_pixels_change_nothing(blobs):
    batch = training_batch(blobs, 0, batch_size=4, seed=0)
    model = UNet(features=(4, 8), norm="none")
    step, state = step_of(model), state_of(model)
    half = batch["label"].copy()
    half[:, :8] = VOID
    other = np.where(half == VOID, VOID, 1 - half)
    assert (
        step(state, batch | {"label": half})[1]["loss"]
        != step(state, batch | {"label": other})[1]["loss"]
    )
    nothing = np.full_like(half, VOID)
    scalars = step(state, batch | {"label": nothing})[1]
    assert float(scalars["loss"]) == 0.0
    assert float(scalars["grad_norm"]) == 0.0


def test_eval_step_counts_every_valid_pixel_in_eval_mode(blobs):
    label = blobs.arrays["label"][:4].copy()
    label[3] = VOID
    batch = {"image": blobs.arrays["image"][:4], "label": label}
    variables = state_of().variables
    counts, _ = eval_step_of(NET)(variables, batch)
    pixels = sum(np.asarray(c) for c in counts)[:, 0]
    np.testing.assert_array_equal(pixels, [256, 256, 256, 0])
    alone, _ = eval_step_of(NET)(variables, {name: values[:1] for name, values in batch.items()})
    np.testing.assert_array_equal(alone.tp[0], counts.tp[0])
