import functools

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from quality import quality_by_sets
from scipy.optimize import linear_sum_assignment

from seg_jax.found import Segments
from seg_jax.metrics.segments import (
    Shared,
    bowl_precision,
    compacted,
    counted,
    ious,
    mask_ap,
    matches,
    panoptic_quality,
    shared_pixels,
)

SIZE = 32, 36
SLOTS = 14
"""Numbers of segments; some of them are nobody's."""
THINGS, STUFF = (1, 2), (3, 4)
CATEGORIES = 4
ABOVE = np.arange(0.5, 0.96, 0.05)

few = functools.partial(hypothesis.settings, deadline=None)
seeds = st.integers(0, 2**32 - 1)
share = jax.jit(shared_pixels)


def painted(rng, shapes, edge):
    """Ellipses painted one over another onto stuff left of an edge, other stuff and nothing."""
    row, column = np.mgrid[: SIZE[0], : SIZE[1]]
    numbers = rng.permutation(np.arange(1, SLOTS))
    category = np.zeros(SLOTS, np.int32)
    number = np.select([column < edge, row > 20], numbers[:2], 0)
    category[numbers[:2]] = STUFF
    for own, (kind, *centre, height, width) in zip(numbers[2:], shapes, strict=False):
        inside = ((row - centre[0]) / height) ** 2 + ((column - centre[1]) / width) ** 2 <= 1
        number = np.where(inside, own, number)
        category[own] = kind
    score = rng.permutation(np.linspace(0.1, 1, SLOTS))
    return Segments(number.astype(np.int32), category, score.astype(np.float32))


def shapes_of(rng, count):
    return [
        (rng.choice(THINGS), *rng.uniform(0, SIZE), *rng.uniform(2, 7, 2)) for _ in range(count)
    ]


def scene(rng, *, objects=7, void=True):
    """Found segments much like the true ones, and where it is known what is true."""
    true = shapes_of(rng, rng.integers(objects + 1))
    found = [
        (
            3 - kind if rng.random() < 0.1 else kind,
            *rng.normal(centre, 0.7),
            *np.multiply(radii, rng.uniform(0.85, 1.2, 2)),
        )
        for kind, *centre, a, b in true
        for radii in [(a, b)]
        if rng.random() < 0.9
    ] + shapes_of(rng, rng.integers(3))
    edge = rng.integers(0, 20)
    valid = np.ones(SIZE, bool)
    if void:
        top, left = rng.integers(0, SIZE)
        valid[top : top + 14, left : left + 14] = False
    return painted(rng, found, edge + rng.integers(-2, 3)), painted(rng, true, edge), valid


def host(shared):
    return Shared(*map(np.asarray, shared))


def same(segments=None, *, objects=5, seed=0):
    """What segments share with themselves."""
    rng = np.random.default_rng(seed)
    segments = segments or painted(rng, shapes_of(rng, objects), 8)
    return host(share(segments, segments, np.ones(SIZE, bool)))


def strips(found, true, valid=None, kinds=(0, 1, 1)):
    """What segments of one row of pixels share."""
    kinds, score = np.array(kinds), np.ones(len(kinds))
    found, true = (Segments(np.array([numbers]), kinds, score) for numbers in (found, true))
    valid = np.ones(true.number.shape, bool) if valid is None else np.array([valid], bool)
    return host(shared_pixels(found, true, valid))


def masks_of(segments, category):
    """Numbers and masks of the segments of a category that have a pixel."""
    present = np.unique(segments.number)
    numbers = [n for n in present if n and segments.category[n] == category]
    return numbers, [segments.number == n for n in numbers]


def coco_of(images, kept):
    """A truth or a result as COCO keeps it: of each image pairs (category, mask, score)."""
    coco = COCO()
    coco.dataset = {
        "images": [{"id": k, "height": SIZE[0], "width": SIZE[1]} for k in range(1, images + 1)],
        "categories": [{"id": k} for k in THINGS],
        "annotations": [
            {
                "id": id,
                "image_id": image,
                "category_id": category,
                "segmentation": (rle := mask.encode(np.asfortranarray(pixels, np.uint8))),
                "area": float(mask.area(rle)),
                "iscrowd": 0,
                "score": score,
            }
            for id, (image, category, pixels, score) in enumerate(kept, start=1)
        ],
    }
    coco.createIndex()
    return coco


def ap_by_coco(images):
    """Mask AP by COCO's own evaluation of run-length encoded masks, void pixels cut out of them."""
    true_masks, found_masks = [], []
    for image, (found, true, valid) in enumerate(images, start=1):
        for category in THINGS:
            wanted = [m & valid for m in masks_of(true, category)[1] if (m & valid).any()]
            true_masks += [(image, category, m, 1.0) for m in wanted]
            for n, m in zip(*masks_of(found, category), strict=True):
                # What is mostly void and fits nothing is left out.
                known = m & valid
                fits = any((known & w).sum() >= 0.5 * (known | w).sum() for w in wanted)
                if known.any() and (2 * known.sum() >= m.sum() or fits):
                    found_masks.append((image, category, known, float(found.score[n])))
    evaluation = COCOeval(coco_of(len(images), true_masks), coco_of(len(images), found_masks))
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
    evaluation.params.maxDets = [1000]
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"]
    if not (precision > -1).any():
        return dict.fromkeys(("ap", "ap50", "ap75"), np.nan)
    over = {"ap": slice(None), "ap50": 0, "ap75": 5}
    return {name: precision[t][precision[t] > -1].mean() for name, t in over.items()}


class TestSharedPixels:
    @few(max_examples=20)
    @hypothesis.given(seed=seeds)
    def test_counts_each_pair(self, seed):
        found, true, valid = scene(np.random.default_rng(seed))
        shared = share(found, true, valid)
        expected = np.zeros((SLOTS, SLOTS + 1), int)
        for pixel in np.ndindex(SIZE):
            column = true.number[pixel] if valid[pixel] else SLOTS
            expected[found.number[pixel], column] += 1
        np.testing.assert_array_equal(shared.pixels, expected)
        np.testing.assert_array_equal(shared.found, found.category)
        np.testing.assert_array_equal(shared.true, true.category)
        np.testing.assert_array_equal(shared.score, found.score)

    @few(max_examples=20)
    @hypothesis.given(seed=seeds)
    def test_ious_are_those_of_masks(self, seed):
        found, true, valid = scene(np.random.default_rng(seed))
        iou = ious(host(share(found, true, valid)))
        expected = np.zeros((SLOTS - 1, SLOTS - 1))
        for category in range(1, CATEGORIES + 1):
            for f, a in zip(*masks_of(found, category), strict=True):
                for t, b in zip(*masks_of(true, category), strict=True):
                    union = ((a | b) & valid).sum()
                    expected[f - 1, t - 1] = (a & b & valid).sum() / union if union else 0
        np.testing.assert_array_equal(iou, expected)

    def test_what_is_not_there_or_mostly_void_does_not_count(self):
        #                  known         | unknown
        shared = strips(
            found=[1, 1, 2, 2, 2, 2, 3, 3, 1, 1, 3, 3, 3, 4],
            true=[1, 1, 2, 0, 0, 0, 0, 0, 3, 3, 3, 3, 3, 3],
            valid=[1] * 8 + [0] * 6,
            kinds=(0, 1, 1, 1, 1, 1),
        )
        found, true = counted(shared)
        np.testing.assert_array_equal(found, [True, True, False, False, False])
        np.testing.assert_array_equal(true, [True, True, False, False, False])


class TestPanopticQuality:
    @few(max_examples=60)
    @hypothesis.given(seed=seeds)
    def test_equals_panopticapi(self, seed):
        rng = np.random.default_rng(seed)
        images = [scene(rng) for _ in range(3)]
        of_image = [matches(host(share(*image)), CATEGORIES) for image in images]
        total = functools.reduce(lambda a, b: type(a)(*map(np.add, a, b)), of_image)
        counts, expected = quality_by_sets(images, range(1, CATEGORIES + 1))
        for name in ("tp", "fp", "fn"):
            np.testing.assert_array_equal(getattr(total, name), [n[name] for n in counts.values()])
        found = panoptic_quality(total)
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, rtol=1e-12)

    def test_a_pair_matches_above_one_half(self):
        half = strips([1, 1, 0, 0], [1, 1, 1, 1])
        assert [x.tolist() for x in matches(half, 1)] == [[0], [1], [1], [0]]
        more = strips([1, 1, 1, 0], [1, 1, 1, 1])
        assert [x.tolist() for x in matches(more, 1)] == [[1], [0], [0], [0.75]]

    def test_segments_of_two_categories_do_not_match(self):
        shared = strips([1, 1], [2, 2], kinds=(0, 1, 2))
        assert [x.tolist() for x in matches(shared, 2)] == [[0, 0], [1, 0], [0, 1], [0, 0]]

    def test_what_is_found_where_nobody_knows_is_no_false_alarm(self):
        for void, alarms in ((2, 1), (3, 0)):
            shared = strips([1] * 4, [0] * 4, valid=[1] * (4 - void) + [0] * void)
            assert matches(shared, 1).fp == alarms

    def test_a_match_counts_though_most_of_it_is_void(self):
        found = matches(strips([1] * 9, [1] * 9, valid=[1] + [0] * 8), 1)
        assert [x.tolist() for x in found] == [[1], [0], [0], [1]]


class TestBowlPrecision:
    @few(max_examples=20)
    @hypothesis.given(seed=seeds)
    def test_equals_the_best_assignment(self, seed):
        rng = np.random.default_rng(seed)
        found, true, valid = scene(rng, void=False)
        found, true = (s._replace(category=np.minimum(s.category, 1)) for s in (found, true))
        shared = host(share(found, true, valid))
        (_, a), (_, b) = masks_of(found, 1), masks_of(true, 1)
        iou = np.array([[(x & y).sum() / (x | y).sum() for y in b] for x in a])
        iou = iou.reshape(len(a), len(b))
        for above in ABOVE:
            # As StarDist: as many pairs above the threshold as can be, then the most alike.
            pairs = linear_sum_assignment((iou > above) + iou / 100, maximize=True)
            tp = (iou[pairs] > above).sum()
            whole = len(a) + len(b) - tp
            expected = tp / whole if whole else 1.0
            assert bowl_precision(matches(shared, 1, above=above)) == pytest.approx(expected)


class TestMaskAp:
    @few(max_examples=25)
    @hypothesis.given(seed=seeds, void=st.booleans())
    def test_equals_pycocotools(self, seed, void):
        rng = np.random.default_rng(seed)
        images = [scene(rng, void=void) for _ in range(3)]
        found = mask_ap([host(share(*image)) for image in images], list(THINGS))
        assert found == pytest.approx(ap_by_coco(images), nan_ok=True, abs=1e-12)

    def test_a_sure_false_alarm_costs_more_than_an_unsure_one(self):
        shared = strips([1, 1, 2, 0], [1, 1, 0, 0])
        unsure, sure = (
            mask_ap([shared._replace(score=np.array(score))], [1])["ap"]
            for score in ([0, 0.9, 0.5], [0, 0.5, 0.9])
        )
        assert unsure == pytest.approx(1)
        assert sure == pytest.approx(0.5)

    def test_an_object_that_reaches_into_void_is_found(self):
        shared = strips([1] * 9, [1] * 9, valid=[1] + [0] * 8)
        assert mask_ap([shared], [1])["ap"] == pytest.approx(1)

    def test_prints_nothing(self, capsys):
        mask_ap([same()], list(THINGS))
        assert capsys.readouterr() == ("", "")


def scores_of(images):
    each = [matches(image, CATEGORIES) for image in images]
    total = functools.reduce(lambda a, b: type(a)(*map(np.add, a, b)), each)
    bowl = [bowl_precision(matches(i, CATEGORIES, above=t)) for i in images for t in ABOVE[:-1]]
    return [
        *panoptic_quality(total).values(),
        np.array(bowl),
        np.array([*mask_ap(images, list(THINGS)).values()]),
    ]


def test_the_truth_itself_is_perfect():
    for values in scores_of([same(seed=0), same(seed=1, objects=9)]):
        np.testing.assert_allclose(values, 1)


@few(max_examples=10)
@hypothesis.given(seed=seeds)
def test_the_numbers_of_segments_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    images = [scene(rng) for _ in range(2)]

    def renumbered(segments):
        order = np.append(0, rng.permutation(np.arange(1, SLOTS)))
        place = np.argsort(order)
        of_place = (x[order] for x in (segments.category, segments.score))
        return Segments(place[segments.number].astype(np.int32), *of_place)

    others = [(renumbered(found), renumbered(true), valid) for found, true, valid in images]
    for a, b in zip(
        scores_of([host(share(*image)) for image in images]),
        scores_of([host(share(*image)) for image in others]),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("valid", [[1, 1, 1], [0, 0, 0]], ids=["empty", "unknown"])
def test_nothing_found_where_nothing_is(valid):
    shared = strips([0, 0, 0], [0, 0, 0], valid=valid)
    assert np.isnan(panoptic_quality(matches(shared, 1))["pq"]).all()
    assert bowl_precision(matches(shared, 1)) == 1
    assert np.isnan([*mask_ap([shared], [1]).values()]).all()


def test_something_found_where_nothing_is():
    shared = strips([0, 1, 2], [0, 0, 0])
    assert panoptic_quality(matches(shared, 1)) == {"pq": 0, "sq": 0, "rq": 0}
    assert bowl_precision(matches(shared, 1)) == 0
    assert np.isnan([*mask_ap([shared], [1]).values()]).all()


def test_nothing_found_where_something_is():
    shared = strips([0, 0, 0], [0, 1, 2])
    assert panoptic_quality(matches(shared, 1)) == {"pq": 0, "sq": 0, "rq": 0}
    assert bowl_precision(matches(shared, 1)) == 0
    assert mask_ap([shared], [1]) == {"ap": 0, "ap50": 0, "ap75": 0}


class TestCompacted:
    @few(max_examples=20)
    @hypothesis.given(seed=seeds)
    def test_has_the_scores_of_all(self, seed):
        rng = np.random.default_rng(seed)
        whole = [host(share(*scene(rng))) for _ in range(3)]
        small = [compacted(image) for image in whole]
        for a, b in zip(scores_of(small), scores_of(whole), strict=True):
            np.testing.assert_array_equal(a, b)
        for a, b in zip(small, whole, strict=True):
            assert a.known == b.known
            for x, y in zip(counted(a), counted(b), strict=True):
                assert x.sum() == y.sum()

    def test_has_as_many_rows_and_columns_as_there_are_segments(self):
        shared = strips([0, 3, 3, 3, 5], [2, 2, 0, 0, 4], [1, 1, 1, 1, 0], kinds=(0, *[1] * 9))
        small = compacted(shared)
        np.testing.assert_array_equal(small.pixels, [[0, 1, 0], [2, 1, 0], [0, 0, 1]])
        assert (len(small.found), len(small.score), len(small.true)) == (3, 3, 2)
        assert small.known
        again = compacted(small)
        for a, b in zip(again, small, strict=True):
            np.testing.assert_array_equal(a, b)

    def test_keeps_whether_a_pixel_is_known(self):
        for valid in ([1, 0, 0], [0, 0, 0]):
            small = compacted(strips([0, 0, 0], [0, 0, 0], valid))
            assert small.known == any(valid)
            np.testing.assert_array_equal(small.pixels, [[sum(valid), 3 - sum(valid)]])


def test_of_no_images_there_is_no_ap():
    assert np.isnan([*mask_ap([], [1, 2]).values()]).all()


def test_numbers_of_16_bits_are_counted_as_any_others():
    """As `Found` holds them: the products of numbers and columns don't fit into 16 bits."""
    rng = np.random.default_rng(0)
    count = 700
    number, true = rng.integers(0, count, (2, 20, 30))
    categories, scores = np.ones(count, np.int32), np.ones(count, np.float32)
    found = [Segments(number.astype(t), categories, scores) for t in (np.uint16, np.int32)]
    truth = Segments(true.astype(np.int32), categories, scores)
    valid = np.ones(true.shape, bool)
    narrow, wide = (share(each, truth, valid).pixels for each in found)
    np.testing.assert_array_equal(narrow, wide)
    assert int(wide[number[0, 0], true[0, 0]]) >= 1
