"""MADS, 1,192 frames of martial arts, dancing and sports with masks of the person."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seg_jax.datasets.lists import read_list
from seg_jax.datasets.source import Source
from seg_jax.labels import Example, Labels, Part

__all__ = ["FETCH", "FILES", "HOMEPAGE", "IDS", "Mads", "MadsSplit", "part_ids"]

HOMEPAGE = "https://www.kaggle.com/datasets/tapakah68/segmentation-full-body-mads-dataset"
FETCH = f"Fetch 'Segmentation Full Body MADS Dataset' (a .zip) from {HOMEPAGE}."

FILES = "*_*_C?_*.png"
"""Glob pattern of the names of the image files."""

_SPLITS = Path(__file__).parent / "splits"

IDS = tuple(sorted(row["id"] for row in read_list(_SPLITS / "random_leaky.csv")))
"""Names of the 1,192 frames, sorted: "Kata_F2_C0_00180" is action, clip, camera and frame."""

MadsSplit = Literal["by_clip", "random_leaky"]


@dataclass(frozen=True)
class Mads(Source):
    """MADS at its own size, 512×384, with body masks; `Example.group` is the action.

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
    """Accept a copy that lacks frames; its records are kept apart from the complete ones."""

    @property
    def labels(self) -> Labels:
        """Binary: the body is the foreground."""
        return Labels(classes=("body",))

    def read(self, part: Part) -> Iterator[Example]:
        """Reads the examples of a part by name, preparing the records on first use.

        Raises:
          InputError: if the data isn't prepared and raw is missing, incomplete (unless partial)
            or broken, or if a partial copy has nothing of the part.
        """
        # TFDS takes longer to import than all data sets together.
        from seg_jax.datasets.mads.mads_dataset_builder import Builder
        from seg_jax.datasets.tfds_source import examples

        return examples(
            Builder(data_dir=self.data_dir, config="partial" if self.partial else "complete"),
            part_ids(self.split, part),
            part,
            raw=self.raw,
            files=FILES,
            fetch=FETCH,
            group=lambda record: record["action"].decode(),
        )


def part_ids(split: MadsSplit, part: Part) -> list[str]:
    """Returns the names of a part's frames, sorted."""
    rows = read_list(_SPLITS / f"{split}.csv")
    if split == "random_leaky":
        return sorted(row["id"] for row in rows if row["part"] == part)
    clips = {row["clip"] for row in rows if row["part"] == part}
    return [name for name in IDS if name.split("_")[1] in clips]
