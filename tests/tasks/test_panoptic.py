import collections
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
from PIL import Image
from quality import quality_by_sets
from scipy import ndimage

from seg_jax import cli
from seg_jax.datasets import VOID, CocoPanoptic, Dancers, Folder, Nevi
from seg_jax.datasets.source import Example
from seg_jax.errors import InputError
from seg_jax.inference import predict
from seg_jax.inference.evaluate import evaluate
from seg_jax.inference.predict import CocoFiles
from seg_jax.losses import Loss
from seg_jax.metrics.segments import Segments
from seg_jax.models import UNet
from seg_jax.pipeline import batches as input
from seg_jax.pipeline.augment import Augment
from seg_jax.run import config
from seg_jax.step import init_state, make_eval_step, make_train_step
from seg_jax.tasks import Panoptic
from seg_jax.tasks.objects import targets

few = functools.partial(hypothesis.settings, deadline=None)
seeds = st.integers(0, 2**32 - 1)
SIZE = 48, 60


@dataclasses.dataclass(frozen=True)
class Drawn:
    """What a task wants to know of a source."""

    classes: tuple[str, ...]
    segments: tuple[str, ...]
    things: tuple[str, ...]


CELLS = Drawn(("cell",), ("cell",), ("cell",))
SOURCES = {
    "one class": CELLS,
    "a background": Drawn(*2 * (("background", "cat", "dog"),), ("cat", "dog")),
    "stuff": Drawn(*2 * (("road", "car", "sky"),), ("car",)),
    "parts": Drawn(
        ("wall", "floor", "head", "body"), ("wall", "floor", "person", "person"), ("person",)
    ),
}
all_sources = pytest.mark.parametrize("data", SOURCES.values(), ids=SOURCES.keys())
PIXELS = np.moveaxis(np.mgrid[: SIZE[0], : SIZE[1]], 0, -1)


def draw(rng, data, *, gaps=0.1, void=False):
    """Ellipses that touch or overlap, a few left out, on the stuff: label and instance."""
    label, instance = np.zeros((2, *SIZE), np.uint16)
    stuff = [k for k, name in enumerate(data.segments) if name not in data.things] or [0]
    for position, k in enumerate(stuff):
        label[:, position * SIZE[1] // len(stuff) :] = k
    parts = [k for k, name in enumerate(data.segments) if name in data.things]
    if len(data.classes) == 1:
        parts = [1]
    cells = [(r, c) for r in range(6, SIZE[0], 12) for c in range(6, SIZE[1], 12)]
    for number, cell in enumerate(rng.permutation(cells).tolist(), start=1):
        if rng.random() < gaps or (void and cell == [30, 30]):
            continue
        centre, radii = np.add(cell, rng.uniform(-1, 1, 2)), rng.uniform(3.5, 7, 2)
        inside = (((PIXELS - centre) / radii) ** 2).sum(-1) <= 1
        instance[inside] = number
        label[inside] = parts[0] if data is SOURCES["parts"] else rng.choice(parts)
        if data is SOURCES["parts"]:
            label[inside & (PIXELS[..., 0] > centre[0])] = parts[1]
    if void:
        label[24:36, 24:36] = label[2::5] = VOID
    return label.astype(np.uint8), instance


def example_of(label, instance):
    image = np.zeros((*label.shape, 3), np.uint8)
    return Example("drawn", image, label, instance)


def batch_of(task, data, pictures, size=SIZE):
    """What a step takes of (label, instance) pairs, without the images."""
    found = [task.arrays(data, example_of(*picture), size) for picture in pictures]
    batch = {name: jnp.asarray(np.stack([f[name] for f in found])) for name in found[0]}
    batch["valid"] = batch["label"] != VOID
    return batch | {"label": batch["label"].astype(jnp.int32)}


@functools.partial(jax.jit, static_argnums=0)
def targets_of(task, batch):
    find = functools.partial(targets, objects=task.objects, sigma=task.sigma)
    return jax.vmap(find)(batch["instance"].astype(jnp.int32), batch["valid"])


def perfect_maps(task, data, batch, rng=None):
    """Maps (B, H, W, K) that say nothing but the truth, and noise where it is unknown."""
    heat, offsets, inside = (np.asarray(x) for x in targets_of(task, batch))
    offsets = np.where(inside[..., None], offsets, 0) / task.sigma
    count = len(data.classes)
    logits = 20.0 * (np.asarray(batch["label"])[..., None] == np.arange(count))
    if count == 1:
        logits = 20.0 * np.where(batch["label"] == 1, 1, -1)[..., None]
    if rng is not None:
        unknown = ~np.asarray(batch["valid"])
        logits[unknown] = rng.normal(0, 9, (unknown.sum(), count))
        offsets[unknown] = rng.normal(0, 1, (unknown.sum(), 2))
    return np.concatenate([logits, heat[..., None], offsets], -1).astype(np.float32)


@functools.partial(jax.jit, static_argnums=(0, 1))
def decoded(task, data, predictions):
    return task.decode(data, predictions)


@functools.partial(jax.jit, static_argnums=(0, 1))
def decoded_of(task, data, maps):
    return task.decode(data, task.predictions(data, maps))


@functools.partial(jax.jit, static_argnums=(0, 1))
def measured_of(task, data, found, batch):
    return task.measure(data, found, batch)


def summary_of(task, data, batch, found):
    measured = jax.tree.map(np.asarray, measured_of(task, data, found, batch))
    return task.summary(data, measured, [{}] * len(batch["label"]))


def only_objects(task, found):
    number = np.asarray(found.segments.number)
    return np.where(number <= task.objects, number, 0)


def assert_same_partition(a, b):
    """Each number of one stands for one number of the other, and 0 for 0."""
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
    assert len(pairs[0]) == len(np.unique(a)) == len(np.unique(b))
    np.testing.assert_array_equal(pairs[0] == 0, pairs[1] == 0)


class TestDecode:
    """What perfect maps say is the truth."""

    task = Panoptic(objects=24)

    @all_sources
    @few(max_examples=4)
    @hypothesis.given(seed=seeds)
    def test_finds_the_very_segments(self, data, seed):
        rng = np.random.default_rng(seed)
        batch = batch_of(self.task, data, [draw(rng, data) for _ in range(2)])
        found = decoded_of(self.task, data, perfect_maps(self.task, data, batch))
        np.testing.assert_array_equal(found.label, batch["label"])
        for numbers, true in zip(only_objects(self.task, found), batch["instance"], strict=True):
            assert_same_partition(numbers, np.asarray(true))
        scores = summary_of(self.task, data, batch, found)
        perfect = ("pq", "sq", "rq", "ap50_bowl", "ap_bowl", "mask_ap", "mask_ap75", "dice")
        assert {name: scores[name] for name in perfect} == pytest.approx(dict.fromkeys(perfect, 1))

    @all_sources
    @few(max_examples=4)
    @hypothesis.given(seed=seeds)
    def test_the_unknown_does_not_count(self, data, seed):
        rng = np.random.default_rng(seed)
        batch = batch_of(self.task, data, [draw(rng, data, void=True)])
        found = decoded_of(self.task, data, perfect_maps(self.task, data, batch, rng))
        scores = summary_of(self.task, data, batch, found)
        perfect = ("pq", "ap50_bowl", "ap_bowl", "dice")
        assert {name: scores[name] for name in perfect} == pytest.approx(dict.fromkeys(perfect, 1))

    @all_sources
    def test_stuff_has_one_segment_of_its_category(self, data):
        batch = batch_of(self.task, data, [draw(np.random.default_rng(0), data)])
        found = decoded_of(self.task, data, perfect_maps(self.task, data, batch))
        names = [c["name"] for c in self.task.categories(data)]
        number, category = (np.asarray(x)[0] for x in found.segments[:2])
        for k, name in enumerate(data.classes if len(data.classes) > 1 else ("", "cell")):
            segment = "" if not name else data.segments[k - (len(data.classes) == 1)]
            pixels = number[np.asarray(batch["label"])[0] == k]
            if segment in names:
                assert [names[c - 1] for c in np.unique(category[pixels])] == [segment]
                if segment not in data.things:
                    assert len(np.unique(pixels)) == 1
            else:
                assert not pixels.any()

    @all_sources
    @pytest.mark.parametrize("axes", [(1,), (2,), (1, 2)])
    def test_mirror_images_agree(self, data, axes):
        pictures = [draw(np.random.default_rng(k), data, gaps=0.5) for k in range(2)]
        batch = batch_of(self.task, data, pictures)
        turned = {n: jnp.flip(x, axes) if x.ndim > 1 else x for n, x in batch.items()}
        straight, mirrored = (
            self.task.predictions(data, jnp.asarray(perfect_maps(self.task, data, b)))
            for b in (batch, turned)
        )
        back = self.task.mirrored(data, mirrored, axes)
        np.testing.assert_allclose(back, straight, atol=1e-4)
        for a, b in zip(
            *(decoded(self.task, data, x).segments.number for x in (straight, back)), strict=True
        ):
            assert_same_partition(np.asarray(a), np.asarray(b))

    @all_sources
    def test_predictions_grow_with_the_picture(self, data):
        for seed in range(4):
            batch = batch_of(self.task, data, [draw(np.random.default_rng(seed), data)])
            maps = jnp.asarray(perfect_maps(self.task, data, batch))
            predictions = np.asarray(self.task.predictions(data, maps))[0]
            twice = SIZE[0] * 2, SIZE[1] * 2
            grown = self.task.resized(data, predictions, twice)
            assert grown.shape == (*twice, len(self.task.maps(data)))
            found = decoded(self.task, data, grown[None])
            label, instance = (
                np.asarray(batch[name])[0].repeat(2, 0).repeat(2, 1)
                for name in ("label", "instance")
            )
            np.testing.assert_array_equal(found.label[0], label)
            assert_same_partition(only_objects(self.task, found)[0], instance)

    def test_there_are_at_most_so_many_objects(self):
        label, instance = draw(np.random.default_rng(0), CELLS, gaps=0)
        batch = batch_of(self.task, CELLS, [(label, instance)])
        few_objects = Panoptic(objects=3)
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
            task = dataclasses.replace(self.task, least=least)
            found = decoded_of(task, CELLS, maps)
            areas = np.bincount(np.asarray(found.segments.number).ravel())[1:]
            assert sorted(areas[areas > 0].tolist()) == left
            there = np.asarray(found.segments.category)[0] > 0
            assert there.sum() == len(left)
            assert (np.asarray(found.segments.score)[0][there] > 0.9).all()

    def test_an_object_is_what_most_of_its_pixels_are(self):
        data = SOURCES["a background"]
        instance = np.zeros(SIZE, np.uint16)
        instance[10:20, 10:20] = 1
        label = np.where(instance, 1, 0).astype(np.uint8)
        label[10:14, 10:20] = 2
        batch = batch_of(self.task, data, [(label, instance)])
        segments = decoded_of(self.task, data, perfect_maps(self.task, data, batch)).segments
        assert np.unique(segments.number).tolist() == [0, 1]
        assert self.task.categories(data)[segments.category[0, 1] - 1]["name"] == "cat"

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
        found = Panoptic(objects=3).arrays(CELLS, example, SIZE)["instance"]
        assert found.dtype == np.uint16
        np.testing.assert_array_equal(found, np.select([instance == n for n in (7, 9, 40000)],
                                                       [1, 2, 3]))  # fmt: skip

    def test_more_objects_than_there_is_room_for_are_refused(self):
        label, instance = draw(np.random.default_rng(0), CELLS, gaps=0)
        example = example_of(label, instance)
        Panoptic(objects=20).arrays(CELLS, example, SIZE)
        with pytest.raises(
            InputError, match=r"drawn: has 20 objects.*set --task\.objects 20 or more"
        ):
            Panoptic(objects=19).arrays(CELLS, example, SIZE)

    def test_a_cache_of_more_objects_is_refused(self, tiny, tmp_path):
        more, fewer = (
            dataclasses.replace(
                tiny,
                data=Dancers(train=2, size=32),
                task=Panoptic(objects=n),
                size=(32, 32),
                cache=tmp_path,
            )
            for n in (8, 7)
        )
        input.load(more, "train")
        assert len(input.load(more, "train")) == 2
        with pytest.raises(InputError, match=r"data and task don't give .* so any more"):
            input.load(fewer, "train")


class TestObjective:
    task = Panoptic(Loss(), objects=24, centre=50.0, offset=0.3, sigma=5.0)

    def case(self, data=CELLS, count=2):
        """A batch whose second image is known only in part, and maps."""
        rng = np.random.default_rng(0)
        batch = batch_of(self.task, data, [draw(rng, data, void=True) for _ in range(count)])
        batch["valid"] = batch["valid"].at[1].set(batch["valid"][1] & (rng.random(SIZE) < 0.3))
        channels = len(self.task.maps(data))
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
        value = jax.jit(functools.partial(self.task.objective, CELLS))(maps, batch)
        assert value.dtype == jnp.float32
        assert value == pytest.approx(expected, rel=1e-5)

    @all_sources
    def test_unknown_pixels_have_no_gradient(self, data):
        maps, batch = self.case(data)
        gradient = jax.jit(jax.grad(functools.partial(self.task.objective, data)))(maps, batch)
        np.testing.assert_array_equal(np.any(gradient != 0, axis=-1), batch["valid"])
        at_objects = np.asarray(batch["valid"] & (batch["instance"] > 0))
        np.testing.assert_array_equal(np.all(gradient[..., -2:] != 0, axis=-1), at_objects)

    def test_shares_sum_to_the_whole(self):
        data = SOURCES["stuff"]
        maps, batch = self.case(data, count=4)
        batch["valid"] = batch["valid"].at[0].set(False)
        objective = functools.partial(self.task.objective, data)
        value, gradient = jax.jit(jax.value_and_grad(objective))(maps, batch)

        def sum_of_shares(maps):
            halves = jax.tree.map(lambda x: x.reshape(2, 2, *x.shape[1:]), (maps, batch))
            share = functools.partial(objective, axis_name="halves")
            return jax.vmap(share, axis_name="halves")(*halves).sum()

        total, of_shares = jax.jit(jax.value_and_grad(sum_of_shares))(maps)
        assert total == pytest.approx(float(value), rel=1e-5)
        np.testing.assert_allclose(of_shares, gradient, rtol=1e-4, atol=1e-8)

    def test_nothing_known_costs_nothing(self):
        maps, batch = self.case()
        batch["valid"] = jnp.zeros_like(batch["valid"])
        objective = jax.jit(jax.value_and_grad(functools.partial(self.task.objective, CELLS)))
        value, gradient = objective(maps, batch)
        assert value == 0
        assert not gradient.any()


class TestScores:
    task = Panoptic(objects=24)

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
        data = SOURCES["parts"]
        rng = np.random.default_rng(3)
        batch = batch_of(self.task, data, [draw(rng, data) for _ in range(2)])
        maps = perfect_maps(self.task, data, batch)
        batch["valid"] = batch["valid"].at[1].set(False)
        maps[0] += rng.normal(0, 8, maps[0].shape)
        alone = jax.tree.map(lambda x: x[:1], batch)
        both, one = (
            summary_of(self.task, data, b, decoded_of(self.task, data, m))["per_class"]
            for b, m in ((batch, maps), (alone, maps[:1]))
        )
        assert both == one
        assert one["person"]["fn"] + one["person"]["fp"] > 0

    def test_only_things_are_objects(self):
        data = SOURCES["stuff"]
        batch = batch_of(self.task, data, [draw(np.random.default_rng(0), data)])
        maps = perfect_maps(self.task, data, batch)
        maps[..., [0, 2]] = maps[..., [2, 0]]  # the road for the sky
        scores = summary_of(self.task, data, batch, decoded_of(self.task, data, maps))
        assert scores["ap50_bowl"] == scores["mask_ap"] == 1
        assert {name: of["pq"] for name, of in scores["per_class"].items()} == {
            "road": 0,
            "car": 1,
            "sky": 0,
        }
        assert scores["pq"] == pytest.approx(1 / 3)

    @all_sources
    def test_summary_has_scores_intervals_and_categories(self, data):
        rng = np.random.default_rng(0)
        batch = batch_of(self.task, data, [draw(rng, data) for _ in range(3)])
        maps = perfect_maps(self.task, data, batch)
        maps[..., -3:] += rng.normal(0, 0.1, maps[..., -3:].shape)
        found = decoded_of(self.task, data, maps)
        measured = jax.tree.map(np.asarray, measured_of(self.task, data, found, batch))
        scores = self.task.scores(data, measured)
        assert {self.task.best, "sq", "rq", "ap50_bowl", "dice"} == scores.keys()
        found = self.task.summary(data, measured, [{}] * 3)
        assert {name: found[name] for name in scores} == scores
        assert found.keys() - scores.keys() == {
            "pq_ci95", "ap50_bowl_ci95", "ap_bowl", "mask_ap", "mask_ap50", "mask_ap75", "per_class"
        }  # fmt: skip
        of_segment = [found["per_class"][c["name"]]["pq"] for c in self.task.categories(data)]
        of_class = [found["per_class"][name]["dice"] for name in data.classes]
        assert 0 < scores["pq"] < 1
        assert scores["pq"] == pytest.approx(np.mean(of_segment))
        assert scores["dice"] == pytest.approx(np.mean(of_class))
        for name in ("pq", "ap50_bowl"):
            low, high = found[f"{name}_ci95"]
            assert low <= found[name] <= high
            assert low < high
        assert json.loads(json.dumps(found)) == found


class TestSave:
    task = Panoptic(objects=24)

    @pytest.mark.parametrize("known", [True, False])
    def test_writes_numbers_and_an_overlay(self, tmp_path, known):
        data = SOURCES["stuff"]
        label, instance = draw(np.random.default_rng(0), data)
        batch = batch_of(self.task, data, [(label, instance)])
        found = decoded_of(self.task, data, perfect_maps(self.task, data, batch))
        found = jax.tree.map(lambda x: np.asarray(x)[0], found)
        height, width = 40, 50  # what is decoded was filled up
        truth = example_of(label[:height, :width], instance[:height, :width])
        objects = self.task.save(data, found, tmp_path, "a", truth.image, truth if known else None)
        with Image.open(tmp_path / "predictions" / "a.png") as picture:
            number = np.asarray(picture)
        assert number.dtype == np.uint16
        np.testing.assert_array_equal(number, found.segments.number[:height, :width])
        with Image.open(tmp_path / "overlays" / "a.jpg") as picture:
            assert picture.size == ((2 * width + 2 if known else width), height)
        assert {o["segment"]: o["area"] for o in objects} == {
            n: (number == n).sum() for n in np.unique(number[number > 0])
        }
        names = {c["id"]: c["name"] for c in self.task.categories(data)}
        for each in objects:
            of_label = np.unique(truth.label[number == each["segment"]])
            assert [data.classes[k] for k in of_label] == [names[each["category_id"]]]

    def test_a_very_large_image_is_decoded_at_a_smaller_size(self, tiny, monkeypatch):
        data = SOURCES["stuff"]
        batch = batch_of(self.task, data, [draw(np.random.default_rng(0), data)])
        maps = self.task.predictions(data, perfect_maps(self.task, data, batch))
        maps = np.asarray(maps)[0]
        experiment = dataclasses.replace(tiny, data=data, task=self.task, size=SIZE)
        own = 3 * SIZE[0] + 1, 4 * SIZE[1]
        found = []
        for most in (predict.MOST, 2 * maps.size):
            monkeypatch.setattr(predict, "MOST", most)
            found.append(predict.decoder(experiment)(maps, own))
        whole, smaller = (np.stack([f.label, f.segments.number]) for f in found)
        assert whole.shape == smaller.shape
        assert not smaller[:, own[0] :].any()
        assert (whole[0] == smaller[0]).mean() > 0.97
        assert ((whole[1] > 0) == (smaller[1] > 0)).mean() > 0.97
        assert len(np.unique(whole[1])) == len(np.unique(smaller[1]))

    def test_things_alone_are_not_written_in_the_panoptic_format(self, tiny, tmp_path):
        label, instance = draw(np.random.default_rng(0), CELLS)
        batch = batch_of(self.task, CELLS, [(label, instance)])
        found = decoded_of(self.task, CELLS, perfect_maps(self.task, CELLS, batch))
        found = jax.tree.map(lambda x: np.asarray(x)[0], found)
        image = example_of(label, instance).image
        file = CocoFiles(dataclasses.replace(tiny, data=CELLS, task=self.task))
        file.add(
            "a", {"file_name": "a.png"}, image, self.task.save(CELLS, found, tmp_path, "a", image)
        )
        file.write(tmp_path)
        written = [path.name for path in (tmp_path / "predictions").iterdir()]
        assert sorted(written) == ["a.png", "coco.json"]


IDS = {"car": 3, "road": 149, "sky": 187}
NAMES = "000000000139", "000000000785", "000000001000"
COCO = Drawn(*2 * (tuple(IDS),), ("car",))


def write_truth(root, pictures):
    """COCO's panoptic format; images have no suffix, as evaluation names them by their ids."""
    annotations = []
    (root / "val2017").mkdir()
    (root / "annotations/panoptic_val2017").mkdir(parents=True)
    for name, (label, instance) in zip(NAMES, pictures, strict=True):
        ids = np.where(instance > 0, 70000 + instance.astype(int), 1 + label)
        ids[label == VOID] = 0
        infos = [
            {
                "id": int(one),
                "category_id": IDS[COCO.classes[label[ids == one][0]]],
                "area": int((ids == one).sum()),
                "iscrowd": 0,
            }
            for one in np.unique(ids[ids > 0])
        ]
        png = f"{name}.png"
        annotations.append({"image_id": int(name), "file_name": png, "segments_info": infos})
        pixels = np.stack([ids >> shift & 255 for shift in (0, 8, 16)], -1).astype(np.uint8)
        Image.fromarray(pixels).save(root / "annotations/panoptic_val2017" / png)
        Image.fromarray(pixels).save(root / "val2017" / name, format="PNG")
    height, width = SIZE
    content = {
        "images": [
            {"id": int(name), "file_name": name, "height": height, "width": width} for name in NAMES
        ],
        "annotations": annotations,
        "categories": [
            {"id": id, "name": name, "isthing": int(name == "car")} for name, id in IDS.items()
        ],
    }
    truth = "annotations/panoptic_val2017.json"
    (root / truth).write_text(json.dumps(content))
    return CocoPanoptic(root, train_json=truth, train_images="val2017")


@pytest.fixture(scope="module")
def evaluated(tiny, tmp_path_factory):
    """What evaluation writes of noisy maps, beside a truth in COCO's format."""
    task = Panoptic(objects=255)  # stuff comes after, and needs a second byte
    rng, root = np.random.default_rng(0), tmp_path_factory.mktemp("coco")
    pictures = [draw(rng, COCO, void=k > 0) for k in range(3)]
    source = write_truth(root, pictures)
    size = 32, 40
    batch = batch_of(task, COCO, pictures, size)
    maps = perfect_maps(task, COCO, batch, rng)
    maps[1:] += rng.normal(0, 1, (2, 1, 1, 6)) + rng.normal(0, 0.5, maps[1:].shape)
    predictions = np.asarray(task.predictions(COCO, maps))
    experiment = dataclasses.replace(
        tiny, data=source, task=task, size=size, batch_size=3, workdir=root / "run"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("seg_jax.inference.evaluate.load", lambda *_: (experiment, {"params": {}}, 0))
        patch.setattr("seg_jax.inference.evaluate.predictor", lambda *_: lambda images: predictions)
        return experiment, evaluate(experiment.workdir)


class TestCocosPanopticFormat:
    @staticmethod
    def segments(path):
        """Ids and categories of each image's segments, as panopticapi reads them."""
        for each in json.loads(path.read_text())["annotations"]:
            with Image.open(path.with_suffix("") / each["file_name"]) as picture:
                number = np.asarray(picture, int) @ [1, 256, 65536]
            category = {info["id"]: info["category_id"] for info in each["segments_info"]}
            assert set(category) == set(np.unique(number[number > 0]).tolist())
            yield Segments(number, category, None)

    def test_is_read_as_what_was_found(self, evaluated):
        experiment, _ = evaluated
        predictions = experiment.workdir / "predictions"
        source = dataclasses.replace(experiment.data, test_json=str(predictions / "panoptic.json"))
        for name, example in zip(NAMES, source.read("test"), strict=True):
            with Image.open(predictions / f"{name}.png") as picture:
                number = np.asarray(picture).astype(int)
            of_stuff = number - experiment.task.objects - 1
            label = np.where(number == 0, VOID, np.where(of_stuff < 0, 0, of_stuff))
            np.testing.assert_array_equal(example.label, label)
            objects = np.where(of_stuff < 0, number, 0)
            assert_same_partition(example.instance, objects)
            assert objects.any()

    def test_panopticapi_gives_the_same_scores(self, evaluated):
        experiment, scores = evaluated
        found = self.segments(experiment.workdir / "predictions" / "panoptic.json")
        true = self.segments(experiment.data.root / experiment.data.test_json)
        images = [(f, t, t.number > 0) for f, t in zip(found, true, strict=True)]
        counts, expected = quality_by_sets(images, IDS.values())
        total = sum(counts.values(), collections.Counter())
        assert min(total[name] for name in ("tp", "fp", "fn")) > 0
        for name, values in expected.items():
            assert scores["own_size"][name] == pytest.approx(np.nanmean(values))

    def test_numbers_are_those_of_the_data(self, evaluated):
        experiment, _ = evaluated
        found, objects = (
            json.loads((experiment.workdir / "predictions" / f"{name}.json").read_text())
            for name in ("panoptic", "coco")
        )
        true = json.loads((experiment.data.root / experiment.data.test_json).read_text())
        assert found["images"] == objects["images"] == true["images"]
        assert found["categories"] == true["categories"]
        assert objects["categories"] == true["categories"][:1]
        assert [a["image_id"] for a in found["annotations"]] == [139, 785, 1000]
        things = {
            (a["image_id"], info["id"], info["area"], *info["bbox"])
            for a in found["annotations"]
            for info in a["segments_info"]
            if info["category_id"] == 3
        }
        assert things == {
            (a["image_id"], a["segment"], a["area"], *a["bbox"]) for a in objects["annotations"]
        }
        assert {a["category_id"] for a in objects["annotations"]} == {3}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": Nevi()}, r"data: Nevi has no objects.* set task=Semantic\(\)"),
        ({"data": Folder()}, r"data: Folder has no objects.* Folder\(instances=True\)"),
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
    ("field", "value", "mend"),
    [
        ("sigma", 0.0, "above 0"),
        ("window", 4, "odd"),
        ("objects", 0, "from 1"),
        ("objects", 2**15, "to 32767"),
    ],
)
def test_settings_that_make_no_sense_are_refused(field, value, mend):
    with pytest.raises(InputError, match=rf"task\.{field} is {value}; it must be .*{mend}"):
        Panoptic(**{field: value})


def test_four_images_are_learnt_by_heart():
    rng = np.random.default_rng(0)
    task = Panoptic(Loss(dice=1.0), objects=6, sigma=3.0, centre=30.0, offset=0.3, window=5)
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
    step = jax.jit(make_train_step(model, adam, objective, augmentation=Augment(), seed=0))
    index = {"epoch": np.zeros(4, np.int32), "index": np.arange(4, dtype=np.int32)}
    for _ in range(150):
        state, _ = step(state, batch | index)

    def measure(maps, batch):
        return task.measure(CELLS, task.decode(CELLS, task.predictions(CELLS, maps)), batch)

    measured, _ = jax.jit(make_eval_step(model, objective, measure))(state.variables, batch)
    assert task.scores(CELLS, jax.tree.map(np.asarray, measured))["pq"] > 0.9


def test_an_experiment_goes_all_the_way(tiny, tmp_path):
    experiment = dataclasses.replace(
        tiny,
        data=Dancers(train=8, val=4, test=3, size=32),
        task=Panoptic(objects=8),
        model=UNet(outputs=9, features=(4, 8)),
        size=(32, 32),
        epochs=2,
        workdir=tmp_path,
    )
    cli.run_experiment(experiment)
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert (scores["n"], scores["best"]) == (3, "pq")
    assert 0 <= scores["pq"] <= 1
    assert {"mask_ap", "ap50_bowl", "dice"} <= scores.keys() & scores["own_size"].keys()
    assert {"wall", "floor", "person"} <= scores["per_class"].keys()
    assert (tmp_path / "report.html").exists()
    assert len(list((tmp_path / "predictions").glob("*.png"))) == 3
    assert len(list((tmp_path / "overlays").glob("*.jpg"))) == 3


def test_fields_in_pixels_grow_with_the_picture():
    """Two centres four pixels apart are one at this size, and one at twice the size."""
    data, task = Dancers(), Panoptic(sigma=2, window=9, objects=4, least=20, threshold=0.3)
    row, column = np.mgrid[:32, :32]
    heat = np.maximum(*(np.exp(-((row - 16) ** 2 + (column - c) ** 2) / 8) for c in (14, 18)))
    maps = np.zeros((32, 32, 9), np.float32)
    maps[8:24, 8:24, 3] = 20  # a torso
    maps[..., 0] = 10
    maps[..., 6] = heat
    predictions = np.asarray(task.predictions(data, maps[None]))[0]
    larger = task.resized(data, predictions, (64, 64))
    counts = [
        int((task.decode(data, x[None], scale=scale).segments.category[0, 1:5] > 0).sum())
        for x, scale in ((predictions, 1.0), (larger, 1.0), (larger, 2.0))
    ]
    assert counts == [1, 2, 1]


@pytest.mark.parametrize("window", [3, 5])
def test_a_window_holds_a_neighbour_however_small_the_picture(window):
    data, task = Dancers(), Panoptic(window=window, objects=8, least=1, threshold=0.3)
    row, column = np.mgrid[:16, :16]
    maps = np.zeros((1, 16, 16, 9), np.float32)
    maps[..., 3] = 20
    maps[..., 6] = np.exp(-((row - 8) ** 2 + (column - 8) ** 2) / 8)
    segments = task.decode(data, task.predictions(data, maps), scale=0.25).segments
    assert int((segments.category[0, 1:9] > 0).sum()) == 1
