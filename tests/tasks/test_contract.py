"""What every task promises to the rest of seg_jax, for each task and labels that suit it."""

import functools
import math
import pickle
import subprocess
import sys
from typing import NamedTuple

import jax
import numpy as np
import optax
import pytest
from records import images_of, records_of

from seg_jax.datasets import Dancers
from seg_jax.errors import InputError
from seg_jax.export.overlay import Legend
from seg_jax.found import Found
from seg_jax.labels import VOID, Example, Kind, Labels, Skeleton
from seg_jax.losses import Loss, Mean, total_of
from seg_jax.resize import Resize
from seg_jax.tasks import Panoptic, PanopticPose, Pose, ScoreName, Semantic, Task

SIZE = 32, 48
DANCERS = Dancers(train=1, val=0, test=3, size=64, people=(1, 2))
OBJECTS = Panoptic(max_objects=6, sigma=2.0, window=5)
PEOPLE = Pose(max_people=4, sigma=1.5, width=1.0)
CELLS = Labels(("cell",), things=("cell",))
ANIMALS = Labels(("background", "cat", "dog"), things=("cat", "dog"))
CASES = {
    "binary": (Semantic(Loss(dice=1.0, boundary=1.0)), CELLS),
    "classes": (Semantic(Loss(dice=1.0)), ANIMALS),
    "one thing": (OBJECTS, CELLS),
    "things": (OBJECTS, ANIMALS),
    "things and stuff": (OBJECTS, DANCERS.labels),
    "people": (PEOPLE, DANCERS.labels),
    "things, stuff and people": (PanopticPose(OBJECTS, PEOPLE), DANCERS.labels),
}


class Case(NamedTuple):
    """A task, suitable labels, and three examples."""

    task: Task
    labels: Labels
    examples: list[Example]

    def batch(self, size=SIZE, void=()):
        """What a step takes of the examples; all of those named in `void` is unknown."""
        arrays = [self.task.arrays(self.labels, each, size) for each in self.examples]
        batch = {name: np.stack([each[name] for each in arrays]) for name in arrays[0]}
        label = batch["label"].astype(np.int32)
        label[list(void)] = VOID
        return batch | {"label": label, "valid": label != VOID}

    def random_maps(self, size=SIZE):
        shape = len(self.examples), *size, len(self.task.maps(self.labels))
        return jax.random.normal(jax.random.key(0), shape)

    def decoded(self, maps):
        return _decoded(self.task, self.labels, maps)

    def measured(self, maps, batch):
        return _measured(self.task, self.labels, self.decoded(maps), batch)

    def records(self, maps, batch):
        return records_of(self.task, self.labels, self.measured(maps, batch))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _decoded(task, labels, maps):
    return task.decode(labels, task.predictions(labels, maps, maps.shape[1:3]))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _measured(task, labels, decoded, batch):
    return task.measure(labels, decoded, batch)


@functools.partial(jax.jit, static_argnums=(0, 1))
def learnt_maps(task, labels, batch, maps):
    """The maps that have the least loss, but for a little, by gradient descent from others."""
    steps = 300
    optimiser = optax.adam(optax.cosine_decay_schedule(0.5, steps))

    def step(state, _):
        maps, moments = state
        gradient = jax.grad(lambda maps: total_of(task.objective(labels, maps, batch)))(maps)
        updates, moments = optimiser.update(gradient, moments)
        return (maps + updates, moments), None

    (maps, _), _ = jax.lax.scan(step, (maps, optimiser.init(maps)), length=steps)
    return maps


def cells(labels):
    """Three pictures of rectangles."""
    rng = np.random.default_rng(0)
    for number in range(3):
        label, instance = np.zeros((64, 64), np.uint8), np.zeros((64, 64), np.uint16)
        for k, (top, left) in enumerate([(4, 6), (36, 8), (10, 34)][: 2 + number % 2], start=1):
            place = np.s_[top : top + rng.integers(14, 22), left : left + rng.integers(14, 22)]
            label[place], instance[place] = k % 2 + (not labels.binary), k
        label[instance > 0] = np.maximum(label[instance > 0], 1)
        label[:3] = VOID
        yield Example(
            f"cells{number}", rng.integers(0, 255, (64, 64, 3), np.uint8), label, instance
        )


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES.keys())
def case(request):
    task, labels = request.param
    examples = DANCERS.read("test") if labels.skeleton else cells(labels)
    task.check(labels)
    return Case(task, labels, list(examples))


@pytest.fixture(scope="module")
def learnt(case):
    """A batch, and maps from which the truth can be read."""
    batch = case.batch()
    return batch, learnt_maps(case.task, case.labels, batch, 0.1 * case.random_maps())


def assert_same(found, expected):
    """Equal trees of numbers, NaN included."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b)


def test_names_of_maps_are_unique(case):
    names = case.task.maps(case.labels)
    assert len(names) == len(set(names)) > 0
    assert all(isinstance(name, str) for name in names)


def test_arrays_are_of_the_kinds_that_the_task_says(case):
    every = [case.task.arrays(case.labels, example, SIZE) for example in case.examples]
    for arrays in every:
        assert arrays.keys() <= case.task.kinds.keys()
        assert {name: (x.shape, x.dtype) for name, x in arrays.items()} == {
            name: (x.shape, x.dtype) for name, x in every[0].items()
        }
    for name, array in every[0].items():
        match case.task.kinds[name]:
            case Kind.MAP:
                assert array.shape == SIZE
            case Kind.POINTS:
                assert array.ndim == 3
                assert array.shape[-1] == 3
            case Kind.MIRRORED:
                assert (array.shape, array.dtype) == ((), bool)
    assert every[0]["label"].dtype == np.uint8


class TestObjective:
    def test_is_finite_and_has_a_finite_gradient(self, case):
        batch, maps = case.batch(), case.random_maps()
        terms = case.task.objective(case.labels, maps, batch)
        assert terms
        assert all(isinstance(term, Mean) for term in terms.values())
        for term in terms.values():
            for x in (term.total, term.weight):
                assert (x.shape, x.dtype) == ((), np.float32)
                assert 0 < x < math.inf
        gradient = jax.grad(lambda maps: total_of(case.task.objective(case.labels, maps, batch)))
        assert np.isfinite(gradient(maps)).all()
        assert np.any(gradient(maps) != 0, axis=(0, 1, 2)).all()

    def test_of_a_void_batch_is_nothing(self, case):
        batch, maps = case.batch(void=range(3)), case.random_maps()

        def loss(maps):
            return total_of(case.task.objective(case.labels, maps, batch))

        value, gradient = jax.value_and_grad(loss)(maps)
        assert value == 0
        assert not gradient.any()

    def test_its_weights_depend_on_the_labels_alone(self, case):
        batch, maps = case.batch(), case.random_maps()
        first, second = (
            case.task.objective(case.labels, x, batch) for x in (maps, 3 * maps[::-1] + 1)
        )
        assert {n: m.weight for n, m in first.items()} == {n: m.weight for n, m in second.items()}

    def test_maps_that_minimise_it_tell_the_truth(self, case, learnt):
        batch, maps = learnt
        scores = case.task.scores(case.labels, case.records(maps, batch))
        assert scores[case.task.best(case.labels)] > 0.75


class TestPredictions:
    def test_are_of_every_pixel(self, case):
        predictions = case.task.predictions(case.labels, case.random_maps(), SIZE)
        assert predictions.shape == (3, *SIZE, len(case.task.maps(case.labels)))
        assert predictions.dtype == np.float32
        assert np.isfinite(predictions).all()

    def test_probabilities_are_from_0_to_1(self, case):
        predictions = case.task.predictions(case.labels, case.random_maps(), SIZE)
        found = case.task.probabilities(case.labels, predictions)
        assert found.shape[:-1] == (3, *SIZE)
        assert 0 < found.shape[-1] <= predictions.shape[-1]
        assert found.min() >= 0
        assert found.max() <= 1

    @pytest.mark.parametrize("axes", [(1,), (2,), (1, 2)])
    def test_mirrored_twice_are_the_same(self, case, axes):
        predictions = case.task.predictions(case.labels, case.random_maps(), SIZE)
        once = case.task.mirrored(case.labels, predictions, axes)
        assert np.any(once != predictions)
        np.testing.assert_array_equal(case.task.mirrored(case.labels, once, axes), predictions)

    def test_at_the_same_size_are_the_same(self, case):
        predictions = case.task.predictions(case.labels, case.random_maps(), SIZE)
        same = case.task.resized(case.labels, predictions, Resize.between(SIZE, SIZE))
        np.testing.assert_allclose(same, predictions, atol=1e-5)

    def test_at_another_size_are_of_that_size(self, case):
        predictions = case.task.predictions(case.labels, case.random_maps(), SIZE)
        resize = Resize.between(SIZE, (50, 40), (64, 64))
        resized = jax.jit(case.task.resized, static_argnums=0)(case.labels, predictions, resize)
        assert resized.shape == (3, 64, 64, predictions.shape[-1])
        assert resized.dtype == np.float32
        assert not resized[:, 50:].any()
        assert not resized[:, :, 40:].any()
        whole = case.task.resized(case.labels, predictions, Resize.between(SIZE, (50, 40)))
        np.testing.assert_allclose(resized[:, :50, :40], whole, atol=1e-4)


@pytest.mark.parametrize("stride", [2, 4])
def test_coarser_maps_make_predictions_of_every_pixel(stride):
    task, labels = CASES["people"]
    coarse = Case(task, labels, list(DANCERS.read("test")))
    maps = coarse.random_maps((SIZE[0] // stride, SIZE[1] // stride))
    assert task.coarse
    assert task.predictions(labels, maps, SIZE).shape == (3, *SIZE, maps.shape[-1])
    assert np.isfinite(total_of(task.objective(labels, maps, coarse.batch())))


class TestFound:
    def test_has_the_fields_that_the_task_finds(self, case, learnt):
        height, width = 30, 41  # the maps are padded below and at the right
        decoded = images_of(case.decoded(learnt[1]))[0]
        found = case.task.found(case.labels, decoded, (height, width))
        assert isinstance(found, Found)
        fields = "label", "segments", "skeletons"
        assert {name for name in fields if getattr(found, name) is not None} == {*case.task.finds}
        if found.label is not None:
            assert (found.label.shape, found.label.dtype) == ((height, width), np.uint8)
            assert found.label.max() < max(2, len(case.labels.classes))
        if found.segments is not None:
            number, category, score = found.segments
            assert found.objects is number
            assert (number.shape, number.dtype) == ((height, width), np.uint16)
            assert (category.dtype, score.dtype) == (np.int32, np.float32)
            assert len(category) == len(score) > number.max() > 0
            assert (category[np.unique(number[number > 0])] > 0).all()
            assert category.max() <= len(case.labels.categories)
            assert score.min() >= 0
            assert score.max() <= 1
        if found.skeletons is not None:
            people, joints = len(found.skeletons), len(case.labels.skeleton.joints)
            assert people > 0
            assert found.skeletons.shape == (people, joints, 3)
            assert found.skeleton_scores.shape == (people,)
            assert found.skeletons.dtype == found.skeleton_scores.dtype == np.float32
            assert (np.diff(found.skeleton_scores) <= 0).all()

    def test_is_enlarged_to_another_size(self, case, learnt):
        decoded = images_of(case.decoded(learnt[1]))[0]
        larger = case.task.enlarged(decoded, (30, 41), (60, 82))
        small, large = (
            case.task.found(case.labels, each, size)
            for each, size in ((decoded, (30, 41)), (larger, (60, 82)))
        )
        if small.label is not None:
            np.testing.assert_array_equal(large.label[::2, ::2], small.label)
        if small.segments is not None:
            np.testing.assert_array_equal(large.objects[::2, ::2], small.objects)
        if small.skeletons is not None:
            there = small.skeletons[..., 2] > 0
            places = 2 * small.skeletons[there][:, :2] + 0.5
            np.testing.assert_allclose(large.skeletons[there][:, :2], places, atol=1e-4)

    def test_can_be_drawn(self, case, learnt):
        image = case.examples[0].image
        decoded = images_of(case.decoded(learnt[1]))[0]
        small = case.task.found(case.labels, decoded, SIZE)
        for truth in (None, case.examples[0]._replace(**_cut(case.examples[0]))):
            picture = case.task.picture(case.labels, small, image[: SIZE[0], : SIZE[1]], truth)
            assert picture.dtype == np.uint8
            assert picture.shape[0] == SIZE[0]
            assert picture.shape[1] >= SIZE[1]
        assert isinstance(case.task.legend(case.labels), Legend)


def _cut(example):
    maps = {name: getattr(example, name) for name in ("image", "label", "instance")}
    return {n: None if x is None else x[: SIZE[0], : SIZE[1]] for n, x in maps.items()}


class TestRecords:
    def test_scores_hold_the_best_and_are_floats(self, case, learnt):
        batch, maps = learnt
        records = case.records(maps, batch)
        for some in (records, records[:1]):
            scores = case.task.scores(case.labels, some)
            assert case.task.best(case.labels) in scores
            assert all(isinstance(value, float) for value in scores.values())
            assert scores.keys() <= case.task.score_names.keys()
        assert all(isinstance(name, ScoreName) for name in case.task.score_names.values())
        assert case.task.score_note(case.labels).endswith(".")

    def test_a_summary_has_the_scores_in_their_order(self, case, learnt):
        batch, maps = learnt
        records, decoded = case.records(maps, batch), images_of(case.decoded(maps))
        details = [
            case.task.details(case.labels, case.task.found(case.labels, each, SIZE), example)
            for each, example in zip(decoded, map(small, case.examples), strict=True)
        ]
        scores = case.task.scores(case.labels, records)
        for given in ([], details):
            summary = case.task.summary(case.labels, records, given)
            assert [(n, v) for n, v in summary.items() if n in scores] == [*scores.items()]
            assert next(iter(summary)) == case.task.best(case.labels)
            for name in summary:
                if name.endswith("_ci95"):
                    low, high = summary[name]
                    assert low <= summary[name.removesuffix("_ci95")] + 1e-6
                    assert high >= summary[name.removesuffix("_ci95")] - 1e-6
                elif name != "per_class":
                    assert isinstance(summary[name], float)
        assert {*details[0]} <= case.task.score_names.keys()

    def test_one_is_independent_of_the_images_beside_it(self, case, learnt):
        batch, maps = learnt
        together = case.records(maps, batch)
        for k in range(3):
            alone = {name: x[k : k + 1] for name, x in batch.items()}
            (record,) = case.records(maps[k : k + 1], alone)
            for a, b in zip(jax.tree.leaves(record), jax.tree.leaves(together[k]), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-5)

    def test_people_are_those_that_were_found_already(self, case, learnt):
        batch, maps = learnt
        measured = images_of(case.measured(maps, batch))
        for decoded, each in zip(images_of(case.decoded(maps)), measured, strict=True):
            found = case.task.found(case.labels, decoded, SIZE)
            assert_same(
                case.task.record(case.labels, each, found), case.task.record(case.labels, each)
            )

    @pytest.mark.parametrize("times", [1, 4])
    def test_they_are_small_however_large_the_image(self, case, times):
        size = SIZE[0] * times, SIZE[1] * times
        maps = case.random_maps(size)
        for record in case.records(maps, case.batch(size)):
            assert len(pickle.dumps(record)) < 6000
            for x in jax.tree.leaves(record):
                # A view would keep the arrays of the whole batch in memory.
                if isinstance(x, np.ndarray) and x.base is not None:
                    assert x.base.nbytes == x.nbytes

    def test_a_void_image_counts_nowhere(self, case, learnt):
        _, maps = learnt
        batch = case.batch(void=[1])
        records = case.records(maps + case.random_maps(), batch)
        known = [records[0], records[2]]
        for scores in (
            case.task.scores,
            functools.partial(case.task.summary, details=[]),
        ):
            assert_same(scores(case.labels, records), scores(case.labels, known))
            values = jax.tree.leaves(scores(case.labels, records[1:2]))
            counts = [value for value in values if isinstance(value, int)]
            assert not any(counts)
            assert np.isnan([value for value in values if not isinstance(value, int)]).all()


def small(example):
    """The example at the size of the maps."""
    rows, columns = (np.arange(n) * old // n for n, old in zip(SIZE, (64, 64), strict=True))
    maps = {name: getattr(example, name) for name in ("image", "label", "instance")}
    return example._replace(
        **{n: None if x is None else x[rows][:, columns] for n, x in maps.items()}
    )


NO_TORSO = Skeleton(("neck", "head"), ((0, 1),), (0, 1), (0.1, 0.1))
ASKEW = Skeleton(("left_shoulder", "right_hip", "left_hip"), ((0, 1),), (0, 2, 1), (0.1, 0.1, 0.1))


@pytest.mark.parametrize(
    ("task", "labels", "message"),
    [
        (Semantic(), Labels(), "data: has no classes"),
        (Semantic(Loss(class_weights=(1.0,) * 3)), CELLS, "set --task.loss.class-weights to 2"),
        (Semantic(Loss(class_weights=(1.0,) * 2)), ANIMALS, "set --task.loss.class-weights to 3"),
        (Panoptic(), Labels(), "data: has no classes"),
        (Panoptic(), Labels(("a", "b")), r"data: has no objects.*set task=Semantic\(\)"),
        (Pose(), CELLS, "data: has no joints"),
        (Pose(), Labels(skeleton=NO_TORSO), "data: its skeleton has no left_shoulder"),
        (PanopticPose(), CELLS, "data: has no joints"),
        (PanopticPose(), Labels(skeleton=DANCERS.labels.skeleton), "data: has no classes"),
    ],
)
def test_unsuitable_labels_are_refused(task, labels, message):
    with pytest.raises(InputError, match=message):
        task.check(labels)


def test_limbs_without_a_mirror_image_are_refused():
    with pytest.raises(InputError, match="limb of its skeleton has no mirror image"):
        Pose().check(Labels(skeleton=ASKEW))


def test_tasks_need_no_heavy_library():
    heavy = "matplotlib", "orbax", "tensorflow", "tensorflow_datasets"
    found = f"[name for name in {heavy} if name in sys.modules]"
    program = f"import sys, seg_jax.tasks, seg_jax.metrics; print({found})"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "[]"
