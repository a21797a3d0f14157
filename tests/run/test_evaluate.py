import csv
import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from seg_jax import cli, metrics
from seg_jax.datasets import Folder, Nevi
from seg_jax.datasets.images import read_mask
from seg_jax.errors import InputError
from seg_jax.resize import Resize
from seg_jax.run.evaluate import Settings, evaluate
from seg_jax.run.load import network_predictor, read_runs
from seg_jax.run.train import read_part
from seg_jax.tasks.semantic import SCORES, labels_of


def folder_of(workdir):
    """Folder of the evaluation of a run's test part."""
    return workdir / "evaluations" / "test"


def test_scores_are_means_of_per_image_values(finished_run):
    scores = json.loads((folder_of(finished_run) / "scores.json").read_text())
    with (folder_of(finished_run) / "per_image.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert scores["n"] == len(rows) == 3
    for name in SCORES:
        values = np.array([float(row[name]) for row in rows])
        np.testing.assert_allclose(scores[name], values.mean())
        low, high = scores[f"{name}_ci95"]
        assert values.min() - 1e-6 <= low <= scores[name] <= high <= values.max() + 1e-6
        own = np.array([float(row[f"own_{name}"]) for row in rows])
        np.testing.assert_allclose(scores["own_size"][name], own.mean())
    assert {"hd95", "assd"} <= scores["own_size"].keys()


def test_scores_are_those_of_the_written_masks(finished_run, tiny):
    scores = json.loads((folder_of(finished_run) / "scores.json").read_text())
    dice = []
    for example in tiny.data.read("test"):
        mask = read_mask(folder_of(finished_run) / "predictions" / f"{example.id}.png") > 0
        both = (mask & (example.label == 1)).sum()
        dice.append(2 * both / (mask.sum() + (example.label == 1).sum()))
    np.testing.assert_allclose(scores["own_size"]["dice"], np.mean(dice))


def test_scores_at_the_training_size_are_those_of_the_network(finished_run, tiny):
    scores = json.loads((folder_of(finished_run) / "scores.json").read_text())
    ((experiment, labels, variables, _),) = read_runs([finished_run])
    test = read_part(tiny, labels, "test").arrays
    to_size = Resize.between((40, 40), experiment.size)
    images = [to_size(example.image[None])[0] for example in tiny.data.read("test")]
    difference = np.abs(np.stack(images).astype(int) - test["image"])
    assert difference.max() <= 1  # the host's resizing is the device's, but for its rounding
    maps = network_predictor(experiment, labels, variables).maps(images)
    predicted = labels_of(np.asarray(maps))
    counts = metrics.count(predicted, test["label"], classes=1)
    np.testing.assert_allclose(scores["dice"], metrics.dice(counts).mean())
    assert scores["parameters"] == sum(x.size for x in jax.tree.leaves(variables["params"]))


def test_evaluating_again_gives_the_same(finished_run):
    before = (folder_of(finished_run) / "scores.json").read_text()
    evaluate([finished_run])
    assert (folder_of(finished_run) / "scores.json").read_text() == before


def test_several_classes_and_void_are_scored_per_class(tiny, tmp_path):
    rng = np.random.default_rng(0)
    for part, count in (("train", 4), ("test", 2)):
        for k in range(count):
            label = rng.choice(np.array([0, 1, 2, 255], np.uint8), (12, 15))
            image = rng.integers(0, 256, (12, 15, 3), dtype=np.uint8)
            for folder, pixels in (("images", image), ("masks", label)):
                path = tmp_path / "data" / part / folder / f"{part}{k}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    experiment = dataclasses.replace(
        tiny,
        data=Folder(path=tmp_path / "data", classes=("sky", "road", "car")),
        epochs=1,
        workdir=tmp_path / "run",
    )
    cli.run_experiment(experiment)
    scores = json.loads((folder_of(tmp_path / "run") / "scores.json").read_text())
    assert list(scores["per_class"]) == ["sky", "road", "car"]
    assert 0 <= scores["dice"] <= 1
    counted = np.zeros((3, 3), int)
    for path in sorted((folder_of(tmp_path / "run") / "predictions").glob("*.png")):
        predicted = read_mask(path)
        assert predicted.max() <= 2
        label = read_mask(tmp_path / "data" / "test" / "masks" / path.name)
        seen = label != 255
        np.add.at(counted, (label[seen], predicted[seen]), 1)
    for k, name in enumerate(("sky", "road", "car")):
        iou = counted[k, k] / (counted[k].sum() + counted[:, k].sum() - counted[k, k])
        assert scores["per_class"][name]["iou"] == pytest.approx(iou, abs=0.15)


def test_every_evaluation_has_a_folder_of_its_own(finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    before = {path: path.read_bytes() for path in folder_of(run).rglob("*") if path.is_file()}
    for settings, name, title in (
        (Settings(part="val"), "val", "val"),
        (Settings(part="all"), "all", "all"),
        (Settings(scales=(1.0, 1.5)), "test-scales-1-1.5", "at 1 and 1.5 times"),
        (Settings(step="latest"), "test-step-latest", "test, latest"),
        (Settings(tile=(16, 24)), "test-tile-16x24-overlap-0.5", "test, tiles of 16 × 24"),
    ):
        folder, scores = evaluate([run], settings)
        assert folder == run / "evaluations" / name
        assert title in scores["title"]
        assert (folder / "per_image.csv").exists()
        assert len(list((folder / "predictions").iterdir())) == scores["n"]
    folder, _ = evaluate([run, finished_run])
    assert folder.name.startswith("test-ensemble-run-tiny-")
    assert before == {path: path.read_bytes() for path in before}


def test_all_parts_together_are_as_many_images(finished_run, tiny):
    _, scores = evaluate([finished_run], Settings(part="all"))
    assert scores["n"] == tiny.data.train + tiny.data.val + tiny.data.test


def test_other_data_of_the_same_labels_are_scored(finished_run, tiny, tmp_path):
    for example in tiny.data.read("test"):
        for folder, pixels in (("images", example.image), ("masks", example.label * 255)):
            path = tmp_path / "mine" / folder / f"{example.id}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    folder, scores = evaluate([finished_run], Settings(data=tmp_path / "mine"))
    assert folder.name.startswith("all-of-mine-")
    shutil.copytree(tmp_path / "mine", tmp_path / "other" / "mine")
    assert evaluate([finished_run], Settings(data=tmp_path / "other" / "mine"))[0] != folder
    expected = json.loads((folder_of(finished_run) / "scores.json").read_text())
    assert scores["dice"] == expected["dice"]
    assert scores["own_size"] == expected["own_size"]

    script = tmp_path / "other.py"
    script.write_text(
        "from seg_jax.datasets import Dancers\n"
        "from seg_jax.models import UNet\n"
        "from seg_jax.run.config import Experiment\n"
        "experiment = Experiment(name='other', model=UNet(), data=Dancers())\n"
    )
    with pytest.raises(
        InputError, match=r"its classes are .* but the run has learnt \('lesion',\)"
    ):
        evaluate([finished_run], Settings(data=script))


def test_scores_of_groups_stand_beside_those_of_all(finished_run, tiny, tmp_path, monkeypatch):
    read = Nevi.read

    def grouped(self, part):
        return (e._replace(group="ab"[k % 2]) for k, e in enumerate(read(self, part)))

    monkeypatch.setattr(Nevi, "read", grouped)
    run = shutil.copytree(finished_run, tmp_path / "run")
    folder, scores = evaluate([run])
    with (folder / "per_image.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["group"] for row in rows] == ["a", "b", "a"]
    for group, count in (("a", 2), ("b", 1)):
        dice = [float(row["dice"]) for row in rows if row["group"] == group]
        assert scores["by_group"][group]["n"] == count
        assert scores["by_group"][group]["dice"] == pytest.approx(np.mean(dice))


def test_images_of_two_parts_may_have_one_name(finished_run, tiny, tmp_path):
    for part in ("train", "test"):
        for k, example in enumerate(tiny.data.read(part)):
            for folder, pixels in (("images", example.image), ("masks", example.label * 255)):
                path = tmp_path / "data" / part / folder / f"{k}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    folder, scores = evaluate([finished_run], Settings(data=tmp_path / "data"))
    assert scores["n"] == 11
    assert len(list((folder / "predictions").iterdir())) == 11
    assert (folder / "predictions" / "test-0.png").exists()
