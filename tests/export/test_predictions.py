import numpy as np
import pytest
from PIL import Image

from seg_jax.export.predictions import save, save_probabilities
from seg_jax.found import Found, Segments
from seg_jax.labels import Labels, Skeleton

CELLS = Labels(("cell",), things=("cell",))
STREET = Labels(("road", "car", "sky"), things=("car",))


def pixels_of(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def segmented(number):
    category, score = np.zeros((2, number.max() + 1))
    return Found(
        label=np.ones(number.shape, np.uint8),
        segments=Segments(number, category.astype(np.int32), score.astype(np.float32)),
    )


class TestSave:
    rng = np.random.default_rng(0)

    def test_a_binary_label_is_black_and_white(self, tmp_path):
        label = self.rng.integers(0, 2, (7, 9), np.uint8)
        save(tmp_path, "a", Labels(("lesion",)), Found(label=label))
        assert files_in(tmp_path) == ["predictions/a.png"]
        pixels = pixels_of(tmp_path / "predictions" / "a.png")
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, 255 * label)

    def test_several_classes_are_their_numbers(self, tmp_path):
        label = self.rng.integers(0, 3, (7, 9), np.uint8)
        save(tmp_path, "a", Labels(("sky", "road", "car")), Found(label=label))
        assert files_in(tmp_path) == ["predictions/a.png"]
        np.testing.assert_array_equal(pixels_of(tmp_path / "predictions" / "a.png"), label)

    def test_segments_are_16_bit_numbers(self, tmp_path):
        number = self.rng.integers(0, 700, (7, 9), np.uint16)
        save(tmp_path, "a", CELLS, segmented(number))
        assert files_in(tmp_path) == ["predictions/a.png"]
        pixels = pixels_of(tmp_path / "predictions" / "a.png")
        assert pixels.dtype == np.uint16
        np.testing.assert_array_equal(pixels, number)

    def test_with_stuff_they_are_also_cocos_colours(self, tmp_path):
        number = self.rng.integers(0, 700, (7, 9), np.uint16)
        save(tmp_path, "a", STREET, segmented(number))
        assert files_in(tmp_path) == ["predictions/a.png", "predictions/panoptic/a.png"]
        np.testing.assert_array_equal(pixels_of(tmp_path / "predictions" / "a.png"), number)
        colours = pixels_of(tmp_path / "predictions" / "panoptic" / "a.png")
        assert colours.shape == (7, 9, 3)
        np.testing.assert_array_equal(colours.astype(int) @ [1, 256, 65536], number)

    def test_of_skeletons_alone_there_is_no_png(self, tmp_path):
        labels = Labels(skeleton=Skeleton(("head",), (), (0,), (0.1,)))
        found = Found(skeletons=np.ones((1, 1, 3), np.float32), skeleton_scores=np.ones(1))
        save(tmp_path, "a", labels, found)
        assert files_in(tmp_path) == []


class TestSaveProbabilities:
    # A resized heat map may be a little beyond 0 and 1.
    maps = np.linspace(-0.01, 1.01, 5 * 6 * 3, dtype=np.float32).reshape(5, 6, 3)

    def test_as_an_array_of_all_maps(self, tmp_path):
        save_probabilities(tmp_path, "a", self.maps, "npy")
        assert files_in(tmp_path) == ["probabilities/a.npy"]
        found = np.load(tmp_path / "probabilities" / "a.npy")
        np.testing.assert_array_equal(found, self.maps.astype(np.float16))
        assert found.dtype == np.float16

    @pytest.mark.parametrize("count", [1, 3])
    def test_as_a_16_bit_png_of_each_map(self, tmp_path, count):
        save_probabilities(tmp_path, "a.b", self.maps[..., :count], "png")
        names = ["a.b"] if count == 1 else ["a.b_0", "a.b_1", "a.b_2"]
        assert files_in(tmp_path) == [f"probabilities/{name}.png" for name in names]
        for k, name in enumerate(names):
            found = pixels_of(tmp_path / "probabilities" / f"{name}.png")
            assert found.dtype == np.uint16
            expected = np.clip(self.maps[..., k], 0, 1)
            np.testing.assert_allclose(found / 65535, expected, atol=0.51 / 65535)
            assert (found[expected == 0] == 0).all()
            assert (found[expected == 1] == 65535).all()
