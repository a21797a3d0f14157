"""From labelled images to device batches.

A part of a data set is decoded and resized once and held as uint8. Which examples a step sees is
a function of (seed, step) alone, so a resumed run needs no iterator's history.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from seg_jax.config import Experiment
from seg_jax.datasets.source import VOID, Example, Part
from seg_jax.errors import InputError
from seg_jax.resize import resize_image


@dataclass(frozen=True)
class Examples:
    """One part of a data set in memory, at the training size."""

    ids: tuple[str, ...]
    arrays: dict[str, np.ndarray]
    """By name, (N, ...): `image` (N, H, W, C) uint8, `label` (N, H, W) uint8 with `VOID` where
    unknown, and what else the task wants."""

    def __len__(self) -> int:
        return len(self.ids)

    def of(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """The arrays of some examples, as a step takes them."""
        return {name: values[rows] for name, values in self.arrays.items()}


def load(experiment: Experiment, part: Part) -> Examples | None:
    """Reads a part of an experiment's data and resizes it; None where it has no such part.

    Raises:
      InputError: if the part is broken, or "train" or "test" is empty.
    """
    ids, found = [], []
    for example in experiment.data.read(part):
        ids.append(example.id)
        found.append(arrays_of(experiment, example))
    if not ids:
        if part == "val":
            return None
        raise InputError(f"data: the {part} part holds no image; choose another split")
    return Examples(tuple(ids), {name: np.stack([f[name] for f in found]) for name in found[0]})


def arrays_of(experiment: Experiment, example: Example) -> dict[str, np.ndarray]:
    """What a step takes of an example, at the training size; the aspect ratio isn't kept."""
    image = resize_image(example.image, experiment.size)
    return {"image": image, **experiment.task.arrays(experiment.data, example, experiment.size)}


def check_test(experiment: Experiment) -> None:
    """Reads the test part as it will be scored, so that what is wrong with it is known at once.

    Raises:
      InputError: if a file is broken, or the part is empty or not what the task can take.
    """
    for example in experiment.data.read("test"):
        for size in (experiment.size, example.image.shape[:2]):
            experiment.task.arrays(experiment.data, example, size)


def training_steps(examples: int, *, epochs: float, batch_size: int) -> int:
    """Steps in which every example is seen `epochs` times, the last batch a full one."""
    return max(1, int(np.ceil(epochs * examples / batch_size)))


def training_batch(
    examples: Examples, step: int, *, batch_size: int, seed: int, rows: slice = slice(None)
) -> dict[str, np.ndarray]:
    """The batch of a step, or only some rows of it.

    The epochs' permutations follow one another without a gap: step s takes the places s·B to
    (s+1)·B − 1 of that sequence. So every batch is full, no example is left out at an epoch's
    end, and a batch may be larger than the data set. Several hosts each take their own rows.

    Returns:
      the arrays of the examples, and `epoch` and `index` (B,) int32: which visit of which
      example each row is.
    """
    n = len(examples)
    places = step * batch_size + np.arange(batch_size)[rows]
    epochs = places // n
    order = {e: np.random.default_rng([seed, e]).permutation(n) for e in np.unique(epochs)}
    rows = np.array([order[e][p % n] for e, p in zip(epochs, places, strict=True)])
    return examples.of(rows) | {
        "epoch": epochs.astype(np.int32),
        "index": rows.astype(np.int32),
    }


def evaluation_batches(
    examples: Examples, *, batch_size: int, rows: slice = slice(None)
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Every example once, in order, with how many there are in each batch.

    The last batch is filled up with rows whose label is `VOID` throughout, so all are compiled
    for one shape and the filling counts nowhere. With `rows`, only those rows of each batch.
    """
    for start in range(0, len(examples), batch_size):
        places = start + np.arange(batch_size)[rows]
        batch = examples.of(np.minimum(places, len(examples) - 1))
        batch["label"][places >= len(examples)] = VOID
        yield min(batch_size, len(examples) - start), batch
