"""From labelled images to device batches.

A part of a data set is decoded and resized once and held as uint8, in memory or, where that is too
small, on disk. Which examples a step sees is a function of (seed, step) alone, so a resumed run
needs no iterator's history.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import jax
import numpy as np

from seg_jax.datasets.source import VOID, Example, Part
from seg_jax.errors import InputError
from seg_jax.pipeline import cache
from seg_jax.resize import resize_image
from seg_jax.run.config import Experiment, changes, to_json


@dataclass(frozen=True)
class Examples:
    """One part of a data set at the training size."""

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

    With `experiment.cache` this is done once: what was written there is read from disk from then
    on, as steps need it.

    Raises:
      InputError: if the part is broken, if "train" or "test" is empty, or if the cache holds
        something else.
    """

    def found() -> Iterator[tuple[str, cache.Arrays]]:
        return ((e.id, arrays_of(experiment, e)) for e in experiment.data.read(part))

    if experiment.cache is not None:
        examples = _cached(experiment, part, found)
    else:
        each = list(found())
        names = each[0][1] if each else ()
        ids = tuple(name for name, _ in each)
        examples = Examples(ids, {name: np.stack([of[name] for _, of in each]) for name in names})
    if not len(examples):
        if part == "val":
            return None
        raise InputError(f"data: the {part} part holds no image; choose another split")
    return examples


def _cached(
    experiment: Experiment, part: Part, found: Callable[[], Iterator[tuple[str, cache.Arrays]]]
) -> Examples:
    """The examples in `experiment.cache`; those found are written there if none are yet."""
    folder = experiment.cache / part
    of = {"data": to_json(experiment.data), "size": to_json(experiment.size)}
    if not folder.exists():
        cache.write(folder, of, found())
    if not folder.exists():
        return Examples((), {})
    kept, ids, arrays = cache.read(folder)
    changed = changes(kept, of)
    # What a task takes of an example depends on its fields in its own way: one example tells.
    first = {ids[0]: {name: values[0] for name, values in arrays.items()}}
    if not changed and not _equal(first, dict(islice(found(), 1))):
        changed = [f"data and task don't give {ids[0]} so any more"]
    if changed:
        raise InputError(
            f"{folder} holds other examples ({'; '.join(changed)}); delete it, or name another "
            "--cache"
        )
    return Examples(ids, arrays)


def _equal(tree, other) -> bool:
    if jax.tree.structure(tree) != jax.tree.structure(other):
        return False
    return all(map(np.array_equal, jax.tree.leaves(tree), jax.tree.leaves(other)))


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
