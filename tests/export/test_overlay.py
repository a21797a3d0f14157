import subprocess
import sys

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.segmentation import find_boundaries

from seg_jax.export.overlay import (
    PREDICTED,
    TRUE,
    UNKNOWN,
    class_colour,
    draw,
    legend,
    overlay,
    segment_overlay,
    shrunk,
    skeleton_overlay,
    write_overlay,
)
from seg_jax.found import Found, Segments
from seg_jax.labels import VOID, Example, Labels, Skeleton
from seg_jax.resize import resize_label, resize_points


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


class TestSegmentOverlay:
    @given(arrays.arrays(np.uint16, (9, 11), elements=st.integers(0, 3)))
    @settings(max_examples=50, deadline=None)
    def test_objects_have_a_rim_and_a_tint(self, numbers):
        image = np.full((9, 11, 3), 7, np.uint8)
        drawn = segment_overlay(image, numbers)
        padded = np.pad(numbers.astype(int), 1, mode="edge")
        around = [padded[r : r + 9, c : c + 11] for r in range(3) for c in range(3)]
        rim = np.any([other != numbers for other in around], axis=0)
        expected = image.copy()
        for number in (1, 2, 3):
            colour = np.array(class_colour(number - 1))
            expected[numbers == number] = np.rint(0.6 * 7 + 0.4 * colour)
            expected[(numbers == number) & rim] = colour
        np.testing.assert_array_equal(drawn, expected)
        assert (image == 7).all()

    def test_touching_objects_have_two_colours(self):
        numbers = np.repeat([[1, 2]], 6, axis=0).repeat(6, axis=1)
        drawn = segment_overlay(np.zeros((6, 12, 1), np.uint8), numbers)
        assert tuple(drawn[3, 5]) == class_colour(0)
        assert tuple(drawn[3, 6]) == class_colour(1)
        assert len({tuple(drawn[3, c]) for c in (2, 5, 6, 9)}) == 4

    def test_any_number_has_a_colour(self):
        numbers = np.full((4, 4), 2**16 - 1, np.uint16)
        drawn = segment_overlay(np.zeros((4, 4, 3), np.uint8), numbers)
        expected = np.rint(0.4 * np.array(class_colour((2**16 - 2) % 21)))
        np.testing.assert_array_equal(drawn, np.broadcast_to(expected, drawn.shape))

    def test_rims_grow_with_the_image(self):
        numbers = np.zeros((8, 1200), int)
        numbers[:, :600] = 1
        drawn = segment_overlay(np.zeros((8, 1200, 3), np.uint8), numbers)
        rim = np.all(drawn == class_colour(0), axis=-1)
        assert rim[4].nonzero()[0].tolist() == [597, 598, 599]

    def test_greyscale_is_drawn_in_colour(self):
        rng = np.random.default_rng(0)
        image, numbers = rng.integers(0, 256, (9, 7, 1), np.uint8), rng.integers(0, 4, (9, 7))
        drawn = segment_overlay(image, numbers)
        assert (drawn.shape, drawn.dtype) == ((9, 7, 3), np.uint8)
        np.testing.assert_array_equal(drawn, segment_overlay(np.repeat(image, 3, axis=2), numbers))


class TestShrunk:
    @pytest.mark.parametrize(
        ("size", "expected"),
        [((768, 20), (768, 20)), ((1536, 512), (768, 256)), ((300, 3000), (77, 768))],
    )
    def test_no_side_is_longer_than_the_longest(self, size, expected):
        assert shrunk(np.zeros((*size, 1), np.uint8)).shape == (*expected, 1)

    def test_a_side_has_at_least_one_pixel(self):
        assert shrunk(np.zeros((1, 900, 3), np.uint8), longest=9).shape == (1, 9, 3)

    def test_small_images_stay_as_they_are(self):
        image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
        np.testing.assert_array_equal(shrunk(image), image)

    def test_pixels_are_averaged(self):
        image = np.kron(np.array([[40, 80], [120, 160]], np.uint8), np.ones((20, 20), np.uint8))
        small = shrunk(image[..., None], longest=4)[..., 0]
        np.testing.assert_array_equal(small[[0, 0, -1, -1], [0, -1, 0, -1]], [40, 80, 120, 160])
        checks = (np.indices((40, 40)).sum(0) % 2 * 200).astype(np.uint8)
        assert np.ptp(shrunk(checks[..., None], longest=4)) <= 4


class TestSkeletonOverlay:
    limbs = (0, 1), (1, 2)
    people = np.array(
        [
            [(4, 5, 1), (24, 5, 0.2), (24, 25, 0)],
            [(4, 15, 2), (14, 15, 2), (14, 28, 1)],
        ]
    )

    @pytest.mark.parametrize("channels", [1, 3])
    def test_joints_are_white_and_limbs_have_their_persons_colour(self, channels):
        image = np.full((32, 40, channels), 7, np.uint8)
        drawn = skeleton_overlay(image, self.people, self.limbs)
        assert (drawn.shape, drawn.dtype) == ((32, 40, 3), np.uint8)
        for x, y in ((4, 5), (24, 5), (4, 15), (14, 15), (14, 28)):
            assert tuple(drawn[y, x]) == (255, 255, 255)
        assert tuple(drawn[5, 14]) == class_colour(0)
        assert tuple(drawn[15, 9]) == tuple(drawn[22, 14]) == class_colour(1)
        assert (image == 7).all()

    def test_what_was_not_found_is_not_drawn(self):
        image = np.full((32, 40, 3), 7, np.uint8)
        drawn = skeleton_overlay(image, self.people, self.limbs)
        assert not changed(drawn, image)[8:, 17:].any()
        nobody = skeleton_overlay(image, np.zeros((0, 3, 3)), self.limbs)
        np.testing.assert_array_equal(nobody, image)


CELLS = Labels(("cell",), things=("cell",))
SKELETON = Skeleton(("a", "b", "c"), ((0, 1), (1, 2)), (0, 1, 2), (0.1, 0.1, 0.1))
STREET = Labels(("background", "road", "person"), things=("person",), skeleton=SKELETON)


class TestDraw:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (32, 40, 3), np.uint8)
    people = rng.uniform(2, 30, (3, 3, 3)).astype(np.float32)

    def example(self, label=None, instance=None, joints=None):
        label = np.zeros((32, 40), np.uint8) if label is None else label
        return Example("a", self.image, label, instance, joints)

    def segments(self, labels):
        """Three objects, then stuff; categories by turns."""
        count = 3 + len(labels.categories)
        category = np.resize(np.arange(1, len(labels.categories) + 1), count + 1)
        category[0] = 0
        number = self.rng.integers(0, count + 1, (32, 40), np.uint16)
        return Segments(number, category, np.ones(count + 1))

    def skeletons(self, people):
        return Found(skeletons=people, skeleton_scores=np.ones(len(people), np.float32))

    @pytest.mark.parametrize("classes", [("lesion",), ("background", "cat", "dog")])
    def test_regions_are_drawn_as_by_overlay(self, classes):
        found, true = self.rng.integers(0, 2, (2, 32, 40), np.uint8)
        for label, truth in ((None, None), (true, self.example(true))):
            drawn = draw(Labels(classes), Found(label=found), self.image, truth)
            np.testing.assert_array_equal(drawn, overlay(self.image, found, label, classes))

    def test_objects_stand_beside_the_truth(self):
        segments = self.segments(CELLS)
        found, true = Found(segments=segments), self.rng.integers(0, 4, (32, 40), np.uint16)
        both = draw(CELLS, found, self.image, self.example(instance=true))
        assert both.shape == (32, 82, 3)
        np.testing.assert_array_equal(both[:, :40], segment_overlay(self.image, segments.number))
        np.testing.assert_array_equal(both[:, 40:42], 255)
        np.testing.assert_array_equal(both[:, 42:], segment_overlay(self.image, true))
        np.testing.assert_array_equal(draw(CELLS, found, self.image), both[:, :40])

    def test_stuff_and_labels_are_left_clear(self):
        segments = self.segments(STREET)
        things = [n for n, category in enumerate(segments.category) if category == 2]
        assert things == [1, 3, 5]
        label = self.rng.integers(0, 3, (32, 40), np.uint8)
        drawn = draw(STREET, Found(label=label, segments=segments), self.image)
        objects = np.where(np.isin(segments.number, things), segments.number, 0)
        np.testing.assert_array_equal(drawn, segment_overlay(self.image, objects))
        clear = ~np.isin(segments.number, things)
        np.testing.assert_array_equal(drawn[clear], self.image[clear])

    def test_skeletons_stand_beside_the_truth(self):
        found, true = self.people[:1], self.people[1:]
        both = draw(STREET, self.skeletons(found), self.image, self.example(joints=true))
        assert both.shape == (32, 82, 3)
        left, right = (skeleton_overlay(self.image, x, SKELETON.limbs) for x in (found, true))
        np.testing.assert_array_equal(both[:, :40], left)
        np.testing.assert_array_equal(both[:, 40:42], 255)
        np.testing.assert_array_equal(both[:, 42:], right)
        alone = draw(STREET, self.skeletons(found), self.image)
        np.testing.assert_array_equal(alone, left)

    def test_skeletons_are_drawn_over_objects(self):
        segments, true = self.segments(CELLS), self.rng.integers(0, 4, (32, 40), np.uint16)
        labels = Labels(("cell",), things=("cell",), skeleton=SKELETON)
        found = Found(segments=segments, skeletons=self.people[:1])
        truth = self.example(instance=true, joints=self.people[1:])
        both = draw(labels, found, self.image, truth)
        for side, objects, people in (
            (both[:, :40], segments.number, self.people[:1]),
            (both[:, 42:], true, self.people[1:]),
        ):
            below = segment_overlay(self.image, objects)
            np.testing.assert_array_equal(side, skeleton_overlay(below, people, SKELETON.limbs))

    def test_a_large_image_is_drawn_smaller(self):
        size, small = (900, 1536), (450, 768)
        image = self.rng.integers(0, 256, (*size, 3), np.uint8)
        number = self.rng.integers(0, 3, size, np.uint16)
        label = number.astype(np.uint8)
        segments = Segments(number, np.array([0, 1, 1]), np.ones(3))
        people = self.people * (50, 25, 1)
        expected = segment_overlay(shrunk(image), resize_label(number, small))
        found = Found(label=label, segments=segments)
        np.testing.assert_array_equal(draw(CELLS, found, image), expected)
        places = resize_points(people[..., :2], size, small)
        places = np.concatenate([places, people[..., 2:]], -1)
        expected = skeleton_overlay(shrunk(image), places, SKELETON.limbs)
        np.testing.assert_array_equal(draw(STREET, self.skeletons(people), image), expected)
        names = ("background", "road", "person")
        expected = overlay(shrunk(image), resize_label(label, small), classes=names)
        np.testing.assert_array_equal(draw(STREET, Found(label=label), image), expected)

    def test_joints_of_a_large_image_stay_at_their_places(self):
        image = np.zeros((1152, 1152, 3), np.uint8)
        people = self.people * (35, 35, 1)
        drawn = draw(STREET, self.skeletons(people), image)
        assert drawn.shape == (768, 768, 3)
        row, column = np.nonzero(drawn.max(-1) > 128)
        shown = resize_points(people[..., :2], image.shape[:2], drawn.shape[:2])
        for places, joints in ((column, shown[..., 0]), (row, shown[..., 1])):
            for end in (np.min, np.max):  # a joint's disc has a radius of 5 pixels
                np.testing.assert_allclose(end(places), end(joints), atol=6)

    def test_is_written_as_a_jpeg(self, tmp_path):
        picture = np.full((32, 40, 3), 90, np.uint8)
        write_overlay(tmp_path, "a.b", picture)
        with Image.open(tmp_path / "overlays" / "a.b.jpg") as written:
            np.testing.assert_allclose(np.asarray(written), picture, atol=2)


class TestLegend:
    def test_of_one_region(self):
        colours = {"predicted": PREDICTED, "true": TRUE, "unknown": UNKNOWN}
        assert legend(Labels(("lesion",)), ("label",)) == (colours, "", False)

    def test_of_several_classes(self):
        found = legend(STREET, ("label",))
        colours = {"road": class_colour(1), "person": class_colour(2), "unknown": UNKNOWN}
        assert found == (colours, "Left: predicted. Right: true.", True)
        assert list(found.colours) == ["road", "person", "unknown"]

    @pytest.mark.parametrize(
        "finds", [("label", "segments"), ("skeletons",), ("label", "segments", "skeletons")]
    )
    def test_of_objects_and_people(self, finds):
        note = "Left: predicted, each object or person in a colour of its own. Right: true."
        assert legend(STREET, finds) == ({}, note, True)


def test_drawing_needs_no_matplotlib():
    code = "import sys, seg_jax.export.overlay; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
