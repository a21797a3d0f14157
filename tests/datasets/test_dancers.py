import dataclasses

import numpy as np
import pytest

from seg_jax.datasets.dancers import Dancers, draw_dancers
from seg_jax.datasets.dancers.draw import _cover
from seg_jax.datasets.dancers.figure import HEAD, draw_figure, place
from seg_jax.datasets.nevi import picture_index
from seg_jax.datasets.skeletons import LSP_SKELETON
from seg_jax.errors import InputError

JOINT = {name: k for k, name in enumerate(LSP_SKELETON.joints)}


@pytest.fixture(scope="module")
def dancers():
    return [draw_dancers(0, index, 80) for index in range(60)]


@pytest.fixture(scope="module")
def figures():
    rng = np.random.default_rng(0)
    return [place(draw_figure(rng, 1.5), 0, 0.8) for _ in range(60)]


def assert_equal(a, b):
    for one, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(one, other)


def head(figure):
    return next(s for s in figure.shapes if s.head is not None)


def test_same_arguments_give_the_same_picture():
    first = draw_dancers(3, 5, 64)
    draw_dancers(3, 6, 64)
    assert_equal(first, draw_dancers(3, 5, 64))
    for other in (draw_dancers(4, 5, 64), draw_dancers(3, 6, 64)):
        assert (other.image != first.image).mean() > 0.5


@pytest.mark.parametrize("index", range(6))
def test_the_scene_is_the_same_at_every_size(index):
    small, large = draw_dancers(0, index, 96), draw_dancers(0, index, 192)
    assert len(small.joints) == len(large.joints)
    both = (small.joints[..., 2] > 0) & (large.joints[..., 2] > 0)
    assert both.sum() >= (large.joints[..., 2] > 0).sum() - 1
    expected = (large.joints[both][:, :2] + 0.5) / 2 - 0.5
    np.testing.assert_allclose(small.joints[both][:, :2], expected, atol=1e-3)
    for name in ("label", "instance"):
        fine = getattr(large, name)
        assert (getattr(small, name) == fine[::2, ::2]).mean() > 0.93
    np.testing.assert_allclose(small.area, large.area / 4, rtol=0.15, atol=12)
    mean = large.image.reshape(96, 2, 96, 2, 3).mean((1, 3))
    assert np.abs(mean - small.image).mean() < 8


def test_arrays_have_the_types_of_an_example(dancers):
    for e in dancers:
        assert (e.image.shape, e.image.dtype) == ((80, 80, 3), np.uint8)
        assert (e.label.shape, e.label.dtype) == ((80, 80), np.uint8)
        assert (e.instance.shape, e.instance.dtype) == ((80, 80), np.uint16)
        assert (e.joints.shape[1:], e.joints.dtype) == ((14, 3), np.float32)
        assert (e.area.shape, e.area.dtype) == (e.joints.shape[:1], np.float32)


def test_body_parts_belong_to_people_and_nothing_else_does(dancers):
    first = Dancers().labels.segments.index("person")
    seen = set()
    for e in dancers:
        np.testing.assert_array_equal(e.instance > 0, e.label >= first)
        seen |= set(np.unique(e.label))
    assert seen == set(range(len(Dancers().labels.classes)))


def test_area_is_the_pixels_of_each_person(dancers):
    for e in dancers:
        numbers, pixels = np.unique(e.instance, return_counts=True)
        assert numbers[numbers > 0].tolist() == list(range(1, len(e.area) + 1))
        np.testing.assert_array_equal(pixels[numbers > 0], e.area)
        assert e.area.min() > 0.001 * e.instance.size


def test_visible_joints_lie_on_their_person(dancers):
    classes = np.array(Dancers().labels.classes)
    parts = {
        "ankle": {"leg"}, "knee": {"leg"}, "hip": {"leg", "torso"}, "wrist": {"arm"},
        "elbow": {"arm"}, "shoulder": {"arm", "torso"}, "neck": {"torso"}, "head_top": {"head"},
    }  # fmt: skip
    for e in dancers:
        for number, joints in enumerate(e.joints, 1):
            assert (joints[:, 2] == 2).sum() >= 2
            for name, (x, y, v) in zip(LSP_SKELETON.joints, joints, strict=True):
                if v == 0:
                    assert (x, y) == (0, 0)
                    continue
                assert -0.5 <= min(x, y) <= max(x, y) < 79.5
                pixel = round(float(y)), round(float(x))
                if v == 2:
                    assert e.instance[pixel] == number
                    part = name.removeprefix("left_").removeprefix("right_")
                    assert classes[e.label[pixel]] in parts[part]


def test_joints_are_visible_hidden_and_out_of_the_frame(dancers):
    v = np.concatenate([e.joints[..., 2] for e in dancers])
    shares = [(v == k).mean() for k in range(3)]
    assert 0.01 < shares[0] < 0.15
    assert 0.05 < shares[1] < 0.3
    assert shares[2] > 0.65


def test_people_overlap(dancers):
    hidden_by_others = 0
    for e in dancers[:30]:
        for number, joints in enumerate(e.joints, 1):
            column, row = np.round(joints[joints[:, 2] == 1, :2]).astype(int).T
            owner = e.instance[row, column]
            hidden_by_others += ((owner > 0) & (owner != number)).sum()
            # Numbers count from the front, so only a lower one can hide a person.
            assert not (owner > number).any()
    assert hidden_by_others >= 20


def test_numbers_of_people_and_their_range(dancers):
    assert {len(e.joints) for e in dancers} == {1, 2, 3, 4, 5}
    for index in range(5):
        assert len(draw_dancers(0, index, 32, (3, 3)).joints) == 3


def test_right_and_left_are_the_persons_own(figures):
    sides = set()
    for figure in figures:
        front = head(figure).head[2]
        across = figure.joints[JOINT["left_shoulder"]] - figure.joints[JOINT["right_shoulder"]]
        if abs(front[2]) > 0.85:
            sides.add(front[2] > 0)
            assert (across[0] > 0) == (front[2] > 0)
    assert sides == {True, False}


def test_a_face_is_seen_from_the_front_only(figures):
    for figure in figures:
        front, cloth = head(figure).head[2], head(figure).cloth
        if abs(front[2]) < 0.85:
            continue
        image = np.zeros((3, 96, 96), np.float32)
        owner, part = np.zeros((96, 96), np.uint16), np.zeros((96, 96), np.uint8)
        _cover(image, owner, part, head(figure), 1, np.array([0, 0, 1]), 1.0)
        pixels = image[:, part == HEAD].T
        to_skin, to_hair = (np.abs(pixels - c).sum(1) for c in (cloth.beyond, cloth.colour))
        face = (to_skin < to_hair).mean()
        assert face > 0.3 if front[2] > 0 else face < 0.2


def test_limbs_keep_their_lengths_in_space(figures):
    for figure in figures:
        for side in ("right", "left"):
            hip, knee, ankle = (
                figure.joints[JOINT[f"{side}_{j}"]] for j in ("hip", "knee", "ankle")
            )
            length = np.linalg.norm(hip - knee) + np.linalg.norm(knee - ankle)
            assert 0.4 < length / figure.height < 0.55


def test_skeleton_is_a_tree_with_a_mirror_image():
    skeleton = Dancers().labels.skeleton
    count = len(skeleton.joints)
    assert count == len(skeleton.sigmas) == len(skeleton.mirrored) == 14
    assert len(skeleton.limbs) == count - 1
    reached = {0}
    for _ in range(count):
        reached |= {k for limb in skeleton.limbs if reached & set(limb) for k in limb}
    assert reached == set(range(count))
    swap = {"right": "left", "left": "right"}
    for k, name in enumerate(skeleton.joints):
        other = skeleton.mirrored[k]
        assert skeleton.mirrored[other] == k
        side, _, rest = name.partition("_")
        assert skeleton.joints[other] == (f"{swap[side]}_{rest}" if side in swap else name)
        assert skeleton.sigmas[other] == skeleton.sigmas[k]
    limbs = {frozenset(limb) for limb in skeleton.limbs}
    assert {frozenset(skeleton.mirrored[k] for k in limb) for limb in limbs} == limbs


def test_source_draws_disjoint_parts_that_only_grow():
    small = Dancers(train=2, val=0, test=2, size=32)
    large = Dancers(train=3, val=1, test=4, size=32)
    assert small.labels.categories == ("wall", "floor", "person")
    assert small.labels.category_of_class == (1, 2, 3, 3, 3, 3)
    assert small.labels.thing_categories == (3,)
    ids = [e.id for part in ("train", "val", "test") for e in large.read(part)]
    assert len(ids) == len(set(ids)) == 8
    assert list(small.read("val")) == []
    for part in ("train", "test"):
        for a, b in zip(small.read(part), large.read(part), strict=False):
            assert_equal(a, b)
    assert_equal(next(large.read("test")), draw_dancers(0, picture_index("test", 0), 32))


@pytest.mark.parametrize(
    ("field", "value"), [("train", 0), ("test", 0), ("val", -1), ("size", 0), ("seed", -1)]
)
def test_source_names_the_field_that_cannot_be_used(field, value):
    source = dataclasses.replace(Dancers(), **{field: value})
    with pytest.raises(InputError, match=rf"data\.{field} is {value}"):
        source.read("train")


@pytest.mark.parametrize("people", [(0, 2), (3, 2), (1, 9), (2,)])
def test_source_names_a_range_of_people_that_cannot_be_used(people):
    with pytest.raises(InputError, match=r"data\.people is \("):
        Dancers(people=people).read("train")
