import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from seg_jax.labels import VOID
from seg_jax.resize import Resize, resize_image, resize_label, resize_points


def test_images_are_resized_as_pillow_does_and_labels_get_no_new_value():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (31, 47, 3), dtype=np.uint8)
    resized = resize_image(image, (16, 20))
    across = Image.fromarray(image).resize((20, 31), Image.Resampling.BILINEAR)
    whole = across.resize((20, 16), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(resized, np.asarray(whole))
    assert resize_image(image[..., :1], (16, 20)).shape == (16, 20, 1)
    label = rng.choice(np.array([0, 3, 9, VOID], np.uint8), (31, 47))
    resized = resize_label(label, (64, 20))
    assert resized.shape == (64, 20)
    assert set(np.unique(resized)) <= {0, 3, 9, VOID}


@settings(deadline=None, max_examples=20)
@given(
    old=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    new=st.tuples(st.integers(2, 40), st.integers(2, 40)),
)
def test_points_keep_their_place_between_the_edges(old, new):
    corners = np.array([[-0.5, -0.5], [old[1] - 0.5, old[0] - 0.5]], np.float32)
    moved = resize_points(corners, old, new)
    np.testing.assert_allclose(moved, [[-0.5, -0.5], [new[1] - 0.5, new[0] - 0.5]], rtol=1e-5)
    np.testing.assert_allclose(resize_points(moved, new, old), corners, rtol=1e-5)


SIZES = [
    ((37, 53), (16, 24)),
    ((64, 48), (200, 99)),
    ((300, 410), (31, 64)),
    ((1, 7), (1, 3)),
    ((9, 9), (9, 9)),
    ((20, 20), (50, 20)),
    ((400, 300), (256, 256)),
    ((2000, 300), (256, 256)),
    ((128, 128), (37, 500)),
]


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_the_device_resizes_bytes_exactly_as_pillow_does(old, new):
    image = np.random.default_rng(0).integers(0, 256, (*old, 3), dtype=np.uint8)
    found = jax.jit(lambda resize, x: resize(x))(Resize.between(old, new), image[None])[0]
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, resize_image(image, new))


@pytest.mark.parametrize("cubic", [False, True])
@pytest.mark.parametrize(("old", "new"), [*SIZES, ((40, 16), (13, 70))])
def test_the_device_resizes_maps_as_pillow_does(old, new, cubic):
    maps = np.random.default_rng(0).normal(size=(2, *old, 3)).astype(np.float32)
    found = Resize.between(old, new)(maps, cubic=cubic)
    how = Image.Resampling.BICUBIC if cubic else Image.Resampling.BILINEAR
    for one, expected in zip(np.moveaxis(found, -1, 1), np.moveaxis(maps, -1, 1), strict=True):
        for channel, plain in zip(one, expected, strict=True):
            resized = np.asarray(Image.fromarray(plain).resize(new[::-1], how))
            np.testing.assert_allclose(channel, resized, atol=1e-5)


def test_padding_before_and_after_changes_nothing_and_sizes_share_a_program():
    programs = []

    @jax.jit
    def resized(resize, x):
        programs.append(x.shape)
        return resize(x)

    rng = np.random.default_rng(0)
    for old, new in (((37, 53), (90, 101)), ((40, 60), (88, 128)), ((64, 64), (70, 80))):
        maps = rng.normal(size=(1, *old, 2)).astype(np.float32)
        padded = np.pad(maps, [(0, 0), (0, 64 - old[0]), (0, 64 - old[1]), (0, 0)], "edge")
        found = resized(Resize.between(old, new, (128, 128)), padded)
        np.testing.assert_allclose(
            found[:, : new[0], : new[1]], Resize.between(old, new)(maps), atol=1e-6
        )
        assert not found[:, new[0] :].any()
        assert not found[:, :, new[1] :].any()
    assert len(programs) == 1
