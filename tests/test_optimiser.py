import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from seg_jax.errors import InputError
from seg_jax.optimiser import AdamW, Muon


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


def test_muon_moves_each_kernel_by_a_nearly_orthogonal_matrix():
    kernel = jax.random.normal(jax.random.key(0), (3, 3, 4, 8))
    params = {"kernel": kernel, "bias": jnp.ones(8)}
    gradient = {"kernel": jnp.sin(kernel), "bias": jnp.full(8, 1e-3)}
    settings = Muon(learning_rate=1.0, adam_learning_rate=0.1, warmup=0.0, weight_decay=0.0)
    chain, rate = dataclasses.replace(settings, clip=None).chain(10)
    updates, _ = chain.update(gradient, chain.init(params), params)
    np.testing.assert_allclose(rate(0), 1.0)
    # The orthogonal matrix nearest to the first momentum, by the singular values' own algorithm.
    u, _, v = np.linalg.svd(np.asarray(gradient["kernel"], np.float64).reshape(36, 8))
    moved = np.asarray(updates["kernel"]).reshape(36, 8)
    singular = np.linalg.svd(moved, compute_uv=False)
    np.testing.assert_array_less(np.abs(singular - 1), 0.4)  # after five steps of Newton–Schulz
    assert np.sum(moved * -(u[:, :8] @ v)) / np.linalg.norm(moved) / np.sqrt(8) > 0.98
    nadam = optax.nadam(0.1)
    moved, _ = nadam.update(gradient["bias"], nadam.init(params["bias"]))
    np.testing.assert_allclose(updates["bias"], moved, rtol=1e-5)


def test_muon_decays_kernels_alone():
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2), "temperature": jnp.ones(())}
    chain, _ = Muon(learning_rate=0.1, warmup=0.0, weight_decay=0.5).chain(10)
    zero = jax.tree.map(jnp.zeros_like, params)
    updates, _ = chain.update(zero, chain.init(params), params)
    np.testing.assert_allclose(updates["kernel"], -0.05, atol=1e-6)
    np.testing.assert_allclose(updates["bias"], 0.0)


@pytest.mark.parametrize("kind", [AdamW, Muon])
@pytest.mark.parametrize(
    ("fields", "message"),
    [({"learning_rate": 0.0}, "learning_rate is 0.0"), ({"warmup": 1.5}, "warmup is 1.5")],
)
def test_nonsense_is_refused(kind, fields, message):
    with pytest.raises(InputError, match=message):
        kind(**fields)


def test_muon_wants_a_rate_for_adam_as_well():
    with pytest.raises(InputError, match="adam_learning_rate is 0"):
        Muon(adam_learning_rate=0.0)
