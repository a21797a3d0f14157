"""Scores of a network: of batches while it trains, and of images one by one afterwards.

Of each image a small record is kept, so memory hardly grows with the number of images. At the
training size scores compare with papers, at each image's own size they are what a user gets.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from seg_jax.found import Found
from seg_jax.inference.predictor import Predictor, pad
from seg_jax.labels import VOID, Example, Kind, Labels
from seg_jax.pipeline.batches import Examples, evaluation_batches
from seg_jax.step import Batch, Step, Variables
from seg_jax.tasks import Task
from seg_jax.tasks.task import Decoded


def measurement(task: Task, labels: Labels) -> Callable[[jax.Array, Batch], Any]:
    """What `step.make_eval_step` does with a network's maps and a batch."""

    def measure(maps: jax.Array, batch: Batch) -> Any:
        predictions = task.predictions(labels, maps, batch["label"].shape[1:])
        return task.measure(labels, task.decode(labels, predictions), batch)

    return measure


def validate(
    task: Task,
    labels: Labels,
    eval_step: Step,
    variables: Variables,
    examples: Examples,
    *,
    batch_size: int,
    rows: slice = slice(None),
) -> dict[str, float]:
    """Loss and scores at the training size, each image counted once.

    Args:
      task: says how it is scored.
      labels: what the labels mean.
      eval_step: measures a whole batch from this host's rows of it.
      variables: of the model.
      examples: what is scored.
      batch_size: of all hosts together.
      rows: this host's rows of each batch.
    """
    records, losses = [], []
    for count, batch in evaluation_batches(examples, batch_size=batch_size, rows=rows):
        measured, loss = eval_step(variables, batch)
        measured = jax.tree.map(np.asarray, measured)
        for k in range(count):
            one = jax.tree.map(lambda x, k=k: x[k], measured)
            records.append(task.record(labels, one))
        losses += [float(loss)] * count
    return {"loss": float(np.mean(losses)), **task.scores(labels, records)}


class Scored(NamedTuple):
    """What is kept of an image for the scores."""

    id: str
    group: str
    at_training_size: Any
    """A task's record; None where the network sees tiles, not the image at one size."""
    at_own_size: Any
    details: dict[str, float]


def score(
    predictor: Predictor, examples: Iterable[Example]
) -> Iterator[tuple[Example, Found, Scored]]:
    """Each example, what is found in it at its own size, and what is kept of it for the scores."""
    task, labels = predictor.task, predictor.labels
    named = ((example, example.image) for example in examples)
    for example, image, maps in predictor.predictions(named):
        own, grid = image.shape[:2], tuple(maps.shape[:2])
        tiled = predictor.rows is not None
        decoded = predictor.decode(maps, own)
        found = predictor.found_in(decoded, maps, own)
        measured = _measured(predictor, decoded, example, own, padded=tiled or grid != own)
        at_own = at_grid = task.record(labels, measured, found)
        if tiled:
            at_grid = None
        elif grid != own:
            decoded = predictor.decode(maps, grid)
            measured = _measured(predictor, decoded, example, grid, padded=False)
            at_grid = task.record(labels, measured)
        details = task.details(labels, found, example)
        yield example, found, Scored(example.id, example.group, at_grid, at_own, details)


def summary(predictor: Predictor, scored: Sequence[Scored]) -> dict[str, Any]:
    """The scores of all images, first at the training size, then as `own_size` at their own.

    Where the network saw tiles, there is no training size: then the first are at the own size.
    """
    task, labels = predictor.task, predictor.labels
    own = [each.at_own_size for each in scored]
    of_own = task.summary(labels, own, [each.details for each in scored])
    if predictor.rows is not None:
        found = of_own
    else:
        at_grid = [each.at_training_size for each in scored]
        found = task.summary(labels, at_grid, [])
        found["own_size"] = {name: x for name, x in of_own.items() if name != "per_class"}
    groups = sorted({each.group for each in scored})
    if len(groups) > 1:
        of_group = {g: [_first(each) for each in scored if each.group == g] for g in groups}
        found["by_group"] = {
            g: {"n": len(records)} | task.scores(labels, records) for g, records in of_group.items()
        }
    return found


def row(predictor: Predictor, scored: Scored) -> dict[str, Any]:
    """The scores of one image, as a line of a table."""
    task, labels = predictor.task, predictor.labels
    line = {"id": scored.id}
    if scored.group:
        line["group"] = scored.group
    line |= task.scores(labels, [_first(scored)])
    if scored.at_training_size is not None:
        own = task.scores(labels, [scored.at_own_size])
        line |= {f"own_{name}": value for name, value in own.items()}
    return line | scored.details


def _first(scored: Scored) -> Any:
    """The record of the scores that come first: at the training size, where there is one."""
    return scored.at_own_size if scored.at_training_size is None else scored.at_training_size


def _measured(
    predictor: Predictor, decoded: Decoded, example: Example, size: tuple[int, int], *, padded: bool
) -> Any:
    """What a task measures of one image at a size, in NumPy; `padded`: whether `decoded` is."""
    task, labels = predictor.task, predictor.labels
    truth = task.arrays(labels, example, size)
    if padded:
        truth = {
            name: pad(x, VOID if name == "label" else 0) if task.kinds[name] is Kind.MAP else x
            for name, x in truth.items()
        }
    label = truth["label"]
    batch = {**truth, "label": label.astype(np.int32), "valid": label != VOID}
    decoded, batch = jax.tree.map(lambda x: np.asarray(x)[None], (decoded, batch))
    measured = _measure(decoded, batch, task=task, labels=labels)
    return jax.tree.map(lambda x: np.asarray(x)[0], measured)


@partial(jax.jit, static_argnames=("task", "labels"))
def _measure(decoded: Any, batch: Batch, *, task: Task, labels: Labels) -> Any:
    return task.measure(labels, decoded, batch)
