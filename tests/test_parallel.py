import jax
import numpy as np
import optax
import pytest

from seg_jax.augment import Augment
from seg_jax.datasets import VOID
from seg_jax.errors import InputError
from seg_jax.input import training_batch
from seg_jax.losses import Loss
from seg_jax.models import SegNet, UNet
from seg_jax.parallel import local_devices, on_devices
from seg_jax.step import init_state, make_eval_step, make_train_step

SGD = optax.sgd(0.1)
LOSS = Loss(cross_entropy=1.0, dice=1.0, lovasz=0.5)


@pytest.fixture(scope="module")
def batch(blobs):
    """Eight images with unequal numbers of valid pixels, one with none."""
    batch = training_batch(blobs, 0, batch_size=8, seed=0)
    label = batch["label"].copy()
    for k in range(8):
        label[k, : 2 * k] = VOID
    label[7] = VOID
    return batch | {"label": label}


@pytest.mark.parametrize("model", [UNet(features=(4, 8)), SegNet(features=(4, 8), convs=1)])
def test_one_device_and_eight_give_the_same_step(model, batch):
    step = make_train_step(
        model, SGD, LOSS, augmentation=Augment(flip=True, noise=0.05), seed=0, average=0.9
    )
    results = []
    for count in (1, 8):
        state = init_state(model, SGD, seed=0, shape=(16, 16, 3))
        call = on_devices(step, local_devices(count), donate=True)
        for _ in range(2):
            state, scalars = call(state, batch)
        results.append(jax.device_get((state, scalars)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5), *results)
    assert results[0][0].step == 2


def test_one_device_and_eight_give_the_same_counts(batch):
    model = UNet(features=(4, 8))
    variables = init_state(model, SGD, seed=0, shape=(16, 16, 3)).variables
    step = make_eval_step(model, LOSS, classes=1)
    one, eight = (
        on_devices(step, local_devices(n), split_out=True)(variables, batch) for n in (1, 8)
    )
    jax.tree.map(np.testing.assert_array_equal, one[0], eight[0])
    np.testing.assert_allclose(one[1], eight[1], rtol=1e-5)


def test_more_devices_than_there_are_is_refused():
    assert len(local_devices()) == 8
    with pytest.raises(InputError, match=r"devices is 9, but this machine has 8 .*--devices"):
        local_devices(9)
