"""Drawn pictures of dancing people, for trying models of parts, people and poses at once."""

from collections.abc import Iterator
from dataclasses import dataclass

from seg_jax.datasets.dancers.draw import CLASSES, draw_dancers
from seg_jax.datasets.nevi import check_drawn, picture_index
from seg_jax.datasets.skeletons import LSP_SKELETON
from seg_jax.datasets.source import Example, Part, Skeleton
from seg_jax.errors import InputError

__all__ = ["Dancers", "draw_dancers"]


@dataclass(frozen=True)
class Dancers:
    """Pictures drawn as they are read; nothing is stored."""

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
    """Least and largest number of dancers in a picture."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Surfaces and body parts."""
        return CLASSES

    @property
    def segments(self) -> tuple[str, ...]:
        """Body parts belong to a person."""
        return ("wall", "floor", "person", "person", "person", "person")

    @property
    def things(self) -> tuple[str, ...]:
        """People are counted."""
        return ("person",)

    @property
    def skeleton(self) -> Skeleton:
        """The joints of Leeds Sports Pose."""
        return LSP_SKELETON

    @property
    def channels(self) -> int:
        """RGB."""
        return 3

    def read(self, part: Part) -> Iterator[Example]:
        """Draws the pictures of a part, one at a time.

        Raises:
          InputError: if a count, the size, the seed or the range of people can't be used.
        """
        check_drawn(self)
        if len(self.people) != 2 or not 1 <= self.people[0] <= self.people[1] <= 8:
            raise InputError(
                f"data.people is {self.people}; set it to a least and a largest number from 1 to 8"
            )
        return self._draw(part)

    def _draw(self, part: Part) -> Iterator[Example]:
        for position in range(getattr(self, part)):
            yield draw_dancers(self.seed, picture_index(part, position), self.size, self.people)
