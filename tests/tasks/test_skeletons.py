import functools
import itertools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, sparse

import seg_jax.tasks.peaks
from seg_jax.datasets.skeletons import LSP_SKELETON
from seg_jax.tasks import skeletons
from seg_jax.tasks.peaks import Peaks
from seg_jax.tasks.skeletons import assemble

LIMBS = LSP_SKELETON.limbs
JOINTS = len(LSP_SKELETON.joints)
# COCO's `skeleton` of the category person, from 0: it holds cycles.
COCO_LIMBS = (
    (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8),
    (7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
)  # fmt: skip
SHAPE = 96, 112
SLOTS = 6
MOST = 4

heat_maps = jax.jit(skeletons.heat_maps, static_argnames=("shape", "sigma", "stride"))
part_affinity = jax.jit(
    skeletons.part_affinity, static_argnames=("limbs", "shape", "width", "stride")
)
peaks = jax.jit(seg_jax.tasks.peaks.peaks, static_argnames=("count", "threshold", "window"))
limb_scores = jax.jit(skeletons.limb_scores, static_argnames=("limbs", "samples"))

few = functools.partial(hypothesis.settings, deadline=None)
seeds = st.integers(0, 2**32 - 1)

# x and y of someone who stands, by height.
FIGURE = np.array(
    [
        (0.38, 1.0), (0.38, 0.76), (0.42, 0.52), (0.58, 0.52), (0.62, 0.76), (0.62, 1.0),
        (0.2, 0.56), (0.24, 0.38), (0.36, 0.22), (0.64, 0.22), (0.76, 0.38), (0.8, 0.56),
        (0.5, 0.18), (0.5, 0.0),
    ]
)  # fmt: skip


def joints_of(points, visibility=2):
    """(..., 2) places to (..., 3)."""
    return np.concatenate([points, np.full((*np.shape(points)[:-1], 1), visibility)], axis=-1)


def anyone(rng, batch=2, people=3, joints=5, shape=(20, 24)):
    """People anywhere, also off the picture, some of their joints hidden or unlabelled."""
    places = rng.uniform(-3, 3 + np.array(shape[::-1]), (batch, people, joints, 2))
    visibility = rng.integers(0, 3, (batch, people, joints, 1))
    return np.concatenate([places, visibility], axis=-1).astype(np.float32)


def crowd(rng, number):
    """(number, J, 3): people, each in a quarter of the picture."""
    quarters = rng.permutation(list(itertools.product((0, 1), repeat=2)))[:number]
    angle = rng.uniform(-0.4, 0.4, (number, 1))
    x, y = ((FIGURE - 0.5 + rng.normal(0, 0.02, (number, JOINTS, 2))) * 36).transpose(2, 0, 1)
    turned = np.stack(
        [x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)]
    )
    centre = (quarters + 0.5) * np.array(SHAPE[::-1]) / 2
    return joints_of(turned.transpose(1, 2, 0) + centre[:, None]).astype(np.float32)


def padded(people):
    """(1, MOST, J, 3) of fewer people."""
    filled = np.zeros((1, MOST, *people.shape[1:]), np.float32)
    filled[0, : len(people)] = people
    return filled


def maps_of(people, limbs=LIMBS, shape=SHAPE):
    joints = padded(people)
    heat = heat_maps(joints, shape, sigma=2.0)
    return heat, part_affinity(joints, limbs, shape, width=2.0)


def read(heat, fields, limbs=LIMBS, count=SLOTS, **least):
    """The people of the first picture."""
    found = peaks(heat, count=count, threshold=0.1)
    scores = limb_scores(fields, found, limbs)
    return assemble(*(np.asarray(v)[0] for v in found), np.asarray(scores)[0], limbs, **least)


def assert_same_people(found, truth, within=0.5):
    """Equal but for their order; joints that aren't labelled aren't found."""
    assert len(found) == len(truth)
    left = list(found)
    for person in truth:
        there = person[:, 2] > 0
        errors = [
            np.abs(f[there, :2] - person[there, :2]).max()
            if ((f[:, 2] > 0) == there).all()
            else np.inf
            for f in left
        ]
        assert min(errors) < within
        left.pop(int(np.argmin(errors)))


def sorted_people(people):
    return people[np.lexsort(people[:, :, :2].reshape(len(people), -1).T)]


class TestHeatMaps:
    @pytest.mark.parametrize("stride", [1, 4])
    @few(max_examples=5)
    @hypothesis.given(seed=seeds)
    def test_is_the_highest_gaussian(self, stride, seed):
        joints = anyone(np.random.default_rng(seed))
        heat = heat_maps(joints, (5, 6), sigma=2.5, stride=stride)
        assert heat.shape == (2, 5, 6, 5)
        assert heat.dtype == jnp.float32
        for b, row, column, j in np.ndindex(heat.shape):
            x, y = stride * (column + 0.5) - 0.5, stride * (row + 0.5) - 0.5
            expected = max(
                np.exp(-((x - jx) ** 2 + (y - jy) ** 2) / (2 * 2.5**2)) if v > 0 else 0
                for jx, jy, v in joints[b, :, j].astype(np.float64)
            )
            assert heat[b, row, column, j] == pytest.approx(expected, abs=1e-6)

    def test_is_one_at_a_joint_on_a_pixel(self):
        heat = heat_maps(np.float32([[[[3, 2, 1]]]]), (5, 6), sigma=1.0)
        assert heat[0, 2, 3, 0] == 1
        assert heat.max() == 1

    def test_is_empty_without_people(self):
        assert not heat_maps(np.zeros((2, 0, 5, 3), np.float32), (4, 4), sigma=1.0).any()
        assert not heat_maps(np.zeros((2, 3, 5, 3), np.float32), (4, 4), sigma=1.0).any()

    def test_never_reads_where_an_unlabelled_joint_is(self):
        joints = np.float32([[[[np.nan, np.nan, 0], [2, 2, 1]]]])
        heat = heat_maps(joints, (5, 5), sigma=1.0)
        assert not heat[..., 0].any()
        assert heat[0, 2, 2, 1] == 1


class TestPartAffinity:
    @staticmethod
    def plain(joints, limbs, shape, width, stride):
        """Each pixel, person and limb by itself; and where rounding may decide."""
        batch = len(joints)
        fields = np.zeros((batch, *shape, 2 * len(limbs)))
        close = np.zeros(fields.shape, bool)
        for b, row, column, limb in np.ndindex(batch, *shape, len(limbs)):
            p = stride * (np.array([column, row]) + 0.5) - 0.5
            vectors = []
            for person in joints[b].astype(np.float64):
                start, end = person[limbs[limb][0]], person[limbs[limb][1]]
                length = np.linalg.norm(end[:2] - start[:2])
                if start[2] == 0 or end[2] == 0 or length == 0:
                    continue
                v = (end[:2] - start[:2]) / length
                forward = v @ (p - start[:2])
                aside = abs(v[0] * (p - start[:2])[1] - v[1] * (p - start[:2])[0])
                if 0 <= forward <= length and aside <= width:
                    vectors.append(v)
                edges = abs(forward), abs(forward - length), abs(aside - width)
                close[b, row, column, 2 * limb : 2 * limb + 2] |= min(edges) < 1e-4
            if vectors:
                fields[b, row, column, 2 * limb : 2 * limb + 2] = np.mean(vectors, axis=0)
        return fields, close

    @pytest.mark.parametrize("stride", [1, 3])
    @few(max_examples=5)
    @hypothesis.given(seed=seeds)
    def test_is_the_mean_unit_vector_near_the_limbs(self, stride, seed):
        joints = anyone(np.random.default_rng(seed))
        limbs = ((0, 1), (1, 2), (4, 2))
        shape = (20 // stride, 24 // stride)
        fields = part_affinity(joints, limbs, shape, width=2.5, stride=stride)
        expected, close = self.plain(joints, limbs, shape, 2.5, stride)
        assert fields.shape == expected.shape
        assert fields.dtype == jnp.float32
        np.testing.assert_allclose(np.where(close, expected, fields), expected, atol=1e-5)

    def test_reaches_exactly_to_whole_ends(self):
        joints = np.float32([[[[2, 3, 2], [10, 9, 2]]]])
        length = np.hypot(*part_affinity(joints, ((0, 1),), (14, 14), width=0.1)[0].T)
        along = [(2, 3), (6, 6), (10, 9)]  # the only pixels on the line
        assert sorted(zip(*np.nonzero(length), strict=True)) == along

    @pytest.mark.parametrize(
        "end", [(9, 3, 0), (np.nan, np.nan, 0), (2, 3, 2)], ids=["unlabelled", "nan", "no length"]
    )
    def test_a_limb_without_an_end_is_not_drawn(self, end):
        joints = np.float32([[[(2, 3, 2), end]]])
        assert not part_affinity(joints, ((0, 1),), (12, 12), width=2.0).any()

    def test_opposite_limbs_cancel(self):
        joints = np.float32([[[(2, 3, 2), (9, 3, 2)], [(9, 3, 2), (2, 3, 2)]]])
        assert not part_affinity(joints, ((0, 1),), (12, 12), width=2.0).any()

    def test_is_empty_without_people(self):
        nobody = np.zeros((2, 0, 5, 3), np.float32)
        fields = part_affinity(nobody, ((0, 1), (1, 2)), (4, 6), width=1.0)
        assert fields.shape == (2, 4, 6, 4)
        assert not fields.any()


@few(max_examples=5)
@hypothesis.given(seed=seeds)
def test_the_order_of_people_does_not_show_in_the_maps(seed):
    rng = np.random.default_rng(seed)
    joints = anyone(rng, people=4)
    limbs = ((0, 1), (1, 2))
    mixed = joints[:, rng.permutation(4)]
    draw = functools.partial(heat_maps, shape=(20, 24), sigma=2.0)
    np.testing.assert_array_equal(draw(joints), draw(mixed))
    fields = functools.partial(part_affinity, limbs=limbs, shape=(20, 24), width=2.0)
    np.testing.assert_allclose(fields(joints), fields(mixed), atol=1e-6)


class TestLimbScores:
    @staticmethod
    def plain(fields, x, y, score, limbs, samples):
        n = x.shape[-1]
        expected = np.zeros((len(limbs), n, n))
        for limb, i, k in np.ndindex(expected.shape):
            (a, b), height = limbs[limb], len(fields)
            v = np.array([x[b, k] - x[a, i], y[b, k] - y[a, i]])
            length = np.linalg.norm(v)
            if not score[a, i] or not score[b, k] or not length:
                continue
            where = [np.linspace(p[a, i], p[b, k], samples) for p in (y, x)]
            points = sum(
                ndimage.map_coordinates(fields[..., 2 * limb + c], where, order=1, mode="nearest")
                * v[c]
                / length
                for c in range(2)
            )
            total = points.mean() + min(0.5 * height / length - 1, 0)
            if (points > 0.05).sum() >= 0.8 * samples:
                expected[limb, i, k] = max(total, 0)
        return expected

    @few(max_examples=10)
    @hypothesis.given(seed=seeds)
    def test_is_the_mean_along_the_line(self, seed):
        rng = np.random.default_rng(seed)
        fields = ndimage.gaussian_filter(rng.normal(0, 40, (2, 18, 20, 4)), (0, 6, 6, 0))
        place = np.stack([rng.uniform(0, 19, (2, 3, 5)), rng.uniform(0, 17, (2, 3, 5))])
        score = rng.random((2, 3, 5)) * (rng.random((2, 3, 5)) < 0.8)
        limbs = ((0, 1), (2, 1))
        found = Peaks(*(jnp.float32(v) for v in (*place, score)))
        scores = limb_scores(jnp.float32(fields), found, limbs, samples=10)
        assert scores.shape == (2, 2, 5, 5)
        for b in range(2):
            plain = self.plain(fields[b], *place[:, b], score[b], limbs, 10)
            np.testing.assert_allclose(scores[b], plain, atol=1e-4)

    def test_the_sample_count_that_suffices_is_eight_of_ten(self):
        found = Peaks(*(jnp.float32([[[v[0]], [v[1]]]]) for v in ((0, 9), (2, 2), (1, 1))))
        for pixels, passes in ((8, True), (7, False)):
            fields = np.zeros((1, 40, 12, 2), np.float32)
            fields[0, 2, :pixels, 0] = 1
            score = float(limb_scores(fields, found, ((0, 1),))[0, 0, 0, 0])
            assert score == pytest.approx(pixels / 10 if passes else 0)

    def test_a_long_limb_costs(self):
        fields = np.zeros((1, 40, 100, 2), np.float32)
        fields[..., 0] = 1
        ends = jnp.float32([[[0], [30]]]), jnp.float32([[[5], [5]]]), jnp.ones((1, 2, 1))
        score = limb_scores(fields, Peaks(*ends), ((0, 1),))
        assert float(score[0, 0, 0, 0]) == pytest.approx(1 + 20 / 30 - 1)

    def test_one_against_the_field_scores_nothing(self):
        fields = np.zeros((1, 40, 40, 2), np.float32)
        fields[..., 0] = -1
        ends = jnp.float32([[[5], [15]]]), jnp.float32([[[5], [5]]]), jnp.ones((1, 2, 1))
        assert limb_scores(fields, Peaks(*ends), ((0, 1),)) == 0

    def test_two_joints_at_one_place_score_nothing(self):
        ends = jnp.float32([[[5], [5]]]), jnp.float32([[[5], [5]]]), jnp.ones((1, 2, 1))
        assert limb_scores(np.ones((1, 9, 9, 2), np.float32), Peaks(*ends), ((0, 1),)) == 0


class TestAssemble:
    @few(max_examples=30)
    @hypothesis.given(seed=seeds)
    def test_people_of_a_tree_are_connected_components(self, seed):
        rng = np.random.default_rng(seed)
        limbs = [(int(rng.integers(j)), j) for j in range(1, 7)]
        limbs = [limbs[k] for k in rng.permutation(6)]
        score = rng.random((7, 4)) * (rng.random((7, 4)) < 0.8)
        x, y = rng.random((2, 7, 4))
        pairs = rng.random((6, 4, 4)) * (rng.random((6, 4, 4)) < 0.4)
        for (a, b), scores in zip(limbs, pairs, strict=True):
            scores *= (score[a, :, None] > 0) & (score[b, None] > 0)
        joined = np.zeros((28, 28))
        for (a, b), scores in zip(limbs, pairs, strict=True):
            left = scores.copy()
            while left.any():
                i, k = np.unravel_index(left.argmax(), left.shape)
                joined[4 * a + i, 4 * b + k] = scores[i, k]
                left[i], left[:, k] = 0, 0
        _, component = sparse.csgraph.connected_components(joined, directed=False)
        expected = []
        for number in np.unique(component[score.ravel() > 0]):
            mine = component == number
            total = score.ravel()[mine].sum() + joined[mine][:, mine].sum()
            if mine.sum() >= 3 and total / mine.sum() >= 0.7:
                joint, slot = np.divmod(np.nonzero(mine)[0], 4)
                person = np.zeros((7, 3))
                person[joint] = np.stack([v[joint, slot] for v in (x, y, score)], axis=-1)
                expected.append((total / 13, person))
        expected.sort(key=lambda pair: -pair[0])
        people, sure = assemble(x, y, score, pairs, limbs, min_joints=3, min_score=0.7)
        assert people.dtype == sure.dtype == np.float32
        assert people.shape == (len(expected), 7, 3)
        np.testing.assert_allclose(sure, [s for s, _ in expected], rtol=1e-5)
        for person, (_, truth) in zip(people, expected, strict=True):
            np.testing.assert_allclose(person, truth, rtol=1e-6)

    @few(max_examples=30)
    @hypothesis.given(seed=seeds)
    def test_with_cycles_a_candidate_belongs_to_one_person_and_a_joint_to_one_candidate(self, seed):
        rng = np.random.default_rng(seed)
        score = rng.uniform(0.1, 1, (17, 4))
        x = np.arange(1, 17 * 4 + 1).reshape(17, 4)
        pairs = rng.random((19, 4, 4)) * (rng.random((19, 4, 4)) < 0.4)
        people, sure = assemble(x, x, score, pairs, COCO_LIMBS, min_joints=1, min_score=0)
        used = people[..., 0][people[..., 2] > 0]
        assert sorted(used) == sorted(x.ravel())
        assert (np.diff(sure) <= 0).all()

    def test_a_cycle_does_not_join_people_who_share_a_joint(self):
        limbs = (0, 1), (1, 2), (0, 2)
        pairs = np.zeros((3, 2, 2))
        pairs[:2] = np.eye(2)
        pairs[2, 0, 1] = 0.9  # from the first's joint 0 to the second's joint 2
        x = np.arange(6.0).reshape(3, 2)
        people, _ = assemble(x, x, np.ones((3, 2)), pairs, limbs, min_joints=3)
        assert sorted(people[..., 0].tolist()) == [[0, 2, 4], [1, 3, 5]]

    def test_halves_that_begin_apart_become_one(self):
        limbs = (0, 1), (2, 3), (1, 2)
        people, sure = assemble(
            np.arange(4)[:, None], np.zeros((4, 1)), np.ones((4, 1)), np.ones((3, 1, 1)), limbs
        )
        assert people[0, :, 0].tolist() == [0, 1, 2, 3]
        assert sure == [1]

    def test_who_has_few_joints_or_little_score_is_dropped(self):
        x = y = np.zeros((3, 1))
        arguments = x, y, np.full((3, 1), 0.3), np.full((2, 1, 1), 0.3), ((0, 1), (1, 2))
        assert len(assemble(*arguments, min_joints=3)[0]) == 1
        assert len(assemble(*arguments, min_joints=4)[0]) == 0
        people, sure = assemble(*arguments, min_joints=3, min_score=0.51)
        assert people.shape == (0, 3, 3)
        assert sure.shape == (0,)

    @few(max_examples=15)
    @hypothesis.given(seed=seeds)
    def test_the_order_of_slots_does_not_show(self, seed):
        rng = np.random.default_rng(seed)
        score, x, y = rng.uniform(0.1, 1, (3, 4, 3))
        limbs = (0, 1), (1, 2), (2, 3), (0, 3)
        pairs = rng.random((4, 3, 3)) * (rng.random((4, 3, 3)) < 0.6)
        mixed = np.array([rng.permutation(3) for _ in range(4)])
        moved = [np.take_along_axis(v, mixed, axis=1) for v in (x, y, score)]
        moved_pairs = [
            scores[mixed[a]][:, mixed[b]] for (a, b), scores in zip(limbs, pairs, strict=True)
        ]
        everybody = {"min_joints": 1, "min_score": 0}
        people, sure = assemble(x, y, score, pairs, limbs, **everybody)
        again, sure_again = assemble(*moved, moved_pairs, limbs, **everybody)
        np.testing.assert_allclose(sure, sure_again, rtol=1e-6)
        np.testing.assert_array_equal(sorted_people(people), sorted_people(again))


class TestRoundTrip:
    @few(max_examples=15)
    @hypothesis.given(seed=seeds, number=st.integers(0, MOST))
    def test_people_come_back(self, seed, number):
        truth = crowd(np.random.default_rng(seed), number)
        people, sure = read(*maps_of(truth))
        assert_same_people(people, truth, within=0.1)
        assert (sure > 0.75).all()
        assert (sure <= 1).all()

    @few(max_examples=10)
    @hypothesis.given(seed=seeds)
    def test_who_lacks_joints_comes_back_without(self, seed):
        rng = np.random.default_rng(seed)
        truth = crowd(rng, 3)
        truth[0, [0, 6, 13], 2] = 0  # ends of the tree, which leave the rest connected
        truth[1, [5, 11], 2] = 0
        truth[2, 3, 2] = 1
        people, _ = read(*maps_of(truth))
        assert_same_people(people, truth)

    def test_who_lacks_a_joint_in_the_middle_comes_back_in_parts(self):
        truth = crowd(np.random.default_rng(0), 1)
        truth[0, 12, 2] = 0  # the neck
        people, _ = read(*maps_of(truth), min_joints=3)
        parts = [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]  # legs and arms
        assert sorted(np.nonzero(p[:, 2])[0].tolist() for p in people) == parts

    def test_crossing_limbs_are_told_apart(self):
        limbs = (0, 1), (1, 2)
        truth = joints_of([[(10, 10), (50, 50), (50, 80)], [(10, 50), (50, 10), (90, 10)]])
        people, _ = read(*maps_of(truth, limbs), limbs, min_joints=3)
        assert_same_people(people, truth)

    @pytest.mark.parametrize("shift", [(6, 0), (12, 3), (7, -6)])
    def test_people_who_overlap_are_told_apart(self, shift):
        one = joints_of(FIGURE * 60 + 15)
        truth = np.stack([one, one + np.array([*shift, 0])])
        people, _ = read(*maps_of(truth))
        assert_same_people(people, truth)

    def test_a_graph_with_cycles_comes_back(self):
        rng = np.random.default_rng(0)
        truth = joints_of(rng.uniform(10, 80, (1, 17, 2)))
        people, sure = read(*maps_of(truth, COCO_LIMBS), COCO_LIMBS)
        assert_same_people(people, truth)
        assert sure > 0.75

    def test_more_people_than_slots_leave_as_many_as_fit(self):
        truth = crowd(np.random.default_rng(3), 4)
        _, fields = maps_of(truth)
        # Each person's peaks are lower than the one's before.
        weights = jnp.float32([1, 0.9, 0.8, 0.7])
        single = [maps_of(truth[k : k + 1])[0] * weights[k] for k in range(4)]
        people, _ = read(functools.reduce(jnp.maximum, single), fields, count=2)
        assert_same_people(people, truth[:2])

    def test_an_empty_picture_has_nobody(self):
        people, sure = read(*maps_of(np.zeros((0, JOINTS, 3))))
        assert people.shape == (0, JOINTS, 3)
        assert sure.shape == (0,)

    def test_noise_neither_adds_people_nor_moves_them_far(self):
        rng = np.random.default_rng(1)
        truth = crowd(rng, 3)
        heat, fields = maps_of(truth)
        heat = heat + rng.uniform(0, 0.02, heat.shape).astype(np.float32)
        fields = fields + rng.normal(0, 0.1, fields.shape).astype(np.float32)
        people, _ = read(heat, fields)
        assert_same_people(people, truth, within=1)


def test_a_batch_is_its_pictures_one_by_one():
    rng = np.random.default_rng(0)
    joints = anyone(rng, batch=3)
    limbs = ((0, 1), (1, 2))

    def everything(joints):
        heat = skeletons.heat_maps(joints, (20, 24), sigma=2)
        fields = skeletons.part_affinity(joints, limbs, (20, 24), width=2)
        found = seg_jax.tasks.peaks.peaks(heat, count=4, threshold=0.1)
        return heat, fields, found, skeletons.limb_scores(fields, found, limbs)

    together = jax.jit(everything)(joints)
    alone = jax.jit(jax.vmap(everything))(joints[:, None])
    for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(a, b[:, 0], atol=1e-5)
