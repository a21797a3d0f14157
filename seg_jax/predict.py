"""From a workdir and pictures of any size to masks of that size."""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from PIL import Image

from seg_jax.checkpoint import Checkpoints
from seg_jax.config import Experiment, from_json
from seg_jax.datasets.images import IMAGE_SUFFIXES, read_image
from seg_jax.errors import InputError
from seg_jax.input import resize_image, resize_label
from seg_jax.overlay import overlay
from seg_jax.step import TrainState, Variables, init_state, normalise, probabilities_of, to_float

Predict = Callable[[np.ndarray], np.ndarray]
"""Images (B, H, W, C) uint8 at the training size to probabilities (B, H, W, K) float32."""


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


def predictor(model: nn.Module, variables: Variables, *, flips: bool) -> Predict:
    """Compiles the prediction.

    Args:
      model: the network.
      variables: its parameters and statistics.
      flips: whether to average over the image and its three mirror images.
    """
    mirrors = [(), (1,), (2,), (1, 2)] if flips else [()]

    @jax.jit
    def predict(variables: Variables, image: Array) -> Array:
        image = normalise(to_float(image))
        mirrored = [
            jnp.flip(
                probabilities_of(model.apply(variables, jnp.flip(image, axes), train=False)), axes
            )
            for axes in mirrors
        ]
        return sum(mirrored) / len(mirrored)

    return lambda image: np.asarray(predict(variables, image))


def in_batches(predict: Predict, images: Sequence[np.ndarray], batch_size: int) -> np.ndarray:
    """Predicts any number of images of one size with batches of one shape."""
    rows = []
    for start in range(0, len(images), batch_size):
        batch = np.stack(images[start : start + batch_size])
        filled = np.resize(batch, (batch_size, *batch.shape[1:]))
        rows.append(predict(filled)[: len(batch)])
    return np.concatenate(rows)


def resize_probabilities(probabilities: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear resizing of (H, W, K) float32 to (*size, K)."""
    maps = [
        Image.fromarray(np.ascontiguousarray(probabilities[..., k])).resize(
            size[::-1], Image.Resampling.BILINEAR
        )
        for k in range(probabilities.shape[-1])
    ]
    return np.stack([np.asarray(m) for m in maps], axis=-1)


def to_labels(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities (..., K) to labels (...) uint8: one half and above, or the largest."""
    if probabilities.shape[-1] == 1:
        return (probabilities[..., 0] >= 0.5).astype(np.uint8)
    return probabilities.argmax(-1).astype(np.uint8)


def save_prediction(
    folder: Path,
    name: str,
    image: np.ndarray,
    prediction: np.ndarray,
    classes: tuple[str, ...],
    label: np.ndarray | None = None,
) -> None:
    """Writes predictions/NAME.png and overlays/NAME.jpg.

    The mask has the image's size, 0 and 255 for one class, else labels; the overlay is at most 768
    pixels long.
    """
    mask = folder / "predictions" / f"{name}.png"
    picture = folder / "overlays" / f"{name}.jpg"
    for path in (mask, picture):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(prediction * 255 if len(classes) == 1 else prediction).save(mask)
    # Shrunk before it is drawn on, so that lines keep their width.
    shrink = max(1.0, max(image.shape[:2]) / 768)
    size = (round(image.shape[0] / shrink) or 1, round(image.shape[1] / shrink) or 1)
    image, prediction = resize_image(image, size), resize_label(prediction, size)
    label = None if label is None else resize_label(label, size)
    drawn = Image.fromarray(overlay(image, prediction, label, classes))
    drawn.save(picture, quality=88, subsampling=0)  # thin coloured lines don't survive subsampling


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
    predict = predictor(experiment.model, variables, flips=experiment.test_flips)
    for file in files:
        image = read_image(file, experiment.data.channels)
        probabilities = predict(resize_image(image, experiment.size)[None])[0]
        prediction = to_labels(resize_probabilities(probabilities, image.shape[:2]))
        save_prediction(out, file.stem, image, prediction, experiment.data.classes)
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
