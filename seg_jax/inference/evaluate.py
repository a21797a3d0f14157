"""Scores of a network on a part of its data set.

Per-image scores are kept; what is reported is their mean, or one score of all images together, as
the task says, with 95 % bootstrap intervals over images. At the training size scores compare with
papers, at each image's own size they are what a user gets.
"""

import csv
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from seg_jax.datasets.source import VOID, Example, Part
from seg_jax.errors import InputError
from seg_jax.files import write_json
from seg_jax.inference.predict import (
    CocoFiles,
    decoder,
    fill_up,
    filled_up,
    load,
    predicted,
    predictor,
)
from seg_jax.pipeline.batches import Examples, evaluation_batches
from seg_jax.run.config import Experiment
from seg_jax.step import Batch, Step, Variables


def measurement(experiment: Experiment) -> Callable[[jax.Array, Batch], Any]:
    """What `step.make_eval_step` does with a network's maps and a batch."""
    task, data = experiment.task, experiment.data

    def measure(maps: jax.Array, batch: Batch) -> Any:
        return task.measure(data, task.decode(data, task.predictions(data, maps)), batch)

    return measure


def validate(
    experiment: Experiment,
    eval_step: Step,
    variables: Variables,
    examples: Examples,
    *,
    rows: slice = slice(None),
) -> dict[str, float]:
    """Loss and scores at the training size, each image counted once.

    Args:
      experiment: names the task and the size of a batch.
      eval_step: measures a whole batch from this host's rows of it.
      variables: of the model.
      examples: what is scored.
      rows: this host's rows of each batch.
    """
    measured, losses = [], []
    for real, batch in evaluation_batches(examples, batch_size=experiment.batch_size, rows=rows):
        of_batch, loss = eval_step(variables, batch)
        measured.append(jax.tree.map(lambda x, real=real: np.asarray(x)[:real], of_batch))
        losses += [float(loss)] * real
    scores = experiment.task.scores(experiment.data, _joined(measured))
    return {"loss": float(np.mean(losses)), **scores}


def evaluate(
    workdir: Path, part: Part = "test", *, scales: tuple[float, ...] | None = None
) -> dict:
    """Scores a workdir's network and writes what it found.

    Writes scores.json, per_image.csv, predictions/ID.png (at the images' own sizes) and
    overlays/ID.jpg into the workdir; where the task has objects, predictions/coco.json; where it
    has stuff as well, predictions/panoptic.json and predictions/panoptic/ID.png.

    Args:
      workdir: a run's.
      part: of its data set.
      scales: of the training size at which predictions are averaged; the experiment's if not given.

    Returns:
      What scores.json holds, where null stands for NaN.
    """
    experiment, variables, step = load(workdir, scales)
    task, data, size = experiment.task, experiment.data, experiment.size
    predict, decode = predictor(experiment, variables), decoder(experiment)
    measure = jax.jit(partial(task.measure, data))

    def measured(decoded: Any, example: Example, size: tuple[int, int]) -> Any:
        truth = task.arrays(data, example, size)
        if size != experiment.size:
            label = fill_up(truth["label"], VOID)
            truth = filled_up(truth, size)
            truth["label"] = label
        label = truth["label"]
        batch = {**truth, "label": label.astype(np.int32), "valid": label != VOID}
        return jax.tree.map(np.asarray, measure(*jax.tree.map(lambda x: x[None], (decoded, batch))))

    coco = CocoFiles(experiment)
    entries = data.image_entries(part) if hasattr(data, "image_entries") else {}
    rows, at_size, at_own, details = [], [], [], []
    examples = tqdm(data.read(part), desc=part, unit="image")
    # Not by batches, which may be for a pod's devices.
    for example, image, maps in predicted(predict, ((each, each.image) for each in examples)):
        own_size = image.shape[:2]
        own = decode(maps, own_size)
        at_size.append(measured(decode(maps, size), example, size))
        at_own.append(measured(own, example, own_size))
        details.append(task.details(data, own, example))
        own_scores = task.scores(data, at_own[-1])
        rows.append(
            {"id": example.id}
            | task.scores(data, at_size[-1])
            | {f"own_{name}": value for name, value in own_scores.items()}
            | details[-1]
        )
        objects = task.save(data, own, workdir, example.id, image, example)
        coco.add(example.id, entries.get(example.id, {"file_name": example.id}), image, objects)
    if not rows:
        raise InputError(f"data: the {part} part holds no image; name another part")
    coco.write(workdir)

    scores = {"part": part, "step": step, "n": len(rows), "best": task.best}
    scores["scales"] = list(experiment.test_scales)
    scores |= task.summary(data, _joined(at_size), [])
    own = task.summary(data, _joined(at_own), details)
    scores["own_size"] = {name: value for name, value in own.items() if name != "per_class"}
    scores["parameters"] = sum(x.size for x in jax.tree.leaves(variables["params"]))
    with (workdir / "per_image.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    write_json(workdir / "scores.json", scores, indent=2)
    return scores


def in_words(scores: dict[str, Any]) -> str:
    """One line about scores: the first three, and the intervals that they have."""
    shown = [name for name, value in scores.items() if isinstance(value, float) and name != "loss"]
    return ", ".join(_in_words(scores, name) for name in shown[:3])


def _in_words(scores: dict[str, Any], name: str) -> str:
    label = {"dice": "Dice", "iou": "IoU"}.get(name, name)
    interval = scores.get(f"{name}_ci95")
    return f"{label} {scores[name]:.4f}" + (
        f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""
    )


def _joined(measured: list[Any]) -> Any:
    """What was measured of several batches as if of one."""
    return jax.tree.map(lambda *parts: np.concatenate(parts), *measured)
