"""What every data set looks like to the rest of seg_jax: a source of labelled images."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

from seg_jax.labels import Example, Labels, Part


class Source(ABC):
    """A data set as an experiment holds it: a frozen dataclass with labels and a way to read it."""

    channels: int = 3
    """Channels of the images: 3 is RGB; a data set with others has a field of this name."""

    @property
    @abstractmethod
    def labels(self) -> Labels:
        """What the numbers in its labels mean.

        Raises:
          InputError: if they are read from a file that is missing or broken.
        """

    @abstractmethod
    def read(self, part: Part) -> Iterator[Example]:
        """Yields the examples of a part in a fixed order, decoded one at a time.

        A data set without a validation part yields nothing for "val".

        Raises:
          InputError: if the data is missing or broken, or "train" or "test" is empty.
        """

    def image_entries(self, part: Part) -> Mapping[str, Mapping[str, Any]]:
        """`id` and `file_name` of a part's images in COCO's files, by `Example.id`.

        Images without an entry are numbered from 1.
        """
        return {}
