"""What every data set looks like to the rest of seg_jax: a source of labelled images."""

from collections.abc import Iterator
from typing import Literal, NamedTuple, Protocol

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
    """(height, width) uint8: the class of each pixel, or `VOID`."""


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

    def read(self, part: Part) -> Iterator[Example]:
        """Yields the examples of a part in a fixed order, decoded one at a time.

        A protocol without a validation part yields nothing for "val".

        Raises:
          InputError: if the data is missing or broken, or "train" or "test" is empty.
        """
