"""What an example is, and what its labels mean: the words that every other module shares."""

from dataclasses import dataclass
from enum import Enum
from typing import Literal, NamedTuple

import numpy as np

Part = Literal["train", "val", "test"]

VOID = 255
"""Label of a pixel whose class is unknown; it counts in no loss and no score."""


class Kind(Enum):
    """What an array of a batch is, so that augmentation and devices know how to treat it."""

    MAP = "map"
    """(B, H, W): a value for each pixel; it is moved with the pixels."""
    POINTS = "points"
    """(B, N, J, 3): x, y and visibility; x and y are moved as points."""
    MIRRORED = "mirrored"
    """(B,) bool: whether the example is shown in a mirror; augmentation changes it."""
    OTHER = "other"
    """Anything else; it stays as it is."""


class Example(NamedTuple):
    """One labelled image at its own size."""

    id: str
    image: np.ndarray
    """(height, width, channels) uint8."""
    label: np.ndarray
    """(height, width) uint8: the class of each pixel, or `VOID`; 0 where there are no classes."""
    instance: np.ndarray | None = None
    """(height, width) uint16: the number of the object that each pixel belongs to, 0 for none."""
    joints: np.ndarray | None = None
    """(people, joints, 3) float32: x and y in pixels, whose centres are at whole numbers, and
    visibility as in COCO: 0 unlabelled, 1 labelled but hidden, 2 visible."""
    area: np.ndarray | None = None
    """(people,) float32: pixels that each person covers, the scale of OKS."""
    group: str = ""
    """What kind of image it is, such as a diagnosis; scores are also given for each group."""


@dataclass(frozen=True)
class Skeleton:
    """What a person's joints are called and how they belong together."""

    joints: tuple[str, ...]
    """Names, in the order of `Example.joints`."""
    limbs: tuple[tuple[int, int], ...]
    """Pairs of joints that a limb connects; together a tree, or a graph that holds one."""
    mirrored: tuple[int, ...]
    """For each joint, the joint whose place it takes in a mirror image."""
    sigmas: tuple[float, ...]
    """For each joint, the standard deviation of its annotation relative to the person's scale, as
    COCO's keypoint evaluation defines it."""


@dataclass(frozen=True)
class Labels:
    """What the numbers in a data set's labels mean. A value: it holds no files and no pixels.

    A run keeps it in config.json, so that prediction never needs the data set.
    """

    classes: tuple[str, ...] = ()
    """Names of the classes, in order; none where a data set has only skeletons.

    One name is a binary task: labels are 0 and 1, and the name is the foreground's. Several names
    are a multi-class task: labels are positions in this tuple, the background (where there is one)
    among them.
    """
    segments: tuple[str, ...] = ()
    """For each class, the name of the segment that it is a part of; the classes if not given.

    Body parts, for example, all belong to a person.
    """
    things: tuple[str, ...] = ()
    """Names of the segments that come as countable objects; the others are stuff."""
    skeleton: Skeleton | None = None
    """The joints of people; None where there are none."""
    ids: tuple[tuple[str, int], ...] = ()
    """Category ids in COCO's files: of each name in `segments`, and of "person" if people have
    joints. Categories without one count from 1."""

    def __post_init__(self):
        if not self.segments:
            object.__setattr__(self, "segments", self.classes)

    @property
    def binary(self) -> bool:
        """Whether there is one class, the foreground."""
        return len(self.classes) == 1

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of the categories that segments have; a segment called "background" has none.

        They are numbered from 1 in this order.
        """
        return tuple(dict.fromkeys(name for name in self.segments if name != "background"))

    @property
    def category_of_class(self) -> tuple[int, ...]:
        """For each label from 0, the number of its category; 0 for none.

        A binary task has two labels, of which 0 has no category.
        """
        categories = self.categories
        numbers = [
            0 if name == "background" else categories.index(name) + 1 for name in self.segments
        ]
        return tuple([0, *numbers] if self.binary else numbers)

    @property
    def thing_categories(self) -> tuple[int, ...]:
        """Numbers of the categories that are things."""
        numbered = enumerate(self.categories, start=1)
        return tuple(number for number, name in numbered if name in self.things)
