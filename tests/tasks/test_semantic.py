import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seg_jax.datasets.source import VOID, Example
from seg_jax.tasks import Semantic
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


class Five:
    classes = tuple("abcde")


def test_classes_that_are_neither_there_nor_found_change_no_mean():
    rng, task = np.random.default_rng(0), Semantic()
    found, label = rng.integers(0, 2, (2, 3, 9, 9))
    batch = {"label": label, "valid": np.ones(label.shape, bool)}
    scores = task.scores(Five, task.measure(Five, found, batch))
    tn, fp = ([((label != k) & (found == k if wrong else found != k)).sum((1, 2)) for k in (0, 1)]
              for wrong in (False, True))  # fmt: skip
    specificity = np.mean([n / (n + p) for n, p in zip(tn, fp, strict=True)])
    assert scores["specificity"] == pytest.approx(specificity)
    assert specificity < 0.7


def test_distances_leave_out_what_is_found_on_void_alone():
    label = np.full((12, 12), VOID, np.uint8)
    image = np.zeros((12, 12, 3), np.uint8)
    found = np.zeros((12, 12), np.uint8)
    nothing = Semantic().details(Five, found, Example("a", image, label))
    assert np.isnan(list(nothing.values())).all()
    label[:, :8], label[:, 4:8], found[:, 3:8] = 0, 1, 1
    found[0, 11] = 2
    distances = Semantic().details(Five, found, Example("a", image, label))
    assert distances == Semantic().details(Five, np.where(found == 2, 0, found),
                                           Example("a", image, label))  # fmt: skip
    assert distances["hd95"] == 1
