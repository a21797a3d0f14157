import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seg_jax.tasks.semantic import labels_of, probabilities_of


@pytest.mark.parametrize("channels", [1, 3])
def test_labels_are_the_likeliest_class(channels):
    logits = jax.random.normal(jax.random.key(0), (2, 5, 5, channels))
    probabilities = probabilities_of(logits)
    if channels == 1:
        expected = logits[..., 0] >= 0
    else:
        expected = logits.argmax(-1)
        np.testing.assert_allclose(probabilities.sum(-1), jnp.ones((2, 5, 5)), rtol=1e-6)
    np.testing.assert_array_equal(labels_of(probabilities), expected)
    np.testing.assert_array_equal(labels_of(np.asarray(probabilities)), expected)
