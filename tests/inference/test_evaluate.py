import csv
import dataclasses
import json
from functools import partial

import jax
import numpy as np
import pytest
from PIL import Image

from seg_jax import cli, metrics
from seg_jax.datasets import Folder
from seg_jax.datasets.images import read_mask
from seg_jax.inference.evaluate import evaluate, measurement, validate
from seg_jax.inference.predict import load, predictor
from seg_jax.pipeline import batches as input
from seg_jax.step import make_eval_step
from seg_jax.tasks.semantic import SCORES, labels_of


def test_scores_are_means_of_per_image_values(finished_run):
    scores = json.loads((finished_run / "scores.json").read_text())
    with (finished_run / "per_image.csv").open() as file:
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
    scores = json.loads((finished_run / "scores.json").read_text())
    dice = []
    for example in tiny.data.read("test"):
        mask = read_mask(finished_run / "predictions" / f"{example.id}.png") > 0
        both = (mask & (example.label == 1)).sum()
        dice.append(2 * both / (mask.sum() + (example.label == 1).sum()))
    np.testing.assert_allclose(scores["own_size"]["dice"], np.mean(dice))


def test_scores_at_the_training_size_are_those_of_the_network(finished_run, tiny):
    scores = json.loads((finished_run / "scores.json").read_text())
    experiment, variables, _ = load(finished_run)
    test = input.load(tiny, "test").arrays
    predicted = labels_of(predictor(experiment, variables)(test["image"]))
    counts = metrics.count(predicted, test["label"], classes=1)
    np.testing.assert_allclose(scores["dice"], metrics.dice(counts).mean())
    assert scores["parameters"] == sum(x.size for x in jax.tree.leaves(variables["params"]))


def test_evaluating_again_gives_the_same(finished_run):
    before = (finished_run / "scores.json").read_text()
    evaluate(finished_run)
    assert (finished_run / "scores.json").read_text() == before


def test_validation_is_the_mean_over_images_whatever_the_batch(finished_run, tiny):
    experiment, variables, _ = load(finished_run)
    test = input.load(tiny, "test").arrays
    plain = dataclasses.replace(experiment, test_flips=False)
    step = make_eval_step(
        experiment.model,
        partial(experiment.task.objective, experiment.data),
        measurement(experiment),
    )
    one, three = (
        validate(
            dataclasses.replace(plain, batch_size=n), step, variables, input.load(tiny, "test")
        )
        for n in (2, 3)
    )
    assert one["dice"] == pytest.approx(three["dice"])
    predicted = labels_of(predictor(plain, variables)(test["image"]))
    counts = metrics.count(predicted, test["label"], classes=1)
    assert one["dice"] == pytest.approx(metrics.dice(counts).mean())


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
        model=tiny.model.clone(outputs=3),
        epochs=1,
        workdir=tmp_path / "run",
    )
    cli.run_experiment(experiment)
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert list(scores["per_class"]) == ["sky", "road", "car"]
    assert 0 <= scores["dice"] <= 1
    counted = np.zeros((3, 3), int)
    for path in sorted((tmp_path / "run" / "predictions").glob("*.png")):
        predicted = read_mask(path)
        assert predicted.max() <= 2
        label = read_mask(tmp_path / "data" / "test" / "masks" / path.name)
        seen = label != 255
        np.add.at(counted, (label[seen], predicted[seen]), 1)
    for k, name in enumerate(("sky", "road", "car")):
        iou = counted[k, k] / (counted[k].sum() + counted[:, k].sum() - counted[k, k])
        assert scores["per_class"][name]["iou"] == pytest.approx(iou, abs=0.15)
