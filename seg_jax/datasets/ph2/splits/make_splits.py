"""Writes the lists beside this file from the original PH2_dataset.txt.

Usage: python -m seg_jax.datasets.ph2.splits.make_splits PH2_dataset.txt
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from seg_jax.datasets.lists import write_list
from seg_jax.datasets.ph2.ph2_dataset_builder import DIAGNOSES, parse_table

LESSON_SOURCE = """\
The 180/20 split of Microsoft's AI for Beginners, lesson 12 (Segmentation):
github.com/microsoft/AI-For-Beginners,
lessons/4-ComputerVision/12-Segmentation/SemanticSegmentationPytorch.ipynb.
np.random.seed(42); indices = np.random.permutation(range(200)); the first 180 are for training,
the rest for testing. The notebook numbers the images in the order of os.walk, which depends on the
file system; here they are numbered by their names, sorted. No validation part.
"""

ORDERED_SOURCE = """\
80 for training, 20 for validation, 100 for testing: Data_train[0:80], [80:100], [100:200] in
github.com/rezazad68/TMUnet, Prepare_ph2.py, and X[0:80], [80:100], [100:200] in
github.com/xmindflow/DermoSegDiff, src/datasets/ph2.py.
Both take the images in the order of glob, which depends on the file system, and the former
shuffles them without a seed, so the images behind published numbers can't be known; here they are
in the order of their names.
"""

FOLDS_SOURCE = """\
5 folds stratified by clinical diagnosis (80 common nevi, 80 atypical nevi, 40 melanomas): each
fold has 16, 16 and 8. The names of each diagnosis, sorted, are shuffled by
np.random.RandomState(0).permutation, one diagnosis after the other in that order, and dealt to
the folds in turn. Of split foldK, fold K is for testing and the rest for training.
"""


def lesson(ids: Sequence[str]) -> dict[str, str]:
    """Returns each image's part in the lesson's 180/20 split of the 200 sorted ids."""
    order = np.random.RandomState(42).permutation(range(len(ids)))
    return {ids[i]: "train" if position < 180 else "test" for position, i in enumerate(order)}


def ordered(ids: Sequence[str]) -> dict[str, str]:
    """Returns each image's part in the 80/20/100 split of the 200 sorted ids."""
    parts = ["train"] * 80 + ["val"] * 20 + ["test"] * 100
    return dict(zip(ids, parts, strict=True))


def stratified_folds(diagnoses: Mapping[str, int], folds: int = 5) -> dict[str, str]:
    """Returns each image's fold, "0" to "4", given its diagnosis."""
    random = np.random.RandomState(0)
    dealt = {}
    for diagnosis in sorted(set(diagnoses.values())):
        ids = sorted(name for name, of in diagnoses.items() if of == diagnosis)
        for position, i in enumerate(random.permutation(len(ids))):
            dealt[ids[i]] = str(position % folds)
    return dealt


def main(table: Path, folder: Path) -> None:
    """Writes the three lists into the folder."""
    diagnoses = {
        name: DIAGNOSES.index(row["clinical_diagnosis"]) for name, row in parse_table(table).items()
    }
    ids = sorted(diagnoses)
    write_list(folder / "lesson.csv", LESSON_SOURCE, ("id", "part"), lesson(ids))
    write_list(folder / "ordered.csv", ORDERED_SOURCE, ("id", "part"), ordered(ids))
    write_list(folder / "folds.csv", FOLDS_SOURCE, ("id", "fold"), stratified_folds(diagnoses))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parent)
