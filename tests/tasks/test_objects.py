import functools

import hypothesis
import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import jax
import numpy as np
from scipy import ndimage

from seg_jax.tasks import objects

few = functools.partial(hypothesis.settings, deadline=None)
seeds = st.integers(0, 2**32 - 1)
SIZE = 48, 60
PIXELS = np.moveaxis(np.mgrid[: SIZE[0], : SIZE[1]], 0, -1)

targets = jax.jit(objects.targets, static_argnames=("max_objects", "sigma"))
nearest_centre = jax.jit(objects.nearest_centre)


def ellipses(rng):
    """(H, W) int32: up to 20 objects that touch or overlap, a few numbers left out."""
    instance = np.zeros(SIZE, np.int32)
    cells = [(r, c) for r in range(6, SIZE[0], 12) for c in range(6, SIZE[1], 12)]
    for number, cell in enumerate(rng.permutation(cells), start=1):
        if rng.random() < 0.4:
            continue
        centre, radii = cell + rng.uniform(-1, 1, 2), rng.uniform(3.5, 7, 2)
        instance[(((PIXELS - centre) / radii) ** 2).sum(-1) <= 1] = number
    return instance


class TestTargets:
    @few(max_examples=15)
    @hypothesis.given(seed=seeds)
    def test_are_those_of_scipy(self, seed):
        rng = np.random.default_rng(seed)
        instance = ellipses(rng)
        valid = rng.random(SIZE) < 0.8
        valid[:12] = False  # the objects that nobody sees have no centre
        heat, offsets, inside = targets(instance, valid, max_objects=24, sigma=3.5)
        seen = np.where(valid, instance, 0)
        np.testing.assert_array_equal(inside, seen > 0)
        numbers = np.unique(seen[seen > 0])
        centres = np.array(ndimage.center_of_mass(seen > 0, seen, numbers))
        distance = ((PIXELS[:, :, None] - centres) ** 2).sum(-1)
        np.testing.assert_allclose(heat, np.exp(-distance.min(-1) / 24.5), atol=1e-5)
        pointed = PIXELS + np.asarray(offsets)
        for number, centre in zip(numbers, centres, strict=True):
            mine = pointed[seen == number]
            np.testing.assert_allclose(mine, np.broadcast_to(centre, mine.shape), atol=1e-4)

    def test_nothing_is_far_from_all_centres(self):
        nothing = np.zeros(SIZE, np.int32)
        heat, _, inside = targets(nothing, nothing == 0, max_objects=24, sigma=3.5)
        assert not heat.any()
        assert not inside.any()


class TestNearestCentre:
    @few(max_examples=10)
    @hypothesis.given(seed=seeds, there=arrays.arrays(bool, 6))
    def test_equals_brute_force(self, seed, there):
        rng = np.random.default_rng(seed)
        offsets = rng.normal(0, 9, (*SIZE, 2)).astype(np.float32)
        centres = rng.uniform(0, SIZE, (6, 2)).astype(np.float32)
        number = nearest_centre(offsets, centres, there)
        distance = (((PIXELS + offsets)[:, :, None] - centres) ** 2).sum(-1)
        distance[:, :, ~there] = np.inf
        expected = distance.argmin(-1) + 1 if there.any() else np.zeros(SIZE)
        np.testing.assert_array_equal(number, expected)
