import resource

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from seg_jax.errors import InputError
from seg_jax.models import UNet
from seg_jax.parallel import Parallel, make_mesh, replicate
from seg_jax.run.checkpoint import Checkpoints
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
    assert_equal(again.resume(state_at(0)), state_at(8, seed=8))
    again.save(state_at(8, seed=1))  # a step that is there stays as it is
    assert_equal(again.resume(state_at(0)), state_at(8, seed=8))
    again.close()
    kept = sorted(p.name for p in (tmp_path / "checkpoints" / "latest").iterdir() if p.is_dir())
    assert kept == ["5", "8"]


def test_prediction_takes_the_best_else_the_latest_average(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(InputError, match="holds no checkpoint that can be read; train first"):
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


def tear(folder):
    """Cuts every file of a checkpoint in half, as an interrupted copy leaves it."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.fixture
def two_steps(tmp_path):
    """Checkpoints of the steps 4 and 8, the best at both."""
    checkpoints = Checkpoints(tmp_path)
    for step in (4, 8):
        checkpoints.save(state_at(step, seed=step))
        checkpoints.save_best(step, state_at(step, seed=step).average)
    checkpoints.close()
    return tmp_path / "checkpoints"


def test_a_torn_checkpoint_is_passed_over_for_the_one_before(two_steps, capfd):
    tear(two_steps / "latest" / "8")
    checkpoints = Checkpoints(two_steps.parent)
    assert_equal(checkpoints.resume(state_at(0)), state_at(4, seed=4))
    assert "latest/8 can't be read, going back" in capfd.readouterr().err
    assert sorted(p.name for p in (two_steps / "aside").iterdir()) == ["best-8", "latest-8"]
    for step in (8, 12):  # the step that was torn is saved again
        checkpoints.save(state_at(step, seed=1))
        checkpoints.save_best(step, state_at(step, seed=1).average)
    assert_equal(checkpoints.resume(state_at(0)), state_at(12, seed=1))
    checkpoints.close()


def test_prediction_passes_over_what_is_torn_and_changes_nothing(two_steps, capfd):
    tear(two_steps / "best" / "8")
    before = sorted(two_steps.rglob("*"))
    checkpoints = Checkpoints(two_steps.parent, read_only=True)
    variables, step = checkpoints.restore_for_prediction(state_at(0))
    assert step == 4
    assert_equal(variables, state_at(4, seed=4).average)
    assert "best/8 can't be read" in capfd.readouterr().err
    for path in ("best/4", "latest/8", "latest/4"):
        tear(two_steps / path)
    with pytest.raises(InputError, match="holds no checkpoint that can be read"):
        checkpoints.restore_for_prediction(state_at(0))
    checkpoints.close()
    assert sorted(two_steps.rglob("*")) == before


def test_where_all_are_torn_nothing_is_thrown_away(two_steps):
    for step in ("4", "8"):
        tear(two_steps / "latest" / step)
    checkpoints = Checkpoints(two_steps.parent)
    with pytest.raises(InputError, match=r"none of the checkpoints in .*latest can be read"):
        checkpoints.resume(state_at(0))
    checkpoints.close()
    assert (two_steps / "latest" / "8").exists()


def test_a_state_of_eight_devices_comes_back_on_one(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(replicate(state_at(8, seed=8), make_mesh(Parallel())))
    found = checkpoints.resume(state_at(0))
    checkpoints.close()
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(found))
    assert_equal(found, state_at(8, seed=8))


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state_at(4, seed=4))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # as a full disk: no file grows
    try:
        with pytest.raises(InputError, match=r"step 8 couldn't be saved in .*; step 4 is kept"):
            checkpoints.save(state_at(8, seed=8))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    checkpoints.close()
    again = Checkpoints(tmp_path)
    assert_equal(again.resume(state_at(0)), state_at(4, seed=4))
    again.save(state_at(8, seed=8))
    assert_equal(again.resume(state_at(0)), state_at(8, seed=8))
    again.close()
