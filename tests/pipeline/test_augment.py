"""Augmentation against numpy, SciPy, scikit-image and Pillow, from outside: by what it returns."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageEnhance
from scipy import ndimage, stats
from skimage import color

from seg_jax.errors import InputError
from seg_jax.labels import Kind
from seg_jax.pipeline.augment import Augment, augment

KINDS = {"weight": Kind.MAP, "joints": Kind.POINTS, "mirrored": Kind.MIRRORED, "area": Kind.OTHER}

EVERYTHING = Augment(
    flip=True,
    flip_vertical=True,
    rotate90=True,
    rotate=30,
    scale=(0.7, 1.4),
    shear=10,
    translate=0.1,
    elastic=0.03,
    brightness=0.5,
    contrast=0.5,
    saturation=0.5,
    hue=30,
    blur=1.5,
    noise=0.1,
    cutout=0.3,
)
MOVES = {"flip": True, "flip_vertical": True, "rotate90": True}


def keys(count: int, seed: int = 0) -> jax.Array:
    return jax.random.split(jax.random.key(seed), count)


def random_batch(shape: tuple[int, ...], *, seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    return {
        "image": rng.random(shape, np.float32),
        "label": rng.integers(0, 5, shape[:3]).astype(np.int32),
        "valid": rng.random(shape[:3]) < 0.9,
        "weight": rng.random(shape[:3], np.float32),
    }


def repeated(count: int, image: np.ndarray) -> dict:
    """The same image in every example; the labels number the pixels."""
    height, width = image.shape[:2]
    label = np.arange(height * width, dtype=np.int32).reshape(height, width)
    valid, weight = np.ones((height, width), bool), label.astype(np.float32)
    example = {"image": image, "label": label, "valid": valid, "weight": weight}
    return {name: np.stack([x] * count) for name, x in example.items()}


@functools.cache
def jitted(how: Augment):
    return jax.jit(functools.partial(augment, how, kinds=KINDS))


def run(how: Augment, batch: dict, *, seed: int = 0) -> dict:
    return jax.tree.map(np.asarray, jitted(how)(keys(len(batch["label"]), seed), batch))


def coordinates(height: int, width: int) -> np.ndarray:
    """(H, W, 2) of the row and column of each pixel, scaled into [0, 1]."""
    return np.stack(np.mgrid[:height, :width], axis=-1).astype(np.float32) / max(height, width)


def points(how: Augment, count: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The source (B, H, W, 2) of each pixel in pixels, and where it could be read (B, H, W).

    Linear interpolation of the coordinates gives them back, where they aren't cut off.
    """
    out = run(how, repeated(count, coordinates(*size)))
    found = out["image"].astype(np.float64) * max(size)
    last = np.array(size) - 1
    return found, ((found > 1e-3) & (found < last - 1e-3)).all(-1)


def affine(how: Augment, count: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The source as an affine map of the pixel, fitted: matrices (B, 2, 2), offsets (B, 2)."""
    found, readable = points(how, count, size)
    grid = np.stack([*np.mgrid[: size[0], : size[1]], np.ones(size)], axis=-1)
    fits = []
    for source, mask in zip(found, readable, strict=True):
        fit, *_ = np.linalg.lstsq(grid[mask], source[mask], rcond=None)
        np.testing.assert_allclose(grid[mask] @ fit, source[mask], atol=1e-3)
        fits.append(fit.T)
    return np.stack(fits)[..., :2], np.stack(fits)[..., 2]


class TestWholeBatch:
    @pytest.mark.parametrize(("channels", "weight"), [(1, False), (3, True), (5, True)])
    def test_default_is_the_identity(self, channels, weight):
        batch = random_batch((3, 7, 10, channels))
        if not weight:
            del batch["weight"]
        out = run(Augment(), batch)
        assert out.keys() == batch.keys()
        for name in batch:
            np.testing.assert_array_equal(out[name], batch[name])

    @pytest.mark.parametrize("shape", [(4, 16, 16, 3), (4, 12, 17, 1)])
    def test_shapes_dtypes_and_bounds(self, shape):
        batch = random_batch(shape)
        out = run(EVERYTHING, batch)
        for name in batch:
            assert out[name].shape == batch[name].shape
            assert out[name].dtype == batch[name].dtype
            assert not np.array_equal(out[name], batch[name])
        assert out["image"].min() >= 0
        assert out["image"].max() <= 1

    def test_the_place_in_the_batch_changes_nothing(self):
        batch, some = random_batch((4, 16, 16, 3)), keys(4)
        out = jitted(EVERYTHING)(some, batch)
        order = np.array([3, 1, 0, 2])
        turned = jitted(EVERYTHING)(some[order], {n: x[order] for n, x in batch.items()})
        for name in batch:
            np.testing.assert_allclose(turned[name], out[name][order], atol=1e-6)

    def test_another_key_gives_another_picture(self):
        out = run(EVERYTHING, repeated(4, random_batch((1, 16, 16, 3))["image"][0]))
        assert np.abs(out["image"][0] - out["image"][1]).max() > 0.1

    def test_eager_equals_jit(self):
        batch, how = random_batch((4, 6, 4, 3)), Augment(flip=True, brightness=0.2)
        eager, compiled = augment(how, keys(4), batch, KINDS), run(how, batch)
        for name in batch:
            np.testing.assert_allclose(eager[name], compiled[name], atol=1e-5)

    def test_one_by_one_on_several_devices_equals_a_batch_on_one(self):
        batch = random_batch((4, 16, 16, 3))
        expected = run(EVERYTHING, batch)
        parts = jax.tree.map(lambda x: x.reshape(4, 1, *x.shape[1:]), (keys(4), batch))
        out = jax.pmap(functools.partial(augment, EVERYTHING, kinds=KINDS))(*parts)
        for name in batch:
            np.testing.assert_allclose(
                np.asarray(out[name]).reshape(expected[name].shape), expected[name], atol=1e-6
            )

    @settings(max_examples=25, deadline=None)
    @given(
        image=hnp.arrays(np.float32, (4, 16, 16, 3), elements=st.floats(0, 1, width=32)),
        label=hnp.arrays(np.int32, (4, 16, 16), elements=st.sampled_from([0, 3, 255])),
        seed=st.integers(0, 2**32 - 1),
    )
    def test_no_label_appears_and_the_image_stays_in_bounds(self, image, label, seed):
        batch = {"image": image, "label": label, "valid": label != 255, "weight": image[..., 0]}
        out = run(EVERYTHING, batch, seed=seed)
        assert np.isfinite(out["image"]).all()
        assert out["image"].min() >= 0
        assert out["image"].max() <= 1
        for before, after, valid in zip(label, out["label"], out["valid"], strict=True):
            assert set(np.unique(after)) <= set(np.unique(before))
            assert not (valid & (after == 255)).any()


class TestFlipsAndTurns:
    SQUARE = (
        *(lambda x, k=k: np.rot90(x, k) for k in range(4)),
        *(lambda x, k=k: np.rot90(np.fliplr(x), k) for k in range(4)),
    )

    @pytest.mark.parametrize(
        ("how", "size", "outcomes"),
        [
            (Augment(flip=True), (4, 6), [lambda x: x, np.fliplr]),
            (Augment(flip_vertical=True), (4, 6), [lambda x: x, np.flipud]),
            (Augment(rotate90=True), (4, 6), [lambda x: x, lambda x: np.rot90(x, 2)]),
            (Augment(rotate90=True), (5, 5), SQUARE[:4]),
            (Augment(**MOVES), (6, 6), SQUARE),
        ],
    )
    def test_each_exact_and_equally_likely(self, how, size, outcomes):
        count = 400
        image = np.random.default_rng(0).random((*size, 3), np.float32)
        batch = repeated(count, image)
        out = run(how, batch)
        assert out["valid"].all()
        seen = np.zeros(len(outcomes), int)
        for i in range(count):
            which = [np.array_equal(out["image"][i], move(image)) for move in outcomes]
            assert sum(which) == 1
            move = outcomes[which.index(True)]
            np.testing.assert_array_equal(out["label"][i], move(batch["label"][i]))
            np.testing.assert_array_equal(out["weight"][i], move(batch["weight"][i]))
            seen += which
        assert stats.chisquare(seen).pvalue > 1e-3

    @pytest.mark.parametrize("size", [(12, 12), (8, 14)])
    def test_the_same_within_an_interpolation(self, size):
        batch = random_batch((16, *size, 3))
        exact = run(Augment(**MOVES), batch)
        sampled = run(Augment(**MOVES, translate=1e-7), batch)
        for name in batch:
            np.testing.assert_allclose(sampled[name], exact[name], atol=1e-4)


class TestGeometry:
    ROTATE, SCALE = Augment(rotate=40), Augment(scale=(0.5, 2.0))
    SHEAR, SHIFT = Augment(shear=30), Augment(translate=0.25)
    ALL = Augment(**MOVES, rotate=20, scale=(0.8, 1.2), shear=10, translate=0.1)
    SIZE = (31, 41)
    ELASTIC, ELASTIC_SIZE = Augment(elastic=0.02), (33, 45)

    @pytest.mark.parametrize("how", [ROTATE, SCALE, SHEAR, SHIFT, ALL])
    def test_affine_as_scipy_does_it(self, how):
        size, count = self.SIZE, 64
        matrices, offsets = affine(how, count, size)
        batch = random_batch((count, *size, 2))
        out = run(how, batch)
        grid = np.stack(np.mgrid[: size[0], : size[1]], axis=-1)
        for i, (matrix, offset) in enumerate(zip(matrices[:8], offsets, strict=False)):
            for c in range(2):
                expected = ndimage.affine_transform(
                    batch["image"][i, ..., c], matrix, offset, order=1, mode="nearest"
                )
                np.testing.assert_allclose(out["image"][i, ..., c], expected, atol=2e-3)

            source = grid @ matrix.T + offset
            clear = (np.abs(source % 1 - 0.5) > 1e-3).all(-1)  # nearest isn't a matter of rounding
            inside = ((source > -0.5) & (source < np.array(size) - 0.5)).all(-1)
            for name in ("label", "weight", "valid"):
                expected = ndimage.affine_transform(
                    batch[name][i].astype(np.float32), matrix, offset, order=0, mode="nearest"
                )
                expected = expected * inside if name == "valid" else expected
                np.testing.assert_array_equal(out[name][i][clear], expected[clear])
            assert clear.mean() > 0.8

    def test_rotation_is_rigid_about_the_centre_and_within_its_range(self):
        matrices, offsets = affine(self.ROTATE, 64, self.SIZE)
        np.testing.assert_allclose(
            matrices @ matrices.transpose(0, 2, 1), np.stack([np.eye(2)] * 64), atol=1e-4
        )
        centre = (np.array(self.SIZE) - 1) / 2
        np.testing.assert_allclose(matrices @ centre + offsets, [centre] * 64, atol=1e-3)
        angles = np.degrees(np.arctan2(matrices[:, 0, 1], matrices[:, 0, 0]))
        assert stats.kstest(angles, stats.uniform(-40, 80).cdf).pvalue > 1e-3

    def test_magnification_is_even_in_its_logarithm(self):
        matrices, _ = affine(self.SCALE, 64, self.SIZE)
        factors = 1 / matrices[:, 0, 0]
        expected = np.eye(2) / factors[:, None, None]
        np.testing.assert_allclose(matrices, expected, atol=1e-4)
        assert stats.kstest(np.log2(factors), stats.uniform(-1, 2).cdf).pvalue > 1e-3

    def test_shear_moves_rows_sideways(self):
        matrices, _ = affine(self.SHEAR, 64, self.SIZE)
        np.testing.assert_allclose(matrices[:, 0], [[1, 0]] * 64, atol=1e-4)
        np.testing.assert_allclose(matrices[:, 1, 1], 1, atol=1e-4)
        angles = np.degrees(np.arctan(matrices[:, 1, 0]))
        assert stats.kstest(angles, stats.uniform(-30, 60).cdf).pvalue > 1e-3

    def test_shift_is_a_fraction_of_each_side(self):
        matrices, offsets = affine(self.SHIFT, 64, self.SIZE)
        np.testing.assert_allclose(matrices, np.stack([np.eye(2)] * 64), atol=1e-4)
        for side, shifts in zip(self.SIZE, offsets.T, strict=True):
            assert stats.kstest(shifts, stats.uniform(-side / 4, side / 2).cdf).pvalue > 1e-3

    def test_fixed_magnification_is_valid_where_the_image_is(self):
        batch = repeated(1, np.random.default_rng(0).random((16, 16, 1), np.float32))
        out = run(Augment(scale=(0.5, 0.5)), batch)
        inside = np.zeros((16, 16), bool)
        inside[4:12, 4:12] = True
        np.testing.assert_array_equal(out["valid"][0], inside)
        halves = batch["image"][0].reshape(8, 2, 8, 2, 1).mean((1, 3))
        np.testing.assert_allclose(out["image"][0, 4:12, 4:12], halves, atol=1e-6)

    def test_a_single_row(self):
        image = np.arange(8, dtype=np.float32).reshape(1, 8, 1) / 8
        out = run(Augment(scale=(0.5, 0.5)), repeated(1, image))
        np.testing.assert_allclose(
            8 * out["image"][0, 0, :, 0], [0, 0, 0.5, 2.5, 4.5, 6.5, 7, 7], atol=1e-5
        )

    def test_outside_repeats_the_edge(self):
        image = np.tile(np.linspace(0, 1, 9, dtype=np.float32)[:, None, None], (1, 9, 1))
        out = run(Augment(scale=(0.4, 0.4)), repeated(1, image))
        np.testing.assert_array_equal(out["image"][0, 0], 0)
        np.testing.assert_array_equal(out["image"][0, -1], 1)
        assert not out["valid"][0, 0].any()

    def test_image_and_label_keep_together(self):
        disc = (np.hypot(*(np.mgrid[:48, :48] - 23.5)) < 14).astype(np.float32)
        batch = repeated(8, disc[..., None]) | {"label": np.stack([disc.astype(np.int32)] * 8)}
        how = Augment(**MOVES, rotate=90, scale=(0.8, 1.2), shear=15, translate=0.1, elastic=0.03)
        out = run(how, batch)
        shown, label = out["image"][..., 0], out["label"]
        assert (np.abs(shown - label) <= 0.75).all()
        away = (shown == 0) | (shown == 1)
        np.testing.assert_array_equal(shown[away], label[away])
        assert away.mean() > 0.8

    def test_elastic_as_scipy_does_it(self):
        found, readable = points(self.ELASTIC, 300, self.ELASTIC_SIZE)
        batch = random_batch((300, *self.ELASTIC_SIZE, 2))
        out = run(self.ELASTIC, batch)
        for i, source in enumerate(found[:8].transpose(0, 3, 1, 2)):
            expected = ndimage.map_coordinates(batch["image"][i, ..., 0], source, order=1)
            shown = out["image"][i, ..., 0]
            np.testing.assert_allclose(shown[readable[i]], expected[readable[i]], atol=2e-3)
            expected = ndimage.map_coordinates(batch["label"][i], source, order=0)
            clear = readable[i] & (np.abs(source % 1 - 0.5) > 1e-3).all(0)
            np.testing.assert_array_equal(out["label"][i][clear], expected[clear])

    def test_elastic_displacements_are_normal_on_the_grid_and_smooth_between(self):
        height, width = self.ELASTIC_SIZE
        found, _ = points(self.ELASTIC, 300, self.ELASTIC_SIZE)
        displacement = found - np.stack(np.mgrid[:height, :width], axis=-1)
        nodes = displacement[:, 5::11, 7::15]
        assert stats.kstest(nodes.ravel() / (0.02 * height), "norm").pvalue > 1e-3
        between = np.corrcoef(nodes.reshape(300, 18).T) - np.eye(18)
        assert np.abs(between).max() < 0.25
        assert np.abs(np.diff(displacement[:, 5:-5, 7:-7], axis=1)).max() < 0.5


class TestColour:
    RGB = np.random.default_rng(1).uniform((0.4, 0.35, 0.25), (0.7, 0.65, 0.55), (24, 24, 3))
    RGB = RGB.astype(np.float32)

    def changed(self, image: np.ndarray = RGB, count: int = 32, **how: float) -> np.ndarray:
        return run(Augment(**how), repeated(count, image))["image"]

    @pytest.mark.parametrize(
        ("name", "enhance"),
        [
            ("brightness", ImageEnhance.Brightness),
            ("contrast", ImageEnhance.Contrast),
            ("saturation", ImageEnhance.Color),
        ],
    )
    def test_as_pillow_does_it(self, name, enhance):
        enhancer = enhance(Image.fromarray(np.round(self.RGB * 255).astype(np.uint8)))
        bytes_ = np.asarray(enhancer.image, np.float32)
        from_grey = bytes_ - np.asarray(enhancer.degenerate, np.float32)
        factors = []
        for out in self.changed(bytes_ / 255, **{name: 0.4}):
            change = 255 * out - bytes_
            factors.append(1 + (change * from_grey).sum() / (from_grey**2).sum())
            expected = np.asarray(enhancer.enhance(factors[-1]), np.float32)
            np.testing.assert_allclose(255 * out, expected, atol=1.5)
        assert stats.kstest(factors, stats.uniform(0.6, 0.8).cdf).pvalue > 1e-3

    def test_hue_turns_the_colour_in_yiq(self):
        before = color.rgb2yiq(self.RGB)
        angles = []
        for out in self.changed(hue=40):
            after = color.rgb2yiq(out)
            np.testing.assert_allclose(after[..., 0], before[..., 0], atol=1e-4)
            turn = (after[..., 1] + 1j * after[..., 2]) / (before[..., 1] + 1j * before[..., 2])
            np.testing.assert_allclose(turn, turn[0, 0], atol=5e-3)
            angles.append(np.degrees(np.angle(turn.mean())))
        assert stats.kstest(angles, stats.uniform(-40, 80).cdf).pvalue > 1e-3

    def test_all_together_is_one_after_the_other(self):
        how = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 40}
        image = 0.45 + 0.3 * (self.RGB - 0.5)  # nothing is clipped on the way
        step = repeated(32, image)
        for name, value in how.items():
            step = run(Augment(**{name: value}), step)
        np.testing.assert_allclose(self.changed(image, **how), step["image"], atol=1e-5)

    @pytest.mark.parametrize("channels", [1, 4])
    def test_only_rgb_has_a_hue(self, channels):
        image = np.random.default_rng(0).random((8, 8, channels), np.float32)
        out = self.changed(image, saturation=0.5, hue=90)
        np.testing.assert_array_equal(out, np.stack([image] * 32))

    def test_contrast_of_other_images_is_about_their_mean(self):
        image = self.RGB[..., :2]
        out = self.changed(image, contrast=0.5)
        factors = (out - image.mean()) / (image - image.mean())
        firm = np.abs(image - image.mean()) > 0.05
        for factor in factors:
            np.testing.assert_allclose(factor[firm], factor[firm][0], atol=1e-3)

    def test_clipped(self):
        dark, light = (
            self.changed(np.full_like(self.RGB, grey), brightness=0.4) for grey in (0.45, 0.9)
        )
        np.testing.assert_allclose(light, np.minimum(2 * dark, 1), atol=1e-6)
        assert (light == 1).any()

    def test_contrast_keeps_to_the_mean_of_the_image_as_it_came(self):
        how = Augment(scale=(2.0, 2.0))
        still = self.changed(contrast=0.4)
        expected = run(how, repeated(32, self.RGB) | {"image": still})["image"]
        moved = self.changed(contrast=0.4, scale=(2.0, 2.0))
        np.testing.assert_allclose(moved, expected, atol=1e-5)


class TestBlurNoiseCutout:
    def test_blur_as_scipy_does_it(self):
        impulse = np.zeros((41, 41, 3), np.float32)
        impulse[20, 20] = 1
        image = np.random.default_rng(0).random((41, 41, 3), np.float32)
        how = Augment(blur=2.0)
        spots = run(how, repeated(32, impulse))["image"][:, 20, :, 0].astype(np.float64)
        sigmas = []
        for spot, out in zip(spots, run(how, repeated(32, image))["image"], strict=True):
            sigmas.append((2 * np.log(spot[20] / np.maximum(spot[21], 1e-30))) ** -0.5)
            smooth = functools.partial(
                ndimage.gaussian_filter, sigma=(sigmas[-1],) * 2, radius=40, mode="constant"
            )
            expected = np.stack([smooth(image[..., c]) for c in range(3)], axis=-1)
            expected /= smooth(np.ones((41, 41)))[..., None]
            np.testing.assert_allclose(out, expected, atol=1e-3)
        assert max(sigmas) < 2
        assert np.mean(sigmas) == pytest.approx(1, abs=0.3)

    def test_noise_is_normal(self):
        out = run(Augment(noise=0.05), repeated(32, np.full((16, 16, 3), 0.5, np.float32)))
        noise = out["image"].reshape(32, -1) - 0.5
        sigmas = noise.std(axis=1)
        assert stats.kstest((noise / sigmas[:, None]).ravel(), "norm").pvalue > 1e-3
        assert stats.kstest(sigmas, stats.uniform(0, 0.05).cdf).pvalue > 1e-3

    def test_cutout_paints_a_square_with_the_mean_and_leaves_the_labels(self):
        batch = random_batch((64, 20, 30, 3))
        out = run(Augment(cutout=0.4), batch)
        whole, centres = 0, []
        for i in range(64):
            changed = (out["image"][i] != batch["image"][i]).all(-1)
            rows, columns = changed.any(1), changed.any(0)
            np.testing.assert_array_equal(changed, np.outer(rows, columns))
            mean = np.broadcast_to(batch["image"][i].mean((0, 1)), (changed.sum(), 3))
            np.testing.assert_allclose(out["image"][i][changed], mean, atol=1e-5)
            assert 4 <= rows.sum() <= 8
            assert 4 <= columns.sum() <= 8
            whole += changed.sum() == 64
            centres.append((np.flatnonzero(rows).mean(), np.flatnonzero(columns).mean()))
        assert whole >= 20
        assert abs(np.corrcoef(np.array(centres).T)[0, 1]) < 0.4
        for name in ("label", "valid", "weight"):
            np.testing.assert_array_equal(out[name], batch[name])


class TestSettings:
    @pytest.mark.parametrize(
        ("how", "message"),
        [
            ({"rotate": -5}, r"augment\.rotate is -5; it must be from 0 to 180"),
            ({"shear": 90}, r"augment\.shear is 90; it must be from 0 to 60"),
            ({"noise": float("nan")}, r"augment\.noise is nan; it must be from 0 to 1"),
            ({"cutout": 1.5}, r"augment\.cutout is 1\.5; it must be from 0 to 1"),
            ({"scale": (0.0, 1.0)}, r"augment\.scale is \(0\.0, 1\.0\); .* above 0"),
            ({"scale": (1.2, 0.8)}, r"augment\.scale is \(1\.2, 0\.8\); .* least and the largest"),
            ({"elastic_grid": 1}, r"augment\.elastic_grid is 1; it must be at least 2"),
            ({"crop": (16, 0)}, r"augment\.crop is \(16, 0\); height and width must be at least 1"),
        ],
    )
    def test_nonsense_is_refused_by_name(self, how, message):
        with pytest.raises(InputError, match=message):
            Augment(**how)

    @pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(Augment)])
    def test_every_field_refuses_less_than_nothing_or_is_a_switch(self, field):
        if isinstance(getattr(Augment(), field), bool):
            return
        value = {"scale": (-1.0, 1.0), "crop": (-1, 1)}.get(field, -1)
        with pytest.raises(InputError, match=rf"augment\.{field} is "):
            Augment(**{field: value})

    def test_frozen_and_hashable(self):
        assert hash(Augment(rotate=3)) == hash(Augment(rotate=3))
        with pytest.raises(dataclasses.FrozenInstanceError):
            Augment().rotate = 3


def corners(crop: tuple[int, int], size: tuple[int, int], count: int, seed: int = 0) -> np.ndarray:
    """(B, 2): row and column of the first pixel of each crop, where nothing else is set."""
    out = run(Augment(crop=crop), repeated(count, coordinates(*size)), seed=seed)
    return np.stack(np.unravel_index(out["label"][:, 0, 0], size), -1)


def windows(maps: np.ndarray, corners: np.ndarray, crop: tuple[int, int]) -> np.ndarray:
    return np.stack(
        [x[r : r + crop[0], c : c + crop[1]] for x, (r, c) in zip(maps, corners, strict=True)]
    )


def assert_windows(found: dict, whole: dict, corners: np.ndarray, crop: tuple[int, int]):
    """That each crop is the window of the whole result at its corner, within an interpolation."""
    for name in ("image", "label", "valid", "weight"):
        expected = windows(whole[name], corners, crop)
        assert found[name].dtype == expected.dtype
        assert found[name].shape == expected.shape
        if name == "image":
            np.testing.assert_allclose(found[name], expected, atol=2e-3)
        else:  # the nearest pixel may be a matter of rounding
            assert (found[name] == expected).mean() > 0.995


COLOURS = {"brightness": 0.3, "contrast": 0.5, "saturation": 0.5, "hue": 30}


class TestCrop:
    SIZES = (((24, 24), (10, 10)), ((24, 24), (8, 14)), ((20, 31), (12, 12)), ((20, 31), (7, 31)))

    def batch(self, size: tuple[int, int], count: int = 16) -> dict:
        rng = np.random.default_rng(1)
        joints = rng.uniform(0, np.array(size[::-1]) - 1, (count, 20, 3, 2)).astype(np.float32)
        seen = rng.integers(0, 3, (count, 20, 3, 1)).astype(np.float32)
        others = {
            "joints": np.concatenate([joints, seen], -1) * (seen > 0),
            "mirrored": np.zeros(count, bool),
            "area": np.ones((count, 20), np.float32),
        }
        return random_batch((count, *size, 3)) | others

    @pytest.mark.parametrize(("size", "crop"), SIZES)
    def test_alone_it_is_a_window_of_every_map(self, size, crop):
        batch = self.batch(size)
        out, where = run(Augment(crop=crop), batch), corners(crop, size, 16)
        for name in ("image", "label", "valid", "weight"):
            np.testing.assert_array_equal(out[name], windows(batch[name], where, crop))
        for name in ("mirrored", "area"):
            np.testing.assert_array_equal(out[name], batch[name])

    def test_every_place_is_equally_likely(self):
        where = corners((4, 6), (6, 9), 1200)
        places, counts = np.unique(where, axis=0, return_counts=True)
        assert len(places) == 3 * 4
        np.testing.assert_array_equal(places.max(0), [2, 3])
        assert stats.chisquare(counts).pvalue > 1e-3

    @pytest.mark.parametrize(("size", "crop"), SIZES)
    @pytest.mark.parametrize(
        "how",
        [
            MOVES,
            MOVES | COLOURS | {"rotate": 30, "scale": (0.7, 1.4), "shear": 10, "translate": 0.1},
            {"flip": True, "rotate": 20, "elastic": 0.02},
            {"elastic": 0.03, "elastic_grid": 4, "contrast": 0.5},
        ],
        ids="+".join,
    )
    def test_it_is_a_window_of_the_whole_result(self, how, size, crop):
        batch, where = self.batch(size), corners(crop, size, 16)
        whole, out = run(Augment(**how), batch), run(Augment(**how, crop=crop), batch)
        assert_windows(out, whole, where, crop)
        if how == MOVES:
            for name in ("image", "label", "valid", "weight"):
                np.testing.assert_array_equal(out[name], windows(whole[name], where, crop))
        np.testing.assert_array_equal(out["mirrored"], whole["mirrored"])

        expected = whole["joints"].copy()
        expected[..., :2] -= where[:, None, None, ::-1]
        place, last = expected[..., :2].copy(), np.array(crop[::-1]) - 0.5
        tolerance = 0.15 if "elastic" in how else 2e-3  # their inverse is approximate
        inside = ((place >= -0.5) & (place < last)).all(-1) & (expected[..., 2] > 0)
        clear = (np.minimum(np.abs(place + 0.5), np.abs(place - last)) > tolerance).all(-1)
        expected[~inside] = 0
        np.testing.assert_allclose(out["joints"][clear], expected[clear], atol=tolerance)
        assert 0.05 < inside.mean() < 0.6

    @pytest.mark.parametrize("how", [{}, MOVES, {"rotate": 20, "elastic": 0.03, "noise": 0.1}])
    def test_of_the_whole_size_it_changes_nothing(self, how):
        batch = self.batch((16, 20))
        whole, out = run(Augment(**how), batch), run(Augment(**how, crop=(16, 20)), batch)
        for name in batch:
            np.testing.assert_array_equal(out[name], whole[name])

    def test_it_depends_on_the_key_alone(self):
        how = dataclasses.replace(EVERYTHING, crop=(9, 12))
        batch, some = self.batch((16, 20)), keys(16)
        out, again = (jitted(how)(some, batch) for _ in range(2))
        order = np.random.default_rng(0).permutation(16)
        turned = jitted(how)(some[order], {n: x[order] for n, x in batch.items()})
        for name in batch:
            np.testing.assert_array_equal(again[name], out[name])
            np.testing.assert_allclose(turned[name], out[name][order], atol=1e-5)
        assert len(np.unique(corners((9, 12), (16, 20), 16), axis=0)) > 8
        assert (corners((9, 12), (16, 20), 16) != corners((9, 12), (16, 20), 16, seed=1)).any()

    def test_inside_the_crop_blur_is_that_of_the_whole(self):
        size, crop = (40, 44), (26, 30)
        batch, where = self.batch(size), corners(crop, size, 16)
        whole, out = (run(Augment(blur=1.0, crop=c), batch)["image"] for c in (None, crop))
        expected = windows(whole, where, crop)
        np.testing.assert_allclose(out[:, 6:-6, 6:-6], expected[:, 6:-6, 6:-6], atol=1e-5)
        assert out.min() >= 0

    def test_noise_and_cutout_are_the_crops_own(self):
        size, crop = (40, 44), (20, 24)
        batch = self.batch(size, count=64)
        plain, noisy, cut = (
            run(Augment(crop=crop, **how), batch)["image"]
            for how in ({}, {"noise": 0.2}, {"cutout": 0.4})
        )
        assert (np.abs(noisy - plain).max((1, 2, 3)) > 0).all()
        whole = 0
        for i in range(64):
            changed = (cut[i] != plain[i]).all(-1)
            np.testing.assert_array_equal(changed, np.outer(changed.any(1), changed.any(0)))
            mean = np.broadcast_to(batch["image"][i].mean((0, 1)), (changed.sum(), 3))
            np.testing.assert_allclose(cut[i][changed], mean, atol=1e-5)
            whole += changed.sum() == 64  # 0.4 · 20 pixels squared
        assert whole >= 20

    def test_only_what_the_crop_shows_is_computed(self):
        batch = self.batch((128, 128), count=1)
        how = Augment(**MOVES, rotate=10, elastic=0.02)
        whole, cropped = (
            jitted(dataclasses.replace(how, crop=crop))
            .lower(keys(1), batch)
            .compile()
            .cost_analysis()["flops"]
            for crop in (None, (32, 32))
        )
        assert cropped < whole / 8


def dots(seed=0, size=(48, 40)):
    """An image of four well separated dots, and joints at their centres."""
    places = np.array([[12, 14], [12, 28], [34, 14], [30, 26]], np.float32)  # (row, column)
    row, column = np.mgrid[: size[0], : size[1]].astype(np.float32)
    near = [np.exp(-((row - r) ** 2 + (column - c) ** 2) / 8) for r, c in places]
    joints = np.concatenate([places[:, ::-1], np.full((4, 1), 2)], 1)[None].astype(np.float32)
    return np.stack(near, -1), joints


JOINTS_MOVED_BY = {
    "flips and turns": Augment(flip=True, flip_vertical=True, rotate90=True),
    "affine": Augment(flip=True, rotate=25, scale=(0.9, 1.1), shear=10, translate=0.05),
    "elastic": Augment(flip=True, rotate=10, elastic=0.03),
}


@pytest.mark.parametrize("moves", JOINTS_MOVED_BY)
def test_joints_go_where_their_pixels_go(moves):
    """Each dot is a channel; its centre of mass afterwards is where its joint went."""
    image, joints = dots()
    batch = {
        "image": jnp.asarray(image)[None],
        "label": jnp.zeros((1, 48, 40), int),
        "valid": jnp.ones((1, 48, 40), bool),
        "joints": jnp.asarray(joints)[None],
        "mirrored": jnp.zeros(1, bool),
        "area": jnp.ones((1, 1)),
    }
    row, column = np.mgrid[:48, :40]
    mirrored = []
    for seed in range(12):
        found = augment(JOINTS_MOVED_BY[moves], keys(1, seed), batch, KINDS)
        assert found.keys() == batch.keys()
        np.testing.assert_array_equal(found["area"], batch["area"])
        mirrored.append(bool(found["mirrored"][0]))
        for k in range(4):
            x, y, v = np.asarray(found["joints"])[0, 0, k]
            dot = np.asarray(found["image"])[0, ..., k]
            if v == 0 or min(x, y, 39 - x, 47 - y) < 6:
                continue
            centre = [(dot * place).sum() / dot.sum() for place in (column, row)]
            np.testing.assert_allclose([x, y], centre, atol=0.35)
    assert 0 < sum(mirrored) < 12


def test_a_joint_that_leaves_the_image_or_was_unlabelled_is_unlabelled():
    _, joints = dots()
    joints[0, 0] = 0
    joints[0, 1, :2] = 39.4, 0
    batch = {
        "image": jnp.zeros((1, 48, 40, 3)),
        "label": jnp.zeros((1, 48, 40), int),
        "valid": jnp.ones((1, 48, 40), bool),
        "joints": jnp.asarray(joints)[None],
    }
    settings = Augment(scale=(1.2, 1.2))
    found = augment(settings, keys(1), batch, KINDS)["joints"][0, 0]
    np.testing.assert_array_equal(found[:2], 0)
    np.testing.assert_allclose(found[2, 2], 2)


@pytest.mark.parametrize("moves", JOINTS_MOVED_BY)
def test_points_are_no_map_even_if_they_have_the_shape_of_one(moves):
    """16 people of 14 joints at 16×14 pixels."""
    how, size = JOINTS_MOVED_BY[moves], (16, 14)
    rng = np.random.default_rng(0)
    joints = rng.uniform(2, 11, (8, 16, 14, 3)).astype(np.float32)
    joints[..., 2] = 2
    batch = random_batch((8, *size, 3)) | {"joints": joints, "mirrored": np.zeros(8, bool)}
    few = batch | {"joints": joints[:, :3]}  # of another shape than a map
    found, of_few = run(how, batch), run(how, few)
    np.testing.assert_allclose(found["joints"][:, :3], of_few["joints"], atol=1e-4)
    for name in ("image", "label", "valid", "weight", "mirrored"):
        np.testing.assert_allclose(found[name], of_few[name], atol=1e-6)
    assert found["joints"].shape == joints.shape
    assert not np.array_equal(found["joints"], joints)


def test_flipped_points_of_the_shape_of_a_map():
    joints = np.random.default_rng(0).uniform(1, 12, (64, 16, 14, 3)).astype(np.float32)
    batch = random_batch((64, 16, 14, 3)) | {"joints": joints, "mirrored": np.zeros(64, bool)}
    out = run(Augment(flip=True), batch)
    mirrored = out["mirrored"]
    assert 0 < mirrored.sum() < 64
    expected = joints.copy()
    expected[mirrored, ..., 0] = 13 - joints[mirrored, ..., 0]
    np.testing.assert_allclose(out["joints"], expected, atol=1e-5)
    np.testing.assert_array_equal(out["image"][mirrored], batch["image"][mirrored, :, ::-1])


def test_what_is_no_map_and_no_point_stays_whatever_it_is_called_and_its_shape():
    batch = random_batch((8, 16, 14, 3))
    others = {
        "joints": np.random.default_rng(0).random((8, 16, 14, 3), np.float32),
        "mirrored": np.zeros(8, bool),
        "map": batch["weight"],
        "area": batch["weight"],
    }

    def augmented(batch, kinds):
        return jax.jit(functools.partial(augment, EVERYTHING, kinds=kinds))(keys(8), batch)

    out = augmented(batch | others, {"weight": Kind.MAP, "area": Kind.OTHER})
    for name, values in others.items():
        np.testing.assert_array_equal(out[name], values)
    assert not np.array_equal(out["weight"], batch["weight"])
    wrong = {"image": Kind.OTHER, "label": Kind.OTHER, "valid": Kind.OTHER, "weight": Kind.MAP}
    for kinds in ({"weight": Kind.MAP}, wrong):  # images and labels are always maps
        again = augmented(batch, kinds)
        for name in batch:
            np.testing.assert_allclose(again[name], out[name], atol=1e-6)


@pytest.mark.parametrize(
    ("how", "mirrors"),
    [
        ({}, {()}),
        ({"flip": True}, {(), (2,)}),
        ({"flip_vertical": True}, {(), (1,)}),
        ({"flip": True, "flip_vertical": True}, {(), (1,), (2,), (1, 2)}),
        ({"rotate90": True}, {(), (1, 2)}),
        ({"flip": True, "rotate90": True}, {(), (1,), (2,), (1, 2)}),
        ({"flip_vertical": True, "rotate90": True}, {(), (1,), (2,), (1, 2)}),
    ],
    ids=lambda x: "+".join(x) if isinstance(x, dict) else "",
)
def test_mirrors_are_the_flips_that_training_shows(how, mirrors):
    settings = Augment(**how)
    assert sorted(settings.mirrors) == sorted(mirrors)
    batch = random_batch((1, 6, 6, 3))
    image = batch["image"]
    out = run(settings, {name: np.repeat(x, 64, 0) for name, x in batch.items()})["image"]
    for axes in [(), (1,), (2,), (1, 2)]:
        shown = (out == np.flip(image, axes)).all((1, 2, 3))
        assert shown.any() == (axes in mirrors)
