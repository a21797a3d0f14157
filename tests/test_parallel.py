import dataclasses
import os
import signal
from functools import partial

import jax
import numpy as np
import optax
import pytest
from tiny import TINY

from seg_jax.datasets import VOID, Dancers
from seg_jax.errors import InputError
from seg_jax.inference import evaluate
from seg_jax.losses import Loss
from seg_jax.models import SegNet, UNet
from seg_jax.parallel import (
    Parallel,
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
from seg_jax.pipeline import batches as input
from seg_jax.pipeline.augment import Augment
from seg_jax.pipeline.batches import Examples, training_batch
from seg_jax.step import init_state, make_eval_step, make_train_step
from seg_jax.tasks import Panoptic, Pose, Semantic, Together

SGD = optax.sgd(0.1)
TASK = Semantic(Loss(cross_entropy=1.0, dice=1.0, lovasz=0.5))
OBJECTIVE = partial(TASK.objective, TINY.data)
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
    experiment = dataclasses.replace(TINY, task=TASK)
    return make_eval_step(model, OBJECTIVE, evaluate.measurement(experiment))


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
    step = make_train_step(model, SGD, OBJECTIVE, augmentation=augmentation, seed=0, average=0.9)
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
    """Seven images in batches of eight: one row is filling."""
    seven = Examples(blobs.ids[:7], blobs.of(np.arange(7)))
    model = NETS["unet"]
    variables = init_state(model, SGD, seed=3, shape=(16, 16, 3)).variables
    scores = []
    for parallel, batch_size in ((Parallel(devices=1), 7), (WAYS[way], 8)):
        mesh = make_mesh(parallel)
        step = on_devices(eval_step_of(model), mesh, per_example=True)
        experiment = dataclasses.replace(TINY, task=TASK, batch_size=batch_size)
        scores.append(evaluate.validate(experiment, step, replicate(variables, mesh), seven))
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
    experiment = dataclasses.replace(
        TINY,
        model=UNet(outputs=49, features=(4, 8)),
        data=Dancers(train=8, val=1, test=1, size=32),
        task=Together(panoptic=Panoptic(objects=5, threshold=0.05), pose=Pose(people=5)),
        size=(32, 32),
        batch_size=8,
    )
    examples = input.load(experiment, "train")
    batch = training_batch(examples, 0, batch_size=8, seed=0)
    objective = partial(experiment.task.objective, experiment.data)
    augmentation, sgd = Augment(flip=True, rotate=10), optax.sgd(1e-5)
    found = []
    for parallel in (Parallel(devices=1), Parallel(), Parallel(space=2)):
        mesh = make_mesh(parallel)
        step = make_train_step(
            experiment.model, sgd, objective, augmentation=augmentation, seed=0, average=0.9
        )
        score = make_eval_step(experiment.model, objective, evaluate.measurement(experiment))
        state = init_state(experiment.model, sgd, seed=0, shape=(32, 32, 3))
        state, scalars = on_devices(step, mesh)(replicate(state, mesh), batch)
        measured, loss = on_devices(score, mesh, per_example=True)(state.average, batch)
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
