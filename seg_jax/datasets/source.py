"""What every data set looks like to the rest of seg_jax: a source of labelled images."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

Part = Literal["train", "val", "test"]

VOID = 255
"""Label of a pixel whose class is unknown; it counts in no loss and no score."""


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


class Source(Protocol):
    """A data set as an experiment holds it: a frozen dataclass with a way to read it."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the maps that a network predicts, in order.

        One name is a binary task: labels are 0 and 1, the network has one logit, and the name
        is the foreground's. Several names are a multi-class task: labels are positions in this
        tuple, the background (where there is one) among them.
        """

    @property
    def channels(self) -> int:
        """Channels of the images."""

    # A source of objects has these as well.

    @property
    def segments(self) -> tuple[str, ...]:
        """For each class, the name of the segment that it is a part of; for most sets `classes`.

        Body parts, say, all belong to a person.
        """

    @property
    def things(self) -> tuple[str, ...]:
        """Names of the segments that come as countable objects; the others are stuff."""

    # A source of people has this as well.

    @property
    def skeleton(self) -> Skeleton:
        """The joints of its people."""

    # A source whose categories and images have numbers of their own has these as well.

    @property
    def category_ids(self) -> Mapping[str, int]:
        """Ids in COCO's files: of each name in `segments`, and of "person" if people have joints.

        Without it they count from 1.
        """

    def image_entries(self, part: Part) -> Mapping[str, Mapping[str, Any]]:
        """`id` and `file_name` of a part's images in COCO's files, by `Example.id`."""

    def read(self, part: Part) -> Iterator[Example]:
        """Yields the examples of a part in a fixed order, decoded one at a time.

        A protocol without a validation part yields nothing for "val".

        Raises:
          InputError: if the data is missing or broken, or "train" or "test" is empty.
        """
