import dataclasses
import json
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image
from tiny import TINY

from seg_jax import cli
from seg_jax.datasets import Dancers, Nuclei
from seg_jax.errors import InputError
from seg_jax.inference.predict import predict_files
from seg_jax.losses import Loss
from seg_jax.models import UNet
from seg_jax.tasks import Panoptic, Pose, Together

DATA = Dancers(train=4, val=2, test=2, size=32)
TASK = Together(panoptic=Panoptic(objects=8), pose=Pose(people=8), weight=0.5)


def random_batch():
    examples = [TASK.arrays(DATA, example, (32, 32)) for example in DATA.read("val")]
    batch = {name: np.stack([e[name] for e in examples]) for name in examples[0]}
    maps = np.random.default_rng(0).normal(size=(2, 32, 32, 49)).astype(np.float32)
    batch |= {"label": batch["label"].astype(np.int32), "valid": batch["label"] != 255}
    return batch, maps


def test_maps_and_losses_are_those_of_both():
    batch, maps = random_batch()
    names = TASK.maps(DATA)
    assert names == TASK.panoptic.maps(DATA) + TASK.pose.maps(DATA)
    assert len(names) == 49
    first = TASK.panoptic.objective(DATA, maps[..., :9], batch)
    second = TASK.pose.objective(DATA, maps[..., 9:], batch)
    both = TASK.objective(DATA, maps, batch)
    np.testing.assert_allclose(both, first + 0.5 * second, rtol=1e-6)


@pytest.mark.parametrize("axes", [(1,), (2,), (1, 2)])
def test_each_part_is_mirrored_and_resized_as_its_task_does(axes):
    _, maps = random_batch()
    predictions = np.asarray(TASK.predictions(DATA, maps))
    found = TASK.mirrored(DATA, predictions, axes)
    np.testing.assert_array_equal(
        found[..., :9], TASK.panoptic.mirrored(DATA, predictions[..., :9], axes)
    )
    np.testing.assert_array_equal(
        found[..., 9:], TASK.pose.mirrored(DATA, predictions[..., 9:], axes)
    )
    larger = TASK.resized(DATA, predictions[0], (48, 40))
    np.testing.assert_array_equal(
        larger[..., :9], TASK.panoptic.resized(DATA, predictions[0, ..., :9], (48, 40))
    )


def test_coarse_maps_are_refused_as_objects_need_all():
    with pytest.raises(InputError, match=r"task.pose.stride is 2.*set --task.pose.stride 1"):
        Together(pose=Pose(stride=2))


def test_data_without_joints_is_refused():
    with pytest.raises(InputError, match="Nuclei has no joints"):
        TASK.check(Nuclei())


def test_skeletons_have_a_category_that_is_free():
    class Numbered(Dancers):
        category_ids: ClassVar = {"wall": 118, "floor": 92, "person": 1}

    for data, ids in ((DATA, [1, 2, 3, 4]), (Numbered(), [118, 92, 1, 119])):
        categories = TASK.categories(data)
        assert [c["name"] for c in categories] == ["wall", "floor", "person", "skeleton"]
        assert [c["id"] for c in categories] == ids


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
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert scores["best"] == "pq_ap"
    assert {"pq", "ap", "pck", "mask_ap"} <= scores.keys()
    assert {"person", "arm", "left_knee"} <= scores["per_class"].keys()
    (first, *_) = DATA.read("test")
    with Image.open(tmp_path / "run" / "overlays" / f"{first.id}.jpg") as picture:
        assert picture.width > 2 * 32
    Image.fromarray(first.image).resize((40, 30)).save(tmp_path / "someone.jpg")
    predict_files(tmp_path / "run", [tmp_path / "someone.jpg"], tmp_path / "out")
    for folder, file, count in (("run", f"{first.id}.png", 2), ("out", "someone.png", 1)):
        predictions = tmp_path / folder / "predictions"
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
    task = Together(panoptic=Panoptic(Loss(class_weights=(1.0, 2.0))))
    with pytest.raises(InputError, match=r"set --task\.panoptic\.loss\.class-weights to \d"):
        task.check(DATA)


@pytest.mark.parametrize(
    ("task", "mend"),
    [
        (Together(panoptic=Panoptic(objects=1)), r"set --task\.panoptic\.objects \d"),
        (Together(pose=Pose(people=1)), r"set --task\.pose\.people \d"),
    ],
)
def test_what_is_too_many_names_the_flag_of_its_task(task, mend):
    crowd = max(Dancers(train=4, size=32, people=(4, 5)).read("train"), key=lambda e: len(e.joints))
    with pytest.raises(InputError, match=mend):
        task.arrays(DATA, crowd, (32, 32))
    with pytest.raises(InputError, match=r"^task\.1: has"):
        task.arrays(DATA, crowd._replace(id="task.1"), (32, 32))
