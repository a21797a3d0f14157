"""Writes the list beside this file.

Usage: python -m seg_jax.datasets.lsp.splits.make_split
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from seg_jax.datasets.lists import write_list

SOURCE = """\
seg_jax's own: 200 for training, 20 for validation, 80 for testing, of the first 300 images of the
Leeds Sports Pose Extended Training set, which has no parts of its own. The names, sorted, are
shuffled by np.random.RandomState(0).permutation; the first 80 are for testing, the next 20 for
validation.
"""


def shuffled(ids: Sequence[str]) -> dict[str, str]:
    """Returns each image's part, given the 300 sorted ids."""
    order = np.random.RandomState(0).permutation(len(ids))
    parts = ["test"] * 80 + ["val"] * 20 + ["train"] * (len(ids) - 100)
    return {ids[i]: part for i, part in zip(order, parts, strict=True)}


def main(folder: Path) -> None:
    """Writes the list into the folder."""
    ids = [f"im{n:05d}" for n in range(1, 301)]
    write_list(folder / "split.csv", SOURCE, ("id", "part"), shuffled(ids))


if __name__ == "__main__":
    main(Path(__file__).parent)
