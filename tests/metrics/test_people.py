import functools

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from seg_jax.datasets.skeletons import LSP_SKELETON
from seg_jax.metrics.people import oks, oks_ap, oks_ap_of_rows, pck

SIGMAS = np.array(LSP_SKELETON.sigmas)
JOINTS = len(SIGMAS)
TORSO = LSP_SKELETON.joints.index("left_shoulder"), LSP_SKELETON.joints.index("right_hip")

few = functools.partial(hypothesis.settings, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def anyone(rng, number):
    """True people (number, J, 3) and their areas, some of their joints hidden or unlabelled."""
    joints = rng.uniform(0, 80, (number, JOINTS, 2)) + rng.uniform(0, 200, (number, 1, 2))
    visibility = rng.integers(0, 3, (number, JOINTS, 1))
    return np.concatenate([joints, visibility], axis=-1), rng.uniform(500, 5000, number)


def guess(rng, truth, error):
    """Predictions of most of the people, and of some who aren't there."""
    people = truth[rng.random(len(truth)) < 0.9]
    people = np.concatenate([people, anyone(rng, int(rng.integers(3)))[0]])
    people[..., :2] += rng.normal(0, error, (len(people), 1, 1)) * rng.normal(0, 1, (JOINTS, 2))
    people[..., 2] = rng.uniform(0.1, 1, people.shape[:2])
    return people, rng.uniform(0, 1, len(people))


def standing(x=0.0, y=0.0, height=100.0):
    """(J, 3): all joints of one person visible, with a torso of 50 at the default height."""
    joints = np.zeros((JOINTS, 3))
    joints[:, 0] = np.linspace(0, 1, JOINTS) * height
    joints[:, 1] = height * 0.7
    joints[list(TORSO), :2] = np.array([(0.6, 0.2), (0.3, 0.6)]) * height
    return joints * [1, 1, 0] + [x, y, 2]


def one_image(people, score=None, area=5000.0):
    """A true or a predicted image."""
    people = np.reshape(people, (-1, JOINTS, 3)).astype(np.float64)
    score = np.full(len(people), area) if score is None else np.asarray(score)
    return people, score


def coco_of(images, annotations):
    coco = COCO()
    coco.dataset = {
        "images": [{"id": k} for k in images],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [dict(a, id=k, category_id=1, iscrowd=0) for k, a in annotations],
    }
    coco.createIndex()
    return coco


def evaluation_of(predictions, truths):
    """COCO's own summary, with the boxes and all areas in it: its `stats` and the evaluation."""
    true, found = [], []
    for image, ((people, score), (labels, area)) in enumerate(
        zip(predictions, truths, strict=True), start=10
    ):
        for joints, size in zip(labels, area, strict=True):
            there = joints[joints[:, 2] > 0, :2]
            corners = there.min(0), there.max(0) - there.min(0)
            true.append(
                {
                    "image_id": image,
                    "keypoints": joints.ravel().tolist(),
                    "num_keypoints": len(there),
                    "bbox": np.concatenate(corners).tolist(),
                    "area": size,
                }
            )
        for joints, sure in zip(people, score, strict=True):
            keypoints = joints.ravel().tolist()
            found.append(
                {"image_id": image, "category_id": 1, "keypoints": keypoints, "score": sure}
            )
    truth = coco_of(range(10, 10 + len(truths)), enumerate(true, start=1))
    evaluation = COCOeval(truth, truth.loadRes(found), iouType="keypoints")
    evaluation.params.kpt_oks_sigmas = SIGMAS
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


class TestOks:
    @few(max_examples=20)
    @hypothesis.given(seed=seeds)
    def test_equals_pycocotools(self, seed):
        rng = np.random.default_rng(seed)
        truth, area = anyone(rng, 4)
        truth[:, 0, 2] = 1
        people, score = guess(rng, truth, error=5)
        hypothesis.assume(len(people))
        evaluation = evaluation_of([(people, score)], [(truth, area)])
        expected = evaluation.computeOks(10, 1)
        alike = oks(people, truth, area, SIGMAS)
        assert alike.shape == (len(people), 4)
        np.testing.assert_allclose(alike[np.argsort(-score)], expected, rtol=1e-12, atol=1e-300)

    def test_is_one_for_the_same(self):
        truth = np.stack([standing(), standing(500)])
        np.testing.assert_allclose(oks(truth, truth, [5000, 5000], SIGMAS), np.eye(2), atol=1e-9)

    def test_falls_by_sigma_and_area(self):
        truth = standing()[None]
        moved = np.add(truth, (3, 4, 0))
        expected = np.mean(np.exp(-25 / (2 * (2 * SIGMAS) ** 2 * 900)))
        assert oks(moved[..., :2], truth, [900], SIGMAS) == pytest.approx(expected)

    def test_only_labelled_joints_count(self):
        truth = standing()[None]
        moved = truth.copy()
        moved[0, :4] += 1000
        truth[0, :4, 2] = 0
        assert oks(moved, truth, [5000], SIGMAS) == 1

    def test_is_zero_without_a_labelled_joint(self):
        truth = standing()[None] * [1, 1, 0]
        assert oks(standing()[None], truth, [5000], SIGMAS) == 0

    @pytest.mark.parametrize(("people", "true"), [(0, 2), (2, 0), (0, 0)])
    def test_takes_nobody(self, people, true):
        arrays = np.zeros((people, JOINTS, 3)), np.zeros((true, JOINTS, 3)), np.zeros(true)
        assert oks(*arrays, SIGMAS).shape == (people, true)


class TestOksAp:
    @few(max_examples=10)
    @hypothesis.given(seed=seeds, error=st.sampled_from([1.0, 4.0, 10.0]))
    def test_equals_pycocotools_summary(self, seed, error):
        rng = np.random.default_rng(seed)
        truths = [anyone(rng, n) for n in (3, 1, 4, 0)]
        for joints, _ in truths:
            joints[:, 0, 2] = 2
        predictions = [guess(rng, joints, error) for joints, _ in truths]
        hypothesis.assume(any(len(people) for people, _ in predictions))
        stats = evaluation_of(predictions, truths).stats
        expected = dict(zip(("ap", "ap50", "ap75", "ar"), stats[[0, 1, 2, 5]], strict=True))
        assert oks_ap(predictions, truths, SIGMAS) == pytest.approx(expected, abs=1e-12)

    def test_is_one_for_the_same(self):
        truths = [one_image([standing(), standing(300)]), one_image([standing(50)])]
        predictions = [one_image(people, np.ones(len(people))) for people, _ in truths]
        scores = oks_ap(predictions, truths, SIGMAS)
        assert scores == pytest.approx({"ap": 1, "ap50": 1, "ap75": 1, "ar": 1})

    def test_a_sure_false_alarm_costs_more_than_an_unsure_one(self):
        truths = [one_image(standing())]
        people = [standing(), standing(1000)]
        sure, unsure = (
            oks_ap([one_image(people, score)], truths, SIGMAS)["ap"]
            for score in ([0.5, 0.9], [0.5, 0.1])
        )
        assert unsure == pytest.approx(1)
        assert sure == pytest.approx(0.5)

    def test_at_most_twenty_people_count(self):
        people = [standing(1000 + 10 * k) for k in range(20)] + [standing()]
        score = np.linspace(1, 0.5, 21)
        assert oks_ap([one_image(people, score)], [one_image(standing())], SIGMAS)["ap"] == 0

    def test_takes_images_without_people_or_predictions(self):
        truths = [one_image([standing()]), one_image([]), one_image([standing()])]
        predictions = [one_image([standing()], [0.9]), one_image([], []), one_image([], [])]
        scores = oks_ap(predictions, truths, SIGMAS)
        assert scores["ar"] == 0.5
        assert scores["ap"] == pytest.approx(51 / 101)  # recalls 0, 0.01, …, 0.5 of 101

    def test_is_zero_if_nobody_is_predicted(self):
        scores = oks_ap([one_image([], [])], [one_image([standing()])], SIGMAS)
        assert scores == {"ap": 0, "ap50": 0, "ap75": 0, "ar": 0}

    def test_of_rows_is_that_of_the_images_taken_so(self):
        rng = np.random.default_rng(3)
        truths = [anyone(rng, number) for number in (2, 0, 1, 3)]
        for joints, _ in truths:
            joints[:, 0, 2] = 2
        predictions = [guess(rng, joints, 4.0) for joints, _ in truths]
        of_rows = oks_ap_of_rows(predictions, truths, SIGMAS)
        for rows in ([0, 1, 2, 3], [3, 3, 0, 2], [2, 1, 1, 2]):
            taken = [predictions[row] for row in rows], [truths[row] for row in rows]
            assert of_rows(rows) == pytest.approx(oks_ap(*taken, SIGMAS))
        assert np.isnan(list(of_rows([1, 1, 1, 1]).values())).all()

    def test_is_nan_if_nobody_is_there(self):
        for truth in (one_image([]), one_image([standing() * [1, 1, 0]])):
            scores = oks_ap([one_image([standing()], [0.9])], [truth], SIGMAS)
            assert np.isnan(list(scores.values())).all()

    def test_of_no_images_is_nan(self):
        assert np.isnan([*oks_ap([], [], SIGMAS).values()]).all()

    def test_who_has_no_labelled_joint_is_left_out(self):
        truths = [one_image([standing(), standing(500) * [1, 1, 0]])]
        scores = oks_ap([one_image([standing()], [0.9])], truths, SIGMAS)
        assert scores == pytest.approx({"ap": 1, "ap50": 1, "ap75": 1, "ar": 1})

    def test_prints_nothing(self, capsys):
        oks_ap([one_image([standing()], [0.9])], [one_image([standing()])], SIGMAS)
        assert capsys.readouterr() == ("", "")


class TestPck:
    def test_a_joint_is_found_within_a_fifth_of_the_torso(self):
        truth = standing()
        found = truth.copy()
        found[0, :2] += [6, 8]  # the torso is 50 long
        found[1, :2] += [6, 8.1]
        joints, mean = pck([one_image(found, [1])], [one_image(truth)], SIGMAS, torso=TORSO)
        np.testing.assert_array_equal(joints, [1, 0] + [1] * (JOINTS - 2))
        assert mean == pytest.approx((JOINTS - 1) / JOINTS)
        joints, _ = pck(
            [one_image(found, [1])], [one_image(truth)], SIGMAS, torso=TORSO, fraction=0.1
        )
        assert joints[0] == 0

    @few(max_examples=20)
    @hypothesis.given(seed=seeds)
    def test_equals_the_plain_measure_of_single_people(self, seed):
        rng = np.random.default_rng(seed)
        truths = [anyone(rng, 1) for _ in range(6)]
        for joints, _ in truths:
            joints[:, TORSO, 2] = 2
        predictions = [(np.add(joints, (0, 0, 1)), np.ones(1)) for joints, _ in truths]
        for people, _ in predictions:
            people[..., :2] += rng.normal(0, 8, (1, JOINTS, 2))
        near, wanted = np.zeros(JOINTS), np.zeros(JOINTS)
        for (people, _), (labels, _) in zip(predictions, truths, strict=True):
            torso = np.linalg.norm(labels[0, TORSO[0], :2] - labels[0, TORSO[1], :2])
            for j in range(JOINTS):
                if labels[0, j, 2] > 0:
                    wanted[j] += 1
                    near[j] += np.linalg.norm((people - labels)[0, j, :2]) <= 0.2 * torso
        joints, mean = pck(predictions, truths, SIGMAS, torso=TORSO)
        with np.errstate(invalid="ignore"):
            np.testing.assert_allclose(joints, near / wanted)
        assert mean == pytest.approx(near.sum() / wanted.sum())

    @few(max_examples=10)
    @hypothesis.given(seed=seeds)
    def test_the_order_of_people_does_not_matter(self, seed):
        rng = np.random.default_rng(seed)
        truth = np.stack([standing(40 * k, 10 * k) for k in range(4)])
        people = truth + np.concatenate([rng.normal(0, 6, (4, JOINTS, 2)), truth[..., 2:] * 0], -1)
        mixed, others = rng.permutation(4), rng.permutation(4)
        score = np.ones(4)
        _, mean = pck([one_image(people, score)], [one_image(truth)], SIGMAS, torso=TORSO)
        _, again = pck(
            [one_image(people[mixed], score)], [one_image(truth[others])], SIGMAS, torso=TORSO
        )
        assert mean == again

    def test_a_prediction_is_compared_with_one_person_only(self):
        truth = one_image([standing(), standing(2)])
        _, mean = pck([one_image([standing()], [1])], [truth], SIGMAS, torso=TORSO)
        assert mean == 0.5

    def test_the_most_alike_are_compared_first(self):
        truth = one_image([standing(), standing(30)])
        people = [standing(30), standing(45)]  # the first of whom is also like the first truth
        _, mean = pck([one_image(people, [1, 1])], [truth], SIGMAS, torso=TORSO)
        assert mean == 0.5

    def test_joints_that_were_not_found_are_not_near(self):
        found = standing()
        found[0, 2] = 0
        joints, _ = pck([one_image(found, [1])], [one_image(standing())], SIGMAS, torso=TORSO)
        assert joints[0] == 0

    def test_unlabelled_joints_do_not_count(self):
        truth = standing()
        truth[0, 2] = 0
        joints, mean = pck([one_image(standing(), [1])], [one_image(truth)], SIGMAS, torso=TORSO)
        assert np.isnan(joints[0])
        assert mean == 1

    def test_who_has_no_torso_does_not_count(self):
        cut, flat = standing(300), standing(600)
        cut[TORSO[0], 2] = 0
        flat[TORSO[0]] = flat[TORSO[1]]
        truth = one_image([standing(), cut, flat])
        _, mean = pck([one_image([standing()], [1])], [truth], SIGMAS, torso=TORSO)
        assert mean == 1

    def test_takes_images_without_people_or_predictions(self):
        nobody, somebody = one_image([], []), one_image([standing()])
        _, mean = pck(
            [nobody, one_image([standing()], [1])], [somebody, nobody], SIGMAS, torso=TORSO
        )
        assert mean == 0
        joints, mean = pck([nobody], [nobody], SIGMAS, torso=TORSO)
        assert np.isnan(joints).all()
        assert np.isnan(mean)
