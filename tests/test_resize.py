import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from seg_jax.datasets import VOID
from seg_jax.resize import resize_image, resize_label, resize_points


def test_images_are_resized_as_pillow_does_and_labels_get_no_new_value():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (31, 47, 3), dtype=np.uint8)
    resized = resize_image(image, (16, 20))
    whole = Image.fromarray(image).resize((20, 16), Image.Resampling.BILINEAR)
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
