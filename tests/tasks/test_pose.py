import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageDraw
from records import images_of, records_of
from scipy import special

from seg_jax import cli
from seg_jax.datasets import CocoKeypoints, Dancers, Nevi
from seg_jax.datasets.images import read_image
from seg_jax.errors import InputError
from seg_jax.inference import predictor
from seg_jax.labels import VOID, Example, Labels, Skeleton
from seg_jax.losses import total_of
from seg_jax.models import UNet
from seg_jax.optimiser import AdamW
from seg_jax.pipeline.augment import Augment, augment
from seg_jax.resize import Resize, resize_points
from seg_jax.run.config import Experiment, check
from seg_jax.run.load import load
from seg_jax.run.predict import predict_files
from seg_jax.step import init_state, make_train_step, normalise, to_float
from seg_jax.tasks import Pose
from seg_jax.tasks.pose import LOGIT_OFFSET
from seg_jax.tasks.skeletons import heat_maps, part_affinity

DANCERS, KEYPOINTS = Dancers().labels, CocoKeypoints().labels
FINE = Pose(sigma=1.5, width=1.0, max_people=8)
SHAPE = 20, 28
each_skeleton = pytest.mark.parametrize("labels", [DANCERS, KEYPOINTS], ids=["LSP", "COCO"])


@functools.partial(jax.jit, static_argnums=(0, 1, 3))
def perfect(task, labels, joints, shape=SHAPE):
    """Predictions of joints (B, P, J, 3) without error."""
    heat = heat_maps(joints, shape, sigma=task.sigma)
    fields = part_affinity(joints, labels.skeleton.limbs, shape, width=task.width)
    return jnp.concatenate([heat, fields], -1)


decode = jax.jit(FINE.decode, static_argnums=0)


def maps_of(labels, predictions):
    """The maps that a network gives for predictions."""
    count = len(labels.skeleton.joints)
    heat = np.clip(np.float64(predictions[..., :count]), 1e-12, 1 - 1e-12)
    maps = np.concatenate([special.logit(heat) + LOGIT_OFFSET, predictions[..., count:]], -1)
    return maps.astype(np.float32)


def anyone(labels, batch=1, people=3, shape=SHAPE):
    """People at whole pixels, so that a mirror image is exact; a fifth of the joints unlabelled."""
    rng = np.random.default_rng(0)
    size = batch, people, len(labels.skeleton.joints)
    places = [rng.integers(0, side, size) for side in shape[::-1]]
    joints = np.stack([*places, rng.choice([0, 1, 2], size, p=[0.2, 0.2, 0.6])], -1)
    return np.where(joints[..., 2:] > 0, joints, 0).astype(np.float32)


def flipped(joints, axes, shape=SHAPE):
    """The joints where they are in the flipped picture, under their old names."""
    moved = joints.copy()
    for axis in axes:
        moved[..., 2 - axis] = shape[axis - 1] - 1 - joints[..., 2 - axis]
    return np.where(joints[..., 2:] > 0, moved, 0)


def renamed(labels, joints, axes):
    """Left and right change places where one axis is flipped; two are half a turn."""
    return joints[:, :, list(labels.skeleton.mirrored)] if len(axes) == 1 else joints


def batch_of(joints, shape=SHAPE):
    count = len(joints)
    return {
        "label": np.zeros((count, *shape), np.int32),
        "valid": np.ones((count, *shape), bool),
        "joints": joints,
        "area": np.ones(joints.shape[:2], np.float32),
        "mirrored": np.zeros(count, bool),
    }


def arrays_of(task, labels, examples, size):
    found = [task.arrays(labels, example, size) for example in examples]
    arrays = {name: np.stack([f[name] for f in found]) for name in found[0]}
    return arrays | {"valid": arrays["label"] != VOID}


def stands_clear(example):
    """Whether maps can hold everybody: whole in the frame, and no two joints of a name meet."""
    joints = example.joints
    far = np.linalg.norm(joints[:, None, :, :2] - joints[None, :, :, :2], axis=-1).min(-1)
    return (joints[..., 2] > 0).all() and (far + 99 * np.eye(len(joints)) > 4).all()


@pytest.fixture(scope="module")
def clear():
    """Pictures of 96 pixels a side of one to three dancers, all whole."""
    drawn = Dancers(train=20, size=96, people=(1, 3)).read("train")
    found = [example for example in drawn if stands_clear(example)]
    assert len(found) >= 6
    assert max(len(example.joints) for example in found) == 3
    return found


@pytest.mark.parametrize(
    ("labels", "joints", "fields", "first"),
    [
        (DANCERS, 14, 26, "right_ankle to right_knee"),
        (KEYPOINTS, 17, 38, "left_ankle to left_knee"),
    ],
    ids=["LSP", "COCO"],
)
def test_maps_are_the_joints_and_two_for_each_limb(labels, joints, fields, first):
    maps = Pose().maps(labels)
    assert maps[:joints] == labels.skeleton.joints
    assert maps[joints : joints + 2] == (f"{first}, x", f"{first}, y")
    assert len(maps) == len(set(maps)) == joints + fields


class TestArrays:
    # 48 rows and 64 columns; a corner, a centre, and an unlabelled joint whose place is rubbish.
    joints = np.zeros((2, 14, 3), np.float32)
    joints[0, :3] = (63.5, 47.5, 2), (31.5, 23.5, 1), (9, 9, 0)
    joints[1, 13] = 0, 0, 2
    example = Example(
        "two",
        np.zeros((48, 64, 3), np.uint8),
        np.tile(np.uint8([[0], [1]]), (24, 64)),
        joints=joints,
        area=np.float32([100, 8]),
    )

    def test_joints_and_area_are_at_the_size_asked_for(self):
        found = Pose(max_people=4).arrays(DANCERS, self.example, (24, 96))
        assert {name: (x.shape, x.dtype) for name, x in found.items()} == {
            "label": ((24, 96), np.uint8),
            "joints": ((4, 14, 3), np.float32),
            "area": ((4,), np.float32),
            "mirrored": ((), bool),
        }
        expected = np.zeros((4, 14, 3))
        expected[0, :2] = (95.5, 23.5, 2), (47.5, 11.5, 1)
        expected[1, 13] = 0.25, -0.25, 2
        np.testing.assert_allclose(found["joints"], expected, atol=1e-5)
        np.testing.assert_allclose(found["area"], [75, 6, 0, 0])
        assert not found["mirrored"]

    def test_too_many_people_are_refused(self):
        message = r"two: has 2 people, but task\.max_people is 1; set --task\.max-people 2 or more"
        with pytest.raises(InputError, match=message):
            Pose(max_people=1).arrays(DANCERS, self.example, (24, 96))


class TestRoundTrip:
    def test_perfect_maps_have_perfect_scores(self, clear):
        batch = arrays_of(FINE, DANCERS, clear, (96, 96))
        found = decode(DANCERS, perfect(FINE, DANCERS, batch["joints"], (96, 96)))
        records = records_of(FINE, DANCERS, FINE.measure(DANCERS, found, batch))
        scores = FINE.scores(DANCERS, records)
        assert scores == dict.fromkeys(("ap", "ap50", "ap75", "ar", "pck"), pytest.approx(1))
        summary = FINE.summary(DANCERS, records, [])
        assert summary["ap_ci95"] == [1, 1]
        assert summary["per_class"] == {name: {"pck": 1} for name in DANCERS.skeleton.joints}

    def test_a_joint_that_was_missed_costs_its_own_score(self, clear):
        batch = arrays_of(FINE, DANCERS, clear, (96, 96))
        maps = perfect(FINE, DANCERS, batch["joints"], (96, 96)).at[..., 13].set(0)
        measured = FINE.measure(DANCERS, decode(DANCERS, maps), batch)
        summary = FINE.summary(DANCERS, records_of(FINE, DANCERS, measured), details=[])
        by_joint = [of["pck"] for of in summary["per_class"].values()]
        assert by_joint == [1] * 13 + [0]
        assert summary["pck"] == pytest.approx(13 / 14)
        assert 0 < summary["ap"] < 1

    @pytest.mark.parametrize(("unknown", "forgiven"), [(14, True), (8, True), (6, False)])
    def test_who_is_found_in_a_crowd_is_no_false_alarm(self, clear, unknown, forgiven):
        """In the second picture; in the first, where all is known, the first dancer stays one."""
        dancers = sorted(clear, key=lambda e: len(e.joints))[-2:]
        batch = arrays_of(FINE, DANCERS, dancers, (96, 96))
        found = decode(DANCERS, perfect(FINE, DANCERS, batch["joints"], (96, 96)))
        first = batch["joints"][1, 0, :unknown, :2].round().astype(int)
        batch["valid"][1, first[:, 1], first[:, 0]] = False

        def ap(picture):
            return FINE.scores(DANCERS, [records_of(FINE, DANCERS, measured)[picture]])["ap"]

        measured = FINE.measure(DANCERS, found, batch)
        assert ap(1) == pytest.approx(1)  # also who is labelled though nothing is known there
        batch["joints"] = np.roll(batch["joints"], -1, 1)
        batch["joints"][:, -1] = 0  # the first dancers aren't labelled
        batch["area"] = np.roll(batch["area"], -1, 1)
        measured = FINE.measure(DANCERS, found, batch)
        assert ap(0) < 1
        assert (ap(1) == pytest.approx(1)) == forgiven

    def test_void_images_change_no_score(self, clear):
        dancers = sorted(clear, key=lambda e: len(e.joints))[-3:]
        batch = arrays_of(FINE, DANCERS, dancers, (96, 96))
        maps = perfect(FINE, DANCERS, batch["joints"], (96, 96)).at[..., 13].set(0)
        maps = maps.at[1].set(0)  # nobody is found
        batch["valid"][1] = False
        every = records_of(FINE, DANCERS, FINE.measure(DANCERS, decode(DANCERS, maps), batch))
        known = [every[0], every[2]]
        assert FINE.summary(DANCERS, every, []) == FINE.summary(DANCERS, known, [])
        assert 0 < FINE.scores(DANCERS, every)["ap"] < 1
        assert np.isnan([*FINE.scores(DANCERS, every[1:2]).values()]).all()

    def test_who_is_unsure_is_dropped(self, clear):
        """Maps of half the height: joints count a half, limbs an eighth."""
        batch = arrays_of(FINE, DANCERS, clear, (96, 96))
        maps = perfect(FINE, DANCERS, batch["joints"], (96, 96)) / 2
        found = images_of(decode(DANCERS, maps))[0]
        for least, count in ((0.5, len(clear[0].joints)), (0.7, 0)):
            task = dataclasses.replace(FINE, min_score=least)
            assert len(task.found(DANCERS, found, (96, 96)).skeletons) == count

    @each_skeleton
    def test_limbs_count_by_the_heights_of_their_joints(self, labels):
        limbs = np.array(labels.skeleton.limbs)
        heights = np.linspace(0.3, 0.9, len(labels.skeleton.joints), dtype=np.float32)
        maps = perfect(FINE, labels, anyone(labels))
        whole = decode(labels, maps).candidates
        lower = decode(labels, maps.at[..., : len(heights)].multiply(heights)).candidates
        assert whole.limbs.any()
        ends = heights[limbs].prod(-1)[:, None, None]
        np.testing.assert_allclose(lower.limbs, whole.limbs * ends, rtol=1e-4, atol=1e-6)

    @each_skeleton
    def test_nobody_is_found_on_empty_maps(self, labels):
        joints = len(labels.skeleton.joints)
        maps = jnp.zeros((1, *SHAPE, len(FINE.maps(labels))))
        found = FINE.found(labels, images_of(decode(labels, maps))[0], SHAPE)
        assert found.skeletons.shape == (0, joints, 3)
        assert found.skeleton_scores.shape == (0,)


class TestMirrored:
    @pytest.mark.parametrize("axes", [(1,), (2,), (1, 2)])
    @each_skeleton
    def test_maps_of_the_mirror_image_come_back_as_the_pictures_own(self, labels, axes):
        joints = anyone(labels)
        maps = perfect(FINE, labels, joints)
        seen = perfect(FINE, labels, renamed(labels, flipped(joints, axes), axes))
        np.testing.assert_allclose(FINE.mirrored(labels, seen, axes), maps, atol=1e-6)
        assert np.abs(jnp.flip(seen, axes) - maps).max() > 0.5

    @pytest.mark.parametrize("axes", [(), (1,), (2,), (1, 2)])
    @each_skeleton
    def test_twice_is_as_if_never(self, labels, axes):
        maps = jax.random.normal(jax.random.key(0), (2, *SHAPE, len(FINE.maps(labels))))
        once = FINE.mirrored(labels, maps, axes)
        np.testing.assert_array_equal(FINE.mirrored(labels, once, axes), maps)
        assert bool((once == maps).all()) == (axes == ())


@each_skeleton
def test_predictions_are_heat_maps_and_fields(labels):
    truth = perfect(FINE, labels, anyone(labels))
    predictions = FINE.predictions(labels, maps_of(labels, truth), SHAPE)
    np.testing.assert_allclose(predictions, truth, atol=1e-6)


def loss_of(task, labels, maps, batch):
    return total_of(task.objective(labels, maps, batch))


class TestObjective:
    @each_skeleton
    def test_left_and_right_change_places_in_a_mirror_image(self, labels):
        """Flips by `augment` on the one hand, and on the other by hand."""
        joints, many, count = anyone(labels), 24, len(labels.skeleton.joints)
        image = np.random.default_rng(1).random((*SHAPE, 3), np.float32)
        one = batch_of(joints) | {"image": image[None]}
        batch = {name: np.repeat(x, many, 0) for name, x in one.items()}
        keys = jax.random.split(jax.random.key(0), many)
        batch = augment(Augment(flip=True, flip_vertical=True), keys, batch, FINE.kinds)

        @jax.jit
        def losses(batch, maps):
            """Of each example against the same maps."""
            of = functools.partial(loss_of, FINE, labels, maps)
            return jax.vmap(of)(jax.tree.map(lambda x: x[:, None], batch))

        seen = 0
        for axes in [(), (1,), (2,), (1, 2)]:
            shown = np.array(
                [(x == np.flip(image, [a - 1 for a in axes])).all() for x in batch["image"]]
            )
            moved = flipped(joints, axes)
            right = perfect(FINE, labels, renamed(labels, moved, axes))
            heat = np.float64(right[..., :count])
            entropy = FINE.heat_weight * (special.entr(heat) + special.entr(1 - heat)).mean()
            least = losses(batch, maps_of(labels, right)) < entropy + 1e-4
            np.testing.assert_array_equal(least, shown)
            if len(axes) == 1:
                named_wrongly = maps_of(labels, perfect(FINE, labels, moved))
                assert (losses(batch, named_wrongly) > entropy + 0.1).all()
            assert shown.any()
            seen += shown.sum()
        assert seen == many

    def test_is_the_mean_of_cross_entropy_and_weighed_squares_over_valid_pixels(self):
        task, joints = (
            Pose(heat_weight=7.0, field_weight=3.0, balance=5.0, max_people=3),
            anyone(DANCERS, batch=2),
        )
        rng = np.random.default_rng(0)
        batch = batch_of(joints) | {"valid": rng.random((2, *SHAPE)) < 0.6}
        maps = rng.normal(size=(2, *SHAPE, 40)).astype(np.float32)
        truth = np.asarray(perfect(task, DANCERS, joints))
        heat, p = truth[..., :14], special.expit(np.float64(maps[..., :14]) - LOGIT_OFFSET)
        entropy = -(special.xlogy(heat, p) + special.xlog1py(1 - heat, -p))
        square = (maps - truth)[..., 14:] ** 2
        on_limb = np.repeat((truth[..., 14::2] ** 2) + truth[..., 15::2] ** 2, 2, axis=-1)
        expected = 7 * entropy.mean(-1) + 3 * ((1 + 5 * on_limb) * square).mean(-1)
        objective = functools.partial(loss_of, task, DANCERS)
        value, gradient = jax.jit(jax.value_and_grad(objective))(maps, batch)
        np.testing.assert_allclose(value, expected[batch["valid"]].mean(), rtol=1e-5)
        np.testing.assert_array_equal((gradient != 0).any(-1), batch["valid"])

    def test_a_cell_is_valid_if_all_of_its_pixels_are(self):
        joints = anyone(DANCERS)
        batch = batch_of(joints)
        batch["valid"][0, 3, 8] = False
        cells = SHAPE[0] // 2, SHAPE[1] // 2
        maps = jax.random.normal(jax.random.key(0), (1, *cells, 40))
        gradient = jax.jit(jax.grad(functools.partial(loss_of, FINE, DANCERS)))(maps, batch)
        expected = np.ones((1, *cells), bool)
        expected[0, 1, 4] = False
        np.testing.assert_array_equal((gradient != 0).any(-1), expected)

    def test_coarse_maps_are_those_of_the_picture_at_their_size(self):
        """Up to the place of the cells' centres, which are between pixels."""
        coarse, joints = Pose(sigma=4, width=3, max_people=3), anyone(DANCERS)
        small = resize_points(joints[..., :2], SHAPE, cells := (SHAPE[0] // 2, SHAPE[1] // 2))
        small = np.concatenate([small, joints[..., 2:]], -1)
        maps = jax.random.normal(jax.random.key(0), (1, *cells, 40))
        fine = Pose(sigma=2, width=1.5, max_people=3)
        values = (
            jax.jit(functools.partial(loss_of, task, DANCERS))(maps, batch)
            for task, batch in ((coarse, batch_of(joints)), (fine, batch_of(small, cells)))
        )
        np.testing.assert_allclose(*values, rtol=1e-5)

    def test_parts_of_a_batch_add_up_to_the_whole(self):
        joints = anyone(DANCERS, batch=6)
        batch = batch_of(joints)
        batch["valid"][:2] = False  # the first part has no valid pixel, the next one and a half
        batch["valid"][2, 10:] = False
        batch["mirrored"][3:5] = True
        maps = jax.random.normal(jax.random.key(0), (6, *SHAPE, 40))
        objective = functools.partial(FINE.objective, DANCERS)
        whole = jax.jit(objective)(maps, batch)
        split = jax.tree.map(lambda x: x.reshape(3, 2, *x.shape[1:]), (maps, batch))
        parts = jax.jit(jax.vmap(objective))(*split)
        assert whole.keys() == parts.keys() == {"heat", "field"}
        for name, part in parts.items():
            assert part.total[0] == part.weight[0] == 0
            np.testing.assert_allclose(part.total.sum(), whole[name].total, rtol=1e-5)
            np.testing.assert_allclose(part.weight.sum(), whole[name].weight)


def test_a_very_large_image_is_decoded_at_a_smaller_size(clear, monkeypatch):
    size = 64, 80  # another shape than the image's
    joints = FINE.arrays(DANCERS, clear[0], size)["joints"]
    maps = perfect(FINE, DANCERS, joints[None], size)[0]
    of_task = predictor.Predictor(FINE, DANCERS, channels=3, multiple=1, maps=None)
    people = []
    for most in (predictor.MAX_DECODED, 2 * maps.size):
        monkeypatch.setattr(predictor, "MAX_DECODED", most)
        people.append(FINE.found(DANCERS, of_task.decode(maps, (640, 800)), (640, 800)).skeletons)
    whole, smaller = people
    assert len(whole) == len(clear[0].joints)
    np.testing.assert_allclose(smaller[..., :2], whole[..., :2], atol=4)  # of 800


@pytest.mark.parametrize(
    ("data", "outputs", "message"),
    [
        (Nevi(), 1, r"data: has no joints; choose a data set of people, such as Dancers, .*"),
        (
            Dancers(),
            2,
            r"model\.outputs is 2, but task and data need 40 maps \(right_ankle … neck to head_top,"
            r" y\); set --model\.outputs 40",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(data, outputs, message):
    experiment = Experiment("pose", UNet(outputs=outputs), data, Pose())
    with pytest.raises(InputError, match=message):
        check(experiment, devices=1)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_the_network_may_have_any_stride(stride):
    check(Experiment("pose", UNet(stride=stride), Dancers(), Pose()), devices=1)


@pytest.mark.parametrize("field", ["sigma", "width", "max_people"])
def test_zero_is_refused_by_name(field):
    with pytest.raises(InputError, match=rf"task\.{field} is 0; it must be "):
        Pose(**{field: 0})


def test_a_run_goes_all_the_way(tiny, tmp_path, monkeypatch):
    workdir = tmp_path / "run"
    entries = {f"dancers{n:04}": {"id": 9 - n, "file_name": f"{n}.jpg"} for n in range(20)}
    monkeypatch.setattr(Dancers, "image_entries", lambda self, part: entries)
    experiment = dataclasses.replace(
        tiny,
        model=UNet(outputs=40, features=(4, 8)),
        data=Dancers(train=8, val=4, test=3, size=32),
        task=Pose(max_people=8),
        augment=Augment(flip=True),
        size=(32, 32),
        epochs=1,
        workdir=workdir,
    )
    cli.run_experiment(experiment)
    evaluation = workdir / "evaluations" / "test"
    scores = json.loads((evaluation / "scores.json").read_text())
    assert (scores["n"], scores["best"]) == (3, "ap")
    assert 0 <= scores["ap_ci95"][0] <= scores["ap"] <= scores["ap_ci95"][1] <= 1
    assert 0 <= scores["pck"] <= 1
    assert list(scores["per_class"]) == list(DANCERS.skeleton.joints)
    assert (workdir / "report.html").stat().st_size > 1000
    assert len(list((evaluation / "overlays").iterdir())) == 3
    images = json.loads((evaluation / "predictions" / "coco.json").read_text())["images"]
    assert [{name: image[name] for name in ("id", "file_name")} for image in images] == [
        entries[path.stem] for path in sorted((evaluation / "overlays").iterdir())
    ]

    picture, out = tmp_path / "someone.png", tmp_path / "out"
    Image.fromarray(np.full((50, 70, 3), 90, np.uint8)).save(picture)
    assert predict_files(load(workdir), [picture], out) == 1
    (image,) = json.loads((out / "predictions" / "coco.json").read_text())["images"]
    assert image == {"id": 1, "file_name": "someone.png", "height": 50, "width": 70}
    assert read_image(out / "overlays" / "someone.jpg").shape == (50, 70, 3)


PUPPETS = Labels(
    ("background", "puppet"),
    skeleton=Skeleton(
        joints=("left_shoulder", "right_shoulder", "left_hip", "right_hip"),
        limbs=((0, 1), (0, 2), (1, 3)),
        mirrored=(1, 0, 3, 2),
        sigmas=(0.079, 0.079, 0.107, 0.107),
    ),
)


def puppets():
    """Two pictures of one puppet each, whose joints are discs in colours of their own."""
    colours = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))
    for name, corner in (("a", (5, 6)), ("b", (13, 9))):
        joints = np.add(corner, [(12, 0), (0, 2), (10, 14), (3, 15)])
        picture = Image.new("RGB", (32, 32), (40, 40, 40))
        pen = ImageDraw.Draw(picture)
        for a, b in PUPPETS.skeleton.limbs:
            pen.line([*joints[a], *joints[b]], (200, 200, 200))
        for joint, colour in zip(joints, colours, strict=True):
            pen.circle(joint.tolist(), 2, colour)
        seen = np.concatenate([joints, np.full((4, 1), 2)], 1).astype(np.float32)
        label = np.zeros((32, 32), np.uint8)
        yield Example(name, np.asarray(picture), label, joints=seen[None], area=np.float32([200]))


@pytest.mark.parametrize("stride", [1, 2])
def test_two_pictures_are_learnt_by_heart(stride):
    size, steps = (32, 32), 160
    task = Pose(sigma=1.5 * stride, width=1.5, max_people=2)
    examples = list(puppets())
    batch = arrays_of(task, PUPPETS, examples, size) | {
        "image": np.stack([example.image for example in examples]),
        "epoch": np.zeros(2, np.int32),
        "index": np.arange(2, dtype=np.int32),
    }
    features = (16,) * stride + (32,)
    model = UNet(outputs=len(task.maps(PUPPETS)), features=features, stride=stride)
    optimiser, _ = AdamW(learning_rate=1e-2).chain(steps)
    objective = functools.partial(task.objective, PUPPETS)
    step = make_train_step(
        model, optimiser, objective, augmentation=Augment(), seed=0, kinds=task.kinds
    )
    step = jax.jit(step)
    state = init_state(model, optimiser, seed=0, shape=(*size, 3))
    for _ in range(steps):
        state, _ = step(state, batch)

    @jax.jit
    def found(variables):
        maps = model.apply(variables, normalise(to_float(batch["image"])), train=False)
        return task.decode(PUPPETS, task.predictions(PUPPETS, maps, size))

    measured = task.measure(PUPPETS, found(state.variables), batch)
    scores = task.scores(PUPPETS, records_of(task, PUPPETS, measured))
    assert scores["pck"] > 0.9
    assert scores["ap"] > 0.9


def test_fields_turn_with_their_limbs_where_the_aspect_ratio_changes():
    (a, b), *_ = DANCERS.skeleton.limbs
    square, wide = (32, 32), (32, 96)
    joints = np.zeros((1, 1, len(DANCERS.skeleton.joints), 3), np.float32)
    joints[0, 0, [a, b]] = [[6, 8, 2], [24, 26, 2]]
    stretched = joints.copy()
    stretched[..., :2] = resize_points(joints[..., :2], square, wide)
    maps, expected = (
        perfect(Pose(), DANCERS, x, shape) for x, shape in ((joints, square), (stretched, wide))
    )
    x, y = stretched[0, 0, [a, b], :2].mean(0).round().astype(int)
    limb = slice(joints.shape[2], joints.shape[2] + 2)
    found = Pose().resized(DANCERS, maps, Resize.between(square, wide))
    assert expected[0, y, x, limb].any()
    np.testing.assert_allclose(found[0, y, x, limb], expected[0, y, x, limb], atol=1e-3)


@pytest.mark.parametrize("stride", [2, 4])
def test_joints_keep_their_place_between_cells(stride):
    task = Pose(sigma=1.25 * stride, max_people=1)
    side, cells = 24 * stride, (24, 24)
    rng = np.random.default_rng(0)
    joints = np.full((1, 1, len(DANCERS.skeleton.joints), 3), 2, np.float32)
    joints[..., :2] = rng.uniform(4 * stride, 20 * stride, (*joints.shape[:-1], 2))
    heat = heat_maps(joints, cells, sigma=task.sigma, stride=stride)
    maps = maps_of(DANCERS, np.concatenate([heat, np.zeros((1, *cells, 26))], -1))
    predictions = task.predictions(DANCERS, maps, (side, side))
    assert predictions.shape == (1, side, side, 40)
    found = task.decode(DANCERS, predictions).candidates.joints
    places = np.stack([found.x, found.y], -1)[0, :, 0]
    np.testing.assert_allclose(places, joints[0, 0, :, :2], atol=0.1)


@pytest.mark.parametrize("times", [3, 4])
def test_joints_keep_their_place_between_pixels_at_a_larger_size(times):
    size, larger = (48, 48), (48 * times, 48 * times)
    task = Pose(sigma=2.5, max_people=1)
    rng = np.random.default_rng(0)
    joints = np.full((1, 1, len(DANCERS.skeleton.joints), 3), 2, np.float32)
    joints[..., :2] = rng.uniform(8, 40, (*joints.shape[:-1], 2))
    maps = perfect(task, DANCERS, joints, size)
    resized = task.resized(DANCERS, maps, Resize.between(size, larger))
    found = task.decode(DANCERS, resized).candidates.joints
    places = resize_points(np.stack([found.x, found.y], -1)[0, :, 0], larger, size)
    np.testing.assert_allclose(places, joints[0, 0, :, :2], atol=0.06)
