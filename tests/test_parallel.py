import os
import signal
import threading
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from seg_jax.datasets import Dancers, Nevi
from seg_jax.errors import InputError
from seg_jax.inference.evaluate import measurement, validate
from seg_jax.labels import VOID, Kind
from seg_jax.losses import Loss
from seg_jax.models import SegNet, UNet
from seg_jax.parallel import (
    Parallel,
    abstract_arguments,
    compiled,
    connect,
    make_mesh,
    on_devices,
    own_rows,
    place,
    preemption,
    replicate,
    space_of,
)
from seg_jax.pipeline.augment import Augment
from seg_jax.pipeline.batches import Examples, load, training_batch
from seg_jax.step import init_state, make_eval_step, make_train_step
from seg_jax.tasks import Panoptic, PanopticPose, Pose, Semantic

SGD = optax.sgd(0.1)
TASK = Semantic(Loss(cross_entropy=1.0, dice=1.0, lovasz=0.5))
LABELS = Nevi().labels
OBJECTIVE = partial(TASK.objective, LABELS)
NETS = {"unet": UNet(features=(4, 8)), "segnet": SegNet(features=(4, 8), convs=1)}
WAYS = {
    "pmap over 8": Parallel(),
    "mesh 1×1": Parallel(devices=1, mesh=True),
    "mesh 8×1": Parallel(mesh=True),
    "mesh 4×2": Parallel(space=2),
    "mesh 2×4": Parallel(space=4),
    "mesh 1×8": Parallel(space=8),
}


def eval_step_of(model):
    return make_eval_step(model, OBJECTIVE, measurement(TASK, LABELS))


@pytest.fixture(scope="module")
def batch(blobs):
    """Eight images with unequal numbers of valid pixels, one with none."""
    batch = training_batch(blobs, 0, batch_size=8, seed=0)
    label = batch["label"].copy()
    for k in range(8):
        label[k, : 2 * k] = VOID
    label[7] = VOID
    return batch | {"label": label}


def two_steps(name, parallel, batch):
    """State and scalars after two steps, and the counts and the loss of an evaluation then."""
    model, mesh = NETS[name], make_mesh(parallel)
    augmentation = Augment(flip=True, rotate=20, noise=0.05)
    step = make_train_step(model, SGD, OBJECTIVE, augmentation=augmentation, seed=0, ema_decay=0.9)
    step = on_devices(step, mesh, donate=True)
    score = on_devices(eval_step_of(model), mesh, per_example=True)
    state = replicate(init_state(model, SGD, seed=0, shape=(16, 16, 3)), mesh)
    for _ in range(2):
        before = state
        state, scalars = step(state, batch)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))  # donated
    return jax.device_get((state, scalars, score(state.average, batch)))


@pytest.fixture(scope="module")
def on_one_device(batch):
    return {name: two_steps(name, Parallel(devices=1), batch) for name in NETS}


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("way", WAYS)
def test_all_ways_give_what_one_device_gives(net, way, batch, on_one_device):
    """Weights after two steps (so gradients), BatchNorm statistics, average, losses and scores."""
    found, expected = two_steps(net, WAYS[way], batch), on_one_device[net]
    (counts, _), (wanted, _) = found[-1], expected[-1]
    jax.tree.map(np.testing.assert_array_equal, counts, wanted)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), found, expected
    )
    assert found[0].step == 2


class Pixelwise(nn.Module):
    """A linear function of each pixel's colour."""

    outputs: int

    @nn.compact
    def __call__(self, x, *, train, axis_name=None):
        return nn.Dense(self.outputs)(x)


@pytest.mark.parametrize("maps", [1, 3])
@pytest.mark.parametrize("way", ["pmap over 8", "mesh 4×2"])
def test_unequal_devices_give_the_loss_and_gradient_of_one_for_every_loss(way, maps):
    """Of eight devices one sees no valid pixel, the next half of its images, another one row."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, max(maps, 2), (16, 4, 5)).astype(np.uint8)
    label[:3] = label[5, 1:] = VOID
    batch = {
        "image": rng.integers(0, 256, (16, 4, 5, 3)).astype(np.uint8),
        "label": label,
        "weight": rng.uniform(1, 9, label.shape).astype(np.float32),
        "epoch": np.zeros(16, np.int32),
        "index": np.arange(16, dtype=np.int32),
    }
    loss = Loss(
        cross_entropy=1.0,
        dice=0.7,
        jaccard=0.6,
        tversky=0.5,
        focal=0.4,
        lovasz=0.3,
        boundary=0.2,
        label_smoothing=0.1,
        class_weights=tuple(range(1, max(maps, 2) + 1)),
    )

    def objective(maps, batch):
        return loss(maps, batch["label"], valid=batch["valid"], pixel_weights=batch["weight"])

    model, kinds, sgd = Pixelwise(maps), {"weight": Kind.MAP}, optax.sgd(1.0)
    step = make_train_step(model, sgd, objective, augmentation=Augment(), seed=0, kinds=kinds)
    score = make_eval_step(model, objective, lambda maps, batch: maps)
    before = init_state(model, sgd, seed=0, shape=(4, 5, 3))
    found = []
    for parallel in (Parallel(devices=1), WAYS[way]):
        mesh = make_mesh(parallel)
        state = replicate(before, mesh)
        after, scalars = on_devices(step, mesh, kinds=kinds)(state, batch)
        _, value = on_devices(score, mesh, kinds=kinds, per_example=True)(state.variables, batch)
        gradient = jax.tree.map(
            lambda old, new: np.asarray(old) - np.asarray(new), before.variables, after.variables
        )
        found.append(jax.device_get((gradient, scalars, value)))
    one, many = found
    assert one[1]["loss"] == pytest.approx(one[2], rel=1e-6)
    assert one[1]["grad_norm"] > 0.1
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), many, one)


PART_OF_A_DEVICE = {
    "pmap over 8": (1, 16),
    "mesh 1×1": (8, 16),
    "mesh 8×1": (1, 16),
    "mesh 2×4": (4, 4),
}
"""Of 8 images of 16 rows: how many images, and how many of their rows, one device has."""


@pytest.mark.parametrize("way", PART_OF_A_DEVICE)
def test_a_placed_batch_is_there_before_the_step(way):
    """It may be placed in another thread; then the step copies nothing. It is split by kind."""
    batch = {
        "image": np.zeros((8, 16, 16, 3), np.uint8),
        "label": np.arange(8 * 16 * 16).reshape(8, 16, 16).astype(np.uint8),
        "weight": np.ones((8, 16, 16), np.float32),
        "joints": np.ones((8, 16, 16, 3), np.float32),
        "nobody": np.ones((8, 0, 14, 3), np.float32),
        "objects": np.arange(8),
    }
    mesh = make_mesh(WAYS[way])

    def step(state, batch, *, axis_name):
        total = sum(jnp.sum(x.astype(jnp.float32)) for x in batch.values())
        return state, total if axis_name is None else jax.lax.psum(total, axis_name)

    placed = []

    def copy():
        placed.append(place(batch, mesh, {"weight": Kind.MAP, "joints": Kind.POINTS}))

    thread = threading.Thread(target=copy)
    thread.start()
    thread.join()
    call, state = compiled(step, mesh), replicate(jnp.zeros(()), mesh)
    with jax.transfer_guard("disallow"):
        _, total = call(state, placed[0])
    assert float(total) == sum(x.sum(dtype=np.float64) for x in batch.values())
    examples, rows = PART_OF_A_DEVICE[way]
    for name, x in placed[0].items():
        expected = [examples, *batch[name].shape[1:]]
        if name in ("image", "label", "weight"):
            expected[1] = rows
        if way == "pmap over 8":
            expected.insert(0, 1)
        assert x.sharding.shard_shape(x.shape) == tuple(expected)
    if way.startswith("mesh"):
        described = abstract_arguments({}, batch, mesh, {"weight": Kind.MAP})[1]
        for name, x in placed[0].items():
            assert x.sharding.is_equivalent_to(described[name].sharding, x.ndim)


@pytest.mark.parametrize("way", ["pmap over 8", "mesh 8×1"])
def test_a_donated_state_is_not_copied(way, batch):
    """What a compiled step allocates for its results is what isn't already there."""
    model, mesh = UNet(features=(32, 64)), make_mesh(WAYS[way])
    adam = optax.adam(1e-3)
    step = make_train_step(model, adam, OBJECTIVE, augmentation=Augment(), seed=0)
    state = replicate(init_state(model, adam, seed=0, shape=(16, 16, 3)), mesh)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    lowered = compiled(step, mesh, donate=True).lower(state, place(batch, mesh))
    memory = lowered.compile().memory_analysis()
    assert memory.alias_size_in_bytes >= size
    assert memory.output_size_in_bytes - memory.alias_size_in_bytes < 0.01 * size


@pytest.mark.parametrize("way", ["pmap over 8", "mesh 4×2"])
def test_validation_counts_every_image_once(way, blobs):
    """Seven images in batches of eight: one row is padding."""
    seven = Examples(blobs.ids[:7], blobs.of(np.arange(7)))
    model = NETS["unet"]
    variables = init_state(model, SGD, seed=3, shape=(16, 16, 3)).variables
    scores = []
    for parallel, batch_size in ((Parallel(devices=1), 7), (WAYS[way], 8)):
        mesh = make_mesh(parallel)
        step = on_devices(eval_step_of(model), mesh, per_example=True)
        variables_there = replicate(variables, mesh)
        scores.append(validate(TASK, LABELS, step, variables_there, seven, batch_size=batch_size))
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)


def test_the_devices_asked_for_must_be_there():
    assert make_mesh(Parallel()).size == 8
    assert space_of(make_mesh(Parallel())) == 1
    assert make_mesh(Parallel(space=4)).shape == {"data": 2, "space": 4}
    with pytest.raises(InputError, match=r"devices is 9, but this machine has 8 .*--parallel.dev"):
        make_mesh(Parallel(devices=9))
    with pytest.raises(InputError, match=r"space is 3, which doesn't divide 8 devices"):
        make_mesh(Parallel(space=3))


def test_half_an_address_is_refused():
    with pytest.raises(InputError, match=r"need all of --parallel.coordinator HOST:PORT"):
        connect(Parallel(coordinator="a:1"))
    with pytest.raises(InputError, match=r"host is 2, but there are 2 hosts.*from 0 to 1"):
        connect(Parallel(coordinator="a:1", hosts=2, host=2))
    connect(Parallel())  # alone


def test_one_host_hands_in_all_rows():
    assert own_rows(12) == slice(0, 12)


def test_sigterm_is_noticed_and_its_handler_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with preemption() as preempted:
        assert not preempted(1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert preempted(2)
    assert signal.getsignal(signal.SIGTERM) is before


def test_objects_and_skeletons_are_learnt_and_measured_alike_everywhere():
    """One step of both tasks at once, and what is measured then."""
    data = Dancers(train=8, val=1, test=1, size=32)
    labels = data.labels
    task = PanopticPose(panoptic=Panoptic(max_objects=5, threshold=0.05), pose=Pose(max_people=5))
    model = UNet(outputs=len(task.maps(labels)), features=(4, 8))
    examples = load(data, task, labels, (32, 32), "train")
    batch = training_batch(examples, 0, batch_size=8, seed=0)
    objective = partial(task.objective, labels)
    augmentation, sgd = Augment(flip=True, rotate=10), optax.sgd(1e-5)
    found = []
    for parallel in (Parallel(devices=1), Parallel(), Parallel(space=2)):
        mesh = make_mesh(parallel)
        step = make_train_step(
            model,
            sgd,
            objective,
            augmentation=augmentation,
            seed=0,
            kinds=task.kinds,
            ema_decay=0.9,
        )
        score = make_eval_step(model, objective, measurement(task, labels))
        state = init_state(model, sgd, seed=0, shape=(32, 32, 3))
        step = on_devices(step, mesh, kinds=task.kinds)
        score = on_devices(score, mesh, kinds=task.kinds, per_example=True)
        state, scalars = step(replicate(state, mesh), batch)
        measured, loss = score(state.average, batch)
        found.append(jax.device_get((scalars, loss, measured)))
    scalars, loss, measured = found[0]
    for others, other_loss, other in found[1:]:
        np.testing.assert_allclose(other_loss, loss, rtol=1e-3)
        for name, value in scalars.items():
            np.testing.assert_allclose(others[name], value, rtol=1e-3)
        np.testing.assert_array_equal(other.pose.joints, measured.pose.joints)
        pixels, other_pixels = (m.panoptic.shared.pixels for m in (measured, other))
        assert (other_pixels.sum((1, 2)) == 32 * 32).all()
        # Rounding may move a pixel from one object to the next.
        assert np.abs(other_pixels - pixels).sum() <= 0.02 * pixels.sum()
