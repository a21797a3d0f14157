"""MADS, 1,192 frames of martial arts, dancing and sports with masks of the person."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seg_jax.datasets.mads.mads_dataset_builder import FETCH, FILES, IDS, Builder
from seg_jax.datasets.source import Example, Part
from seg_jax.datasets.tfds_source import examples, read_list

__all__ = ["IDS", "Builder", "Mads", "MadsSplit", "part_ids"]

MadsSplit = Literal["by_clip", "random_leaky"]

_SPLITS = Path(__file__).parent / "splits"


@dataclass(frozen=True)
class Mads:
    """MADS at its own size, 512×384: a `seg_jax.datasets.source.Source` of body masks.

    The frames of a clip are near-duplicates and three cameras see the same moment, so scores
    under random_leaky are too good; it is there for comparison with what others report.
    """

    split: MadsSplit = "by_clip"
    """by_clip: no clip in two parts (70/10/20 %); random_leaky: frames at random."""
    raw: Path | None = None
    """Kaggle's archive (.zip) or the unpacked folder; needed once."""
    data_dir: Path | None = None
    """Where the prepared records are kept; TFDS's own place (~/tensorflow_datasets) if None."""
    partial: bool = False
    """Take a copy that lacks frames; it is kept apart from the complete one."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The foreground's name."""
        return ("body",)

    @property
    def channels(self) -> int:
        """RGB."""
        return 3

    def read(self, part: Part) -> Iterator[Example]:
        """Reads the examples of a part by name, preparing the records on first use.

        Raises:
          InputError: if the data isn't prepared and raw is missing, incomplete (unless partial)
            or broken, or if a partial copy has nothing of the part.
        """
        return examples(
            Builder(data_dir=self.data_dir, config="partial" if self.partial else "complete"),
            part_ids(self.split, part),
            part,
            raw=self.raw,
            files=FILES,
            fetch=FETCH,
        )


def part_ids(split: MadsSplit, part: Part) -> list[str]:
    """Returns the names of a part's frames, sorted."""
    rows = read_list(_SPLITS / f"{split}.csv")
    if split == "random_leaky":
        return sorted(row["id"] for row in rows if row["part"] == part)
    clips = {row["clip"] for row in rows if row["part"] == part}
    return [name for name in IDS if name.split("_")[1] in clips]
