"""PH², 200 dermoscopic images of skin lesions (Mendonça et al., 2013)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seg_jax.datasets.lists import read_list
from seg_jax.datasets.source import Source
from seg_jax.labels import Example, Labels, Part

__all__ = ["FETCH", "FILES", "HOMEPAGE", "IDS", "Ph2", "Ph2Split", "part_ids"]

HOMEPAGE = "https://www.fc.up.pt/addi/ph2%20database.html"
FETCH = f"Fetch PH2Dataset.rar, which {HOMEPAGE} links to (free for research)."

FILES = "IMD*.bmp"
"""Glob pattern of the names of the image files."""

_SPLITS = Path(__file__).parent / "splits"

IDS = tuple(sorted(row["id"] for row in read_list(_SPLITS / "lesson.csv")))
"""Names of the 200 images, sorted."""

Ph2Split = Literal["lesson", "ordered", "fold0", "fold1", "fold2", "fold3", "fold4"]


@dataclass(frozen=True)
class Ph2(Source):
    """PH² at its own sizes, with lesion masks; `Example.group` is the clinical diagnosis.

    Only ordered has a validation part. The lists and their sources are in splits/.
    """

    split: Ph2Split = "lesson"
    """lesson: 180 train, 20 test; ordered: 80, 20 val, 100 test; foldK: 160, 40 test."""
    raw: Path | None = None
    """Archive (.rar, .zip) or folder of the original data; needed once."""
    data_dir: Path | None = None
    """Where the prepared records are kept; TFDS's own place (~/tensorflow_datasets) if None."""

    @property
    def labels(self) -> Labels:
        """Binary: the lesion is the foreground."""
        return Labels(classes=("lesion",))

    def read(self, part: Part) -> Iterator[Example]:
        """Reads the examples of a part by name, preparing the records on first use.

        Raises:
          InputError: if the data isn't prepared and raw is missing, incomplete or broken.
        """
        # TFDS takes longer to import than all data sets together.
        from seg_jax.datasets.ph2.ph2_dataset_builder import DIAGNOSES, Builder
        from seg_jax.datasets.tfds_source import examples

        return examples(
            Builder(data_dir=self.data_dir),
            part_ids(self.split, part),
            part,
            raw=self.raw,
            files=FILES,
            fetch=FETCH,
            group=lambda record: DIAGNOSES[record["clinical_diagnosis"]].replace("_", " "),
        )


def part_ids(split: Ph2Split, part: Part) -> list[str]:
    """Returns the names of a part's images, sorted."""
    if split.startswith("fold"):
        rows = read_list(_SPLITS / "folds.csv")
        parts = {row["id"]: "test" if row["fold"] == split[-1] else "train" for row in rows}
    else:
        parts = {row["id"]: row["part"] for row in read_list(_SPLITS / f"{split}.csv")}
    return sorted(name for name, its_part in parts.items() if its_part == part)
