"""Finds the mask of each image, and the part of a data set that each pair belongs to."""

import csv
import hashlib
import os
import re
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple, get_args

from seg_jax.datasets.images import IMAGE_SUFFIXES, is_image_file
from seg_jax.errors import InputError
from seg_jax.labels import Part

_PARTS: tuple[Part, ...] = get_args(Part)
_ENDING = re.compile(r"_(mask|lesion|segmentation|gt|label)$", re.IGNORECASE)


class Pair(NamedTuple):
    """Files of one labelled image, not opened yet."""

    id: str
    image: Path
    mask: Path


Parts = dict[Part | None, list[Pair]]
"""The pairs of each part; all under None if the user hasn't split them."""


def pairs_of_folder(root: Path) -> tuple[Parts, list[str]]:
    """Pairs `images/` and `masks/`, or those in `train/`, `val/` and `test/`, by name.

    Returns:
      the pairs, and a line for each file that has no partner or several.

    Raises:
      InputError: if a folder is missing or has no images.
    """
    if not root.is_dir():
        raise InputError(
            f"{root}: no such folder; set {{flag}} to the one with your images", field="data.path"
        )
    parts = [part for part in _PARTS if (root / part).is_dir()]
    if (root / "images").is_dir() or not parts:
        pairs, problems = _match(root)
        return {None: pairs}, problems
    if missing := {"train", "test"}.difference(parts):
        raise InputError(
            f"{root}: {parts[0]}/ is there but no {min(missing)}/; add it, or put all pairs into"
            " images/ and masks/ to have them split"
        )
    matched = {part: _match(root / part) for part in parts}
    split = {part: matched[part][0] if part in matched else [] for part in _PARTS}
    return split, [line for _, problems in matched.values() for line in problems]


def pairs_of_table(table: Path) -> tuple[Parts, list[str]]:
    """Pairs the files that the rows of a CSV name, relative to it.

    An id is the image's path without suffix, relative to the folder that all images are in, with
    "-" for each "/".

    Returns:
      the pairs, and a line for each row that can't be used.

    Raises:
      InputError: if the table can't be read, lacks a column, or has no row for a part.
    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            rows = [(f"{table}, line {reader.line_num}", row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{table}: not a readable table ({error}); set {{flag}}", field="data.csv"
        ) from error
    if not {"image", "mask"} <= set(columns):
        raise InputError(
            f"{table}: its first line is {','.join(columns)!r}, but has to name the columns"
            " image,mask and maybe part, with commas between"
        )

    parts: Parts = {part: [] for part in (_PARTS if "part" in columns else (None,))}
    problems, seen = [], {}
    for where, row in rows:
        image, mask, part = ((row.get(key) or "").strip() for key in ("image", "mask", "part"))
        name = os.path.splitext(os.path.abspath(table.parent / image))[0]
        if not (image and mask):
            problems.append(f"{where}: no {'mask' if image else 'image'} named; fill it in")
        elif (part or None) not in parts and "part" in columns:
            problems.append(f"{where}: part {part!r} is none of {', '.join(_PARTS)}")
        elif name in seen:
            problems.append(f"{where}: {image} is on {seen[name]} too; keep one")
        else:
            seen[name] = where
            parts[part or None].append(Pair(name, table.parent / image, table.parent / mask))
    for part, pairs in parts.items():
        if not (pairs or problems or part == "val"):
            raise InputError(f"{table}: no rows{f' of part {part}' if part else ''}; add some")
    return _with_short_ids(parts), problems


def split(pairs: list[Pair], val: float, test: float, seed: int) -> Parts:
    """Splits pairs into parts in the order of sha256("seed:id").

    The test part comes first, then validation, then training. Training and test have at least one
    pair, and so has validation if its fraction isn't 0 and there are three pairs.

    Args:
      pairs: two or more.
      val: fraction for validation.
      test: fraction for testing.
      seed: another seed gives another split.

    Returns:
      the parts, each in the order of `pairs`.
    """
    ranked = sorted(pairs, key=lambda pair: hashlib.sha256(f"{seed}:{pair.id}".encode()).digest())
    n_test = min(max(round(test * len(pairs)), 1), len(pairs) - 1)
    n_val = min(max(round(val * len(pairs)), val > 0), len(pairs) - n_test - 1)
    part_of = dict.fromkeys(ranked, "train")
    part_of |= dict.fromkeys(ranked[:n_test], "test")
    part_of |= dict.fromkeys(ranked[n_test : n_test + n_val], "val")
    return {part: [pair for pair in pairs if part_of[pair] == part] for part in _PARTS}


def _match(root: Path) -> tuple[list[Pair], list[str]]:
    """Pairs `images/` and `masks/` of one folder, in the order of their names."""
    images, masks = defaultdict(list), defaultdict(list)
    for path in _image_files(root / "images"):
        images[path.stem].append(path)
    for path in _image_files(root / "masks"):
        name = path.stem if path.stem in images else _ENDING.sub("", path.stem)
        masks[name].append(path)
    if not images:
        kinds = " ".join(IMAGE_SUFFIXES)
        raise InputError(f"{root / 'images'}: no images ({kinds}; subfolders aren't searched)")

    pairs, problems = [], []
    for name in sorted(images.keys() | masks.keys()):
        for paths in (images[name], masks[name]):
            if len(paths) > 1:
                problems.append(f"{' and '.join(map(str, paths))}: have one name; keep one of them")
        if not masks[name]:
            fix = f"no mask of its name in {root / 'masks'}; add it or remove the image"
            problems += [f"{path}: {fix}" for path in images[name]]
        elif not images[name]:
            fix = f"no image of its name in {root / 'images'}; add it or remove the mask"
            problems += [f"{path}: {fix}" for path in masks[name]]
        else:
            pairs.append(Pair(name, images[name][0], masks[name][0]))
    return pairs, problems


def _image_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder; put the images into images/ and their masks into masks/"
        )
    return sorted(filter(is_image_file, folder.iterdir()))


def _with_short_ids(parts: Parts) -> Parts:
    """Makes the absolute paths in the ids relative to the deepest folder that all are in."""
    names = [pair.id for pairs in parts.values() for pair in pairs]
    common = os.path.commonpath([os.path.dirname(name) for name in names]) if names else ""
    return {
        part: sorted(
            pair._replace(id="-".join(Path(os.path.relpath(pair.id, common)).parts))
            for pair in pairs
        )
        for part, pairs in parts.items()
    }
