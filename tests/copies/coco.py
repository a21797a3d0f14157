"""Tiny files in COCO's formats."""

import json

import numpy as np
from PIL import Image
from pycocotools import mask as run_lengths

from seg_jax.datasets import CocoInstances, CocoKeypoints, CocoPanoptic

SHAPE = HEIGHT, WIDTH = 20, 30
CATEGORIES = [{"id": 7, "name": "dog", "isthing": 1}, {"id": 3, "name": "sky", "isthing": 0}]
SEGMENTS = (1 + 256 * 2 + 65536 * 3, 200, 256 * 9, 65536 * 255, 70)
"""Ids of panoptic segments: two dogs, the sky, a crowd of dogs, and one that isn't used."""
KINDS = {"instances": CocoInstances, "panoptic": CocoPanoptic, "person_keypoints": CocoKeypoints}


def write(root, kind, annotations, categories=CATEGORIES, names=("b", "a")):
    """COCO's layout, with images `names` of ids 11, 12, … in both parts; returns the source.

    The annotations are those of val2017; train2017 has none.
    """
    for part, found in {"train2017": [], "val2017": annotations}.items():
        images = [
            {"id": n, "file_name": f"{name}.png", "height": HEIGHT, "width": WIDTH}
            for n, name in enumerate(names, start=11)
        ]
        (root / part).mkdir(exist_ok=True, parents=True)
        for image in images:
            random = np.random.RandomState(image["id"])
            pixels = random.randint(0, 256, (*SHAPE, 3), np.uint8)
            Image.fromarray(pixels).save(root / part / image["file_name"])
        content = {"images": images, "annotations": found, "categories": categories}
        (root / "annotations").mkdir(exist_ok=True)
        (root / f"annotations/{kind}_{part}.json").write_text(json.dumps(content))
    return KINDS[kind](root)


def write_panoptic(root, *, categories=CATEGORIES, png="annotations/panoptic_val2017", **fields):
    """In a.png bands of two dogs, the sky, a crowd of dogs and void; b.png has the sky alone."""
    ids = np.zeros(SHAPE, np.int64)
    for row, number in enumerate(SEGMENTS[:4]):
        ids[4 * row : 4 * row + 4] = number
    kinds = {"category_id": 7}, {"category_id": 7}, {"category_id": 3}, {"iscrowd": 1}
    segments = [
        {"id": number, "category_id": 7, "iscrowd": 0, **kind}
        for number, kind in zip(SEGMENTS, kinds, strict=False)
    ]
    found = [
        {"image_id": 12, "file_name": "a.png", "segments_info": segments, **fields},
        {"image_id": 11, "file_name": "b.png", "segments_info": segments[2:3]},
    ]
    source = write(root, "panoptic", found, categories)
    for name, segment in {"a": ids, "b": np.full(SHAPE, SEGMENTS[2])}.items():
        pixels = np.stack([segment >> shift & 255 for shift in (0, 8, 16)], axis=-1)
        (root / png).mkdir(exist_ok=True, parents=True)
        Image.fromarray(pixels.astype(np.uint8)).save(root / png / f"{name}.png")
    return source


def write_people(root, *people):
    """In b.png these people; a.png has none."""
    return write(root, "person_keypoints", list(people), [{"id": 1, "name": "person"}])


def box(top, left, bottom, right):
    """A mask that is 1 in a box."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


def runs(mask, text=True):
    """A mask as COCO's JSON has it: run lengths compressed to text, or as numbers."""
    if text:
        encoded = run_lengths.encode(np.asfortranarray(mask))
        return {"size": [*SHAPE], "counts": encoded["counts"].decode()}
    flat = np.concatenate([[0], mask.ravel(order="F"), [2]])
    edges = np.flatnonzero(np.diff(flat)).tolist()
    starts = [0, *edges] if flat[1] == 0 else [0, 0, *edges[1:]]
    return {"size": [*SHAPE], "counts": np.diff(starts).tolist()}


def instance(segmentation, **fields):
    """An annotation of a dog in b.png."""
    named = {"id": 1, "image_id": 11, "category_id": 7, "iscrowd": 0}
    return {**named, "segmentation": segmentation, **fields}


def person(mask, *joints, **fields):
    """An annotation of a person in b.png whose first joints are these; the others are 0."""
    numbers = [*np.ravel(joints).tolist(), *[0] * 3 * (17 - len(joints))]
    fields = {"category_id": 1, "keypoints": numbers, "area": int(mask.sum()), **fields}
    return instance(runs(mask), **fields)
