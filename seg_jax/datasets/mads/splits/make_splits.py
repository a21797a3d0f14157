"""Writes the lists beside this file from the archive's df.csv, which names all frames.

Usage: python -m seg_jax.datasets.mads.splits.make_splits df.csv
"""

import csv
import itertools
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from seg_jax.datasets.lists import write_list

BY_CLIP_SOURCE = """\
Parts by clip: all cameras and frames of a clip are in one part. About 70 % of the 1,192 frames for
training, 10 % for validation, 20 % for testing.
Chosen from the names in the archive's df.csv. Test: one clip of each of the 5 actions, whose
frames together come nearest to 20 %. Validation: of the rest, clips of 3 different actions, whose
frames together come nearest to 10 %. Of equally near choices, the first in the order of names.
The dancers, masters and athlete of an action are the same in its clips, so the test is of new
movements, not of new people.
"""

RANDOM_SOURCE = """\
LEAKY: parts by frame. Frames of one clip, and the three cameras' views of one moment, are
near-duplicates and fall into different parts, so scores are too good. For comparison only.
np.random.RandomState(0).permutation of the sorted names: the first 834 (70 %) for training, the
next 119 (10 %) for validation, the last 239 (20 %) for testing.
"""


def by_clip(ids: Sequence[str]) -> dict[str, str]:
    """Returns each clip's part, given the frames' names."""
    frames = Counter(tuple(name.split("_")[:2]) for name in ids)
    actions = sorted({action for action, _ in frames})
    clips = {action: sorted(key for key in frames if key[0] == action) for action in actions}

    def nearest(choices, share):
        return min(choices, key=lambda c: abs(sum(frames[key] for key in c) - share * len(ids)))

    test = nearest(itertools.product(*clips.values()), 0.2)
    rest = [[key for key in clips[action] if key not in test] for action in actions]
    triples = itertools.combinations(rest, 3)
    val = nearest((c for three in triples for c in itertools.product(*three)), 0.1)
    parts = {**dict.fromkeys(test, "test"), **dict.fromkeys(val, "val")}
    return {clip: parts.get((action, clip), "train") for action, clip in sorted(frames)}


def random_leaky(ids: Sequence[str]) -> dict[str, str]:
    """Returns each frame's part, given all names sorted."""
    order = np.random.RandomState(0).permutation(len(ids))
    parts = ["train"] * 834 + ["val"] * 119 + ["test"] * 239
    return {ids[i]: part for i, part in zip(order, parts, strict=True)}


def main(table: Path, folder: Path) -> None:
    """Writes both lists into the folder."""
    with table.open(encoding="utf-8", newline="") as file:
        ids = sorted(Path(row["images"]).stem for row in csv.DictReader(file))
    write_list(folder / "by_clip.csv", BY_CLIP_SOURCE, ("clip", "part"), by_clip(ids))
    write_list(folder / "random_leaky.csv", RANDOM_SOURCE, ("id", "part"), random_leaky(ids))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parent)
