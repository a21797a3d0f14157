"""From labelled images to device batches.

A part of a data set is decoded and resized once and held as uint8. Which examples a step sees is
a function of (seed, step) alone, so a resumed run needs no iterator's history.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from seg_jax import losses
from seg_jax.datasets.source import VOID, Part, Source
from seg_jax.errors import InputError


@dataclass(frozen=True)
class Examples:
    """One part of a data set in memory, at the training size."""

    ids: tuple[str, ...]
    image: np.ndarray
    """(N, H, W, C) uint8."""
    label: np.ndarray
    """(N, H, W) uint8, `VOID` where unknown."""
    weight: np.ndarray | None = None
    """(N, H, W) float32 weights of the pixels in the loss, where the loss wants them."""

    def __len__(self) -> int:
        return len(self.ids)

    def arrays(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """The arrays of some examples, as a step takes them."""
        batch = {"image": self.image[rows], "label": self.label[rows]}
        return batch if self.weight is None else batch | {"weight": self.weight[rows]}


def load(
    source: Source, part: Part, size: tuple[int, int], *, boundary_weights: bool = False
) -> Examples | None:
    """Reads a part and resizes it; None where the protocol has no such part.

    Args:
      source: the data set.
      part: "train", "val" or "test".
      size: (height, width) of the result; the aspect ratio isn't kept.
      boundary_weights: whether to weigh pixels between objects up (`losses.boundary_weights`).

    Raises:
      InputError: if the part is broken, or "train" or "test" is empty.
    """
    ids, images, labels = [], [], []
    for example in source.read(part):
        ids.append(example.id)
        images.append(resize_image(example.image, size))
        labels.append(resize_label(example.label, size))
    if not ids:
        if part == "val":
            return None
        raise InputError(f"data: the {part} part holds no image; choose another split")
    weight = None
    if boundary_weights:
        weight = np.stack([losses.boundary_weights(np.where(x == VOID, 0, x)) for x in labels])
    return Examples(tuple(ids), np.stack(images), np.stack(labels), weight)


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Antialiased bilinear resizing of (H, W, C) uint8 to (*size, C)."""
    channels = [
        Image.fromarray(image[..., c]).resize(size[::-1], Image.Resampling.BILINEAR)
        for c in range(image.shape[-1])
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1)


def resize_label(label: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Nearest-neighbour resizing of (H, W) uint8 to `size`."""
    return np.asarray(Image.fromarray(label).resize(size[::-1], Image.Resampling.NEAREST))


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
      `image`, `label` (and `weight`), and `epoch` and `index` (B,) int32: which visit of which
      example each row is.
    """
    n = len(examples)
    places = step * batch_size + np.arange(batch_size)[rows]
    epochs = places // n
    order = {e: np.random.default_rng([seed, e]).permutation(n) for e in np.unique(epochs)}
    rows = np.array([order[e][p % n] for e, p in zip(epochs, places, strict=True)])
    return examples.arrays(rows) | {
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
        batch = examples.arrays(np.minimum(places, len(examples) - 1))
        batch["label"][places >= len(examples)] = VOID
        yield min(batch_size, len(examples) - start), batch
