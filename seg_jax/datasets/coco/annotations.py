"""COCO's annotation files: JSON lists of images, categories and annotations, and their masks."""

import functools
import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as run_lengths

from seg_jax.datasets.lists import first_few
from seg_jax.errors import InputError

Entry = Mapping[str, Any]
"""An image, a category or an annotation, as the JSON has it."""

_MAX_CLASSES = 254


class Annotations(NamedTuple):
    """What one JSON file holds."""

    categories: tuple[Entry, ...]
    """In the order of their ids."""
    images: tuple[Entry, ...]
    """In the order of their file names."""
    of_image: Mapping[int, tuple[Entry, ...]]
    """The annotations of each image by its id, in the file's order; only images that have some."""


@functools.cache
def read_annotations(path: Path) -> Annotations:
    """Reads a JSON file, once in a process.

    Raises:
      InputError: if the file is missing or not in COCO's format, has no images, or has an
        annotation of an image that it doesn't list.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(
            f"{path}: no such file; fetch the annotations from https://cocodataset.org/#download,"
            " or set {flag} and the fields that end in -json to your own",
            field="data.root",
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable JSON file ({error}); fetch it again") from error
    try:
        categories = sorted(content["categories"], key=lambda category: category["id"])
        images = sorted(content["images"], key=lambda image: image["file_name"])
        of_image = defaultdict(list)
        for annotation in content["annotations"]:
            of_image[annotation["image_id"]].append(annotation)
        known = {image["id"] for image in images}
        names = Counter(category["name"] for category in categories)
    except KeyError as error:
        raise InputError(f"{path}: lacks {error}, which COCO's format has; add it") from error
    except TypeError as error:
        raise InputError(
            f"{path}: not in COCO's format, an object with lists of images, annotations and"
            f" categories ({error}); convert it"
        ) from error
    if not images:
        raise InputError(f"{path}: lists no images; add some")
    if lost := {str(image) for image in of_image if image not in known}:
        raise InputError(
            f"{path}: has annotations of images that it doesn't list: {first_few(lost)}; add the"
            " images or remove the annotations"
        )
    if len(names) > _MAX_CLASSES:
        raise InputError(
            f"{path}: {len(names)} categories, but a label holds {_MAX_CLASSES} at most; merge some"
        )
    if twice := {name for name, count in names.items() if count > 1}:
        raise InputError(f"{path}: has several categories named {first_few(twice)}; rename them")
    by_image = {image: tuple(annotations) for image, annotations in of_image.items()}
    return Annotations(tuple(categories), tuple(images), by_image)


def mask_of(annotation: Entry, shape: tuple[int, int], path: Path) -> np.ndarray:
    """Draws the polygons or run lengths of an annotation, as COCO's own tools do.

    Args:
      annotation: with segmentation: lists of x, y, x, y, …, or counts and size.
      shape: height and width of its image.
      path: the JSON file, for messages.

    Returns:
      (height, width) bool.

    Raises:
      InputError: if there is no segmentation, or it can't be drawn.
    """
    where = f"{path}: annotation {annotation.get('id')}"
    segmentation = annotation.get("segmentation")
    if not segmentation:
        raise InputError(f"{where} has no segmentation; add it, or remove the annotation")
    try:
        if isinstance(segmentation, list):
            # COCO's tools would take 4 numbers for a box.
            if any(len(polygon) < 6 or len(polygon) % 2 for polygon in segmentation):
                raise ValueError("a polygon needs an x and a y for each of 3 corners or more")
            segmentation = run_lengths.merge(run_lengths.frPyObjects(segmentation, *shape))
        return _of_run_lengths(segmentation["counts"], tuple(segmentation["size"]), shape)
    # COCO's tools raise all kinds of exceptions on broken values.
    except Exception as error:
        raise InputError(
            f"{where} has a segmentation that can't be drawn ({error}); fix or remove it"
        ) from error


def _of_run_lengths(
    counts: list[int] | str | bytes, size: tuple[int, int], shape: tuple[int, int]
) -> np.ndarray:
    """Decodes lengths of alternating runs of 0 and 1, column by column.

    Not by pycocotools, whose decoder warns under NumPy 2.
    """
    if size != shape:
        raise ValueError(f"its size is {[*size]}, but its image's {[*shape]}")
    if not isinstance(counts, list):
        counts = _counts(counts.encode() if isinstance(counts, str) else counts)
    if sum(counts) != shape[0] * shape[1]:
        raise ValueError(f"its run lengths add up to {sum(counts)} pixels")
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(shape[::-1]).T


def _counts(text: bytes) -> list[int]:
    """Decodes COCO's compressed run lengths (`rleFrString` in its maskApi.c).

    Each letter holds 5 bits of a number, the lowest first, and whether more letters follow; the
    last bit is the sign. From the fourth on, a number is the difference to the second before it.
    """
    counts, number, shift = [], 0, 0
    for letter in text:
        digit = letter - 48
        number |= (digit & 31) << shift
        shift += 5
        if not digit & 32:
            number -= (digit >> 4 & 1) << shift
            counts.append(number + (counts[-2] if len(counts) > 2 else 0))
            number = shift = 0
    return counts
