import functools

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from scipy import ndimage

import seg_jax.tasks.peaks
from seg_jax.tasks.skeletons import heat_maps

peaks = jax.jit(seg_jax.tasks.peaks.peaks, static_argnames=("count", "threshold", "window"))
few = functools.partial(hypothesis.settings, deadline=None)
seeds = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("window", [1, 3, 5, 7])
@few(max_examples=10)
@hypothesis.given(seed=seeds)
def test_are_what_a_maximum_filter_leaves(window, seed):
    heat = np.random.default_rng(seed).random((2, 12, 15, 3), np.float32)
    found = peaks(heat, count=180, threshold=0.5, window=window)
    filtered = ndimage.maximum_filter(heat, size=(1, window, window, 1), mode="constant", cval=0)
    for b, j in np.ndindex(2, 3):
        top = (heat == filtered)[b, :, :, j] & (heat[b, :, :, j] > 0.5)
        y, x = np.nonzero(top)
        score = heat[b, y, x, j]
        order = np.argsort(-score)
        n = len(order)
        np.testing.assert_array_equal(found.score[b, j, :n], score[order])
        np.testing.assert_array_less(np.abs(found.x[b, j, :n] - x[order]), 0.5 + 1e-5)
        np.testing.assert_array_less(np.abs(found.y[b, j, :n] - y[order]), 0.5 + 1e-5)
        for values in found:
            assert not values[b, j, n:].any()


@few(max_examples=20)
@hypothesis.given(x=st.floats(1, 14), y=st.floats(1, 10), sigma=st.sampled_from([1.0, 3.0]))
def test_are_exact_for_gaussians(x, y, sigma):
    heat = heat_maps(np.float32([[[[x, y, 2]]]]), (12, 16), sigma=sigma)
    found = peaks(heat, count=4, threshold=0.1)
    assert found.x.shape == (1, 1, 4)
    assert found.x[0, 0, 0] == pytest.approx(x, abs=0.01)
    assert found.y[0, 0, 0] == pytest.approx(y, abs=0.01)
    assert not found.score[0, 0, 1:].any()


def test_a_joint_between_pixels_is_one_peak():
    heat = heat_maps(np.float32([[[[4.5, 6.5, 2]]]]), (12, 16), sigma=2.0)
    found = peaks(heat, count=4, threshold=0.1)
    assert np.count_nonzero(found.score) == 1
    assert (found.x[0, 0, 0], found.y[0, 0, 0]) == pytest.approx((4.5, 6.5), abs=1e-3)


def test_a_plateau_is_one_peak():
    heat = np.zeros((1, 9, 9, 1), np.float32)
    heat[0, 3:6, 2:7] = 0.7
    found = peaks(heat, count=4, threshold=0.1)
    assert [float(v[0, 0, 0]) for v in found] == pytest.approx([2.5, 3.5, 0.7])
    assert np.count_nonzero(found.score) == 1


def test_one_at_the_border_stays_there():
    heat = heat_maps(np.float32([[[[0.2, 11, 2]]]]), (12, 16), sigma=2.0)
    found = peaks(heat, count=1, threshold=0.1)
    assert (found.x[0, 0, 0], found.y[0, 0, 0]) == (0, 11)


def test_the_highest_fill_the_slots():
    heat = np.zeros((1, 12, 12, 1), np.float32)
    heights = np.arange(1, 10) / 10
    heat[0, 1::4, 1::4, 0] = heights.reshape(3, 3)
    found = peaks(heat, count=4, threshold=0.05)
    np.testing.assert_allclose(found.score[0, 0], [0.9, 0.8, 0.7, 0.6])


def test_maps_below_zero_are_empty():
    rng = np.random.default_rng(0)
    found = peaks(-rng.random((1, 9, 9, 2), np.float32), count=3, threshold=0.0)
    assert not any(v.any() for v in found)


@pytest.mark.parametrize(("window", "count"), [(1, 40), (3, 40), (7, 3)])
def test_the_highest_of_many_are_those_by_scipy(window, count):
    heat = np.random.default_rng(window).uniform(-1, 1, (48, 60)).astype(np.float32)
    highest = ndimage.maximum_filter(heat, window, mode="constant", cval=-np.inf)
    places = np.argwhere((heat == highest) & (heat > 0.3))
    places = places[np.argsort(-heat[tuple(places.T)])]
    assert len(places) > count or window == 7
    found = peaks(heat[None, ..., None], count=count, window=window, threshold=0.3)
    aside = np.stack([found.y, found.x], -1)[0, 0] - places[:count]
    np.testing.assert_array_less(np.abs(aside), 0.5 + 1e-5)
    np.testing.assert_array_equal(found.score[0, 0], heat[tuple(places[:count].T)])


def test_places_that_are_not_taken_have_no_height():
    heat = np.zeros((1, 48, 60, 1), np.float32)
    for row, column, height in ((5, 6, 0.5), (20, 50, 0.9), (21, 51, 0.8), (40, 40, 0.1)):
        heat[0, row, column] = height
    found = peaks(heat, count=5, window=7, threshold=0.1)
    np.testing.assert_array_equal(found.y[0, 0, :2], [20, 5])
    np.testing.assert_array_equal(found.x[0, 0, :2], [50, 6])
    np.testing.assert_array_equal(found.score[0, 0], np.float32([0.9, 0.5, 0, 0, 0]))
