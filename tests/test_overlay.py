import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.segmentation import find_boundaries

from seg_jax.datasets.source import VOID
from seg_jax.overlay import PREDICTED, TRUE, UNKNOWN, class_colour, overlay


def changed(picture, image):
    return np.any(picture != np.broadcast_to(image, picture.shape), axis=-1)


masks = arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=12))


class TestOverlay:
    # 7 is in no colour drawn, so a changed pixel is seen to be changed.
    @staticmethod
    def blank(mask, channels=3):
        return np.full((*mask.shape, channels), 7, np.uint8)

    @given(masks)
    @settings(max_examples=50, deadline=None)
    def test_outlines_lie_at_the_boundary(self, mask):
        image = self.blank(mask)
        inner = find_boundaries(mask, connectivity=1, mode="inner", background=0) & mask
        outer = find_boundaries(mask, connectivity=1, mode="outer", background=0) & ~mask
        drawn = overlay(image, mask.astype(int))
        np.testing.assert_array_equal(np.all(drawn == PREDICTED, axis=-1), inner)
        drawn = overlay(image, np.zeros(mask.shape, int), mask.astype(np.uint8))
        np.testing.assert_array_equal(np.all(drawn == TRUE, axis=-1), outer)

    @given(masks, st.data())
    @settings(max_examples=50, deadline=None)
    def test_leaves_the_rest_alone(self, mask, data):
        label = data.draw(arrays.arrays(bool, mask.shape))
        before = self.blank(mask)
        drawn = overlay(before, mask.astype(int), label.astype(int))
        outline = find_boundaries(label, connectivity=1, mode="outer", background=0) & ~label
        np.testing.assert_array_equal(changed(drawn, before), mask | outline)
        assert (before == 7).all()

    def test_agreement_shows_both_outlines(self):
        mask = np.zeros((20, 20), int)
        mask[5:15, 5:15] = 1
        drawn = overlay(self.blank(mask), mask, mask)
        assert tuple(drawn[5, 10]) == PREDICTED
        assert tuple(drawn[4, 10]) == TRUE

    def test_outline_grows_with_the_image(self):
        mask = np.zeros((8, 1000), int)
        mask[:, :500] = 1
        drawn = overlay(self.blank(mask), mask)
        assert np.all(drawn == PREDICTED, axis=-1)[0].nonzero()[0].tolist() == [*range(495, 500)]

    def test_a_mask_that_fills_the_frame_has_no_outline(self):
        mask = np.ones((6, 6), int)
        assert len(np.unique(overlay(self.blank(mask), mask, mask).reshape(-1, 3), axis=0)) == 1

    def test_greyscale_is_drawn_in_colour(self):
        rng = np.random.default_rng(0)
        image = rng.integers(0, 256, (9, 7, 1), np.uint8)
        mask = rng.integers(0, 2, (9, 7))
        drawn = overlay(image, mask)
        assert drawn.shape == (9, 7, 3)
        assert drawn.dtype == np.uint8
        np.testing.assert_array_equal(drawn, overlay(np.repeat(image, 3, axis=2), mask))

    @pytest.mark.parametrize("classes", [("lesion",), ("background", "cat", "dog")])
    def test_unknown_pixels_are_grey(self, classes):
        label = np.zeros((8, 8), np.uint8)
        label[2:4] = VOID
        grey = np.full((8, 8, 3), 128, np.uint8)
        drawn = overlay(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), int), label, classes)
        unknown = drawn[2:4, -8:]
        assert (unknown == np.rint(0.6 * np.array(UNKNOWN))).all()
        assert not changed(overlay(grey, np.zeros((8, 8), int), label, classes)[:2, :8], 128).any()

    def test_classes_have_their_colours(self):
        prediction = np.zeros((9, 30), int)
        prediction[:, 10:20] = 1
        prediction[:, 20:] = 2
        image = self.blank(prediction)
        drawn = overlay(image, prediction, classes=("background", "cat", "dog"))
        assert drawn.shape == image.shape
        assert not changed(drawn, image)[:, :10].any()
        assert tuple(drawn[4, 10]) == tuple(drawn[4, 19]) == class_colour(1)
        assert tuple(drawn[4, 20]) == class_colour(2)
        inside = np.rint(0.55 * 7 + 0.45 * np.array(class_colour(2)))
        np.testing.assert_array_equal(drawn[4, 25], inside)

    def test_several_classes_stand_beside_their_truth(self):
        rng = np.random.default_rng(0)
        prediction, label = rng.integers(0, 3, (2, 12, 10))
        image = rng.integers(0, 256, (12, 10, 3), np.uint8)
        classes = ("sky", "road", "car")
        both = overlay(image, prediction, label, classes)
        np.testing.assert_array_equal(both[:, :10], overlay(image, prediction, None, classes))
        np.testing.assert_array_equal(both[:, -10:], overlay(image, label, None, classes))

    def test_twenty_classes_have_twenty_colours(self):
        assert len({class_colour(index) for index in range(20)}) == 20
