import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from seg_jax.checkpoint import Checkpoints
from seg_jax.errors import InputError
from seg_jax.models import UNet
from seg_jax.step import init_state

ADAM = optax.adam(1e-3)


def state_at(step: int, *, seed: int = 0):
    state = init_state(UNet(features=(2, 4)), ADAM, seed=seed, shape=(8, 8, 1))
    return state.replace(step=jnp.asarray(step, jnp.int32))


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_what_is_saved_comes_back_bit_for_bit(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest_step is None
    for step in (3, 5, 8):
        checkpoints.save(state_at(step, seed=step))
    checkpoints.close()

    again = Checkpoints(tmp_path)
    assert again.latest_step == 8
    assert_equal(again.restore(state_at(0)), state_at(8, seed=8))
    again.save(state_at(8, seed=1))  # a step that is there stays as it is
    assert_equal(again.restore(state_at(0)), state_at(8, seed=8))
    again.close()
    kept = sorted(p.name for p in (tmp_path / "checkpoints" / "latest").iterdir() if p.is_dir())
    assert kept == ["5", "8"]


def test_prediction_takes_the_best_else_the_latest_average(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(InputError, match="holds no checkpoint; train first"):
        checkpoints.restore_for_prediction(state_at(0))
    checkpoints.save(state_at(8, seed=8))
    variables, step = checkpoints.restore_for_prediction(state_at(0))
    assert step == 8
    assert_equal(variables, state_at(8, seed=8).average)
    checkpoints.save_best(5, state_at(5, seed=5).average)
    variables, step = checkpoints.restore_for_prediction(jax.eval_shape(lambda: state_at(0)))
    assert step == 5
    assert_equal(variables, state_at(5, seed=5).average)
    checkpoints.close()
