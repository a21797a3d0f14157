import jax.numpy as jnp
import numpy as np
import pytest

from seg_jax.errors import InputError
from seg_jax.optimiser import AdamW


def test_the_rate_rises_linearly_and_falls_along_a_cosine():
    _, rate = AdamW(learning_rate=1.0, warmup=0.1).chain(100)
    np.testing.assert_allclose(rate(0), 0.0)
    np.testing.assert_allclose(rate(5), 0.5)
    np.testing.assert_allclose(rate(10), 1.0)
    np.testing.assert_allclose(rate(55), 0.5, atol=1e-6)
    np.testing.assert_allclose(rate(100), 0.0, atol=1e-6)
    _, rate = AdamW(learning_rate=1.0, warmup=0.0, cosine=False).chain(100)
    np.testing.assert_allclose([rate(0), rate(99)], 1.0)


def test_long_gradients_are_shortened_and_only_kernels_decay():
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    chain, _ = AdamW(learning_rate=0.1, warmup=0.0, weight_decay=0.5, clip=1.0).chain(10)
    zero = {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}
    updates, _ = chain.update(zero, chain.init(params), params)
    np.testing.assert_allclose(updates["kernel"], -0.05)
    np.testing.assert_allclose(updates["bias"], 0.0)
    huge = {"kernel": jnp.full((2, 2), 1e6), "bias": jnp.zeros(2)}
    _, state = chain.update(huge, chain.init(params), params)
    first_moment = state[1][0].mu["kernel"]
    np.testing.assert_allclose(first_moment, 0.1 * 0.5, rtol=1e-5)  # 1 / sqrt(4) each


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"learning_rate": 0.0}, "learning_rate is 0.0"), ({"warmup": 1.5}, "warmup is 1.5")],
)
def test_nonsense_is_refused(fields, message):
    with pytest.raises(InputError, match=message):
        AdamW(**fields)
