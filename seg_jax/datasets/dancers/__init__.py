"""Drawn pictures of dancing people, to try models of body parts, people and poses at once."""

from collections.abc import Iterator
from dataclasses import dataclass

from seg_jax.datasets.dancers.draw import CLASSES, draw_dancers
from seg_jax.datasets.nevi import check_drawn, picture_index
from seg_jax.datasets.skeletons import LSP_SKELETON
from seg_jax.datasets.source import Source
from seg_jax.errors import InputError
from seg_jax.labels import Example, Labels, Part

__all__ = ["Dancers", "draw_dancers"]


@dataclass(frozen=True)
class Dancers(Source):
    """Pictures of people with body parts and joints, drawn as they are read; nothing is stored."""

    train: int = 400
    """Number of training pictures."""
    val: int = 40
    """Number of validation pictures; 0 for a protocol without."""
    test: int = 100
    """Number of test pictures; a larger set begins with the smaller one's."""
    size: int = 192
    """Side of the pictures in pixels."""
    seed: int = 0
    """Another seed draws another set."""
    people: tuple[int, int] = (1, 5)
    """Smallest and largest number of dancers in a picture."""

    @property
    def labels(self) -> Labels:
        """Wall, floor and the parts of people, who have the joints of Leeds Sports Pose."""
        return Labels(
            classes=CLASSES,
            segments=("wall", "floor", "person", "person", "person", "person"),
            things=("person",),
            skeleton=LSP_SKELETON,
        )

    def read(self, part: Part) -> Iterator[Example]:
        """Draws the pictures of a part, one at a time.

        Raises:
          InputError: if a count, the size, the seed or the range of people can't be used.
        """
        check_drawn(self)
        if len(self.people) != 2 or not 1 <= self.people[0] <= self.people[1] <= 8:
            raise InputError(
                f"data.people is {self.people}; set it to a smallest and a largest number, 1 to 8"
            )
        return self._draw(part)

    def _draw(self, part: Part) -> Iterator[Example]:
        for position in range(getattr(self, part)):
            yield draw_dancers(self.seed, picture_index(part, position), self.size, self.people)
