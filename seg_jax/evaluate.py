"""Scores of a network on a part of its data set.

Per-image scores are kept; what is reported is their mean with a 95 % bootstrap interval. At the
training size they compare with papers, at each image's own size they are what a user gets.
"""

import csv
import json
from functools import partial
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

from seg_jax import metrics
from seg_jax.datasets.source import VOID, Example, Part
from seg_jax.files import write_whole
from seg_jax.input import Examples, evaluation_batches, resize_image, resize_label
from seg_jax.metrics import Counts
from seg_jax.predict import (
    in_batches,
    load,
    predictor,
    resize_probabilities,
    save_prediction,
    to_labels,
)
from seg_jax.step import Step, Variables

SCORES = {
    "dice": metrics.dice,
    "iou": metrics.iou,
    "accuracy": metrics.accuracy,
    "sensitivity": metrics.sensitivity,
    "specificity": metrics.specificity,
    "precision": metrics.precision,
}
"""The scores of an image, all from its counts."""

DISTANCES = {"hd95": metrics.hd95, "assd": metrics.assd}
"""The scores of an image in pixels, from its mask's outline."""


def validate(
    eval_step: Step,
    variables: Variables,
    examples: Examples,
    *,
    batch_size: int,
    rows: slice = slice(None),
) -> dict[str, float]:
    """Loss, and means of the per-image scores at the training size, each image counted once.

    Args:
      eval_step: gives the counts of a whole batch from this host's rows of it.
      variables: of the model.
      examples: what is scored.
      batch_size: of the whole batch.
      rows: this host's rows of each batch.
    """
    counts, losses = [], []
    for real, batch in evaluation_batches(examples, batch_size=batch_size, rows=rows):
        batch_counts, loss = eval_step(variables, batch)
        counts.append(jax.tree.map(lambda x, real=real: np.asarray(x)[:real], batch_counts))
        losses += [float(loss)] * real
    counts = jax.tree.map(lambda *parts: np.concatenate(parts), *counts)
    scores = {name: float(np.mean(_per_image(score, counts))) for name, score in SCORES.items()}
    return {"loss": float(np.mean(losses)), **scores}


def evaluate(workdir: Path, part: Part = "test") -> dict:
    """Scores a workdir's network and writes what it found.

    Writes scores.json, per_image.csv, predictions/ID.png (at the images' own sizes) and
    overlays/ID.jpg into the workdir.

    Returns:
      What scores.json holds.
    """
    experiment, variables, step = load(workdir)
    predict = predictor(experiment.model, variables, flips=experiment.test_flips)
    classes = experiment.data.classes
    rows, counts = [], []
    examples = experiment.data.read(part)
    for batch in _chunks(tqdm(examples, desc=f"{part}", unit="image"), experiment.batch_size):
        small = [resize_image(example.image, experiment.size) for example in batch]
        for example, maps in zip(
            batch, in_batches(predict, small, experiment.batch_size), strict=True
        ):
            label = resize_label(example.label, experiment.size)
            own = to_labels(resize_probabilities(maps, example.label.shape))
            image_counts = _count(to_labels(maps), label, classes)
            counts.append(image_counts)
            rows.append(
                {"id": example.id}
                | _scores(image_counts)
                | {f"own_{k}": v for k, v in _scores(_count(own, example.label, classes)).items()}
                | _distances(own, example.label, classes)
            )
            save_prediction(workdir, example.id, example.image, own, classes, example.label)

    scores = {"part": part, "step": step, "n": len(rows), **_summary(rows, list(SCORES))}
    own = _summary(rows, [f"own_{name}" for name in SCORES] + list(DISTANCES))
    scores["own_size"] = {name.removeprefix("own_"): value for name, value in own.items()}
    if len(classes) > 1:
        pooled = metrics.pooled(jax.tree.map(lambda *x: np.concatenate(x), *counts))
        by_class = {name: score(pooled, empty=np.nan) for name, score in SCORES.items()}
        scores["per_class"] = {
            c: {name: float(values[k]) for name, values in by_class.items()}
            for k, c in enumerate(classes)
        }
    scores["parameters"] = sum(x.size for x in jax.tree.leaves(variables["params"]))
    with (workdir / "per_image.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    write_whole(workdir / "scores.json", json.dumps(scores, indent=2) + "\n")
    return scores


def in_words(scores: dict) -> str:
    """One line about scores, with the interval of the Dice where there is one."""
    interval = scores.get("dice_ci95")
    dice = f"Dice {scores['dice']:.4f}"
    dice += f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""
    return f"{dice}, IoU {scores['iou']:.4f}, accuracy {scores['accuracy']:.4f}"


def _chunks(examples, size: int):
    chunk: list[Example] = []
    for example in examples:
        chunk.append(example)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _count(prediction: np.ndarray, label: np.ndarray, classes: tuple[str, ...]) -> Counts:
    """The counts of one image, (1, K)."""
    # In steps of length, so that images of many sizes share a few compiled programs.
    filling = -label.size % 2**17
    flat = np.pad(label.reshape(1, 1, -1), [(0, 0), (0, 0), (0, filling)], constant_values=VOID)
    predicted = np.pad(prediction.reshape(1, 1, -1), [(0, 0), (0, 0), (0, filling)])
    counts = _count_flat(predicted, flat.astype(np.int32), len(classes))
    return jax.tree.map(np.asarray, counts)


@partial(jax.jit, static_argnums=2)
def _count_flat(prediction: jax.Array, label: jax.Array, classes: int) -> Counts:
    return metrics.count(prediction, label, classes=classes, valid=label != VOID)


def _per_image(score, counts: Counts) -> np.ndarray:
    """(N,) from counts (N, K): the foreground's score, or the mean over the classes present."""
    if counts.tp.shape[-1] == 1:
        return score(counts)[:, 0]
    return metrics.macro(score(counts, empty=np.nan))


def _scores(counts: Counts) -> dict[str, float]:
    return {name: float(_per_image(score, counts)[0]) for name, score in SCORES.items()}


def _distances(prediction: np.ndarray, label: np.ndarray, classes: tuple) -> dict[str, float]:
    """Distances in pixels; for several classes the mean over those in prediction or label."""
    present = [1] if len(classes) == 1 else np.union1d(prediction, label[label != VOID])
    seen = label != VOID
    return {
        name: float(np.mean([distance((prediction == k) & seen, label == k) for k in present]))
        for name, distance in DISTANCES.items()
    }


def _summary(rows: list[dict], names: list[str]) -> dict:
    """Means of per-image values, and their bootstrap intervals."""
    values = {name: np.array([row[name] for row in rows]) for name in names}
    means = {name: float(np.nanmean(v)) for name, v in values.items()}
    intervals = {
        f"{name}_ci95": [round(float(x), 6) for x in metrics.bootstrap_interval(v)]
        for name, v in values.items()
    }
    return means | intervals
