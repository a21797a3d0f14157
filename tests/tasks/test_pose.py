import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy import special

from seg_jax import cli
from seg_jax.datasets import CocoKeypoints, Dancers, Example, Nevi, Skeleton
from seg_jax.datasets.images import read_image
from seg_jax.datasets.source import VOID
from seg_jax.errors import InputError
from seg_jax.inference import predict
from seg_jax.inference.predict import CocoFiles, decoder, predict_files
from seg_jax.models import SegNet, UNet
from seg_jax.optimiser import AdamW
from seg_jax.pipeline.augment import Augment, augment
from seg_jax.resize import resize_points
from seg_jax.run.config import Experiment, check
from seg_jax.step import init_state, make_train_step, normalise, to_float
from seg_jax.tasks import Pose
from seg_jax.tasks.pose import RARE
from seg_jax.tasks.skeletons import heat_maps, part_affinity

DANCERS, KEYPOINTS = Dancers(), CocoKeypoints()
FINE = Pose(sigma=1.5, width=1.0, people=8)
SHAPE = 20, 28
each_skeleton = pytest.mark.parametrize("data", [DANCERS, KEYPOINTS], ids=["LSP", "COCO"])


@functools.partial(jax.jit, static_argnums=(0, 1, 3))
def perfect(task, data, joints, shape=SHAPE):
    """Predictions of joints (B, P, J, 3) without error."""
    heat = heat_maps(joints, shape, sigma=task.sigma)
    fields = part_affinity(joints, data.skeleton.limbs, shape, width=task.width)
    return jnp.concatenate([heat, fields], -1)


decode = jax.jit(FINE.decode, static_argnums=0)


def maps_of(data, predictions):
    """The maps that a network gives for predictions."""
    count = len(data.skeleton.joints)
    heat = np.clip(np.float64(predictions[..., :count]), 1e-12, 1 - 1e-12)
    maps = np.concatenate([special.logit(heat) + RARE, predictions[..., count:]], -1)
    return maps.astype(np.float32)


def anyone(data, batch=1, people=3, shape=SHAPE):
    """People at whole pixels, so that a mirror image is exact; a fifth of the joints unlabelled."""
    rng = np.random.default_rng(0)
    size = batch, people, len(data.skeleton.joints)
    places = [rng.integers(0, side, size) for side in shape[::-1]]
    joints = np.stack([*places, rng.choice([0, 1, 2], size, p=[0.2, 0.2, 0.6])], -1)
    return np.where(joints[..., 2:] > 0, joints, 0).astype(np.float32)


def flipped(joints, axes, shape=SHAPE):
    """The joints where they are in the flipped picture, under their old names."""
    moved = joints.copy()
    for axis in axes:
        moved[..., 2 - axis] = shape[axis - 1] - 1 - joints[..., 2 - axis]
    return np.where(joints[..., 2:] > 0, moved, 0)


def renamed(data, joints, axes):
    """Left and right change places where one axis is flipped; two are half a turn."""
    return joints[:, :, list(data.skeleton.mirrored)] if len(axes) == 1 else joints


def batch_of(joints, shape=SHAPE):
    count = len(joints)
    return {
        "label": np.zeros((count, *shape), np.int32),
        "valid": np.ones((count, *shape), bool),
        "joints": joints,
        "area": np.ones(joints.shape[:2], np.float32),
        "mirrored": np.zeros(count, bool),
    }


def arrays_of(task, data, examples, size):
    found = [task.arrays(data, example, size) for example in examples]
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
    ("data", "joints", "fields", "first"),
    [
        (DANCERS, 14, 26, "right_ankle to right_knee"),
        (KEYPOINTS, 17, 38, "left_ankle to left_knee"),
    ],
    ids=["LSP", "COCO"],
)
def test_maps_are_the_joints_and_two_for_each_limb(data, joints, fields, first):
    maps = Pose().maps(data)
    assert maps[:joints] == data.skeleton.joints
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
        found = Pose(people=4).arrays(DANCERS, self.example, (24, 96))
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
        message = r"two: has 2 people, but task\.people is 1; set --task\.people 2 or more"
        with pytest.raises(InputError, match=message):
            Pose(people=1).arrays(DANCERS, self.example, (24, 96))


class TestRoundTrip:
    def test_perfect_maps_have_perfect_scores(self, clear):
        batch = arrays_of(FINE, DANCERS, clear, (96, 96))
        found = decode(DANCERS, perfect(FINE, DANCERS, batch["joints"], (96, 96)))
        measured = FINE.measure(DANCERS, found, batch)
        scores = FINE.scores(DANCERS, measured)
        assert scores == dict.fromkeys(("ap", "ap50", "ap75", "ar", "pck"), pytest.approx(1))
        summary = FINE.summary(DANCERS, measured, [])
        assert summary["ap_ci95"] == [1, 1]
        assert summary["per_class"] == {name: {"pck": 1} for name in DANCERS.skeleton.joints}

    def test_a_joint_that_was_missed_costs_its_own_score(self, clear):
        batch = arrays_of(FINE, DANCERS, clear, (96, 96))
        maps = perfect(FINE, DANCERS, batch["joints"], (96, 96)).at[..., 13].set(0)
        summary = FINE.summary(
            DANCERS, FINE.measure(DANCERS, decode(DANCERS, maps), batch), details=[]
        )
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
            of_one = jax.tree.map(lambda x: x[picture : picture + 1], measured)
            return FINE.scores(DANCERS, of_one)["ap"]

        measured = FINE.measure(DANCERS, found, batch)
        assert ap(1) == pytest.approx(1)  # also who is labelled though nothing is known there
        batch["joints"] = np.roll(batch["joints"], -1, 1)
        batch["joints"][:, -1] = 0  # the first dancers aren't labelled
        batch["area"] = np.roll(batch["area"], -1, 1)
        measured = FINE.measure(DANCERS, found, batch)
        assert ap(0) < 1
        assert (ap(1) == pytest.approx(1)) == forgiven

    def test_who_is_unsure_is_dropped(self, clear):
        """Maps of half the height: joints count a half, limbs an eighth."""
        batch = arrays_of(FINE, DANCERS, clear, (96, 96))
        maps = perfect(FINE, DANCERS, batch["joints"], (96, 96)) / 2
        found = jax.tree.map(lambda x: np.asarray(x)[0], decode(DANCERS, maps))
        for least, count in ((0.5, len(clear[0].joints)), (0.7, 0)):
            task = dataclasses.replace(FINE, least_score=least)
            assert len(task.people_of(DANCERS, found)[0]) == count

    @each_skeleton
    def test_limbs_count_by_the_heights_of_their_joints(self, data):
        limbs = np.array(data.skeleton.limbs)
        heights = np.linspace(0.3, 0.9, len(data.skeleton.joints), dtype=np.float32)
        maps = perfect(FINE, data, anyone(data))
        whole = decode(data, maps)
        lower = decode(data, maps.at[..., : len(heights)].multiply(heights))
        assert whole.limbs.any()
        ends = heights[limbs].prod(-1)[:, None, None]
        np.testing.assert_allclose(lower.limbs, whole.limbs * ends, rtol=1e-4, atol=1e-6)

    @each_skeleton
    def test_nobody_is_found_on_empty_maps(self, data):
        joints = len(data.skeleton.joints)
        maps = jnp.zeros((1, *SHAPE, len(FINE.maps(data))))
        found = jax.tree.map(lambda x: x[0], decode(data, maps))
        people, sure = FINE.people_of(data, found)
        assert people.shape == (0, joints, 3)
        assert sure.shape == (0,)


class TestMirrored:
    @pytest.mark.parametrize("axes", [(1,), (2,), (1, 2)])
    @each_skeleton
    def test_maps_of_the_mirror_image_come_back_as_the_pictures_own(self, data, axes):
        joints = anyone(data)
        maps = perfect(FINE, data, joints)
        seen = perfect(FINE, data, renamed(data, flipped(joints, axes), axes))
        np.testing.assert_allclose(FINE.mirrored(data, seen, axes), maps, atol=1e-6)
        assert np.abs(jnp.flip(seen, axes) - maps).max() > 0.5

    @pytest.mark.parametrize("axes", [(), (1,), (2,), (1, 2)])
    @each_skeleton
    def test_twice_is_as_if_never(self, data, axes):
        maps = jax.random.normal(jax.random.key(0), (2, *SHAPE, len(FINE.maps(data))))
        once = FINE.mirrored(data, maps, axes)
        np.testing.assert_array_equal(FINE.mirrored(data, once, axes), maps)
        assert bool((once == maps).all()) == (axes == ())


@each_skeleton
def test_predictions_are_heat_maps_and_fields(data):
    truth = perfect(FINE, data, anyone(data))
    np.testing.assert_allclose(FINE.predictions(data, maps_of(data, truth)), truth, atol=1e-6)


class TestObjective:
    @each_skeleton
    def test_left_and_right_change_places_in_a_mirror_image(self, data):
        """Flips by `augment` on the one hand, and on the other by hand."""
        joints, many, count = anyone(data), 24, len(data.skeleton.joints)
        image = np.random.default_rng(1).random((*SHAPE, 3), np.float32)
        one = batch_of(joints) | {"image": image[None]}
        batch = {name: np.repeat(x, many, 0) for name, x in one.items()}
        keys = jax.random.split(jax.random.key(0), many)
        batch = augment(Augment(flip=True, flip_vertical=True), keys, batch)

        @jax.jit
        def losses(batch, maps):
            """Of each example against the same maps."""
            of = functools.partial(FINE.objective, data, maps)
            return jax.vmap(of)(jax.tree.map(lambda x: x[:, None], batch))

        seen = 0
        for axes in [(), (1,), (2,), (1, 2)]:
            shown = np.array(
                [(x == np.flip(image, [a - 1 for a in axes])).all() for x in batch["image"]]
            )
            moved = flipped(joints, axes)
            right = perfect(FINE, data, renamed(data, moved, axes))
            heat = np.float64(right[..., :count])
            entropy = FINE.heat * (special.entr(heat) + special.entr(1 - heat)).mean()
            least = losses(batch, maps_of(data, right)) < entropy + 1e-4
            np.testing.assert_array_equal(least, shown)
            if len(axes) == 1:
                named_wrongly = maps_of(data, perfect(FINE, data, moved))
                assert (losses(batch, named_wrongly) > entropy + 0.1).all()
            assert shown.any()
            seen += shown.sum()
        assert seen == many

    def test_is_the_mean_of_cross_entropy_and_weighed_squares_over_valid_pixels(self):
        task, joints = Pose(heat=7.0, field=3.0, balance=5.0, people=3), anyone(DANCERS, batch=2)
        rng = np.random.default_rng(0)
        batch = batch_of(joints) | {"valid": rng.random((2, *SHAPE)) < 0.6}
        maps = rng.normal(size=(2, *SHAPE, 40)).astype(np.float32)
        truth = np.asarray(perfect(task, DANCERS, joints))
        heat, p = truth[..., :14], special.expit(np.float64(maps[..., :14]) - RARE)
        entropy = -(special.xlogy(heat, p) + special.xlog1py(1 - heat, -p))
        square = (maps - truth)[..., 14:] ** 2
        on_limb = np.repeat((truth[..., 14::2] ** 2) + truth[..., 15::2] ** 2, 2, axis=-1)
        expected = 7 * entropy.mean(-1) + 3 * ((1 + 5 * on_limb) * square).mean(-1)
        objective = functools.partial(task.objective, DANCERS)
        value, gradient = jax.jit(jax.value_and_grad(objective))(maps, batch)
        np.testing.assert_allclose(value, expected[batch["valid"]].mean(), rtol=1e-5)
        np.testing.assert_array_equal((gradient != 0).any(-1), batch["valid"])

    def test_a_cell_is_valid_if_all_of_its_pixels_are(self):
        task, joints = dataclasses.replace(FINE, stride=2), anyone(DANCERS)
        batch = batch_of(joints)
        batch["valid"][0, 3, 8] = False
        cells = SHAPE[0] // 2, SHAPE[1] // 2
        maps = jax.random.normal(jax.random.key(0), (1, *cells, 40))
        gradient = jax.jit(jax.grad(functools.partial(task.objective, DANCERS)))(maps, batch)
        expected = np.ones((1, *cells), bool)
        expected[0, 1, 4] = False
        np.testing.assert_array_equal((gradient != 0).any(-1), expected)

    def test_coarse_maps_are_those_of_the_picture_at_their_size(self):
        """Up to the place of the cells' centres, which are between pixels."""
        coarse, joints = Pose(sigma=4, width=3, people=3, stride=2), anyone(DANCERS)
        small = resize_points(joints[..., :2], SHAPE, cells := (SHAPE[0] // 2, SHAPE[1] // 2))
        small = np.concatenate([small, joints[..., 2:]], -1)
        maps = jax.random.normal(jax.random.key(0), (1, *cells, 40))
        fine = Pose(sigma=2, width=1.5, people=3)
        values = (
            jax.jit(functools.partial(task.objective, DANCERS))(maps, batch)
            for task, batch in ((coarse, batch_of(joints)), (fine, batch_of(small, cells)))
        )
        np.testing.assert_allclose(*values, rtol=1e-5)

    def test_shares_of_devices_sum_to_the_whole(self):
        joints = anyone(DANCERS, batch=6)
        batch = batch_of(joints)
        batch["valid"][:2] = False  # one device sees nothing, the next half of an image
        batch["valid"][2, 10:] = False
        batch["mirrored"][3:5] = True
        maps = jax.random.normal(jax.random.key(0), (6, *SHAPE, 40))
        whole = jax.jit(functools.partial(FINE.objective, DANCERS))(maps, batch)
        of_device = functools.partial(FINE.objective, DANCERS, axis_name="devices")
        split = jax.tree.map(lambda x: x.reshape(3, 2, *x.shape[1:]), (maps, batch))
        shares = jax.jit(jax.vmap(of_device, axis_name="devices"))(*split)
        assert shares[0] == 0
        np.testing.assert_allclose(shares.sum(), whole, rtol=1e-5)


class TestSave:
    # The network sees another shape than the image's.
    experiment = Experiment("pose", UNet(outputs=40), DANCERS, FINE, size=(64, 80))

    def save(self, example, folder, truth=None):
        """Saves what perfect maps say of an example; returns that and the annotations."""
        size = self.experiment.size
        joints = FINE.arrays(DANCERS, example, size)["joints"]
        maps = np.asarray(perfect(FINE, DANCERS, joints[None], size))[0]
        found = decoder(self.experiment)(maps, example.image.shape[:2])
        return found, FINE.save(DANCERS, found, folder, example.id, example.image, truth)

    def test_joints_are_coco_keypoints_at_the_images_own_place(self, clear, tmp_path):
        example = max(clear, key=lambda e: len(e.joints))
        _, objects = self.save(example, tmp_path)
        assert len(objects) == len(example.joints)
        left = list(example.joints)
        for found in objects:
            assert found["category_id"] == 1
            assert found["num_keypoints"] == 14
            assert 0.5 < found["score"] <= 1
            joints = np.reshape(found["keypoints"], (14, 3))
            assert (joints[:, 2] > 0).all()
            errors = [np.abs(joints[:, :2] - person[:, :2]).max() for person in left]
            assert min(errors) < 1.5
            left.pop(int(np.argmin(errors)))

    def test_the_truth_stands_beside_what_was_found(self, clear, tmp_path):
        for truth, width in ((None, 96), (clear[0], 2 * 96 + 2)):
            self.save(clear[0], tmp_path, truth)
            drawn = read_image(tmp_path / "overlays" / f"{clear[0].id}.jpg")
            assert drawn.shape == (96, width, 3)

    def test_a_large_image_is_drawn_smaller_but_its_joints_stay(self, clear, tmp_path):
        found, small = self.save(clear[0], tmp_path)
        larger = found.joints._replace(x=found.joints.x * 12, y=found.joints.y * 12)
        image = np.zeros((12 * 96, 12 * 96, 3), np.uint8)
        large = FINE.save(DANCERS, found._replace(joints=larger), tmp_path, "large", image)
        before, after = (
            np.array([o["keypoints"] for o in objects]).reshape(-1, 3) for objects in (small, large)
        )
        np.testing.assert_allclose(after, before * (12, 12, 1), atol=0.1)
        drawn = read_image(tmp_path / "overlays" / "large.jpg")
        assert drawn.shape == (768, 768, 3)
        row, column = np.nonzero(drawn.max(-1) > 128)
        shown = resize_points(after[:, :2], image.shape[:2], drawn.shape[:2])
        for places, joints in ((column, shown[:, 0]), (row, shown[:, 1])):
            for end in (np.min, np.max):  # a joint's disc has a radius of 5 pixels
                np.testing.assert_allclose(end(places), end(joints), atol=6)

    def test_a_very_large_image_is_decoded_at_a_smaller_size(self, clear, monkeypatch):
        joints = FINE.arrays(DANCERS, clear[0], self.experiment.size)["joints"]
        maps = np.asarray(perfect(FINE, DANCERS, joints[None], self.experiment.size))[0]
        people = []
        for most in (predict.MOST, 2 * maps.size):
            monkeypatch.setattr(predict, "MOST", most)
            people.append(FINE.people_of(DANCERS, decoder(self.experiment)(maps, (640, 800)))[0])
        whole, smaller = people
        assert len(whole) == len(clear[0].joints)
        np.testing.assert_allclose(smaller[..., :2], whole[..., :2], atol=4)  # of 800

    def test_pycocotools_loads_the_file(self, clear, tmp_path):
        file, counts = CocoFiles(self.experiment), []
        for example in clear[:3]:
            _, objects = self.save(example, tmp_path)
            file.add(example.id, {"file_name": f"{example.id}.png"}, example.image, objects)
            counts.append(len(objects))
        file.write(tmp_path)
        coco = COCO(str(tmp_path / "predictions" / "coco.json"))
        assert [(i["file_name"], i["height"], i["width"]) for i in coco.imgs.values()] == [
            (f"{example.id}.png", 96, 96) for example in clear[:3]
        ]
        assert [len(coco.getAnnIds(imgIds=[image])) for image in coco.imgs] == counts
        assert len(coco.anns) == sum(counts)
        assert {len(found["keypoints"]) for found in coco.anns.values()} == {3 * 14}
        (category,) = coco.loadCats(coco.getCatIds(catNms=["person"]))
        names = category["keypoints"]
        assert names == list(DANCERS.skeleton.joints)
        limbs = [(names[a - 1], names[b - 1]) for a, b in category["skeleton"]]
        assert limbs[0] == ("right_ankle", "right_knee")
        assert limbs[-1] == ("neck", "head_top")
        evaluation = COCOeval(coco, coco.loadRes(list(coco.anns.values())), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.array(DANCERS.skeleton.sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        assert evaluation.stats[0] == 1  # of what was found, if that were the truth

    def test_a_box_holds_the_joints_that_were_found(self):
        joints = np.zeros((1, 14, 3), np.float32)
        joints[0, 3:6] = [(20, 8, 1), (14, 30, 0.5), (15, 9, 0.1)]
        (person,) = FINE.annotations(DANCERS, joints, np.ones(1, np.float32))
        assert person["bbox"] == [14, 8, 6, 22]
        assert person["area"] == 6 * 22
        assert person["num_keypoints"] == 3


@pytest.mark.parametrize(
    ("data", "outputs", "message"),
    [
        (Nevi(), 1, r"data: Nevi has no joints; choose a data set of people, such as Dancers, .*"),
        (
            DANCERS,
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


@pytest.mark.parametrize(("of_model", "of_task"), [(1, 4), (2, 1)])
def test_another_stride_than_the_networks_is_refused(of_model, of_task):
    experiment = Experiment(
        "pose", UNet(outputs=40, stride=of_model), DANCERS, Pose(stride=of_task)
    )
    message = f"model.stride is {of_model}, .* of stride {of_task}; set --model.stride {of_task}"
    with pytest.raises(InputError, match=message):
        check(experiment, devices=1)


def test_a_network_that_has_no_strides_names_the_tasks():
    experiment = Experiment("pose", SegNet(outputs=40), DANCERS, Pose(stride=4))
    with pytest.raises(InputError, match=r"set --task\.stride 1, as SegNet has no other"):
        check(experiment, devices=1)


@pytest.mark.parametrize("field", ["sigma", "width", "stride", "people"])
def test_zero_is_refused_by_name(field):
    with pytest.raises(InputError, match=rf"task\.{field} is 0; it must be "):
        Pose(**{field: 0})


def test_a_run_goes_all_the_way(tiny, tmp_path, monkeypatch):
    workdir = tmp_path / "run"
    entries = {f"dancers{n:04}": {"id": 9 - n, "file_name": f"{n}.jpg"} for n in range(20)}
    monkeypatch.setattr(Dancers, "image_entries", lambda self, part: entries, raising=False)
    experiment = dataclasses.replace(
        tiny,
        model=UNet(outputs=40, features=(4, 8)),
        data=Dancers(train=8, val=4, test=3, size=32),
        task=Pose(people=8),
        augment=Augment(flip=True),
        size=(32, 32),
        epochs=1,
        workdir=workdir,
    )
    cli.run_experiment(experiment)
    scores = json.loads((workdir / "scores.json").read_text())
    assert (scores["n"], scores["best"]) == (3, "ap")
    assert 0 <= scores["ap_ci95"][0] <= scores["ap"] <= scores["ap_ci95"][1] <= 1
    assert 0 <= scores["pck"] <= 1
    assert list(scores["per_class"]) == list(DANCERS.skeleton.joints)
    assert (workdir / "report.html").stat().st_size > 1000
    assert len(list((workdir / "overlays").iterdir())) == 3
    images = json.loads((workdir / "predictions" / "coco.json").read_text())["images"]
    assert [{name: image[name] for name in ("id", "file_name")} for image in images] == [
        entries[path.stem] for path in sorted((workdir / "overlays").iterdir())
    ]

    picture, out = tmp_path / "someone.png", tmp_path / "out"
    Image.fromarray(np.full((50, 70, 3), 90, np.uint8)).save(picture)
    assert predict_files(workdir, [picture], out) == 1
    (image,) = json.loads((out / "predictions" / "coco.json").read_text())["images"]
    assert image == {"id": 1, "file_name": "someone.png", "height": 50, "width": 70}
    assert read_image(out / "overlays" / "someone.jpg").shape == (50, 70, 3)


@dataclasses.dataclass(frozen=True)
class Puppets:
    """Pictures of one puppet each, whose joints are discs in colours of their own."""

    classes = ("background", "puppet")
    channels = 3
    skeleton = Skeleton(
        joints=("left_shoulder", "right_shoulder", "left_hip", "right_hip"),
        limbs=((0, 1), (0, 2), (1, 3)),
        mirrored=(1, 0, 3, 2),
        sigmas=(0.079, 0.079, 0.107, 0.107),
    )

    def read(self, part):
        colours = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))
        for name, corner in (("a", (5, 6)), ("b", (13, 9))):
            joints = np.add(corner, [(12, 0), (0, 2), (10, 14), (3, 15)])
            picture = Image.new("RGB", (32, 32), (40, 40, 40))
            pen = ImageDraw.Draw(picture)
            for a, b in self.skeleton.limbs:
                pen.line([*joints[a], *joints[b]], (200, 200, 200))
            for joint, colour in zip(joints, colours, strict=True):
                pen.circle(joint.tolist(), 2, colour)
            seen = np.concatenate([joints, np.full((4, 1), 2)], 1).astype(np.float32)
            label = np.zeros((32, 32), np.uint8)
            yield Example(
                name, np.asarray(picture), label, joints=seen[None], area=np.float32([200])
            )


@pytest.mark.parametrize("stride", [1, 2])
def test_two_pictures_are_learnt_by_heart(stride):
    data, size, steps = Puppets(), (32, 32), 160
    task = Pose(sigma=1.5 * stride, width=1.5, stride=stride, people=2)
    examples = list(data.read("train"))
    batch = arrays_of(task, data, examples, size) | {
        "image": np.stack([example.image for example in examples]),
        "epoch": np.zeros(2, np.int32),
        "index": np.arange(2, dtype=np.int32),
    }
    features = (16,) * stride + (32,)
    model = UNet(outputs=len(task.maps(data)), features=features, stride=stride)
    optimiser, _ = AdamW(learning_rate=1e-2).chain(steps)
    objective = functools.partial(task.objective, data)
    step = jax.jit(make_train_step(model, optimiser, objective, augmentation=Augment(), seed=0))
    state = init_state(model, optimiser, seed=0, shape=(*size, 3))
    for _ in range(steps):
        state, _ = step(state, batch)

    @jax.jit
    def found(variables):
        maps = model.apply(variables, normalise(to_float(batch["image"])), train=False)
        return task.decode(data, task.predictions(data, maps))

    scores = task.scores(data, task.measure(data, found(state.variables), batch))
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
        np.asarray(perfect(Pose(), DANCERS, x, shape))[0]
        for x, shape in ((joints, square), (stretched, wide))
    )
    x, y = stretched[0, 0, [a, b], :2].mean(0).round().astype(int)
    limb = slice(joints.shape[2], joints.shape[2] + 2)
    found = Pose().resized(DANCERS, maps, wide)
    assert expected[y, x, limb].any()
    np.testing.assert_allclose(found[y, x, limb], expected[y, x, limb], atol=1e-3)


@pytest.mark.parametrize("stride", [2, 4])
def test_joints_keep_their_place_between_cells(stride):
    task = Pose(sigma=1.25 * stride, people=1, stride=stride)
    side, cells = 24 * stride, (24, 24)
    rng = np.random.default_rng(0)
    joints = np.full((1, 1, len(DANCERS.skeleton.joints), 3), 2, np.float32)
    joints[..., :2] = rng.uniform(4 * stride, 20 * stride, (*joints.shape[:-1], 2))
    heat = heat_maps(joints, cells, sigma=task.sigma, stride=stride)
    maps = maps_of(DANCERS, np.concatenate([heat, np.zeros((1, *cells, 26))], -1))
    predictions = task.predictions(DANCERS, maps)
    assert predictions.shape == (1, side, side, 40)
    found = task.decode(DANCERS, predictions).joints
    places = np.stack([found.x, found.y], -1)[0, :, 0]
    np.testing.assert_allclose(places, joints[0, 0, :, :2], atol=0.1)


@pytest.mark.parametrize("times", [3, 4])
def test_joints_keep_their_place_between_pixels_at_a_larger_size(times):
    size, larger = (48, 48), (48 * times, 48 * times)
    task = Pose(sigma=2.5, people=1)
    rng = np.random.default_rng(0)
    joints = np.full((1, 1, len(DANCERS.skeleton.joints), 3), 2, np.float32)
    joints[..., :2] = rng.uniform(8, 40, (*joints.shape[:-1], 2))
    maps = np.asarray(perfect(task, DANCERS, joints, size))[0]
    found = task.decode(DANCERS, task.resized(DANCERS, maps, larger)[None]).joints
    places = resize_points(np.stack([found.x, found.y], -1)[0, :, 0], larger, size)
    np.testing.assert_allclose(places, joints[0, 0, :, :2], atol=0.06)
