import collections
import dataclasses

import numpy as np
import pytest
import tensorflow_datasets as tfds
from scipy import ndimage
from skimage.color import rgb2gray
from skimage.filters import threshold_otsu
from skimage.transform import resize

from seg_jax.datasets.nevi import DIAGNOSES, Nevi, draw_nevus, picture_index
from seg_jax.datasets.nevi.fields import _refine, grid, noise, strands
from seg_jax.datasets.nevi.nevi_dataset_builder import Builder, NeviConfig
from seg_jax.errors import InputError
from seg_jax.labels import Labels


@pytest.fixture(scope="module")
def nevi():
    return [draw_nevus(0, index, 96) for index in range(80)]


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def splines(knots, points):
    """The reference: uniform cubic B-splines by scipy."""
    return ndimage.map_coordinates(knots, points, order=3, prefilter=False)


def test_same_arguments_give_the_same_picture():
    first, again = draw_nevus(3, 5, 64), draw_nevus(3, 5, 64)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.mask, again.mask)
    assert first.diagnosis == again.diagnosis
    for other in (draw_nevus(4, 5, 64), draw_nevus(3, 6, 64)):
        assert (other.mask != first.mask).any()


@pytest.mark.parametrize("index", range(4))
def test_the_lesion_is_the_same_at_every_size(index):
    large = draw_nevus(0, index, 256)
    for size in (128, (192, 128)):
        small = draw_nevus(0, index, size)
        mask = resize(large.mask.astype(float), small.mask.shape, anti_aliasing=True) > 0.5
        assert small.diagnosis == large.diagnosis
        assert dice(small.mask == 1, mask) > 0.97
        image = resize(large.image / 255, small.image.shape, anti_aliasing=True)
        assert np.abs(image - small.image / 255).mean() < 0.03


def test_masks_are_one_region_without_holes(nevi):
    for nevus in nevi:
        assert nevus.mask.dtype == np.uint8
        assert set(np.unique(nevus.mask)) == {0, 1}
        assert ndimage.label(nevus.mask)[1] == 1
        assert (ndimage.binary_fill_holes(nevus.mask) == nevus.mask).all()


def test_lesions_cover_little_and_much_of_the_frame(nevi):
    cover = np.array([nevus.mask.mean() for nevus in nevi])
    assert 0.02 < cover.min() < 0.10
    assert (cover > 0.6).sum() >= 3
    assert cover.max() <= 0.99
    borders = [np.r_[n.mask[0], n.mask[-1], n.mask[:, 0], n.mask[:, -1]].any() for n in nevi]
    assert 0.05 < np.mean(borders) < 0.5


def test_diagnoses_differ_as_in_life(nevi):
    assert set(collections.Counter(n.diagnosis for n in nevi)) == set(DIAGNOSES)
    ragged = {}
    for diagnosis in DIAGNOSES:
        masks = [n.mask for n in nevi if n.diagnosis == diagnosis and n.mask.mean() < 0.5]
        outline = [(m - ndimage.binary_erosion(m, border_value=1)).sum() for m in masks]
        ragged[diagnosis] = np.mean(np.array(outline) / np.sqrt([m.sum() for m in masks]))
    assert ragged["common_nevus"] < ragged["atypical_nevus"] < ragged["melanoma"]


def test_the_outline_can_be_seen(nevi):
    for nevus in nevi:
        assert nevus.image.dtype == np.uint8
        mask = nevus.mask == 1
        within = ndimage.binary_erosion(mask, iterations=3, border_value=1)
        within &= ~ndimage.binary_erosion(mask, iterations=8, border_value=1)
        beyond = ndimage.binary_dilation(mask, iterations=7)
        beyond &= ~ndimage.binary_dilation(mask, iterations=2)
        contrast = nevus.image[within].mean(0) - nevus.image[beyond].mean(0)
        assert np.abs(contrast).max() > 8


def test_naive_masks_fail(nevi):
    truth = [nevus.mask == 1 for nevus in nevi]
    grey = [rgb2gray(nevus.image) for nevus in nevi]
    otsu = np.mean([dice(g < threshold_otsu(g), t) for g, t in zip(grey, truth, strict=True)])
    assert 0.5 < otsu < 0.85
    assert np.mean([dice(np.ones_like(t), t) for t in truth]) < 0.65


def test_source_draws_disjoint_parts_that_only_grow():
    small, large = Nevi(train=2, val=0, test=2, size=32), Nevi(train=3, val=1, test=4, size=32)
    assert small.labels == Labels(classes=("lesion",), segments=("lesion",))
    ids = [e.id for part in ("train", "val", "test") for e in large.read(part)]
    assert len(ids) == len(set(ids)) == 8
    assert list(small.read("val")) == []
    for part in ("train", "test"):
        for a, b in zip(small.read(part), large.read(part), strict=False):
            assert a.id == b.id
            np.testing.assert_array_equal(a.image, b.image)
            np.testing.assert_array_equal(a.label, b.label)
    first = next(large.read("test"))
    np.testing.assert_array_equal(first.image, draw_nevus(0, picture_index("test", 0), 32).image)


@pytest.mark.parametrize(
    ("field", "value"), [("train", 0), ("test", 0), ("val", -1), ("size", 0), ("seed", -1)]
)
def test_source_names_the_field_that_cannot_be_used(field, value):
    source = dataclasses.replace(Nevi(), **{field: value})
    with pytest.raises(InputError, match=rf"data\.{field} is {value}"):
        source.read("train")


def test_builder_writes_what_the_source_draws(tmp_path):
    assert tfds.builder_cls("nevi") is Builder
    source = Nevi(train=5, val=1, test=3, size=32)
    config = NeviConfig(name="small", description="A few small pictures.", source=source)
    builder = Builder(data_dir=tmp_path, config=config)
    builder.download_and_prepare()
    for part in ("train", "val", "test"):
        written = {e["id"].decode(): e for e in builder.as_data_source(part)}
        drawn = list(source.read(part))
        assert len(written) == len(drawn)
        for example in drawn:
            np.testing.assert_array_equal(written[example.id]["image"], example.image)
            np.testing.assert_array_equal(written[example.id]["mask"][..., 0], example.label)
    label = builder.info.features["diagnosis"].int2str(written[example.id]["diagnosis"])
    assert label == draw_nevus(0, picture_index("test", 2), 32).diagnosis


@pytest.mark.parametrize("shape", [(32, 32), (48, 40)])
def test_noise_is_a_cubic_spline(shape):
    cells = 8
    knots = np.random.default_rng(1).standard_normal((cells + 3, cells + 3), dtype=np.float32)
    x, y = grid(shape)
    points = np.broadcast_arrays((y + 1) / 2 * cells + 1, (x + 1) / 2 * cells + 1)
    expected = splines(knots, np.stack(points)) / 0.48
    actual = noise(np.random.default_rng(1), shape, cells)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_noise_is_centred_and_scaled():
    fields = [noise(np.random.default_rng(s), (96, 96), 6, 4, 0.6) for s in range(40)]
    assert abs(np.mean(fields)) < 0.1
    assert np.std(fields) == pytest.approx(1, abs=0.1)


def test_refined_knots_are_the_same_spline():
    knots = np.random.default_rng(0).standard_normal((9, 9)).astype(np.float32)
    fine = _refine(_refine(knots).T).T
    points = np.random.default_rng(1).uniform(1, 7, (2, 50))
    np.testing.assert_allclose(
        splines(fine, 2 * (points - 1) + 1), splines(knots, points), atol=1e-5
    )


def test_strands_cover_their_area():
    one = np.ones(1)
    covered = strands((200, 100), np.array([[-0.5, 0.1]]), 0.3 * one, one, 0 * one, one, 0.1 * one)
    s = (np.arange(10000) + 0.5) / 10000
    width = 0.1 * np.clip(8 * s + 0.4, 0, 1) * (1 - 0.8 * s**2)
    assert covered.max() <= 1
    assert covered.sum() / covered.size * 4 == pytest.approx(width.mean(), rel=0.02)
    assert not strands((8, 8), np.zeros((0, 2)), *[np.zeros(0)] * 5).any()
