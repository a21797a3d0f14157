"""Drawn dermoscopic pictures of moles, to try things without any download."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

from seg_jax.datasets.nevi.draw import DIAGNOSES, Nevus, draw_nevus
from seg_jax.datasets.source import Source
from seg_jax.errors import InputError
from seg_jax.labels import Example, Labels, Part

__all__ = ["DIAGNOSES", "Nevi", "Nevus", "check_drawn", "draw_nevus", "picture_index"]


def picture_index(part: Part, position: int) -> int:
    """Returns the index of the picture at a position in a part; no two parts share an index."""
    parts = get_args(Part)
    return len(parts) * position + parts.index(part)


def check_drawn(source: Any) -> None:
    """Checks the fields train, val, test, size and seed of a drawn data set.

    Raises:
      InputError: naming the field and the fix.
    """
    lowest = {"train": 1, "val": 0, "test": 1, "size": 32, "seed": 0}
    for field, low in lowest.items():
        if getattr(source, field) < low:
            raise InputError(f"data.{field} is {getattr(source, field)}; set it to {low} or more")


@dataclass(frozen=True)
class Nevi(Source):
    """Pictures with lesion masks, drawn as they are read; nothing is stored."""

    train: int = 200
    """Number of training pictures."""
    val: int = 20
    """Number of validation pictures; 0 for a protocol without."""
    test: int = 60
    """Number of test pictures; a larger set begins with the smaller one's."""
    size: int = 256
    """Side of the pictures in pixels."""
    seed: int = 0
    """Another seed draws another set."""

    @property
    def labels(self) -> Labels:
        """Binary: the lesion is the foreground."""
        return Labels(classes=("lesion",))

    def read(self, part: Part) -> Iterator[Example]:
        """Draws the pictures of a part, one at a time.

        Raises:
          InputError: if a count, the size or the seed can't be used.
        """
        check_drawn(self)
        return self._draw(part)

    def _draw(self, part: Part) -> Iterator[Example]:
        for position in range(getattr(self, part)):
            index = picture_index(part, position)
            nevus = draw_nevus(self.seed, index, self.size)
            yield Example(f"nevus{index:04d}", nevus.image, nevus.mask)
