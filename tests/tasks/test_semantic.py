import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from records import records_of

from seg_jax import metrics
from seg_jax.found import Found
from seg_jax.labels import VOID, Example, Labels
from seg_jax.tasks import Semantic
from seg_jax.tasks.semantic import labels_of, probabilities_of
from seg_jax.tasks.task import Decoded

FIVE, BINARY, TASK = Labels(tuple("abcde")), Labels(("mole",)), Semantic()
each_labels = pytest.mark.parametrize("labels", [BINARY, FIVE], ids=["binary", "classes"])


@pytest.mark.parametrize("channels", [1, 3])
def test_labels_are_the_likeliest_class(channels):
    logits = jax.random.normal(jax.random.key(0), (2, 5, 5, channels))
    probabilities = probabilities_of(logits)
    if channels == 1:
        expected = logits[..., 0] >= 0
    else:
        expected = logits.argmax(-1)
        np.testing.assert_allclose(probabilities.sum(-1), jnp.ones((2, 5, 5)), rtol=1e-6)
    np.testing.assert_array_equal(labels_of(probabilities), expected)
    np.testing.assert_array_equal(labels_of(np.asarray(probabilities)), expected)


def records(labels, found, label):
    """Of images (N, H, W), found and true."""
    batch = {"label": label, "valid": label != VOID}
    return records_of(TASK, labels, TASK.measure(labels, Decoded(found), batch))


def random_images(labels, count=6, seed=0):
    """Found and true classes (N, H, W), mostly equal, a fifth of the pixels void.

    The images differ in how many classes they have. Of five classes the fifth is nowhere, and the
    fourth is found alone.
    """
    rng = np.random.default_rng(seed)
    classes = 2 if labels.binary else 3
    label = np.stack([rng.integers(0, 1 + k % classes + (k == 0), (9, 11)) for k in range(count)])
    wrong = rng.random(label.shape) < 0.1 + 0.1 * np.arange(count)[:, None, None]
    found = np.where(wrong, rng.integers(0, min(4, len(labels.classes) + 1), label.shape), label)
    return found, np.where(rng.random(label.shape) < 0.2, VOID, label)


def test_classes_that_are_neither_there_nor_found_change_no_mean():
    found, label = np.random.default_rng(0).integers(0, 2, (2, 3, 9, 9))
    scores = TASK.scores(FIVE, records(FIVE, found, label))
    tn, fp = ([((label != k) & (found == k if wrong else found != k)).sum((1, 2)) for k in (0, 1)]
              for wrong in (False, True))  # fmt: skip
    specificity = np.mean([n / (n + p) for n, p in zip(tn, fp, strict=True)])
    assert scores["specificity"] == pytest.approx(specificity)
    assert specificity < 0.7


class TestScoresOfAllImagesTogether:
    def plain(self, found, label):
        """From the confusion matrix of all valid pixels."""
        known = label != VOID
        matrix = np.zeros((5, 5))
        np.add.at(matrix, (label[known], found[known]), 1)
        right, true, predicted = np.diag(matrix), matrix.sum(1), matrix.sum(0)
        union = true + predicted - right
        return {
            "miou": np.mean((right / np.maximum(union, 1))[union > 0]),
            "class_accuracy": np.mean((right / np.maximum(true, 1))[true > 0]),
            "global_accuracy": right.sum() / matrix.sum(),
        }

    @pytest.mark.parametrize("seed", range(5))
    def test_are_those_of_the_confusion_matrix(self, seed):
        found, label = random_images(FIVE, seed=seed)
        expected = self.plain(found, label)
        scores = TASK.scores(FIVE, records(FIVE, found, label))
        assert {name: scores[name] for name in expected} == pytest.approx(expected, rel=1e-12)
        # A class that is found though it is nowhere counts in the IoU, but has no recall.
        assert (found == 3).any()
        assert not (label == 3).any()
        assert scores["miou"] < scores["class_accuracy"]

    def test_come_first_and_choose_the_best_weights(self):
        found, label = random_images(FIVE)
        every = records(FIVE, found, label)
        summary = TASK.summary(FIVE, every, [])
        for scores in (TASK.scores(FIVE, every), summary):
            assert [*scores][:4] == ["miou", "class_accuracy", "global_accuracy", "dice"]
        assert TASK.best(FIVE) == "miou"
        titles = [TASK.score_names[name].title for name in [*summary][:3]]
        assert titles == ["Mean IoU", "Class accuracy", "Global accuracy"]

    def test_have_intervals_over_images(self):
        found, label = random_images(FIVE)
        rng = np.random.default_rng(0)
        drawn = [rng.integers(6, size=6) for _ in range(1000)]
        resampled = [self.plain(found[rows], label[rows]) for rows in drawn]
        summary = TASK.summary(FIVE, records(FIVE, found, label), [])
        for name in resampled[0]:
            ends = np.quantile([scores[name] for scores in resampled], [0.025, 0.975])
            np.testing.assert_allclose(summary[f"{name}_ci95"], ends, atol=1e-6)
            assert ends[0] < summary[name] < ends[1]

    def test_are_not_taken_of_a_binary_task(self):
        every = records(BINARY, *random_images(BINARY))
        summary = TASK.summary(BINARY, every, [])
        assert [*summary][:2] == ["dice", "iou"]
        assert "miou" not in summary
        assert "per_class" not in summary
        assert TASK.best(BINARY) == "dice"


class TestVoidImages:
    @each_labels
    def test_count_nowhere(self, labels):
        found, label = random_images(labels, count=4)
        label[[1, 3]] = VOID
        distances = [
            TASK.details(labels, Found(label=f), example_of(t))
            for f, t in zip(found, label, strict=True)
        ]
        every = records(labels, found, label)
        known = records(labels, found[[0, 2]], label[[0, 2]])
        assert TASK.scores(labels, every) == TASK.scores(labels, known)
        assert TASK.scores(labels, every)["dice"] < 1
        summary = TASK.summary(labels, every, distances)
        of_known = TASK.summary(labels, known, distances[::2])
        assert json.dumps(summary) == json.dumps(of_known)  # where NaN equals NaN
        assert summary["hd95"] == np.mean([distances[k]["hd95"] for k in (0, 2)])
        assert np.isnan([*distances[1].values()]).all()

    @each_labels
    @pytest.mark.parametrize("count", [1, 3])
    def test_alone_have_no_score(self, labels, count):
        found, label = random_images(labels, count=count)
        every = records(labels, found, np.full_like(label, VOID))
        details = [dict.fromkeys(("hd95", "assd"), np.nan)] * count
        assert np.isnan([*TASK.scores(labels, every).values()]).all()
        assert np.isnan(jax.tree.leaves(TASK.summary(labels, every, details))).all()

    def test_nothing_found_where_nothing_is_is_right(self):
        """A score of 0/0 is 1 where the image has valid pixels."""
        nothing = np.zeros((2, 5, 5), int)
        scores = TASK.scores(BINARY, records(BINARY, nothing, nothing))
        assert scores == dict.fromkeys(scores, 1)


def example_of(label):
    return Example("a", np.zeros((*label.shape, 3), np.uint8), label)


class TestDistances:
    def test_leave_out_what_is_found_on_void_alone(self):
        label, found = np.full((12, 12), VOID, np.uint8), np.zeros((12, 12), np.uint8)
        nothing = TASK.details(FIVE, Found(label=found), example_of(label))
        assert np.isnan(list(nothing.values())).all()
        label[:, :8], label[:, 4:8], found[:, 3:8] = 0, 1, 1
        found[0, 11] = 2
        distances = TASK.details(FIVE, Found(label=found), example_of(label))
        without = Found(label=np.where(found == 2, 0, found))
        assert distances == TASK.details(FIVE, without, example_of(label))
        assert distances["hd95"] == 1

    def test_of_a_binary_task_are_those_of_the_foreground(self):
        found, label = random_images(BINARY, count=1)
        of = TASK.details(BINARY, Found(label=found[0]), example_of(label[0]))
        masks = (found[0] == 1) & (label[0] != VOID), label[0] == 1
        assert of == {"hd95": metrics.hd95(*masks), "assd": metrics.assd(*masks)}


def test_per_class_scores_are_of_all_images_together():
    found, label = random_images(FIVE)
    per_class = TASK.summary(FIVE, records(FIVE, found, label), [])["per_class"]
    assert [*per_class] == [*"abcde"]
    known = label != VOID
    for k, name in itertools.product(range(4), ("iou", "sensitivity")):
        both = (found == k) & (label == k)
        either = label == k if name == "sensitivity" else (found == k) | (label == k)
        expected = both.sum() / (either & known).sum() if (either & known).any() else np.nan
        assert per_class["abcde"[k]][name] == pytest.approx(expected, nan_ok=True)
    assert np.isnan(per_class["e"]["dice"])
