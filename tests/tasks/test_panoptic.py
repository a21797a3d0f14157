import dataclasses
import functools
import json

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from records import images_of, records_of
from scipy import ndimage

from seg_jax import cli
from seg_jax.datasets import Dancers, Folder, Nevi
from seg_jax.errors import InputError
from seg_jax.inference import predictor
from seg_jax.labels import VOID, Example, Labels
from seg_jax.losses import Loss, total_of
from seg_jax.models import UNet
from seg_jax.pipeline import batches
from seg_jax.pipeline.augment import Augment
from seg_jax.resize import Resize
from seg_jax.run import config
from seg_jax.step import init_state, make_eval_step, make_train_step
from seg_jax.tasks import Panoptic
from seg_jax.tasks.objects import targets

few = functools.partial(hypothesis.settings, deadline=None)
seeds = st.integers(0, 2**32 - 1)
SIZE = 48, 60


CELLS = Labels(("cell",), things=("cell",))
LABELS = {
    "one class": CELLS,
    "a background": Labels(("background", "cat", "dog"), things=("cat", "dog")),
    "stuff": Labels(("road", "car", "sky"), things=("car",)),
    "parts": Labels(
        ("wall", "floor", "head", "body"), ("wall", "floor", "person", "person"), ("person",)
    ),
}
all_labels = pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS.keys())
PIXELS = np.moveaxis(np.mgrid[: SIZE[0], : SIZE[1]], 0, -1)


def draw(rng, labels, *, gaps=0.1, void=False):
    """Ellipses that touch or overlap, a few left out, on the stuff: label and instance."""
    label, instance = np.zeros((2, *SIZE), np.uint16)
    stuff = [k for k, name in enumerate(labels.segments) if name not in labels.things] or [0]
    for position, k in enumerate(stuff):
        label[:, position * SIZE[1] // len(stuff) :] = k
    parts = [k for k, name in enumerate(labels.segments) if name in labels.things]
    if len(labels.classes) == 1:
        parts = [1]
    cells = [(r, c) for r in range(6, SIZE[0], 12) for c in range(6, SIZE[1], 12)]
    for number, cell in enumerate(rng.permutation(cells).tolist(), start=1):
        if rng.random() < gaps or (void and cell == [30, 30]):
            continue
        centre, radii = np.add(cell, rng.uniform(-1, 1, 2)), rng.uniform(3.5, 7, 2)
        inside = (((PIXELS - centre) / radii) ** 2).sum(-1) <= 1
        instance[inside] = number
        label[inside] = parts[0] if labels is LABELS["parts"] else rng.choice(parts)
        if labels is LABELS["parts"]:
            label[inside & (PIXELS[..., 0] > centre[0])] = parts[1]
    if void:
        label[24:36, 24:36] = label[2::5] = VOID
    return label.astype(np.uint8), instance


def example_of(label, instance):
    image = np.zeros((*label.shape, 3), np.uint8)
    return Example("drawn", image, label, instance)


def batch_of(task, labels, pictures, size=SIZE):
    """What a step takes of (label, instance) pairs, without the images."""
    found = [task.arrays(labels, example_of(*picture), size) for picture in pictures]
    batch = {name: jnp.asarray(np.stack([f[name] for f in found])) for name in found[0]}
    batch["valid"] = batch["label"] != VOID
    return batch | {"label": batch["label"].astype(jnp.int32)}


@functools.partial(jax.jit, static_argnums=0)
def targets_of(task, batch):
    find = functools.partial(targets, max_objects=task.max_objects, sigma=task.sigma)
    return jax.vmap(find)(batch["instance"].astype(jnp.int32), batch["valid"])


def perfect_maps(task, labels, batch, rng=None):
    """Maps (B, H, W, K) that say nothing but the truth, and noise where it is unknown."""
    heat, offsets, inside = (np.asarray(x) for x in targets_of(task, batch))
    offsets = np.where(inside[..., None], offsets, 0) / task.sigma
    count = len(labels.classes)
    logits = 20.0 * (np.asarray(batch["label"])[..., None] == np.arange(count))
    if count == 1:
        logits = 20.0 * np.where(batch["label"] == 1, 1, -1)[..., None]
    if rng is not None:
        unknown = ~np.asarray(batch["valid"])
        logits[unknown] = rng.normal(0, 9, (unknown.sum(), count))
        offsets[unknown] = rng.normal(0, 1, (unknown.sum(), 2))
    return np.concatenate([logits, heat[..., None], offsets], -1).astype(np.float32)


@functools.partial(jax.jit, static_argnums=(0, 1))
def decoded(task, labels, predictions):
    return task.decode(labels, predictions)


@functools.partial(jax.jit, static_argnums=(0, 1))
def decoded_of(task, labels, maps):
    return task.decode(labels, task.predictions(labels, maps, maps.shape[1:3]))


@functools.partial(jax.jit, static_argnums=(0, 1))
def measured_of(task, labels, found, batch):
    return task.measure(labels, found, batch)


def loss_of(task, labels, maps, batch):
    return total_of(task.objective(labels, maps, batch))


def summary_of(task, labels, batch, found):
    records = records_of(task, labels, measured_of(task, labels, found, batch))
    return task.summary(labels, records, [{}] * len(batch["label"]))


def only_objects(task, found):
    number = np.asarray(found.segments.number)
    return np.where(number <= task.max_objects, number, 0)


def assert_same_partition(a, b):
    """Each number of one stands for one number of the other, and 0 for 0."""
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
    assert len(pairs[0]) == len(np.unique(a)) == len(np.unique(b))
    np.testing.assert_array_equal(pairs[0] == 0, pairs[1] == 0)


class TestDecode:
    """What perfect maps say is the truth."""

    task = Panoptic(max_objects=24)

    @all_labels
    @few(max_examples=4)
    @hypothesis.given(seed=seeds)
    def test_finds_the_very_segments(self, labels, seed):
        rng = np.random.default_rng(seed)
        batch = batch_of(self.task, labels, [draw(rng, labels) for _ in range(2)])
        found = decoded_of(self.task, labels, perfect_maps(self.task, labels, batch))
        np.testing.assert_array_equal(found.label, batch["label"])
        for numbers, true in zip(only_objects(self.task, found), batch["instance"], strict=True):
            assert_same_partition(numbers, np.asarray(true))
        scores = summary_of(self.task, labels, batch, found)
        perfect = ("pq", "sq", "rq", "ap50_bowl", "ap_bowl", "mask_ap", "mask_ap75", "dice")
        assert {name: scores[name] for name in perfect} == pytest.approx(dict.fromkeys(perfect, 1))

    @all_labels
    @few(max_examples=4)
    @hypothesis.given(seed=seeds)
    def test_the_unknown_does_not_count(self, labels, seed):
        rng = np.random.default_rng(seed)
        batch = batch_of(self.task, labels, [draw(rng, labels, void=True)])
        found = decoded_of(self.task, labels, perfect_maps(self.task, labels, batch, rng))
        scores = summary_of(self.task, labels, batch, found)
        perfect = ("pq", "ap50_bowl", "ap_bowl", "dice")
        assert {name: scores[name] for name in perfect} == pytest.approx(dict.fromkeys(perfect, 1))

    @all_labels
    def test_stuff_has_one_segment_of_its_category(self, labels):
        batch = batch_of(self.task, labels, [draw(np.random.default_rng(0), labels)])
        found = decoded_of(self.task, labels, perfect_maps(self.task, labels, batch))
        names = labels.categories
        number, category = (np.asarray(x)[0] for x in found.segments[:2])
        for k, name in enumerate(labels.classes if len(labels.classes) > 1 else ("", "cell")):
            segment = "" if not name else labels.segments[k - (len(labels.classes) == 1)]
            pixels = number[np.asarray(batch["label"])[0] == k]
            if segment in names:
                assert [names[c - 1] for c in np.unique(category[pixels])] == [segment]
                if segment not in labels.things:
                    assert len(np.unique(pixels)) == 1
            else:
                assert not pixels.any()

    @all_labels
    @pytest.mark.parametrize("axes", [(1,), (2,), (1, 2)])
    def test_mirror_images_agree(self, labels, axes):
        pictures = [draw(np.random.default_rng(k), labels, gaps=0.5) for k in range(2)]
        batch = batch_of(self.task, labels, pictures)
        turned = {n: jnp.flip(x, axes) if x.ndim > 1 else x for n, x in batch.items()}
        straight, mirrored = (
            self.task.predictions(labels, jnp.asarray(perfect_maps(self.task, labels, b)), SIZE)
            for b in (batch, turned)
        )
        back = self.task.mirrored(labels, mirrored, axes)
        np.testing.assert_allclose(back, straight, atol=1e-4)
        for a, b in zip(
            *(decoded(self.task, labels, x).segments.number for x in (straight, back)), strict=True
        ):
            assert_same_partition(np.asarray(a), np.asarray(b))

    @all_labels
    def test_predictions_grow_with_the_picture(self, labels):
        for seed in range(4):
            batch = batch_of(self.task, labels, [draw(np.random.default_rng(seed), labels)])
            maps = jnp.asarray(perfect_maps(self.task, labels, batch))
            predictions = self.task.predictions(labels, maps, SIZE)
            twice = SIZE[0] * 2, SIZE[1] * 2
            grown = self.task.resized(labels, predictions, Resize.between(SIZE, twice))
            assert grown.shape == (1, *twice, len(self.task.maps(labels)))
            found = decoded(self.task, labels, grown)
            label, instance = (
                np.asarray(batch[name])[0].repeat(2, 0).repeat(2, 1)
                for name in ("label", "instance")
            )
            np.testing.assert_array_equal(found.label[0], label)
            assert_same_partition(only_objects(self.task, found)[0], instance)

    def test_there_are_at_most_so_many_objects(self):
        label, instance = draw(np.random.default_rng(0), CELLS, gaps=0)
        batch = batch_of(self.task, CELLS, [(label, instance)])
        few_objects = Panoptic(max_objects=3)
        maps = perfect_maps(self.task, CELLS, batch)
        found = only_objects(few_objects, decoded_of(few_objects, CELLS, maps))
        assert np.unique(found).tolist() == [0, 1, 2, 3]
        np.testing.assert_array_equal(found > 0, batch["label"] == 1)

    def test_small_objects_are_dropped(self):
        instance = np.zeros(SIZE, np.uint16)
        instance[4:6, 4:6], instance[20:23, 20:23], instance[40:44, 40:44] = 1, 2, 3
        batch = batch_of(self.task, CELLS, [(np.minimum(instance, 1).astype(np.uint8), instance)])
        maps = perfect_maps(self.task, CELLS, batch)
        for least, left in ((4, [4, 9, 16]), (5, [9, 16]), (10, [16])):
            task = dataclasses.replace(self.task, min_area=least)
            found = decoded_of(task, CELLS, maps)
            areas = np.bincount(np.asarray(found.segments.number).ravel())[1:]
            assert sorted(areas[areas > 0].tolist()) == left
            there = np.asarray(found.segments.category)[0] > 0
            assert there.sum() == len(left)
            assert (np.asarray(found.segments.score)[0][there] > 0.9).all()

    def test_an_object_is_what_most_of_its_pixels_are(self):
        labels = LABELS["a background"]
        instance = np.zeros(SIZE, np.uint16)
        instance[10:20, 10:20] = 1
        label = np.where(instance, 1, 0).astype(np.uint8)
        label[10:14, 10:20] = 2
        batch = batch_of(self.task, labels, [(label, instance)])
        segments = decoded_of(self.task, labels, perfect_maps(self.task, labels, batch)).segments
        assert np.unique(segments.number).tolist() == [0, 1]
        assert labels.categories[segments.category[0, 1] - 1] == "cat"

    def test_an_object_is_as_sure_as_its_class_and_its_centre(self):
        instance = np.zeros(SIZE, np.uint16)
        instance[10:19, 10:19] = 1
        batch = batch_of(self.task, CELLS, [(instance.astype(np.uint8), instance)])
        maps = perfect_maps(self.task, CELLS, batch)
        maps[..., 0] = np.where(instance, np.log(0.8 / 0.2), -9)
        maps[..., 1] *= 0.5
        segments = decoded_of(self.task, CELLS, maps).segments
        assert segments.score[0, 1] == pytest.approx(0.8 * 0.5, rel=1e-5)

    def test_without_a_centre_there_is_no_object(self):
        label, instance = draw(np.random.default_rng(0), CELLS)
        batch = batch_of(self.task, CELLS, [(label, instance)])
        maps = perfect_maps(self.task, CELLS, batch)
        maps[..., 1] *= 0.09
        found = decoded_of(self.task, CELLS, maps)
        assert not found.segments.number.any()
        np.testing.assert_array_equal(found.label, batch["label"])
        scores = summary_of(self.task, CELLS, batch, found)
        assert (scores["pq"], scores["ap50_bowl"], scores["mask_ap"], scores["dice"]) == (
            0,
            0,
            0,
            1,
        )


class TestArrays:
    def test_objects_are_numbered_without_a_gap(self):
        instance = np.zeros(SIZE, np.uint16)
        instance[:10], instance[20:30, :5], instance[40, 1] = 40000, 7, 9
        example = example_of((instance > 0).astype(np.uint8), instance)
        found = Panoptic(max_objects=3).arrays(CELLS, example, SIZE)["instance"]
        assert found.dtype == np.uint16
        np.testing.assert_array_equal(found, np.select([instance == n for n in (7, 9, 40000)],
                                                       [1, 2, 3]))  # fmt: skip

    def test_more_objects_than_there_is_room_for_are_refused(self):
        label, instance = draw(np.random.default_rng(0), CELLS, gaps=0)
        example = example_of(label, instance)
        Panoptic(max_objects=20).arrays(CELLS, example, SIZE)
        with pytest.raises(
            InputError, match=r"drawn: has 20 objects.*set --task\.max-objects 20 or more"
        ):
            Panoptic(max_objects=19).arrays(CELLS, example, SIZE)

    def test_a_cache_of_more_objects_is_refused(self, tmp_path):
        data, size = Dancers(train=2, size=32), (32, 32)
        more, fewer = (Panoptic(max_objects=n) for n in (8, 7))
        load = functools.partial(batches.load, data, labels=data.labels, size=size, part="train")
        load(task=more, cache=tmp_path)
        assert len(load(task=more, cache=tmp_path)) == 2
        with pytest.raises(InputError, match=r"data and task now give other arrays"):
            load(task=fewer, cache=tmp_path)


class TestObjective:
    task = Panoptic(Loss(), max_objects=24, centre_weight=50.0, offset_weight=0.3, sigma=5.0)

    def case(self, labels=CELLS, count=2):
        """A batch whose second image is known only in part, and maps."""
        rng = np.random.default_rng(0)
        batch = batch_of(self.task, labels, [draw(rng, labels, void=True) for _ in range(count)])
        batch["valid"] = batch["valid"].at[1].set(batch["valid"][1] & (rng.random(SIZE) < 0.3))
        channels = len(self.task.maps(labels))
        return rng.normal(0, 1, (count, *SIZE, channels)).astype(np.float32), batch

    def test_equals_plain_numpy(self):
        maps, batch = self.case()
        expected = np.zeros(3)
        pixels = np.zeros(3)
        for m, label, instance, valid in zip(
            maps.astype(float), *(np.asarray(batch[n]) for n in ("label", "instance", "valid")),
            strict=True,
        ):  # fmt: skip
            logit, heat, offsets = m[..., 0], m[..., 1], m[..., 2:]
            entropy = np.logaddexp(0, np.where(label == 1, -logit, logit))
            seen = np.where(valid, instance, 0)
            numbers = np.unique(seen[seen > 0])
            centres = np.array(ndimage.center_of_mass(seen > 0, seen, numbers))
            away = centres - PIXELS[:, :, None]
            bump = np.exp(-(away**2).sum(-1) / (2 * self.task.sigma**2)).max(-1)
            own = np.searchsorted(numbers, seen).clip(max=len(numbers) - 1)
            own_away = np.take_along_axis(away, own[..., None, None], 2)[:, :, 0]
            error = np.abs(offsets - own_away / self.task.sigma).sum(-1)
            expected += (
                entropy[valid].sum(),
                ((heat - bump) ** 2)[valid].sum(),
                error[seen > 0].sum(),
            )
            pixels += valid.sum(), valid.sum(), (seen > 0).sum()
        expected = (expected / pixels) @ (1, 50, 0.3)
        value = jax.jit(functools.partial(loss_of, self.task, CELLS))(maps, batch)
        assert value.dtype == jnp.float32
        assert value == pytest.approx(expected, rel=1e-5)

    @all_labels
    def test_unknown_pixels_have_no_gradient(self, labels):
        maps, batch = self.case(labels)
        gradient = jax.jit(jax.grad(functools.partial(loss_of, self.task, labels)))(maps, batch)
        np.testing.assert_array_equal(np.any(gradient != 0, axis=-1), batch["valid"])
        at_objects = np.asarray(batch["valid"] & (batch["instance"] > 0))
        np.testing.assert_array_equal(np.all(gradient[..., -2:] != 0, axis=-1), at_objects)

    def test_parts_of_a_batch_add_up_to_the_whole(self):
        labels = LABELS["stuff"]
        maps, batch = self.case(labels, count=4)
        batch["valid"] = batch["valid"].at[0].set(False)
        objective = functools.partial(loss_of, self.task, labels)
        value, gradient = jax.jit(jax.value_and_grad(objective))(maps, batch)

        def of_halves(maps):
            halves = jax.tree.map(lambda x: x.reshape(2, 2, *x.shape[1:]), (maps, batch))
            terms = jax.vmap(functools.partial(self.task.objective, labels))(*halves)
            return total_of(jax.tree.map(lambda x: x.sum(0), terms))

        total, of_parts = jax.jit(jax.value_and_grad(of_halves))(maps)
        assert total == pytest.approx(float(value), rel=1e-5)
        np.testing.assert_allclose(of_parts, gradient, rtol=1e-4, atol=1e-8)

    def test_nothing_known_costs_nothing(self):
        maps, batch = self.case()
        batch["valid"] = jnp.zeros_like(batch["valid"])
        objective = jax.jit(jax.value_and_grad(functools.partial(loss_of, self.task, CELLS)))
        value, gradient = objective(maps, batch)
        assert value == 0
        assert not gradient.any()


class TestScores:
    task = Panoptic(max_objects=24)

    def test_things_that_are_nobodys_are_void(self):
        instance = np.zeros(SIZE, np.uint16)
        instance[2:12, 2:12], instance[30:40, 30:40] = 1, 2
        label = (instance > 0).astype(np.uint8)
        batch = batch_of(self.task, CELLS, [(label, instance)])
        found = decoded_of(self.task, CELLS, perfect_maps(self.task, CELLS, batch))
        for own_label, fp in ((1, 0), (0, 1)):
            truth = label.copy()
            truth[instance == 2] = own_label
            known = batch_of(
                self.task, CELLS, [(truth, np.where(instance == 1, 1, 0).astype("u2"))]
            )
            scores = summary_of(self.task, CELLS, known, found)
            assert [scores["per_class"]["cell"][n] for n in ("tp", "fp", "fn")] == [1, fp, 0]
            assert scores["ap50_bowl"] == 1 / (1 + fp)

    def test_an_image_that_is_unknown_throughout_changes_no_score(self):
        labels = LABELS["parts"]
        rng = np.random.default_rng(3)
        batch = batch_of(self.task, labels, [draw(rng, labels) for _ in range(2)])
        maps = perfect_maps(self.task, labels, batch)
        batch["valid"] = batch["valid"].at[1].set(False)
        maps[0] += rng.normal(0, 8, maps[0].shape)
        alone = jax.tree.map(lambda x: x[:1], batch)
        both, one = (
            summary_of(self.task, labels, b, decoded_of(self.task, labels, m))["per_class"]
            for b, m in ((batch, maps), (alone, maps[:1]))
        )
        assert both == one
        assert one["person"]["fn"] + one["person"]["fp"] > 0

    def test_void_images_change_no_mean_over_images(self):
        """Nor do those where all pixels are of things that are nobody's."""
        label, instance = draw(np.random.default_rng(0), CELLS)
        half = np.where(instance % 2, instance, 0).astype(np.uint16)  # half of the cells are void
        nobodys = np.ones_like(label), np.zeros_like(instance)
        pictures = [
            (label, instance),
            (label, half),
            (np.full_like(label, VOID), instance),
            nobodys,
        ]
        batch = batch_of(self.task, CELLS, pictures)
        maps = np.repeat(perfect_maps(self.task, CELLS, batch)[:1], 4, 0)
        maps[0, :, :20] = -1  # a few cells are missed
        found = decoded_of(self.task, CELLS, maps)
        every = records_of(self.task, CELLS, measured_of(self.task, CELLS, found, batch))
        summary = self.task.summary(CELLS, every, [])
        known = self.task.summary(CELLS, every[:2], [])
        for name in ("pq", "ap50_bowl", "ap_bowl", "mask_ap", "ap50_bowl_ci95"):
            assert summary[name] == known[name]
        assert 0 < summary["ap50_bowl"] < 1
        alone = self.task.scores(CELLS, every[3:])
        assert np.isnan([alone["pq"], alone["ap50_bowl"]]).all()
        assert alone["dice"] > 0
        assert np.isnan([*self.task.scores(CELLS, every[2:3]).values()]).all()

    def test_nothing_found_where_nothing_is_is_right(self):
        nothing = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint16)
        batch = batch_of(self.task, CELLS, [nothing])
        found = decoded_of(self.task, CELLS, perfect_maps(self.task, CELLS, batch))
        records = records_of(self.task, CELLS, measured_of(self.task, CELLS, found, batch))
        scores = self.task.scores(CELLS, records)
        assert scores == dict.fromkeys(scores, 1)

    @all_labels
    @few(max_examples=4)
    @hypothesis.given(seed=seeds)
    def test_records_have_the_scores_of_all_that_was_measured(self, labels, seed):
        rng = np.random.default_rng(seed)
        batch = batch_of(self.task, labels, [draw(rng, labels, void=True) for _ in range(3)])
        maps = perfect_maps(self.task, labels, batch, rng)
        maps += rng.normal(0, 0.5, maps.shape)
        found = decoded_of(self.task, labels, maps)
        measured = images_of(measured_of(self.task, labels, found, batch))
        records = [self.task.record(labels, each) for each in measured]
        assert max(len(r.shared.found) for r in records) < len(measured[0].shared.found)
        summaries = (self.task.summary(labels, each, []) for each in (records, measured))
        a, b = map(json.dumps, summaries)  # where NaN equals NaN
        assert a == b

    def test_only_things_are_objects(self):
        labels = LABELS["stuff"]
        batch = batch_of(self.task, labels, [draw(np.random.default_rng(0), labels)])
        maps = perfect_maps(self.task, labels, batch)
        maps[..., [0, 2]] = maps[..., [2, 0]]  # the road for the sky
        scores = summary_of(self.task, labels, batch, decoded_of(self.task, labels, maps))
        assert scores["ap50_bowl"] == scores["mask_ap"] == 1
        assert {name: of["pq"] for name, of in scores["per_class"].items()} == {
            "road": 0,
            "car": 1,
            "sky": 0,
        }
        assert scores["pq"] == pytest.approx(1 / 3)

    @all_labels
    def test_summary_has_scores_intervals_and_categories(self, labels):
        rng = np.random.default_rng(0)
        batch = batch_of(self.task, labels, [draw(rng, labels) for _ in range(3)])
        maps = perfect_maps(self.task, labels, batch)
        maps[..., -3:] += rng.normal(0, 0.1, maps[..., -3:].shape)
        found = decoded_of(self.task, labels, maps)
        records = records_of(self.task, labels, measured_of(self.task, labels, found, batch))
        scores = self.task.scores(labels, records)
        assert {self.task.best(labels), "sq", "rq", "ap50_bowl", "dice"} == scores.keys()
        found = self.task.summary(labels, records, [{}] * 3)
        assert {name: found[name] for name in scores} == scores
        assert found.keys() - scores.keys() == {
            "pq_ci95", "ap50_bowl_ci95", "ap_bowl", "mask_ap", "mask_ap50", "mask_ap75", "per_class"
        }  # fmt: skip
        of_segment = [found["per_class"][name]["pq"] for name in labels.categories]
        of_class = [found["per_class"][name]["dice"] for name in labels.classes]
        assert 0 < scores["pq"] < 1
        assert scores["pq"] == pytest.approx(np.mean(of_segment))
        assert scores["dice"] == pytest.approx(np.mean(of_class))
        for name in ("pq", "ap50_bowl"):
            low, high = found[f"{name}_ci95"]
            assert low <= found[name] <= high
            assert low < high
        assert json.loads(json.dumps(found)) == found


class TestLargeImages:
    task = Panoptic(max_objects=24)

    def test_a_very_large_image_is_decoded_at_a_smaller_size(self, monkeypatch):
        labels = LABELS["stuff"]
        batch = batch_of(self.task, labels, [draw(np.random.default_rng(0), labels)])
        maps = self.task.predictions(labels, perfect_maps(self.task, labels, batch), SIZE)[0]
        of_task = predictor.Predictor(self.task, labels, channels=3, multiple=1, maps=None)
        own = 3 * SIZE[0] + 1, 4 * SIZE[1]
        found = []
        for most in (predictor.MAX_DECODED, 2 * maps.size):
            monkeypatch.setattr(predictor, "MAX_DECODED", most)
            found.append(of_task.decode(maps, own))
        whole, smaller = (np.stack([f.label, f.segments.number]) for f in found)
        assert whole.shape == smaller.shape
        assert not smaller[:, own[0] :].any()
        assert (whole[0] == smaller[0]).mean() > 0.97
        assert ((whole[1] > 0) == (smaller[1] > 0)).mean() > 0.97
        assert len(np.unique(whole[1])) == len(np.unique(smaller[1]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": Nevi()}, r"data: has no objects.* set task=Semantic\(\)"),
        ({"data": Folder()}, r"data: has no objects.* Folder\(instances=True\)"),
        ({"model": UNet(outputs=6)}, r"outputs is 6, but .* 9 maps .*set --model.outputs 9"),
        (
            {"task": Panoptic(Loss(class_weights=(1.0, 2.0)))},
            "class_weights has 2 numbers; set --task.loss.class-weights to 6",
        ),
    ],
)
def test_what_can_only_fail_later_is_refused_at_once(tiny, changes, message):
    right = {"data": Dancers(), "task": Panoptic(), "model": UNet(outputs=9)}
    config.check(dataclasses.replace(tiny, **right), devices=1)
    with pytest.raises(InputError, match=message):
        config.check(dataclasses.replace(tiny, **(right | changes)), devices=1)


@pytest.mark.parametrize(
    ("field", "value", "fix"),
    [
        ("sigma", 0.0, "above 0"),
        ("window", 4, "odd"),
        ("max_objects", 0, "from 1"),
        ("max_objects", 2**15, "to 32767"),
    ],
)
def test_settings_that_make_no_sense_are_refused(field, value, fix):
    with pytest.raises(InputError, match=rf"task\.{field} is {value}; it must be .*{fix}"):
        Panoptic(**{field: value})


def test_four_images_are_learnt_by_heart():
    rng = np.random.default_rng(0)
    task = Panoptic(
        Loss(dice=1.0), max_objects=6, sigma=3.0, centre_weight=30.0, offset_weight=0.3, window=5
    )
    label, instance = np.zeros((4, 24, 24), np.uint8), np.zeros((4, 24, 24), np.uint16)
    for k in range(4):
        for number, (top, left) in enumerate(rng.permutation([(2, 2), (2, 12), (12, 7)]), start=1):
            height, width = rng.integers(6, 11, 2)
            instance[k, top : top + height, left : left + width] = number
    label[instance > 0] = 1
    shades = np.array([0, 90, 150, 210], np.uint8)[instance]
    noise = rng.integers(0, 10, (4, 24, 24, 3), np.uint8)
    batch = {"image": shades[..., None] + noise, "label": label, "instance": instance}
    model, adam = UNet(outputs=4, features=(16, 32)), optax.adam(2e-2)
    objective = functools.partial(task.objective, CELLS)
    state = init_state(model, adam, seed=0, shape=(24, 24, 3))
    step = make_train_step(model, adam, objective, augmentation=Augment(), seed=0, kinds=task.kinds)
    step = jax.jit(step)
    index = {"epoch": np.zeros(4, np.int32), "index": np.arange(4, dtype=np.int32)}
    for _ in range(150):
        state, _ = step(state, batch | index)

    def measure(maps, batch):
        return task.measure(CELLS, decoded_of(task, CELLS, maps), batch)

    measured, _ = jax.jit(make_eval_step(model, objective, measure))(state.variables, batch)
    assert task.scores(CELLS, records_of(task, CELLS, measured))["pq"] > 0.9


def test_an_experiment_goes_all_the_way(tiny, tmp_path):
    experiment = dataclasses.replace(
        tiny,
        data=Dancers(train=8, val=4, test=3, size=32),
        task=Panoptic(max_objects=8),
        model=UNet(outputs=9, features=(4, 8)),
        size=(32, 32),
        epochs=2,
        workdir=tmp_path,
    )
    cli.run_experiment(experiment)
    evaluation = tmp_path / "evaluations" / "test"
    scores = json.loads((evaluation / "scores.json").read_text())
    assert (scores["n"], scores["best"]) == (3, "pq")
    assert 0 <= scores["pq"] <= 1
    assert {"mask_ap", "ap50_bowl", "dice"} <= scores.keys() & scores["own_size"].keys()
    assert {"wall", "floor", "person"} <= scores["per_class"].keys()
    assert (tmp_path / "report.html").exists()
    assert len(list((evaluation / "predictions").glob("*.png"))) == 3
    assert len(list((evaluation / "overlays").glob("*.jpg"))) == 3


def test_fields_in_pixels_grow_with_the_picture():
    """Two centres four pixels apart are one at this size, and one at twice the size."""
    labels, task = (
        Dancers().labels,
        Panoptic(sigma=2, window=9, max_objects=4, min_area=20, threshold=0.3),
    )
    row, column = np.mgrid[:32, :32]
    heat = np.maximum(*(np.exp(-((row - 16) ** 2 + (column - c) ** 2) / 8) for c in (14, 18)))
    maps = np.zeros((32, 32, 9), np.float32)
    maps[8:24, 8:24, 3] = 20  # a torso
    maps[..., 0] = 10
    maps[..., 6] = heat
    predictions = task.predictions(labels, maps[None], (32, 32))
    larger = task.resized(labels, predictions, Resize.between((32, 32), (64, 64)))
    counts = [
        int((task.decode(labels, x, scale=scale).segments.category[0, 1:5] > 0).sum())
        for x, scale in ((predictions, 1.0), (larger, 1.0), (larger, 2.0))
    ]
    assert counts == [1, 2, 1]


@pytest.mark.parametrize("window", [3, 5])
def test_a_window_holds_a_neighbour_however_small_the_picture(window):
    labels, task = (
        Dancers().labels,
        Panoptic(window=window, max_objects=8, min_area=1, threshold=0.3),
    )
    row, column = np.mgrid[:16, :16]
    maps = np.zeros((1, 16, 16, 9), np.float32)
    maps[..., 3] = 20
    maps[..., 6] = np.exp(-((row - 8) ** 2 + (column - 8) ** 2) / 8)
    segments = task.decode(labels, task.predictions(labels, maps, (16, 16)), scale=0.25).segments
    assert int((segments.category[0, 1:9] > 0).sum()) == 1
