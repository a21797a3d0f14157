"""Writes the list beside this file from the images themselves.

Usage: python -m seg_jax.datasets.nuclei.splits.make_split FOLDER
"""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from seg_jax.datasets.lists import write_list
from seg_jax.datasets.nuclei import IDS, files, read_nuclei

SOURCE = """\
seg_jax's own: 140 for training, 20 for validation, 40 for testing, of 200 images of 256×256 in
the 2018 Data Science Bowl's stage 1 training set (BBBC038v1 of the Broad Bioimage Benchmark
Collection, CC0). Stratified by the five kinds of make_split.py's `kind`, which it takes from the
pixels, as the set doesn't tell the kinds: the names of each kind, sorted, are shuffled by
np.random.RandomState(0).permutation, one kind after the other by name, and of every ten in that
order the first two are for testing, the third for validation and the rest for training.
"""


def kind(image: np.ndarray, instance: np.ndarray) -> str:
    """Names the kind of an image by its darkest value and by its nuclei.

    Args:
      image: (height, width, 3) uint8.
      instance: (height, width) uint16.
    """
    sizes = np.bincount(instance.ravel())[1:]
    if image.min() > 5:
        return "light, small" if np.median(sizes) < 125 else "light, large"
    if np.mean(instance > 0) < 0.07:
        return "dark, sparse"
    return "dark, crowded" if np.median(sizes) < 170 else "dark, clumped"


def stratified(kinds: Mapping[str, str]) -> dict[str, str]:
    """Returns each image's part, given its kind."""
    random = np.random.RandomState(0)
    order = []
    for each in sorted(set(kinds.values())):
        names = sorted(name for name, of in kinds.items() if of == each)
        order += [names[i] for i in random.permutation(len(names))]
    tenth = ["test"] * 2 + ["val"] + ["train"] * 7
    return {name: tenth[position % 10] for position, name in enumerate(order)}


def main(raw: Path, folder: Path, ids: Iterable[str] = IDS) -> None:
    """Writes the list into the folder."""
    found = files(raw, tuple(ids))
    kinds = {name: kind(*read_nuclei(*paths)) for name, paths in found.items()}
    write_list(folder / "split.csv", SOURCE, ("id", "part"), stratified(kinds))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parent)
