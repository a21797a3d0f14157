"""From labelled images to batches.

A part of a data set is decoded and resized once and kept as uint8: in memory, or on disk where
memory is too small. Which examples a step sees depends only on the seed and the step, so a run that
is resumed needs to know nothing about the steps before.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

import jax
import numpy as np

from seg_jax.errors import InputError
from seg_jax.labels import VOID, Example, Labels, Part
from seg_jax.pipeline import cache as disk
from seg_jax.resize import resize_image
from seg_jax.values import changes, to_json

Arrays = dict[str, np.ndarray]
Made = TypeVar("Made")

LOCATIONS = ("data.raw", "data.root", "data.data_dir")
"""Fields of data sets that say where their files are; they change no example."""


class Reads(Protocol):
    """What is asked of a data set here: `seg_jax.datasets.source.Source.read`."""

    def read(self, part: Part) -> Iterator[Example]:
        """The examples of a part, in a fixed order."""


class GivesArrays(Protocol):
    """What is asked of a task here: `seg_jax.tasks.task.Task.arrays`."""

    def arrays(self, labels: Labels, example: Example, size: tuple[int, int]) -> Arrays:
        """What a batch holds of an example beside its image."""


@dataclass(frozen=True)
class Examples:
    """One part of a data set at the training size."""

    ids: tuple[str, ...]
    arrays: Arrays
    """By name, (N, ...): `image` (N, H, W, C) uint8, `label` (N, H, W) uint8 with `VOID` where
    unknown, and the other arrays that the task needs."""

    def __len__(self) -> int:
        return len(self.ids)

    def of(self, rows: np.ndarray) -> Arrays:
        """The arrays of some examples, given by their rows."""
        return {name: values[rows] for name, values in self.arrays.items()}


def load(
    data: Reads,
    task: GivesArrays,
    labels: Labels,
    size: tuple[int, int],
    part: Part,
    *,
    cache: Path | None = None,
) -> Examples | None:
    """Reads a part of a data set and resizes it.

    Args:
      data: the data set.
      task: whose arrays are kept beside the images.
      labels: of the data set.
      size: height and width of the images for the network.
      part: of the data set.
      cache: a folder. The first time, the examples are written to it; from then on they are read
        from there, each when a step needs it.

    Returns:
      The examples; None if there is no validation part and that was asked for.

    Raises:
      InputError: if the part is broken, if "train" or "test" is empty, or if the cache holds
        other examples.
    """

    def read() -> Iterator[tuple[str, Arrays]]:
        return ((e.id, arrays_of(task, labels, size, e)) for e in data.read(part))

    if cache is not None:
        of = {"data": to_json(data), "size": to_json(size)}
        examples = _cached(cache / part, of, read)
    else:
        each = list(read())
        names = each[0][1] if each else ()
        ids = tuple(name for name, _ in each)
        examples = Examples(ids, {name: np.stack([of[name] for _, of in each]) for name in names})
    if not len(examples):
        if part == "val":
            return None
        raise InputError(f"data: the {part} part holds no image; choose another split")
    return examples


def _cached(folder: Path, of: dict, read: Callable[[], Iterator[tuple[str, Arrays]]]) -> Examples:
    """The examples in a folder; if it doesn't exist, those that are read are written there first.

    `of` says what they are examples of: the `to_json` values of the data and the size.
    """
    if not folder.exists():
        disk.write(folder, of, read())
    if not folder.exists():
        return Examples((), {})
    kept, ids, arrays = disk.read(folder)
    changed = changes(kept, of, irrelevant=LOCATIONS)
    # Which of the task's fields change its arrays, only the task knows: so compare one example.
    first = {ids[0]: {name: values[0] for name, values in arrays.items()}}
    if not changed and not _equal(first, dict(islice(read(), 1))):
        changed = [f"data and task now give other arrays for {ids[0]}"]
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


def arrays_of(task: GivesArrays, labels: Labels, size: tuple[int, int], example: Example) -> Arrays:
    """What a batch holds of an example, at the training size; the aspect ratio isn't kept."""
    image = resize_image(example.image, size)
    return {"image": image, **task.arrays(labels, example, size)}


def check_test(data: Reads, task: GivesArrays, labels: Labels, size: tuple[int, int]) -> None:
    """Reads the test part as it will be scored, so that an error in it is found before training.

    Raises:
      InputError: if a file is broken, or the part is empty or has more than the task allows.
    """
    for example in data.read("test"):
        for each in (size, example.image.shape[:2]):
            task.arrays(labels, example, each)


def training_steps(examples: int, *, epochs: float, batch_size: int) -> int:
    """The steps after which every example was seen `epochs` times; the last batch is full, too."""
    return max(1, int(np.ceil(epochs * examples / batch_size)))


def training_batch(
    examples: Examples, step: int, *, batch_size: int, seed: int, rows: slice = slice(None)
) -> Arrays:
    """The batch of a step, or only some rows of it.

    Every epoch is a permutation of the examples. The epochs follow one another without a gap, and
    step s takes the places s·B to (s + 1)·B − 1 of that sequence. So every batch is full, no
    example is left out at the end of an epoch, and a batch may be larger than the data set.

    Args:
      examples: of the training part.
      step: from 0.
      batch_size: B, of all hosts together.
      seed: of the permutations.
      rows: the rows of the batch that are wanted, such as this host's.

    Returns:
      The arrays of the examples, and for each row `epoch` and `index` (B,) int32: of which example
      it is, and in which epoch.
    """
    n = len(examples)
    epochs, places = np.divmod(step * batch_size + np.arange(batch_size)[rows], n)
    index = np.empty_like(places)
    for epoch in np.unique(epochs).tolist():
        here = epochs == epoch
        index[here] = _permutation(n, seed, epoch)[places[here]]
    return examples.of(index) | {
        "epoch": epochs.astype(np.int32),
        "index": index.astype(np.int32),
    }


@lru_cache(maxsize=4)
def _permutation(n: int, seed: int, epoch: int) -> np.ndarray:
    """(n,): the order of n examples in an epoch. Drawn once, not at every step of the epoch."""
    return np.random.default_rng([seed, epoch]).permutation(n)


def prefetch(
    make: Callable[[int], Made], steps: range, *, ahead: int = 2
) -> Generator[Made, None, None]:
    """Makes `make(step)` for each step in order, up to `ahead` steps before it is asked for.

    One thread in the background makes them, so reading a batch and copying it to the devices takes
    place while the devices compute. What is made depends on the step alone, so nothing changes but
    the time. Where `make` raises an error, it is raised here at its step.

    The thread ends with the iterator: after the last step, after an error, or when the iterator is
    closed. In a loop that may end early, use `contextlib.closing`.

    Args:
      make: called in the thread with each step.
      steps: the steps in order.
      ahead: the number of batches that wait in memory beside the one in use; at least 1.
    """
    waiting: deque[Future[Made]] = deque()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch") as thread:
        try:
            for step in steps:
                waiting.append(thread.submit(make, step))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def evaluation_batches(
    examples: Examples, *, batch_size: int, rows: slice = slice(None)
) -> Iterator[tuple[int, Arrays]]:
    """Every example once, in order, in batches of one size.

    The last batch is padded with rows whose label is `VOID` throughout; they count nowhere.

    Args:
      examples: of any part.
      batch_size: of all hosts together.
      rows: the rows of each batch that are wanted, such as this host's.

    Yields:
      The number of examples in the whole batch, without padding, and the batch.
    """
    for start in range(0, len(examples), batch_size):
        places = start + np.arange(batch_size)[rows]
        batch = examples.of(np.minimum(places, len(examples) - 1))
        batch["label"][places >= len(examples)] = VOID
        yield min(batch_size, len(examples) - start), batch
