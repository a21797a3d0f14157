"""From a workdir and pictures of any size to what the task makes of them at that size."""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from seg_jax.checkpoint import Checkpoints
from seg_jax.config import Experiment, from_json
from seg_jax.datasets.images import IMAGE_SUFFIXES, read_image
from seg_jax.errors import InputError
from seg_jax.files import write_whole
from seg_jax.resize import resize_image
from seg_jax.step import TrainState, Variables, init_state, normalise, to_float

Predict = Callable[[np.ndarray], np.ndarray]
"""Images (B, H, W, C) uint8 at the training size to predictions (B, H, W, K) float32."""


def read_experiment(workdir: Path) -> Experiment:
    """The experiment that a workdir belongs to.

    Raises:
      InputError: if the folder isn't a workdir.
    """
    path = workdir / "config.json"
    if not path.exists():
        raise InputError(f"{workdir} is no workdir: it has no config.json; name a run's folder")
    return from_json(json.loads(path.read_text()))


def shapes_of_state(experiment: Experiment) -> TrainState:
    """The state that an experiment trains, as shapes and dtypes alone."""
    optimiser, _ = experiment.optimiser.chain(1)
    shape = (*experiment.size, experiment.data.channels)
    return jax.eval_shape(
        partial(init_state, experiment.model, optimiser, seed=experiment.seed, shape=shape)
    )


def load(workdir: Path) -> tuple[Experiment, Variables, int]:
    """The experiment of a workdir, the variables to predict with, and their step."""
    experiment = read_experiment(workdir)
    checkpoints = Checkpoints(workdir, read_only=True)
    variables, step = checkpoints.restore_for_prediction(shapes_of_state(experiment))
    checkpoints.close()
    return experiment, variables, step


def predictor(experiment: Experiment, variables: Variables) -> Predict:
    """Compiles the prediction, averaged over an image's mirror images where the experiment says so.

    Args:
      experiment: names the network and the task.
      variables: the network's parameters and statistics.
    """
    model, task, data = experiment.model, experiment.task, experiment.data
    mirrors = experiment.augment.mirrors if experiment.test_flips else ((),)

    @jax.jit
    def predict(variables: Variables, image: Array) -> Array:
        image = normalise(to_float(image), standardise=experiment.standardise)

        def seen_mirrored(axes: tuple[int, ...]) -> Array:
            maps = model.apply(variables, jnp.flip(image, axes), train=False)
            return task.mirrored(data, task.predictions(data, maps), axes)

        return sum(map(seen_mirrored, mirrors)) / len(mirrors)

    return lambda image: np.asarray(predict(variables, image))


def in_batches(predict: Predict, images: Sequence[np.ndarray], batch_size: int) -> np.ndarray:
    """Predicts any number of images of one size with batches of one shape."""
    rows = []
    for start in range(0, len(images), batch_size):
        batch = np.stack(images[start : start + batch_size])
        filled = np.resize(batch, (batch_size, *batch.shape[1:]))
        rows.append(predict(filled)[: len(batch)])
    return np.concatenate(rows)


def decoder(experiment: Experiment) -> Callable[[np.ndarray, tuple[int, int]], Any]:
    """What a task makes of the predictions (H, W, K) of one image at a size (height, width).

    The result has no batch axis; its maps are filled up below and at the right, to whole multiples
    of `STEP`, so that images of many sizes share a few compiled programs.
    """
    task, data = experiment.task, experiment.data
    decode = jax.jit(partial(task.decode, data))

    def decoded(predictions: np.ndarray, size: tuple[int, int]) -> Any:
        filled = fill_up(task.resized(data, predictions, size), 0)
        return jax.tree.map(lambda x: np.asarray(x)[0], decode(filled[None]))

    return decoded


STEP = 64
"""Pixels by whose multiples the sizes of compiled programs grow."""


def fill_up(maps: np.ndarray, value: int) -> np.ndarray:
    """(H, W, ...) filled up to multiples of `STEP`."""
    edges = [(0, -side % STEP) for side in maps.shape[:2]] + [(0, 0)] * (maps.ndim - 2)
    return np.pad(maps, edges, constant_values=value)


class CocoFile:
    """Collects the objects of images and writes them as one file in COCO's format."""

    def __init__(self, experiment: Experiment):
        self._found: dict[str, list] = {
            "images": [],
            "annotations": [],
            "categories": experiment.task.categories(experiment.data),
        }

    def add(self, name: str, image: np.ndarray, annotations: list[dict[str, Any]]) -> None:
        """Takes the objects that a task's `save` gave of an image (height, width, C)."""
        images, objects = self._found["images"], self._found["annotations"]
        height, width = image.shape[:2]
        images.append({"id": len(images) + 1, "file_name": name, "height": height, "width": width})
        for annotation in annotations:
            numbers = {"id": len(objects) + 1, "image_id": len(images), "iscrowd": 0}
            objects.append(numbers | annotation)

    def write(self, folder: Path) -> None:
        """Writes predictions/coco.json, if the task has objects."""
        if self._found["categories"]:
            (folder / "predictions").mkdir(parents=True, exist_ok=True)
            write_whole(folder / "predictions" / "coco.json", json.dumps(self._found) + "\n")


def predict_files(workdir: Path, paths: Sequence[Path], out: Path) -> int:
    """Predicts image files, and those of folders, at their own sizes.

    Returns:
      How many were predicted.

    Raises:
      InputError: if a path doesn't exist, holds no image, or can't be read.
    """
    files = list(_image_files(paths))
    stems = [file.stem for file in files]
    twice = next((stem for stem in stems if stems.count(stem) > 1), None)
    if twice:
        raise InputError(f"two images are called {twice}; predict them into different folders")
    experiment, variables, _ = load(workdir)
    predict, decode = predictor(experiment, variables), decoder(experiment)
    coco = CocoFile(experiment)
    for file in files:
        image = read_image(file, experiment.data.channels)
        predictions = predict(resize_image(image, experiment.size)[None])[0]
        decoded = decode(predictions, image.shape[:2])
        objects = experiment.task.save(experiment.data, decoded, out, file.stem, image)
        coco.add(file.name, image, objects)
    coco.write(out)
    return len(files)


def _image_files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.exists():
            raise InputError(f"{path} doesn't exist")
        if path.is_file():
            yield path
            continue
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        if not found:
            raise InputError(f"{path} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))})")
        yield from found
