import functools
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import ndimage

from seg_jax import losses
from seg_jax.errors import InputError
from seg_jax.labels import VOID
from seg_jax.losses import Loss, Mean, mean, total_of

FIXTURES = np.load(Path(__file__).parent / "fixtures" / "losses.npz")
ALL = {
    "cross_entropy": losses.cross_entropy,
    "smoothed": functools.partial(losses.cross_entropy, label_smoothing=0.1),
    "dice": losses.dice,
    "jaccard": losses.jaccard,
    "tversky": losses.tversky,
    "focal": losses.focal,
    "lovasz": losses.lovasz,
}
all_losses = pytest.mark.parametrize("name", ALL)
all_maps = pytest.mark.parametrize("maps", [1, 3])


def value_of(loss, **options):
    """The value of a loss, compiled as a whole: op by op takes far longer."""

    def value(*args, **kwargs):
        return loss(*args, **kwargs).value

    return jax.jit(value, **options)


cross_entropy = value_of(losses.cross_entropy, static_argnames="label_smoothing")
focal, tversky = value_of(losses.focal), value_of(losses.tversky)
dice, jaccard, lovasz = value_of(losses.dice), value_of(losses.jaccard), value_of(losses.lovasz)


@functools.cache
def compiled(name):
    def value(logits, labels, valid, weights):
        return ALL[name](logits, labels, valid=valid, class_weights=weights).value

    return jax.jit(jax.value_and_grad(value))


def value_and_gradient(name, logits, labels, valid=None, weights=None):
    """With defaults spelt out, so that one compiled program a loss and shape serves all tests."""
    valid = np.ones(labels.shape, bool) if valid is None else valid
    weights = np.ones(max(logits.shape[-1], 2)) if weights is None else weights
    args = np.float32(logits), np.int32(labels), valid, np.float32(weights)
    return jax.tree.map(np.asarray, compiled(name)(*args))


def everything(maps, **fields):
    """A sum of all losses, as a function that gives the sum's value."""
    return lambda *args, **kwargs: total_of(all_terms(maps, **fields)(*args, **kwargs))


def all_terms(maps, **fields):
    options = {
        "cross_entropy": 1.0,
        "dice": 0.7,
        "jaccard": 0.6,
        "tversky": 0.5,
        "focal": 0.4,
        "lovasz": 0.3,
        "boundary": 0.2,
        "label_smoothing": 0.1,
        "class_weights": tuple(range(1, max(maps, 2) + 1)),
    }
    return Loss(**(options | fields))


def draw(seed, maps, shape=(3, 6, 5), scale=3.0):
    """Logits, labels and valid; labels that aren't valid are anything."""
    rng = np.random.default_rng(seed)
    logits = (scale * rng.normal(size=(*shape, maps))).astype(np.float32)
    labels = rng.integers(max(maps, 2), size=shape)
    valid = rng.random(shape) < 0.7
    labels = np.where(valid, labels, rng.choice([0, 1, -1, 7, VOID], size=shape))
    return logits, labels.astype(np.int32), valid


class TestCrossEntropy:
    @pytest.mark.parametrize(
        ("case", "weighted", "smoothing"),
        [
            ("plain", False, 0.0),
            ("weighted", True, 0.0),
            ("smoothed", False, 0.1),
            ("both", True, 0.1),
            ("binary", False, 0.0),
        ],
    )
    def test_is_pytorchs(self, case, weighted, smoothing):
        labels = FIXTURES[f"{case}_labels"]

        def loss(logits):
            return cross_entropy(
                logits,
                labels,
                valid=labels != VOID,
                class_weights=FIXTURES["weight"] if weighted else None,
                label_smoothing=smoothing,
            )

        value, gradient = jax.value_and_grad(loss)(jnp.asarray(FIXTURES[f"{case}_logits"]))
        np.testing.assert_allclose(value, FIXTURES[f"{case}_value"], rtol=1e-5)
        np.testing.assert_allclose(gradient, FIXTURES[f"{case}_gradient"], atol=1e-6)

    def test_is_optaxs(self):
        logits, labels, valid = draw(0, 3)
        each = optax.softmax_cross_entropy_with_integer_labels(logits, np.clip(labels, 0, 2))
        loss = cross_entropy(logits, labels, valid=valid)
        np.testing.assert_allclose(loss, each[valid].mean(), rtol=1e-5)

        logits, labels, valid = draw(0, 1)
        smoothed = optax.smooth_labels(np.float32(np.stack([1 - labels, labels], -1)), 0.2)[..., 1]
        each = optax.sigmoid_binary_cross_entropy(logits[..., 0], smoothed)
        loss = cross_entropy(logits, labels, valid=valid, label_smoothing=0.2)
        np.testing.assert_allclose(loss, each[valid].mean(), rtol=1e-5)

    def test_binary_is_softmax_of_two_with_weights_and_smoothing(self):
        logits, labels, valid = draw(1, 1)
        options = {"valid": valid, "class_weights": (1.0, 3.0), "label_smoothing": 0.1}
        two = np.concatenate([np.zeros_like(logits), logits], axis=-1)
        np.testing.assert_allclose(
            cross_entropy(logits, labels, **options),
            cross_entropy(two, labels, **options),
            rtol=1e-5,
        )

    def test_pixel_weights_are_those_of_a_weighted_mean(self):
        logits, labels, valid = draw(2, 1)
        weights = np.where(valid, np.random.default_rng(0).uniform(0, 9, valid.shape), np.nan)
        each = optax.sigmoid_binary_cross_entropy(logits[..., 0], labels)
        loss = cross_entropy(logits, labels, valid=valid, pixel_weights=weights)
        expected = np.average(each[valid], weights=weights[valid])
        np.testing.assert_allclose(loss, expected, rtol=1e-5)


class TestFocal:
    def test_is_optaxs(self):
        logits, labels, valid = draw(3, 1)
        each = optax.sigmoid_focal_loss(logits[..., 0], labels, gamma=1.5)
        loss = focal(logits, labels, valid=valid, gamma=1.5)
        np.testing.assert_allclose(loss, each[valid].mean(), rtol=1e-5)

        each = optax.sigmoid_focal_loss(logits[..., 0], labels, alpha=0.25, gamma=2.0)
        loss = focal(logits, labels, valid=valid, class_weights=(0.75, 0.25))
        weights = np.where(labels == 1, 0.25, 0.75)[valid]
        np.testing.assert_allclose(loss, each[valid].sum() / weights.sum(), rtol=1e-5)

    def test_is_the_papers_formula_for_several_classes(self):
        logits, labels, valid = draw(4, 3)
        p = np.asarray(jax.nn.softmax(logits))[valid][np.arange(valid.sum()), labels[valid]]
        loss = focal(logits, labels, valid=valid)
        np.testing.assert_allclose(loss, np.mean(-((1 - p) ** 2) * np.log(p)), rtol=1e-5)

    @all_maps
    def test_without_gamma_is_cross_entropy(self, maps):
        logits, labels, valid = draw(5, maps)
        options = {"valid": valid, "class_weights": np.arange(1, max(maps, 2) + 1)}
        np.testing.assert_allclose(
            focal(logits, labels, gamma=0.0, **options),
            cross_entropy(logits, labels, **options),
            rtol=1e-5,
        )

    @all_maps
    def test_gradient_of_a_sure_pixel_is_finite(self, maps):
        logits = jnp.full((1, 2, 2, maps), 0.0).at[..., -1].set(200.0)
        labels = jnp.array([[[0, max(maps, 2) - 1]] * 2])
        gradient_of = jax.jit(jax.grad(lambda x, gamma: focal(x, labels, gamma=gamma)))
        for gamma in (0.0, 0.5, 2.0):
            gradient = np.asarray(gradient_of(logits, gamma))
            assert np.isfinite(gradient).all()
            assert np.abs(gradient[0, 0, 0]).max() > 0.1


class TestRegions:
    def reference(self, logits, labels, valid, alpha, beta, smooth, weights=None):
        """The formula in loops over images and classes."""
        scores = []
        for x, y, v in zip(logits.astype(np.float64), labels, valid, strict=True):
            if not v.any():
                continue
            if logits.shape[-1] == 1:
                p, classes = 1 / (1 + np.exp(-x)), [1]
            else:
                e = np.exp(x - x.max(-1, keepdims=True))
                p, classes = e / e.sum(-1, keepdims=True), range(x.shape[-1])
            image = []
            for k, c in enumerate(classes):
                q, t = p[v][:, k], y[v] == c
                tp, fp, fn = q[t].sum(), q[~t].sum(), (1 - q[t]).sum()
                image.append(1 - (tp + smooth) / (tp + alpha * fp + beta * fn + smooth))
            scores.append(np.average(image, weights=weights))
        return np.mean(scores)

    @all_maps
    def test_is_the_formula(self, maps):
        logits, labels, valid = draw(6, maps)
        valid[1] = False
        labels[0] = 0
        args = (logits, labels)
        cases = [
            (tversky(*args, valid=valid, alpha=0.2, beta=0.9, smooth=2.0), (0.2, 0.9, 2.0)),
            (dice(*args, valid=valid, smooth=2.0), (0.5, 0.5, 1.0)),
            (jaccard(*args, valid=valid), (1, 1, 1)),
        ]
        for loss, options in cases:
            np.testing.assert_allclose(
                loss, self.reference(logits, labels, valid, *options), rtol=1e-5
            )

    def test_dice_and_jaccard_are_their_textbook_formulas(self):
        logits, labels, _ = draw(7, 1)
        labels = np.clip(labels, 0, 1)
        p, t = 1 / (1 + np.exp(-logits[..., 0])), labels
        i, sums = (p * t).sum((1, 2)), p.sum((1, 2)) + t.sum((1, 2))
        loss = dice(logits, labels, smooth=3.0)
        np.testing.assert_allclose(loss, np.mean(1 - (2 * i + 3) / (sums + 3)), rtol=1e-5)
        loss = jaccard(logits, labels, smooth=3.0)
        np.testing.assert_allclose(loss, np.mean(1 - (i + 3) / (sums - i + 3)), rtol=1e-5)

    def test_class_weights_are_those_of_the_mean_over_classes(self):
        logits, labels, valid = draw(8, 3)
        expected = self.reference(logits, labels, valid, 0.5, 0.5, 0.5, weights=[0, 1, 3])
        loss = dice(logits, labels, valid=valid, class_weights=(0.0, 2.0, 6.0))
        np.testing.assert_allclose(loss, expected, rtol=1e-5)

    def test_binary_has_one_class_whatever_its_weights(self):
        logits, labels, valid = draw(9, 1)
        for loss in (dice, lovasz):
            plain = loss(logits, labels, valid=valid)
            assert loss(logits, labels, valid=valid, class_weights=(1.0, 5.0)) == plain

    @pytest.mark.parametrize("name", ["dice", "jaccard", "tversky"])
    def test_an_image_without_object_wants_nothing_predicted(self, name):
        labels = np.zeros((3, 6, 5), np.int32)
        logits = np.ones((*labels.shape, 1), np.float32)
        nothing, _ = value_and_gradient(name, -30 * logits, labels)
        some, gradient = value_and_gradient(name, 0 * logits, labels)
        everything, _ = value_and_gradient(name, 30 * logits, labels)
        assert nothing < 1e-6
        assert 0.5 < some < everything < 1
        assert (gradient > 0).all()


class TestLovasz:
    @staticmethod
    def steps(sorted_target):
        """As the authors compute it, by differences of the Jaccard loss (algorithm 1)."""
        total = sorted_target.sum()
        inter = total - np.cumsum(sorted_target)
        union = total + np.cumsum(1.0 - sorted_target)
        return np.diff(1 - inter / union, prepend=0.0)

    def extension(self, errors, target):
        order = np.argsort(-errors)
        return errors[order] @ self.steps(target[order].astype(np.float64))

    def hinge(self, logits, labels, valid):
        images = []
        for x, y, v in zip(logits[..., 0].astype(np.float64), labels, valid, strict=True):
            if v.any():
                errors = 1 - x[v] * (2.0 * y[v] - 1)
                order = np.argsort(-errors)
                steps = self.steps((y[v][order] == 1).astype(np.float64))
                images.append(np.maximum(errors[order], 0) @ steps)
        return np.mean(images)

    def softmax(self, logits, labels, valid, weights=None):
        images = []
        p = np.asarray(jax.nn.softmax(logits), np.float64)
        for q, y, v in zip(p, labels, valid, strict=True):
            if v.any():
                present = np.unique(y[v])
                each = [
                    self.extension(np.abs((y[v] == c) - q[v][:, c]), y[v] == c) for c in present
                ]
                images.append(
                    np.average(each, weights=None if weights is None else weights[present])
                )
        return np.mean(images)

    @pytest.mark.parametrize("foreground", ["some", "none", "all"])
    def test_hinge_is_the_authors(self, foreground):
        logits, labels, valid = draw(10, 1)
        valid[2] = False
        if foreground != "some":
            labels[0] = int(foreground == "all")
        loss = lovasz(logits, labels, valid=valid)
        np.testing.assert_allclose(loss, self.hinge(logits, labels, valid), rtol=1e-5)

    def test_softmax_is_the_authors(self):
        logits, labels, valid = draw(11, 3)
        labels[0] = np.where(labels[0] == 1, 2, labels[0])  # an absent class
        loss = lovasz(logits, labels, valid=valid)
        np.testing.assert_allclose(loss, self.softmax(logits, labels, valid), rtol=1e-5)
        weights = np.array([1.0, 2.0, 3.0])
        loss = lovasz(logits, labels, valid=valid, class_weights=weights)
        np.testing.assert_allclose(loss, self.softmax(logits, labels, valid, weights), rtol=1e-5)

    @all_maps
    def test_gradient_is_that_of_finite_differences(self, maps):
        logits, labels, valid = draw(12, maps)
        reference = self.hinge if maps == 1 else self.softmax
        _, gradient = value_and_gradient("lovasz", logits, labels, valid)
        logits, step = logits.astype(np.float64), 1e-3
        for where in list(np.ndindex(logits.shape))[::7]:
            up, down = logits.copy(), logits.copy()
            up[where] += step
            down[where] -= step
            slope = (reference(up, labels, valid) - reference(down, labels, valid)) / (2 * step)
            np.testing.assert_allclose(gradient[where], slope, atol=1e-3)

    @all_maps
    def test_of_a_hard_prediction_is_the_jaccard_loss(self, maps):
        """The extension extends: on the corners of the cube it is the set function itself."""
        _, labels, _ = draw(13, maps)
        labels = np.clip(labels, 0, max(maps, 2) - 1)
        guess = np.roll(labels, 1, axis=2)
        if maps == 1:
            logits = np.where(guess == 1, 1.0, -1.0)[..., None]  # hinge errors of 0 and 2
            classes, scale = [1], 2
        else:
            logits, classes, scale = 1e4 * (guess[..., None] == np.arange(maps)), range(maps), 1
        expected = [
            np.mean(
                [1 - np.sum((g == c) & (y == c)) / np.sum((g == c) | (y == c)) for c in classes]
            )
            for g, y in zip(guess, labels, strict=True)
        ]
        loss, _ = value_and_gradient("lovasz", logits, labels)
        np.testing.assert_allclose(loss, scale * np.mean(expected), rtol=1e-5)


class TestEveryLoss:
    @all_losses
    @all_maps
    @hypothesis.settings(max_examples=10, deadline=None)
    @hypothesis.given(seed=st.integers(0, 2**32 - 1))
    def test_what_is_not_valid_changes_nothing(self, name, maps, seed):
        logits, labels, valid = draw(seed, maps)
        rng = np.random.default_rng(seed)
        weights = np.arange(1, max(maps, 2) + 1)
        value, gradient = value_and_gradient(name, logits, labels, valid, weights)
        labels = np.where(valid, labels, rng.integers(-5, 300, labels.shape))
        noise = rng.choice([np.nan, np.inf, 1e30, 3.0], logits.shape)
        logits = np.where(valid[..., None], logits, noise)
        other, other_gradient = value_and_gradient(name, logits, labels, valid, weights)
        assert value == other
        np.testing.assert_array_equal(gradient, other_gradient)
        np.testing.assert_array_equal(gradient[~valid], 0)

    @all_losses
    @all_maps
    @hypothesis.settings(max_examples=5, deadline=None)
    @hypothesis.given(seed=st.integers(0, 2**32 - 1))
    def test_order_of_images_does_not_matter(self, name, maps, seed):
        logits, labels, valid = draw(seed, maps)
        order = np.random.default_rng(seed).permutation(len(logits))
        value, gradient = value_and_gradient(name, logits, labels, valid)
        other, other_gradient = value_and_gradient(name, logits[order], labels[order], valid[order])
        np.testing.assert_allclose(value, other, rtol=1e-5)
        np.testing.assert_allclose(gradient[order], other_gradient, atol=1e-6)

    @all_losses
    @all_maps
    def test_void_does_not_count_even_where_valid(self, name, maps):
        logits, labels, valid = draw(14, maps)
        value, _ = value_and_gradient(name, logits, labels, valid)
        void, _ = value_and_gradient(name, logits, np.where(valid, labels, VOID))
        assert value == void

    @all_losses
    @all_maps
    def test_without_valid_pixel_the_loss_is_0(self, name, maps):
        logits, labels, valid = draw(15, maps)
        value, gradient = value_and_gradient(name, logits, labels, np.zeros_like(valid))
        assert value == 0
        np.testing.assert_array_equal(gradient, 0)

    @all_losses
    @all_maps
    @pytest.mark.parametrize("mask", ["mixed", "empty", "full"])
    def test_value_and_gradient_are_finite(self, name, maps, mask):
        for scale in (0.0, 1.0, 1e4, 1e30):
            logits, labels, valid = draw(16, maps, scale=scale)
            if mask != "mixed":
                labels = np.full_like(labels, mask == "full")
            value, gradient = value_and_gradient(name, logits, labels, valid)
            assert np.isfinite(value)
            assert value >= 0
            assert np.isfinite(gradient).all()

    @all_losses
    @all_maps
    def test_a_perfect_prediction_costs_nothing(self, name, maps):
        _, labels, _ = draw(17, maps)
        labels = np.clip(labels, 0, max(maps, 2) - 1)
        classes = np.array([1]) if maps == 1 else np.arange(maps)
        logits = np.where(labels[..., None] == classes, 30.0, -30.0)
        right, _ = value_and_gradient(name, logits, labels)
        wrong, _ = value_and_gradient(name, -logits, labels)
        assert right < 1e-6 or name == "smoothed"
        assert wrong > 0.4

    @all_losses
    @all_maps
    def test_scale_of_class_weights_does_not_matter(self, name, maps):
        args = draw(19, maps)
        weights = np.arange(1, max(maps, 2) + 1)
        value, _ = value_and_gradient(name, *args, weights)
        scaled, _ = value_and_gradient(name, *args, 7 * weights)
        np.testing.assert_allclose(value, scaled, rtol=1e-5)

    @all_losses
    def test_refuses_labels_and_weights_of_other_shapes(self, name):
        logits, labels, _ = draw(20, 3)
        with pytest.raises(ValueError, match="need labels"):
            jax.eval_shape(ALL[name], logits, labels[..., None])
        with pytest.raises(InputError, match="class_weights has 2 entries, the task 3 classes"):
            jax.eval_shape(functools.partial(ALL[name], class_weights=(1, 2)), logits, labels)

    @all_maps
    def test_defaults_kinds_of_numbers_and_images_without_valid_pixel(self, maps):
        """All losses at once, as each variant is a program to compile."""
        logits, labels, valid = draw(15, maps)
        ones = np.ones(valid.shape, np.float32)
        plain, even = (
            jax.jit(functools.partial(everything(maps, class_weights=w), pixel_weights=ones))
            for w in (None, (3.0,) * max(maps, 2))
        )
        expected = plain(logits, labels, valid=valid)
        np.testing.assert_allclose(even(logits, labels, valid=valid), expected, rtol=1e-5)
        void = np.where(valid, labels, VOID).astype(np.uint8)
        np.testing.assert_allclose(plain(logits, void), expected, rtol=1e-6)

        half = jnp.asarray(logits, jnp.bfloat16)
        loss = plain(half, labels, valid=valid)
        assert loss.dtype == jnp.float32
        assert loss.shape == ()
        rounded = plain(np.asarray(half, np.float32), labels, valid=valid)
        np.testing.assert_allclose(loss, rounded, rtol=1e-6)

        valid[1] = False
        kept = [0, 2]
        fewer = functools.partial(everything(maps, class_weights=None), pixel_weights=ones[kept])
        np.testing.assert_allclose(
            plain(logits, labels, valid=valid),
            jax.jit(fewer)(logits[kept], labels[kept], valid=valid[kept]),
            rtol=1e-5,
        )


class TestMean:
    """Parts of a batch, unequal in valid pixels and images, add up to the whole."""

    @all_losses
    @all_maps
    def test_parts_add_up_to_the_whole(self, name, maps):
        logits, labels, valid = draw(21, maps, shape=(6, 4, 5))
        valid[:2] = False  # one part has no valid pixel, the next one image without
        valid[3, 1:] = False

        def whole(logits):
            return ALL[name](logits, labels, valid=valid)

        def of_parts(logits):
            parts = (slice(0, 1), slice(1, 4), slice(4, 6))
            means = [ALL[name](logits[p], labels[p], valid=valid[p]) for p in parts]
            return functools.reduce(Mean.__add__, means)

        def value_and_gradient_of(loss):
            value, gradient = jax.jit(jax.value_and_grad(lambda x: loss(x).value))(logits)
            return jax.jit(loss)(logits), value, gradient

        found, value, gradient = value_and_gradient_of(of_parts)
        expected, expected_value, expected_gradient = value_and_gradient_of(whole)
        np.testing.assert_allclose(value, expected_value, rtol=1e-5)
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(found.total, expected.total, rtol=1e-5)
        np.testing.assert_allclose(found.weight, expected.weight, rtol=1e-6)
        assert np.abs(gradient).max() > 0

    @all_maps
    def test_weights_have_no_gradient(self, maps):
        logits, labels, valid = draw(25, maps)
        ones = np.ones(valid.shape, np.float32)
        terms = all_terms(maps)

        @jax.jit
        @jax.grad
        def gradient(logits):
            found = terms(logits, labels, valid=valid, pixel_weights=ones)
            return sum(term.weight for term in found.values())

        np.testing.assert_array_equal(gradient(logits), 0)

    def test_is_a_weighted_mean_that_can_be_scaled(self):
        values, weights = np.float32([1, 2, 6]), np.float32([1, 0, 3])
        found = mean(values * weights, weights)
        assert found.value == np.average(values, weights=weights)
        assert (2.0 * found).value == 2 * found.value
        assert (2.0 * found).weight == found.weight
        assert total_of({"a": found, "b": 3.0 * found}) == 4 * found.value
        assert mean(values * 0, weights * 0).value == 0


class TestBoundaryWeights:
    def brute_force(self, label, w0, sigma):
        """Every pixel against every border pixel of every object."""
        borders = []
        for value in set(np.unique(label)) - {0, VOID}:
            objects, n = ndimage.label(label == value)
            for i in range(1, n + 1):
                padded = np.pad(objects == i, 1, mode="edge")
                inner = np.ones(label.shape, bool)
                for dy, dx in [(0, 1), (2, 1), (1, 0), (1, 2)]:
                    inner &= padded[dy : dy + label.shape[0], dx : dx + label.shape[1]]
                borders.append(np.argwhere((objects == i) & ~inner))
        weights = np.ones(label.shape)
        for pixel in np.ndindex(label.shape):
            distances = sorted(np.hypot(*(b - pixel).T).min() for b in borders if len(b))
            if len(distances) > 1:
                weights[pixel] += w0 * np.exp(-(sum(distances[:2]) ** 2) / (2 * sigma**2))
        return weights

    @hypothesis.settings(max_examples=15, deadline=None)
    @hypothesis.given(
        seed=st.integers(0, 2**32 - 1),
        shape=st.tuples(st.integers(1, 24), st.integers(1, 24)),
        w0=st.floats(0, 30),
        sigma=st.floats(0.5, 6),
    )
    def test_is_the_papers_formula(self, seed, shape, w0, sigma):
        rng = np.random.default_rng(seed)
        field = ndimage.gaussian_filter(rng.normal(size=shape), 1.0)
        label = np.digitize(field, [0.0, 0.25]).astype(np.uint8)  # objects of two classes touch
        label[rng.random(shape) < 0.05] = VOID
        weights = losses.boundary_weights(label, w0, sigma)
        assert weights.dtype == np.float32
        np.testing.assert_allclose(weights, self.brute_force(label, w0, sigma), rtol=1e-6)

    def test_far_objects_do_not_reach_each_other(self):
        label = np.zeros((20, 200), np.uint8)
        label[5:15, 10:20] = label[5:15, 26:36] = label[5:15, 180:190] = 1
        weights = losses.boundary_weights(label)
        np.testing.assert_allclose(weights, self.brute_force(label, 10, 5), rtol=1e-6)
        np.testing.assert_allclose(weights[10, 22], 1 + 10 * np.exp(-(7**2) / 50), rtol=1e-6)
        np.testing.assert_array_equal(weights[:, 100:], 1)

    @pytest.mark.parametrize("value", [0, 1, VOID])
    def test_without_two_objects_all_weights_are_one(self, value):
        label = np.full((6, 7), value, np.uint8)
        np.testing.assert_array_equal(losses.boundary_weights(label), 1)


class TestLoss:
    @all_maps
    def test_is_the_weighted_sum(self, maps):
        logits, labels, valid = draw(22, maps)
        pixel_weights = np.random.default_rng(0).uniform(1, 9, valid.shape).astype(np.float32)
        weights = tuple(range(1, max(maps, 2) + 1))
        options = {
            "label_smoothing": 0.1,
            "class_weights": weights,
            "tversky_alpha": 0.1,
            "tversky_beta": 0.8,
            "focal_gamma": 1.0,
        }

        names = ("cross_entropy", "dice", "jaccard", "tversky", "focal", "lovasz", "boundary")
        factors = {name: float(i) for i, name in enumerate(names, start=1)}

        @jax.jit
        def terms_and_sums(logits, labels, valid, pixel_weights):
            args = (logits, labels)
            common = {"valid": valid, "class_weights": weights}
            terms = {
                "cross_entropy": losses.cross_entropy(*args, label_smoothing=0.1, **common),
                "dice": losses.dice(*args, **common),
                "jaccard": losses.jaccard(*args, **common),
                "tversky": losses.tversky(*args, alpha=0.1, beta=0.8, **common),
                "focal": losses.focal(*args, gamma=1.0, **common),
                "lovasz": losses.lovasz(*args, **common),
                "boundary": losses.cross_entropy(
                    *args, label_smoothing=0.1, pixel_weights=pixel_weights, **common
                ),
            }
            sums = {
                name: Loss(**({"cross_entropy": 0.0} | {name: 2.0}), **options) for name in terms
            } | {"all": Loss(**factors, **options)}
            call = {"valid": valid, "pixel_weights": pixel_weights}
            return terms, {name: loss(*args, **call) for name, loss in sums.items()}

        terms, sums = terms_and_sums(logits, labels, valid, pixel_weights)
        for name, term in terms.items():
            assert sums[name].keys() == {name}
            np.testing.assert_allclose(sums[name][name].value, 2 * term.value, rtol=1e-5)
            np.testing.assert_allclose(
                sums["all"][name].value, factors[name] * term.value, rtol=1e-5
            )
        expected = sum(factors[name] * term.value for name, term in terms.items())
        np.testing.assert_allclose(total_of(sums["all"]), expected, rtol=1e-5)

    def test_a_term_of_weight_0_is_not_computed(self, monkeypatch):
        def fail(*_, **__):
            raise AssertionError

        for name in ("dice", "jaccard", "tversky", "focal", "lovasz"):
            monkeypatch.setattr(f"seg_jax.losses.combined.{name}", fail)
        logits, labels, valid = draw(23, 1)
        loss = jax.jit(lambda *args: Loss()(*args, valid=valid))
        terms = loss(logits, labels)
        assert terms.keys() == {"cross_entropy"}
        assert total_of(terms) == cross_entropy(logits, labels, valid=valid)

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"cross_entropy": 0.0}, "every weight is 0"),
            ({"dice": -1.0}, r"loss\.dice is -1\.0"),
            ({"lovasz": float("nan")}, r"loss\.lovasz is nan"),
            ({"focal_gamma": -1.0}, r"loss\.focal_gamma is -1\.0"),
            ({"tversky_beta": float("inf")}, r"loss\.tversky_beta is inf"),
            ({"label_smoothing": 1.0}, r"loss\.label_smoothing is 1\.0"),
            ({"class_weights": (1.0, -2.0)}, r"loss\.class_weights is .* one for each class"),
            ({"class_weights": (0.0, 0.0)}, r"loss\.class_weights"),
        ],
    )
    def test_refuses_what_makes_no_loss(self, fields, message):
        with pytest.raises(InputError, match=message):
            Loss(**fields)

    def test_boundary_needs_pixel_weights(self):
        logits, labels, _ = draw(24, 1)
        with pytest.raises(InputError, match=r"loss\.boundary needs pixel weights"):
            Loss(boundary=1.0)(logits, labels)
