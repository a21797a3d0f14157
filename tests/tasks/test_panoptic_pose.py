import dataclasses
import json

import numpy as np
import pytest
from PIL import Image
from tiny import TINY

from seg_jax import cli
from seg_jax.datasets import Dancers, Nuclei
from seg_jax.errors import InputError
from seg_jax.losses import Loss, total_of
from seg_jax.models import UNet
from seg_jax.resize import Resize
from seg_jax.run.config import check
from seg_jax.run.load import load
from seg_jax.run.predict import predict_files
from seg_jax.tasks import Panoptic, PanopticPose, Pose

DATA = Dancers(train=4, val=2, test=2, size=32)
LABELS, SIZE = DATA.labels, (32, 32)
TASK = PanopticPose(panoptic=Panoptic(max_objects=8), pose=Pose(max_people=8), pose_weight=0.5)


def random_batch():
    examples = [TASK.arrays(LABELS, example, SIZE) for example in DATA.read("val")]
    batch = {name: np.stack([e[name] for e in examples]) for name in examples[0]}
    maps = np.random.default_rng(0).normal(size=(2, 32, 32, 49)).astype(np.float32)
    batch |= {"label": batch["label"].astype(np.int32), "valid": batch["label"] != 255}
    return batch, maps


def test_maps_and_losses_are_those_of_both():
    batch, maps = random_batch()
    names = TASK.maps(LABELS)
    assert names == TASK.panoptic.maps(LABELS) + TASK.pose.maps(LABELS)
    assert len(names) == 49
    first = TASK.panoptic.objective(LABELS, maps[..., :9], batch)
    second = TASK.pose.objective(LABELS, maps[..., 9:], batch)
    both = TASK.objective(LABELS, maps, batch)
    assert both.keys() == {"cross_entropy", "centre", "offset", "heat", "field"}
    np.testing.assert_allclose(total_of(both), total_of(first) + 0.5 * total_of(second), rtol=1e-6)


@pytest.mark.parametrize("axes", [(1,), (2,), (1, 2)])
def test_each_part_is_mirrored_and_resized_as_its_task_does(axes):
    _, maps = random_batch()
    predictions = TASK.predictions(LABELS, maps, SIZE)
    found = TASK.mirrored(LABELS, predictions, axes)
    np.testing.assert_array_equal(
        found[..., :9], TASK.panoptic.mirrored(LABELS, predictions[..., :9], axes)
    )
    np.testing.assert_array_equal(
        found[..., 9:], TASK.pose.mirrored(LABELS, predictions[..., 9:], axes)
    )
    resize = Resize.between(SIZE, (48, 40))
    larger = TASK.resized(LABELS, predictions, resize)
    np.testing.assert_array_equal(
        larger[..., :9], TASK.panoptic.resized(LABELS, predictions[..., :9], resize)
    )
    np.testing.assert_array_equal(
        larger[..., 9:], TASK.pose.resized(LABELS, predictions[..., 9:], resize)
    )


def test_coarse_maps_are_refused_as_objects_need_all():
    model = UNet(features=(4, 8), stride=2)
    experiment = dataclasses.replace(TINY, model=model, data=DATA, task=TASK, size=SIZE)
    with pytest.raises(InputError, match=r"model.stride is 2.*set --model.stride 1"):
        check(experiment, devices=1)


def test_data_without_joints_is_refused():
    with pytest.raises(InputError, match="data: has no joints"):
        TASK.check(Nuclei().labels)


def test_an_experiment_goes_all_the_way(tmp_path):
    experiment = dataclasses.replace(
        TINY,
        model=UNet(outputs=49, features=(4, 8)),
        data=DATA,
        task=TASK,
        size=(32, 32),
        epochs=1,
        workdir=tmp_path / "run",
    )
    cli.run_experiment(experiment)
    evaluation = tmp_path / "run" / "evaluations" / "test"
    scores = json.loads((evaluation / "scores.json").read_text())
    assert scores["best"] == "pq_ap"
    assert {"pq", "ap", "pck", "mask_ap"} <= scores.keys()
    assert {"person", "arm", "left_knee"} <= scores["per_class"].keys()
    (first, *_) = DATA.read("test")
    with Image.open(evaluation / "overlays" / f"{first.id}.jpg") as picture:
        assert picture.width > 2 * 32
    Image.fromarray(first.image).resize((40, 30)).save(tmp_path / "someone.jpg")
    out = tmp_path / "out"
    predict_files(load(tmp_path / "run"), [tmp_path / "someone.jpg"], out)
    for folder, file, count in ((evaluation, f"{first.id}.png", 2), (out, "someone.png", 1)):
        predictions = folder / "predictions"
        coco, panoptic = (
            json.loads((predictions / f"{name}.json").read_text()) for name in ("coco", "panoptic")
        )
        assert [c["name"] for c in coco["categories"]] == ["person", "skeleton"]
        assert [c["name"] for c in panoptic["categories"]] == ["wall", "floor", "person"]
        assert [image["id"] for image in panoptic["images"]] == [*range(1, count + 1)]
        assert len(panoptic["annotations"]) == count
        assert panoptic["annotations"][0]["file_name"] == file
        with (
            Image.open(predictions / file) as numbers,
            Image.open(predictions / "panoptic" / file) as ids,
        ):
            expected = np.asarray(numbers)
            np.testing.assert_array_equal(np.asarray(ids, int) @ [1, 256, 65536], expected)
        infos = panoptic["annotations"][0]["segments_info"]
        assert [info["id"] for info in infos] == np.unique(expected[expected > 0]).tolist()


def test_class_weights_name_the_flag_of_their_task():
    task = PanopticPose(panoptic=Panoptic(Loss(class_weights=(1.0, 2.0))))
    with pytest.raises(InputError, match=r"set --task\.panoptic\.loss\.class-weights to \d"):
        task.check(LABELS)


@pytest.mark.parametrize(
    ("task", "fix"),
    [
        (
            PanopticPose(panoptic=Panoptic(max_objects=1)),
            r"but task\.panoptic\.max_objects is 1; set --task\.panoptic\.max-objects \d",
        ),
        (
            PanopticPose(pose=Pose(max_people=1)),
            r"but task\.pose\.max_people is 1; set --task\.pose\.max-people \d",
        ),
    ],
)
def test_what_is_too_many_names_the_flag_of_its_task(task, fix):
    crowd = max(Dancers(train=4, size=32, people=(4, 5)).read("train"), key=lambda e: len(e.joints))
    with pytest.raises(InputError, match=fix):
        task.arrays(LABELS, crowd, SIZE)
    with pytest.raises(InputError, match=r"^task\.1: has"):
        task.arrays(LABELS, crowd._replace(id="task.1"), SIZE)
