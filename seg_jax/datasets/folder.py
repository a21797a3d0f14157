"""The user's own images and masks, from a folder or a table, all checked before the first use."""

import functools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from seg_jax.datasets.images import read_image, read_mask
from seg_jax.datasets.instances import renumbered
from seg_jax.datasets.pairs import Pair, Parts, pairs_of_folder, pairs_of_table, split
from seg_jax.datasets.source import Source
from seg_jax.errors import InputError
from seg_jax.labels import VOID, Example, Labels, Part

_MAX_LINES = 20
_MAX_LABELS = 3
_MAX_OBJECT = 65535

_Counts = dict[int, int]
"""How many pixels of a mask hold each value; empty for a mask that is broken or a JPEG."""


@dataclass(frozen=True)
class Folder(Source):
    """Images and masks from a folder or a table.

    In a folder an image and its mask have the same name without suffix, such as `images/a.jpg` and
    `masks/a.png`; the mask's name may also end in `_mask`, `_lesion`, `_segmentation`, `_gt` or
    `_label`. Files may be PNG, JPEG, BMP, TIFF or WebP. Other files and subfolders are ignored.

    With one class the masks hold 0 and 1, or 0 and 255, the same pair in all masks; in JPEG masks,
    which blur values, the foreground is 128 or more. With several classes the masks hold class
    numbers and can't be JPEG. With instances the masks hold object numbers from 1, and 0 for the
    background, in PNG or TIFF of 8, 16 or 32 bits.

    Data that isn't split already is split in the order of sha256("seed:name"): first the test
    part, then validation, then training, each with at least one image (validation may be empty if
    its fraction is 0 or there are only two images). When images are added, a few old ones can
    change parts; a split that must never change belongs in folders or in a table.
    """

    path: Path = Path("data/folder")
    """Folder with images/ and masks/, or with train/, val/ (optional) and test/ that hold them."""
    csv: Path | None = None
    """Table to use instead of path: columns image, mask and maybe part, files relative to it."""
    classes: tuple[str, ...] = ("foreground",)
    """One name for binary masks; several for class numbers from 0, the background among them."""
    instances: bool = False
    """The masks hold the numbers of objects, all of one class, for `Example.instance`."""
    channels: Literal[1, 3] = 3
    """3 reads the images as RGB, 1 as greyscale."""
    void: int | None = None
    """Mask value of unknown pixels; if not set, 255 with several classes, none with one."""
    val: float = 0.1
    """Fraction of the images for validation, if the data isn't split already."""
    test: float = 0.2
    """Fraction of the images for testing, if the data isn't split already."""
    seed: int = 0
    """Seed of the split, if the data isn't split already."""

    @property
    def labels(self) -> Labels:
        """The classes; with instances, they are things."""
        return Labels(classes=self.classes, things=self.classes if self.instances else ())

    def check(self) -> None:
        """Decodes every image and mask, once in a process, and reports all problems together.

        Raises:
          InputError: with a line for each of the first 20 problems.
        """
        _checked(self)

    def read(self, part: Part) -> Iterator[Example]:
        """Checks the whole data set, then yields the part's examples in the order of their ids.

        Raises:
          InputError: as `check` does, before the first example.
        """
        parts, foreground = _checked(self)
        return (
            Example(
                pair.id,
                read_image(pair.image, self.channels),
                *(_objects(self, pair) if self.instances else [_label(self, pair, foreground)]),
            )
            for pair in parts[part]
        )


@functools.cache
def _checked(folder: Folder) -> tuple[Parts, int]:
    """Checks everything; returns the pairs of each part and the mask value of the foreground."""
    _check_fields(folder)
    root = Path(folder.csv or folder.path)
    parts, problems = pairs_of_table(root) if folder.csv else pairs_of_folder(root)
    pairs = [pair for part in parts.values() for pair in part]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        surveys = list(pool.map(functools.partial(_survey, folder), pairs))
    counts = [count for _, count in surveys]
    foreground = _foreground(folder, counts)
    problems += [line for lines, _ in surveys for line in lines]
    if folder.instances:
        problems += _object_problems(folder, pairs, counts)
    else:
        problems += _label_problems(folder, pairs, counts, foreground)
    if problems:
        title = f"{root}: {len(problems)} problem{'s' * (len(problems) > 1)}"
        rest = len(problems) - _MAX_LINES
        more = [f"and {rest} more"] if rest > 0 else []
        raise InputError("\n  ".join([title, *problems[:_MAX_LINES], *more]))
    if None in parts:
        if len(pairs) < 2:
            raise InputError(f"{root}: one image; add another, to train on one and test on one")
        parts = split(pairs, folder.val, folder.test, folder.seed)
    return parts, foreground


def _check_fields(folder: Folder) -> None:
    if not 1 <= len(folder.classes) <= VOID:
        raise InputError(
            f"{{flag}}: {len(folder.classes)} names; give 1 to {VOID}", field="data.classes"
        )
    if len(set(folder.classes)) < len(folder.classes):
        raise InputError(
            f"{{flag}}: {' '.join(folder.classes)} has one name twice", field="data.classes"
        )
    if folder.instances and len(folder.classes) > 1:
        raise InputError(
            f"{{flag}}: numbered objects are all of one class, but --data.classes has"
            f" {len(folder.classes)}; give one name, or set --data.no-instances",
            field="data.instances",
        )
    if folder.channels not in (1, 3):
        raise InputError(
            f"{{flag}}: {folder.channels}; give 3 for RGB, 1 for greyscale", field="data.channels"
        )
    if not (folder.test > 0 <= folder.val and folder.val + folder.test < 1):
        raise InputError(
            f"--data.val {folder.val} --data.test {folder.test}: give fractions that leave some"
            " for training, and a test fraction above 0",
            field="data.test",
        )


def _survey(folder: Folder, pair: Pair) -> tuple[list[str], _Counts]:
    """What is wrong with the files of one pair, and the values of its mask."""
    problems = []
    size = mask = None
    try:
        size = read_image(pair.image, folder.channels).shape[:2]
    except InputError as error:
        problems.append(str(error))
    try:
        mask = read_mask(pair.mask)
    except InputError as error:
        return [*problems, str(error)], {}
    if size and size != mask.shape:
        height, width = size
        turned = " (one may be turned by EXIF alone)" if size == mask.shape[::-1] else ""
        problems.append(
            f"{pair.image}: {width}×{height} pixels, but its mask {pair.mask} has {mask.shape[1]}×"
            f"{mask.shape[0]}; make them equal{turned}"
        )
    if not _is_jpeg(pair.mask):
        values, counts = np.unique(mask, return_counts=True)
        return problems, dict(zip(values.tolist(), counts.tolist(), strict=True))
    if folder.instances or len(folder.classes) > 1:
        what = "object numbers" if folder.instances else f"{len(folder.classes)} classes"
        problems.append(
            f"{pair.mask}: JPEG blurs values, so it can't hold {what}; save the mask as PNG from"
            " its source"
        )
    elif 0 < mask.max() < 128:
        problems.append(
            f"{pair.mask}: brightest value {mask.max()}, but a JPEG mask is foreground from 128"
            " up; save it as PNG from its source"
        )
    return problems, {}


def _foreground(folder: Folder, counts: list[_Counts]) -> int:
    """Whether most masks of a binary task mark the foreground by 1 or by 255."""
    high = sum(255 in count for count in counts)
    low = sum(1 in count and 255 not in count for count in counts)
    return 255 if high > low and folder.void != 255 else 1


def _label_problems(
    folder: Folder, pairs: list[Pair], counts: list[_Counts], foreground: int
) -> list[str]:
    """A line for each mask with values that are neither a class nor void."""
    n = len(folder.classes)
    if n > 1 and set().union(*counts) in ({255}, {0, 255}):
        return [
            f"{pairs[0].mask.parent}: the masks hold only 0 and 255, but there are {n} classes"
            f" (0 to {n - 1}); give --data.classes one name or save class numbers as masks"
        ]
    known = {*(range(n) if n > 1 else (0, foreground)), _void(folder)}
    wrong = [{v: c for v, c in count.items() if v not in known} for count in counts]
    return [
        f"{pair.mask}: {_describe(labels)}, but {_fix(n, list(labels), foreground)}"
        for pair, labels in zip(pairs, wrong, strict=True)
        if labels
    ]


def _object_problems(folder: Folder, pairs: list[Pair], counts: list[_Counts]) -> list[str]:
    """A line for each mask with invalid object numbers, or one line if no mask has two objects."""
    known = [{v: c for v, c in count.items() if v != folder.void} for count in counts]
    wrong = [{v: c for v, c in count.items() if not 0 <= v <= _MAX_OBJECT} for count in known]
    if pairs and all(counts) and max(sum(v > 0 for v in count) for count in known) < 2:
        return [
            f"{pairs[0].mask.parent}: no mask holds two objects; number each object of an image"
            " differently, or set --data.no-instances for masks of foreground and background"
        ]
    return [
        f"{pair.mask}: {_describe(numbers)}, but objects are numbered 1 to {_MAX_OBJECT};"
        " renumber them"
        for pair, numbers in zip(pairs, wrong, strict=True)
        if numbers
    ]


def _describe(labels: _Counts) -> str:
    """Names a few labels and their numbers of pixels: "labels 5 on 1 pixel, 6 on 2 pixels"."""
    first = [f"{v} on {c} pixel{'s' * (c > 1)}" for v, c in list(labels.items())[:_MAX_LABELS]]
    rest = len(labels) - len(first)
    return f"label{'s' * (len(labels) > 1)} {', '.join(first)}" + (f" and {rest} more" * (rest > 0))


def _fix(classes: int, labels: list[int], foreground: int) -> str:
    """Says which labels there may be, and what to do about labels that are none of them."""
    other = {1: 255, 255: 1}[foreground]
    if classes == 1 and labels == [other]:
        return (
            f"{foreground} marks the foreground elsewhere; save all masks as 0 and {foreground}, or"
            " set --data.void 255 if it means unknown"
        )
    void = f" or set --data.void {labels[0]}" if len(labels) == 1 else ""
    if classes == 1:
        return (
            "there is 1 class (0 and 1, or 0 and 255); threshold soft edges at 128, name the"
            f" background and all classes in --data.classes{void}"
        )
    name = "its name" if len(labels) == 1 else "their names"
    return f"there are {classes} classes (0 to {classes - 1}); add {name} to --data.classes{void}"


def _label(folder: Folder, pair: Pair, foreground: int) -> np.ndarray:
    """Reads a checked mask: (height, width) uint8 of classes and `VOID`."""
    mask = read_mask(pair.mask)
    if len(folder.classes) > 1:
        label = mask.astype(np.uint8)
    elif _is_jpeg(pair.mask):
        return (mask >= 128).astype(np.uint8)
    else:
        label = (mask == foreground).astype(np.uint8)
    if (void := _void(folder)) is not None:
        label[mask == void] = VOID
    return label


def _objects(folder: Folder, pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """Reads a checked mask: (height, width) uint8 of 0, 1 and `VOID`, and uint16 of objects."""
    mask = read_mask(pair.mask)
    unknown = mask == folder.void if folder.void is not None else np.zeros(mask.shape, bool)
    label = np.where(unknown, VOID, mask > 0).astype(np.uint8)
    return label, renumbered(np.where(unknown, 0, mask))


def _void(folder: Folder) -> int | None:
    return VOID if folder.void is None and len(folder.classes) > 1 else folder.void


def _is_jpeg(path: Path) -> bool:
    return path.suffix.lower() in (".jpg", ".jpeg")
