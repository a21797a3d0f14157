"""PH², 200 dermoscopic images of skin lesions (Mendonça et al., 2013)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seg_jax.datasets.ph2.ph2_dataset_builder import FETCH, FILES, IDS, Builder
from seg_jax.datasets.source import Example, Part
from seg_jax.datasets.tfds_source import examples, read_list

__all__ = ["IDS", "Builder", "Ph2", "Ph2Split", "part_ids"]

Ph2Split = Literal["lesson", "ordered", "fold0", "fold1", "fold2", "fold3", "fold4"]

_SPLITS = Path(__file__).parent / "splits"


@dataclass(frozen=True)
class Ph2:
    """PH² at its own sizes: a `seg_jax.datasets.source.Source` of lesion masks.

    Only ordered has a validation part. The lists and their sources are in splits/.
    """

    split: Ph2Split = "lesson"
    """lesson: 180 train, 20 test; ordered: 80, 20 val, 100 test; foldK: 160, 40 test."""
    raw: Path | None = None
    """Archive (.rar, .zip) or folder of the original data; needed once."""
    data_dir: Path | None = None
    """Where the prepared records are kept; TFDS's own place (~/tensorflow_datasets) if None."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The foreground's name."""
        return ("lesion",)

    @property
    def channels(self) -> int:
        """RGB."""
        return 3

    def read(self, part: Part) -> Iterator[Example]:
        """Reads the examples of a part by name, preparing the records on first use.

        Raises:
          InputError: if the data isn't prepared and raw is missing, incomplete or broken.
        """
        return examples(
            Builder(data_dir=self.data_dir),
            part_ids(self.split, part),
            part,
            raw=self.raw,
            files=FILES,
            fetch=FETCH,
        )


def part_ids(split: Ph2Split, part: Part) -> list[str]:
    """Returns the names of a part's images, sorted."""
    if split.startswith("fold"):
        rows = read_list(_SPLITS / "folds.csv")
        parts = {row["id"]: "test" if row["fold"] == split[-1] else "train" for row in rows}
    else:
        parts = {row["id"]: row["part"] for row in read_list(_SPLITS / f"{split}.csv")}
    return sorted(name for name, of in parts.items() if of == part)
