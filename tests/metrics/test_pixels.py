import functools
import itertools

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest
import scipy.stats
import skimage.metrics
from scipy.spatial.distance import cdist

from seg_jax import metrics
from seg_jax.labels import VOID
from seg_jax.metrics import Counts

count = jax.jit(metrics.count, static_argnames="classes")
confusion_matrix = jax.jit(metrics.confusion_matrix, static_argnames="classes")
SCORES = (
    metrics.dice,
    metrics.iou,
    metrics.accuracy,
    metrics.sensitivity,
    metrics.specificity,
    metrics.precision,
)
all_scores = pytest.mark.parametrize("score", SCORES)
all_classes = pytest.mark.parametrize("classes", [1, 3])
seeds = st.integers(0, 2**32 - 1)
few = functools.partial(hypothesis.settings, deadline=None)


def draw(seed, classes, shape=(3, 6, 5)):
    """Prediction, labels and valid; labels that aren't valid are anything."""
    rng = np.random.default_rng(seed)
    prediction = rng.integers(max(classes, 2), size=shape)
    labels = np.where(
        rng.random(shape) < 0.6, prediction, rng.integers(max(classes, 2), size=shape)
    )
    valid = rng.random(shape) < 0.8
    labels = np.where(valid, labels, rng.choice([0, 1, -1, 9, VOID], size=shape))
    return prediction.astype(np.int32), labels.astype(np.int32), valid


def counts_of(tp=0, fp=0, fn=0, tn=0):
    return Counts(*(np.array([[x]]) for x in (tp, fp, fn, tn)))


class TestCount:
    @all_classes
    @few(max_examples=10)
    @hypothesis.given(seed=seeds)
    def test_counts_pixels(self, classes, seed):
        prediction, labels, valid = draw(seed, classes)
        counts = count(prediction, labels, classes=classes, valid=valid)
        assert all(c.shape == (3, classes) and c.dtype == np.int32 for c in counts)
        for b, k in itertools.product(range(3), range(classes)):
            c = k if classes > 1 else 1
            pairs = [
                (int(p) == c, int(t) == c)
                for p, t, v in zip(prediction[b].flat, labels[b].flat, valid[b].flat, strict=True)
                if v
            ]
            truth = [(True, True), (True, False), (False, True), (False, False)]
            assert [int(x[b, k]) for x in counts] == [pairs.count(pair) for pair in truth]

    @all_classes
    def test_void_does_not_count_even_without_valid(self, classes):
        prediction, labels, valid = draw(0, classes)
        expected = count(prediction, labels, classes=classes, valid=valid)
        void = np.where(valid, labels, VOID).astype(np.uint8)
        for a, b in zip(count(prediction, void, classes=classes), expected, strict=True):
            np.testing.assert_array_equal(a, b)

    def test_takes_a_mask_of_bools(self):
        prediction, labels, _ = draw(1, 1)
        a = count(prediction == 1, labels, classes=1)
        b = count(prediction, labels, classes=1)
        assert jax.tree.all(jax.tree.map(lambda x, y: (x == y).all(), a, b))

    def test_pooled_is_the_count_of_all_pixels_at_once(self):
        prediction, labels, valid = draw(2, 3)
        one = [x.reshape(1, -1, 5) for x in (prediction, labels, valid)]
        pooled = metrics.pooled(count(prediction, labels, classes=3, valid=valid))
        whole = count(one[0], one[1], classes=3, valid=one[2])
        for a, b in zip(pooled, whole, strict=True):
            assert a.dtype == np.int64
            np.testing.assert_array_equal(a, b[0])

    def test_pooled_does_not_overflow(self):
        big = Counts(*(np.full((4, 1), 2**31 - 1, np.int32),) * 4)
        assert metrics.pooled(big).tp == 4 * (2**31 - 1)
        assert metrics.dice(metrics.pooled(big)) == 0.5


class TestConfusionMatrix:
    @all_classes
    @few(max_examples=10)
    @hypothesis.given(seed=seeds)
    def test_counts_pairs(self, classes, seed):
        prediction, labels, valid = draw(seed, classes)
        matrix = confusion_matrix(prediction, labels, classes=classes, valid=valid)
        expected = np.zeros((max(classes, 2),) * 2, int)
        np.add.at(expected, (labels[valid], prediction[valid]), 1)
        np.testing.assert_array_equal(matrix, expected)
        assert matrix.dtype == np.int32

    def test_agrees_with_counts_and_leaves_void_out(self):
        prediction, labels, valid = draw(3, 3)
        void = np.where(valid, labels, VOID).astype(np.uint8)
        matrix = np.asarray(confusion_matrix(prediction, void, classes=3))
        tp, fp, fn, tn = metrics.pooled(count(prediction, void, classes=3))
        np.testing.assert_array_equal(np.diag(matrix), tp)
        np.testing.assert_array_equal(matrix.sum(0), tp + fp)
        np.testing.assert_array_equal(matrix.sum(1), tp + fn)
        np.testing.assert_array_equal(matrix.sum(), tp + fp + fn + tn)


class TestScores:
    def test_are_their_formulas(self):
        counts = counts_of(tp=6, fp=2, fn=3, tn=9)
        expected = (12 / 17, 6 / 11, 15 / 20, 6 / 9, 9 / 11, 6 / 8)
        for score, value in zip(SCORES, expected, strict=True):
            np.testing.assert_allclose(score(counts), [[value]], rtol=1e-15)

    @all_classes
    @few(max_examples=20)
    @hypothesis.given(seed=seeds)
    def test_dice_and_iou_are_those_of_sets(self, classes, seed):
        prediction, labels, _ = draw(seed, classes)
        labels = np.clip(labels, 0, max(classes, 2) - 1)
        counts = count(prediction, labels, classes=classes)
        dice, iou = metrics.dice(counts), metrics.iou(counts)
        np.testing.assert_allclose(dice, 2 * iou / (1 + iou))
        for b, k in itertools.product(range(3), range(classes)):
            c = k if classes > 1 else 1
            found = set(zip(*np.nonzero(prediction[b] == c), strict=True))
            wanted = set(zip(*np.nonzero(labels[b] == c), strict=True))
            if found | wanted:
                np.testing.assert_allclose(iou[b, k], len(found & wanted) / len(found | wanted))

    @all_scores
    @all_classes
    def test_of_a_perfect_prediction_is_1(self, score, classes):
        prediction, _, valid = draw(4, classes)
        prediction[0] = 0
        counts = count(prediction, prediction, classes=classes, valid=valid)
        np.testing.assert_array_equal(score(counts), 1)
        assert score(counts).dtype == np.float64
        assert score(metrics.pooled(counts)).shape == (classes,)

    @all_scores
    def test_lies_between_0_and_1_and_ignores_order(self, score):
        prediction, labels, valid = draw(5, 3)
        scores = score(count(prediction, labels, classes=3, valid=valid))
        assert ((scores >= 0) & (scores <= 1)).all()
        order = [2, 0, 1]
        other = count(prediction[order], labels[order], classes=3, valid=valid[order])
        np.testing.assert_array_equal(score(other), scores[order])

    def test_accuracy_of_several_classes_is_the_share_of_right_pixels(self):
        prediction, labels, valid = draw(6, 3)
        accuracy = metrics.accuracy(count(prediction, labels, classes=3, valid=valid))
        for b in range(3):
            right = np.mean(prediction[b][valid[b]] == labels[b][valid[b]])
            np.testing.assert_allclose(accuracy[b], [right] * 3)

    @pytest.mark.parametrize(
        ("counts", "undefined"),
        [
            (counts_of(tn=9), {"dice", "iou", "sensitivity", "precision"}),
            (counts_of(fp=2, tn=7), {"sensitivity"}),
            (counts_of(fn=2, tn=7), {"precision"}),
            (counts_of(tp=9), {"specificity"}),
            (counts_of(), {score.__name__ for score in SCORES}),
        ],
    )
    def test_0_of_0_is_empty(self, counts, undefined):
        for score in SCORES:
            marked = np.isnan(score(counts, empty=np.nan))
            assert marked == (score.__name__ in undefined)
            if marked:
                assert score(counts) == 1
                assert score(counts, empty=0.25) == 0.25

    def test_false_alarms_and_misses_score_0(self):
        for wrong in (counts_of(fp=2, tn=7), counts_of(fn=2, tn=7)):
            assert metrics.dice(wrong, empty=np.nan) == metrics.iou(wrong, empty=np.nan) == 0

    def test_a_mean_over_classes_leaves_absent_ones_out(self):
        labels = np.array([[[0, 0, 1, 1]], [[0, 0, 0, 0]]])
        prediction = np.array([[[0, 0, 1, 1]], [[0, 0, 0, 2]]])
        counts = count(prediction, labels, classes=4)
        dice = metrics.dice(counts, empty=np.nan)
        # Class 3 is nowhere; class 2 of the second image is a false alarm and counts as 0.
        np.testing.assert_allclose(metrics.nanmean(dice), [1.0, (6 / 7 + 0) / 2])
        np.testing.assert_allclose(metrics.nanmean(dice), np.nanmean(dice, axis=-1))
        np.testing.assert_array_equal(
            metrics.nanmean([[np.nan, np.nan], [0.5, np.nan]]), [np.nan, 0.5]
        )


class TestPooledScores:
    def test_are_their_formulas(self):
        #         there   not found   false alarm   nowhere
        counts = Counts(
            tp=np.array([6, 0, 0, 0]),
            fp=np.array([2, 0, 2, 0]),
            fn=np.array([2, 2, 0, 0]),
            tn=np.array([0, 8, 8, 10]),
        )
        assert metrics.mean_iou(counts) == pytest.approx((6 / 10 + 0 + 0) / 3)
        assert metrics.class_accuracy(counts) == pytest.approx((6 / 8 + 0) / 2)
        assert metrics.global_accuracy(counts) == pytest.approx(6 / 10)
        np.testing.assert_array_equal(counts.valid, 10)

    def test_of_nothing_are_nan(self):
        nothing = Counts(*np.zeros((4, 3), int))
        for score in (metrics.mean_iou, metrics.class_accuracy, metrics.global_accuracy):
            assert np.isnan(score(nothing))


def blobs(seed, shape):
    rng = np.random.default_rng(seed)
    masks = np.zeros((2, *shape), bool)
    for mask in masks:
        for _ in range(rng.integers(1, 4)):
            y, x = (rng.integers(n) for n in shape)
            mask[y : y + rng.integers(1, 7), x : x + rng.integers(1, 7)] = True
    return masks


def border(mask):
    """Pixels of the mask with one of the four neighbours out of it or out of the image."""
    mask = np.pad(mask, 1)
    neighbours = [np.roll(mask, step, axis) for step in (1, -1) for axis in (0, 1)]
    return (mask & ~np.logical_and.reduce(neighbours))[1:-1, 1:-1]


class TestDistances:
    @few(max_examples=30)
    @hypothesis.given(
        seed=seeds,
        shape=st.tuples(st.integers(2, 16), st.integers(2, 16)),
        spacing=st.tuples(st.floats(0.2, 3), st.floats(0.2, 3)),
    )
    def test_are_those_of_all_pairs_of_border_pixels(self, seed, shape, spacing):
        a, b = blobs(seed, shape)
        pairs = cdist(*(np.argwhere(border(mask)) * spacing for mask in (a, b)))
        there, back = pairs.min(1), pairs.min(0)
        expected = np.percentile(np.concatenate([there, back]), 95)
        np.testing.assert_allclose(metrics.hd95(a, b, spacing), expected)
        expected = (there.mean() + back.mean()) / 2
        np.testing.assert_allclose(metrics.assd(a, b, spacing), expected)
        assert metrics.hd95(b, a, spacing) == metrics.hd95(a, b, spacing)

    @few(max_examples=20)
    @hypothesis.given(seed=seeds)
    def test_greatest_is_scikit_images_hausdorff_distance(self, seed):
        a, b = blobs(seed, (16, 12))
        greatest = max(d.max() for d in metrics.pixels._border_distances(a, b, (1, 1)))
        expected = skimage.metrics.hausdorff_distance(border(a), border(b))
        np.testing.assert_allclose(greatest, expected)
        assert metrics.hd95(a, b) <= greatest

    def test_of_a_shifted_square(self):
        a = np.zeros((20, 20), np.uint8)
        a[5:10, 5:10] = 1
        b = np.roll(a, 3, axis=1)
        assert metrics.hd95(a, b) == 3
        assert metrics.hd95(a, b, spacing=(1.0, 0.5)) == 1.5
        assert metrics.hd95(a, a) == metrics.assd(a, a) == 0

    @pytest.mark.parametrize("distance", [metrics.hd95, metrics.assd])
    def test_of_empty_masks(self, distance):
        empty, some = np.zeros((30, 40), bool), np.zeros((30, 40), bool)
        some[3, 4] = True
        assert distance(empty, empty) == 0
        assert distance(empty, some) == distance(some, empty) == 50
        assert distance(empty, some, spacing=(2.0, 2.0)) == 100
        with pytest.raises(ValueError, match="masks differ in shape"):
            distance(empty, some[1:])


class TestBootstrap:
    def test_is_scipys(self):
        values = np.random.default_rng(0).beta(8, 2, size=40)
        reference = scipy.stats.bootstrap(
            (values,), np.mean, method="percentile", n_resamples=10_000, rng=1
        ).confidence_interval
        np.testing.assert_allclose(metrics.bootstrap_interval(values), reference, atol=2e-3)

    def test_narrows_with_confidence_and_repeats_with_the_seed(self):
        values = np.random.default_rng(0).normal(size=30)
        interval = functools.partial(metrics.bootstrap_interval, values, resamples=500)
        low, high = interval()
        assert low < values.mean() < high
        narrow = interval(confidence=0.5)
        assert low < narrow[0] < narrow[1] < high
        assert interval() == (low, high)
        assert interval(seed=1) != (low, high)

    def test_leaves_nan_out(self):
        values = np.array([0.1, 0.9, 0.4])
        with_nan = np.insert(values, [0, 2], np.nan)
        options = {"resamples": 50}
        expected = metrics.bootstrap_interval(values, **options)
        assert metrics.bootstrap_interval(with_nan, **options) == expected
        assert metrics.bootstrap_interval([0.5], **options) == (0.5, 0.5)
        assert np.isnan(metrics.bootstrap_interval([np.nan], **options)).all()

    def test_of_scores_is_that_of_the_mean(self):
        values = np.random.default_rng(0).normal(size=30)

        def scores(rows):
            return {"mean": values[rows].mean(), "never": np.nan, "some": np.nan if rows[0] else 1}

        intervals = metrics.bootstrap(scores, 30)
        expected = metrics.bootstrap_interval(values, resamples=1000)
        np.testing.assert_allclose(intervals["mean_ci95"], expected, atol=1e-6)
        assert np.isnan(intervals["never_ci95"]).all()
        assert intervals["some_ci95"] == [1, 1]
        assert intervals.keys() == {"mean_ci95", "never_ci95", "some_ci95"}

    def test_of_no_images_is_nan(self):
        values = np.zeros((0, 3))
        found = metrics.bootstrap(
            lambda rows: {"iou": metrics.nanmean(metrics.sum_of_rows(values, rows)[:0])}, 0
        )
        assert np.isnan(found["iou_ci95"]).all()

    def test_sum_of_rows_is_the_sum_of_those_rows(self):
        rng = np.random.default_rng(0)
        values = rng.integers(0, 2**31 - 1, (7, 2, 3), np.int32)
        rows = rng.integers(7, size=7)
        found = metrics.sum_of_rows(values, rows)
        np.testing.assert_array_equal(found, values[rows].sum(0, dtype=np.int64))
        assert found.dtype == np.float64
