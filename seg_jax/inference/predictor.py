"""What a network has learnt, as a value: from images of any size to what is found in them.

A predictor is a small object without folder, run or data set. `of_network` makes one; the other
functions compose predictors into new ones:

    net = of_network(model, variables, task, labels, channels=3)
    both = averaged([net, mirrored(net, (2,))])             # the image and its mirror image
    any_size = resized(both, (256, 256))                    # sees every image at 256×256
    ensemble = averaged([any_size, another])                # the mean of two networks' maps
    large = tiled(both, (512, 512), overlap=0.5)            # tile by tile, at the image's own size

Everything from the pixels to what is found runs on the device. Three kinds of programs are
compiled: one resizes images, for each bucket of sizes; one applies the network, for each size that
the network sees; one resizes its predictions and decodes them, again for each bucket of sizes. So
a network is compiled once, however many sizes the images have.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from seg_jax.datasets.images import read_image
from seg_jax.errors import InputError
from seg_jax.found import Found
from seg_jax.labels import Labels
from seg_jax.models import Net
from seg_jax.resize import Resize
from seg_jax.step import Variables, normalise, to_float
from seg_jax.tasks import Task
from seg_jax.tasks.task import Decoded

Item = TypeVar("Item")
Image = np.ndarray | str | Path

IMAGES_AT_ONCE = 8
"""Images that a network is applied to at once: whole ones are held in memory, so they are few."""

BUCKET = 64
"""Arrays whose size differs from image to image are padded to multiples of so many pixels, so that
many sizes share a few compiled programs."""

MAX_DECODED = 2**27
"""Most numbers in the predictions of one image that are decoded: half a gigabyte, and several
copies of it. If there are more, they are decoded at a smaller size and the result is enlarged."""


@dataclass(frozen=True, eq=False)
class Predictor:
    """From images to what is found in them; call it with an image, a path, or a list of either."""

    task: Task
    """What the maps mean."""
    labels: Labels
    """What the numbers in the result mean."""
    channels: int
    """Channels of the images: 3 for RGB, 1 for greyscale."""
    multiple: int
    """Height and width of what the network sees are multiples of it."""
    maps: Callable[[Sequence[np.ndarray | Array]], Sequence[Array]]
    """Images (h, w, C) uint8 to the predictions (H, W, K) float32 of each.

    The sizes of images and predictions are equal, unless the predictor is `resized`: then images
    may have any size, and predictions the one that it was made for.
    """
    rows: Callable[[np.ndarray], Iterator[np.ndarray]] | None = None
    """One image (h, w, C) uint8 to its predictions row by row, (rows, w, K) float32 each; only
    where the predictor is `tiled`."""

    def __call__(self, image: Image | Sequence[Image]) -> Found | list[Found]:
        """What is found in an image, or in each of several.

        Args:
          image: (h, w, C) uint8 of any size, the path of an image file, or a list of either.

        Raises:
          InputError: if an array isn't such an image, or a file can't be read.
        """
        if isinstance(image, list | tuple):
            images = ((None, self._pixels(each)) for each in image)
            return [found for *_, found in self.find(images)]
        ((*_, found),) = self.find([(None, self._pixels(image))])
        return found

    def find(
        self, images: Iterable[tuple[Item, np.ndarray]]
    ) -> Iterator[tuple[Item, np.ndarray, Found]]:
        """Each image's name (or whatever stands beside it), the image, and what is found in it.

        Args:
          images: names and images (h, w, C) uint8; `IMAGES_AT_ONCE` are read and seen at once.
        """
        if self.rows is not None and self.task.pixelwise:
            for name, image in images:
                yield name, image, self._found_by_rows(image)
            return
        for name, image, maps in self.predictions(images):
            yield name, image, self.found(maps, image.shape[:2])

    def predictions(
        self, images: Iterable[tuple[Item, np.ndarray]]
    ) -> Iterator[tuple[Item, np.ndarray, Array]]:
        """Each image's name, the image, and its predictions (H, W, K)."""
        images, count = iter(images), 0
        # Tiles share a program whatever the number of images, whose maps may be large.
        at_once = IMAGES_AT_ONCE if self.rows is None else 1
        while True:
            group, error = [], None
            try:
                group.extend(islice(images, at_once))
            except InputError as unreadable:  # what was read before is still predicted
                error = unreadable
            # The last group is padded by repeating images, so it needs no program of its own.
            count = max(count, len(group))
            padded = [group[k % len(group)][1] for k in range(count)] if group else []
            for (name, image), maps in zip(group, padded and self.maps(padded), strict=False):
                yield name, image, maps
            if error is not None:
                raise error
            if not group:
                return

    def found(self, maps: Array, size: tuple[int, int]) -> Found:
        """What is found in one image.

        Args:
          maps: its predictions (H, W, K).
          size: height and width at which it is found.
        """
        return self.found_in(self.decode(maps, size), maps, size)

    def found_in(self, decoded: Decoded, maps: Array, size: tuple[int, int]) -> Found:
        """What is found in one image whose predictions are decoded already."""

        def probabilities() -> np.ndarray:
            grid = tuple(maps.shape[:2])
            resize = None if grid == size else Resize.between(grid, size, bucket(size))
            found = _probabilities(maps[None], resize, task=self.task, labels=self.labels)
            return np.asarray(found)[0, : size[0], : size[1]]

        found = self.task.found(self.labels, decoded, size)
        return replace(found, make_probabilities=probabilities)

    def decode(self, maps: Array, size: tuple[int, int]) -> Decoded:
        """What the predictions (H, W, K) of one image say at a size (height, width).

        Returns:
          Arrays of NumPy without a batch axis. Unless `size` is that to which the predictor resizes
          every image, maps are padded below and at the right to multiples of `BUCKET`.
        """
        grid = tuple(maps.shape[:2])
        if grid == size and self.rows is not None:  # sizes differ from image to image here too
            maps = pad(np.asarray(maps), 0)
        smaller = min(1, (MAX_DECODED / (math.prod(size) * maps.shape[-1])) ** 0.5)
        within = tuple(max(1, round(smaller * side)) for side in size)
        shape = within if within == grid else bucket(within)
        scale = 1.0
        if not self.task.pixelwise:
            scale = max(1, round(4 * (math.prod(within) / math.prod(grid)) ** 0.5)) / 4
        decoded = _decode(
            maps[None],
            None if within == grid else Resize.between(grid, within, shape),
            task=self.task,
            labels=self.labels,
            scale=scale,
        )
        decoded = jax.tree.map(lambda x: np.asarray(x)[0], decoded)
        if within == size:
            return decoded
        return _padded(self.task.enlarged(decoded, within, size))

    def _found_by_rows(self, image: np.ndarray) -> Found:
        """Decodes tiled predictions as they come, so that no map of the whole image is held."""

        def probabilities() -> np.ndarray:
            parts = (np.asarray(self.task.probabilities(self.labels, x)) for x in self.rows(image))
            return np.concatenate(list(parts))

        found = (self.found(rows, rows.shape[:2]) for rows in self.rows(image))
        label = np.concatenate([each.label for each in found])
        return Found(label=label, make_probabilities=probabilities)

    def _pixels(self, image: Image) -> np.ndarray:
        if isinstance(image, str | Path):
            return read_image(Path(image).expanduser(), self.channels)
        image = np.asarray(image)
        if image.ndim == 2 and self.channels == 1:
            image = image[..., None]
        if (
            image.dtype != np.uint8
            or image.ndim != 3
            or image.shape[-1] != self.channels
            or not image.size
        ):
            raise InputError(
                f"the image is {image.dtype} of shape {image.shape}, but this network takes uint8 "
                f"of shape (height, width, {self.channels}), from 0 to 255; convert it"
            )
        return image


def of_network(
    model: Net,
    variables: Variables,
    task: Task,
    labels: Labels,
    *,
    channels: int,
    standardise: bool = False,
) -> Predictor:
    """The predictor of one network, for images whose sizes are multiples of its stride.

    Args:
      model: the network, with as many maps as the task needs.
      variables: its parameters and statistics.
      task: what the maps mean.
      labels: what the labels mean.
      channels: of the images.
      standardise: as in `step.normalise`.
    """
    variables = jax.device_put(variables)

    def maps(images: Sequence[np.ndarray | Array]) -> Array:
        return _apply(
            variables,
            _stacked(images),
            model=model,
            task=task,
            labels=labels,
            standardise=standardise,
        )

    return Predictor(task, labels, channels, model.stride, maps)


def mirrored(predictor: Predictor, axes: tuple[int, ...]) -> Predictor:
    """Sees the images flipped along axes (1 for rows, 2 for columns), and flips what it predicts.

    Args:
      predictor: for images of one size.
      axes: () leaves the images as they are.
    """
    if not axes:
        return predictor
    task, labels = predictor.task, predictor.labels

    def maps(images: Sequence[np.ndarray | Array]) -> Array:
        found = predictor.maps(jnp.flip(_stacked(images), axes))
        return _mirrored(found, task=task, labels=labels, axes=axes)

    return replace(predictor, maps=maps)


def resized(
    predictor: Predictor, size: tuple[int, int], grid: tuple[int, int] | None = None
) -> Predictor:
    """Sees images of any size at one size.

    Args:
      predictor: for images of one size.
      size: height and width at which it sees every image, resized as for training.
      grid: height and width of the predictions, `size` if not given.
    """
    task, labels = predictor.task, predictor.labels

    def maps(images: Sequence[np.ndarray]) -> Array:
        found = _stacked(predictor.maps([_resize_image(image, size) for image in images]))
        return _on_grid(found, grid or size, task=task, labels=labels)

    return replace(predictor, maps=maps)


def averaged(predictors: Sequence[Predictor]) -> Predictor:
    """The mean of several predictors' maps, on the grid of the first.

    Args:
      predictors: of one task and the same labels: one network's at several sizes or mirrored, or
        those of several networks, an ensemble.

    Raises:
      InputError: if they don't predict the same maps.
    """
    first = predictors[0]
    for other in predictors[1:]:
        ours, theirs = (
            (type(p.task), p.labels.classes, p.labels.things, p.labels.skeleton, p.channels)
            for p in (first, other)
        )
        if ours != theirs:
            raise InputError(
                "an ensemble needs runs of one task, one kind of images and the same labels, but "
                f"one has {_described(ours)}, another {_described(theirs)}; leave one out"
            )
    if len(predictors) == 1:
        return first

    def maps(images: Sequence[np.ndarray | Array]) -> Array:
        total = _stacked(first.maps(images))
        for other in predictors[1:]:
            found = _stacked(other.maps(images))
            total = total + _on_grid(found, total.shape[1:3], task=first.task, labels=first.labels)
        return total / len(predictors)

    return replace(first, multiple=math.lcm(*(p.multiple for p in predictors)), maps=maps)


def bucket(size: tuple[int, int]) -> tuple[int, int]:
    """The size to which arrays of a size (height, width) are padded."""
    return tuple(side + -side % BUCKET for side in size)


def pad(maps: np.ndarray, value: int) -> np.ndarray:
    """(H, W, ...) padded below and at the right to multiples of `BUCKET`."""
    shape = bucket(maps.shape[:2])
    if shape == maps.shape[:2]:
        return maps
    padded = np.full((*shape, *maps.shape[2:]), value, maps.dtype)
    padded[: maps.shape[0], : maps.shape[1]] = maps
    return padded


def _padded(decoded: Decoded) -> Decoded:
    """One image's maps padded as `pad` does, with 0."""
    label, segments, candidates = decoded
    if segments is not None:
        segments = segments._replace(number=pad(segments.number, 0))
    return Decoded(None if label is None else pad(label, 0), segments, candidates)


def _described(of: tuple) -> str:
    task, classes, _, skeleton, channels = of
    what = ", ".join(classes) or "no classes"
    joints = f" and {len(skeleton.joints)} joints" if skeleton else ""
    return f"{task.__name__} of {what}{joints} in images of {channels} channels"


def _stacked(images: Sequence[np.ndarray | Array]) -> Array:
    return images if isinstance(images, Array) else jnp.stack(images)


def _resize_image(image: np.ndarray, size: tuple[int, int]) -> Array:
    """(h, w, C) uint8 to (*size, C) uint8."""
    if image.shape[:2] == size:
        return jnp.asarray(image)
    return _resize(pad(image, 0)[None], Resize.between(image.shape[:2], size))[0]


def _on_grid(maps: Array, size: tuple[int, int], *, task: Task, labels: Labels) -> Array:
    """Predictions (B, H, W, K) at another size."""
    if maps.shape[1:3] == size:
        return maps
    return _resize_maps(maps, Resize.between(maps.shape[1:3], size), task=task, labels=labels)


@partial(jax.jit, static_argnames=("model", "task", "labels", "standardise"))
def _apply(
    variables: Variables,
    images: Array,
    *,
    model: Net,
    task: Task,
    labels: Labels,
    standardise: bool,
) -> Array:
    maps = model.apply(variables, normalise(to_float(images), standardise=standardise), train=False)
    return task.predictions(labels, maps, images.shape[1:3])


@partial(jax.jit, static_argnames=("task", "labels", "axes"))
def _mirrored(maps: Array, *, task: Task, labels: Labels, axes: tuple[int, ...]) -> Array:
    return task.mirrored(labels, maps, axes)


@jax.jit
def _resize(images: Array, resize: Resize) -> Array:
    return resize(images)


@partial(jax.jit, static_argnames=("task", "labels"))
def _resize_maps(maps: Array, resize: Resize, *, task: Task, labels: Labels) -> Array:
    return task.resized(labels, maps, resize)


@partial(jax.jit, static_argnames=("task", "labels"))
def _probabilities(maps: Array, resize: Resize | None, *, task: Task, labels: Labels) -> Array:
    maps = maps if resize is None else task.resized(labels, maps, resize)
    return task.probabilities(labels, maps)


@partial(jax.jit, static_argnames=("task", "labels", "scale"))
def _decode(
    maps: Array, resize: Resize | None, *, task: Task, labels: Labels, scale: float
) -> Decoded:
    maps = maps if resize is None else task.resized(labels, maps, resize)
    return task.decode(labels, maps, scale=scale)
