"""What was found, in COCO's formats: https://cocodataset.org/#format-results."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask

from seg_jax.files import write_json
from seg_jax.found import Found, Segments
from seg_jax.labels import Labels

Entry = dict[str, Any]
"""An object of COCO's JSON."""


def categories(labels: Labels, finds: tuple[str, ...]) -> list[Entry]:
    """Categories of segments, with `isthing`, then one of people with joints.

    Ids are those of `Labels.ids`, else they count from 1. People with joints are called "person",
    or, where there are segments too, "skeleton", with an id above all others.

    Args:
      labels: what the labels mean.
      finds: the fields of `Found` that are filled.
    """
    ids = dict(labels.ids)
    entries: list[Entry] = []
    if "segments" in finds:
        entries += [
            {"id": ids.get(name, k), "name": name, "isthing": int(k in labels.thing_categories)}
            for k, name in enumerate(labels.categories, start=1)
        ]
    if "skeletons" in finds:
        number, name = ids.get("person", 1), "person"
        if entries:
            number, name = max(entry["id"] for entry in entries) + 1, "skeleton"
        limbs = [[a + 1, b + 1] for a, b in labels.skeleton.limbs]
        joints = list(labels.skeleton.joints)
        entries.append({"id": number, "name": name, "keypoints": joints, "skeleton": limbs})
    return entries


def annotations(found: Found, categories: Sequence[Mapping[str, Any]]) -> list[Entry]:
    """What is in one image: its segments, then its people with joints.

    Args:
      found: in the image.
      categories: by `categories`, for the fields that `found` fills.

    Returns:
      Entries without the ids of the annotation and of the image. A segment has its number in the
      PNG as `segment`; a person's box holds the joints that were found, x and y in pixels.
    """
    entries: list[Entry] = []
    if found.segments is not None:
        entries += _segments(found.segments, categories)
    if found.skeletons is not None:
        category_id = categories[-1]["id"]
        people = zip(found.skeletons, found.skeleton_scores, strict=True)
        entries += [_person(joints, score, category_id) for joints, score in people]
    return entries


class CocoFiles:
    """Collects what is found in images and writes it in COCO's formats."""

    def __init__(self, labels: Labels, finds: tuple[str, ...]):
        """For images whose `Found` has the fields that `finds` names."""
        self._categories = categories(labels, finds)
        self._images: list[tuple[str, Entry, list[Entry]]] = []

    def add(self, name: str, entry: Mapping[str, Any], image: np.ndarray, found: Found) -> None:
        """Takes what is found in an image.

        Args:
          name: of its PNGs.
          entry: the image's `file_name`, and its `id` if the data set gives it one.
          image: (height, width, C) uint8.
          found: in the image.
        """
        height, width = image.shape[:2]
        # Kept run-length encoded: whole masks of a data set wouldn't fit into memory.
        inside = annotations(found, self._categories) if self._categories else []
        self._images.append((name, {**entry, "height": height, "width": width}, inside))

    def write(self, folder: Path) -> None:
        """Writes predictions/coco.json, if there are objects or skeletons.

        If there is stuff as well, predictions/panoptic.json lists all segments; the PNGs that it
        names are those of `predictions.save` in predictions/panoptic.
        """
        segments = [c for c in self._categories if "isthing" in c]
        countable = [c for c in self._categories if c.get("isthing", 1)]
        counted = {category["id"] for category in countable}
        images, objects, panoptic = [], [], []
        numbers = _image_ids([name for name, *_ in self._images])
        for number, (name, entry, inside) in zip(numbers, self._images, strict=True):
            image = {"id": number} | entry
            images.append(image)
            infos = [_segment_info(each) for each in inside if "segment" in each]
            of_image = {"image_id": image["id"]}
            panoptic.append(of_image | {"file_name": f"{name}.png", "segments_info": infos})
            for each in inside:
                if each["category_id"] in counted:
                    objects.append({"id": len(objects) + 1} | of_image | {"iscrowd": 0} | each)

        def write(file: str, annotations: list[Entry], categories: list[Entry]) -> None:
            content = {"images": images, "annotations": annotations, "categories": categories}
            (folder / "predictions").mkdir(parents=True, exist_ok=True)
            write_json(folder / "predictions" / file, content)

        if countable:
            write("coco.json", objects, countable)
        if len(countable) < len(self._categories):
            write("panoptic.json", panoptic, segments)


def _segments(segments: Segments, categories: Sequence[Mapping[str, Any]]) -> list[Entry]:
    entries = []
    for number in np.unique(segments.number[segments.number > 0]).tolist():
        rle = mask.encode(np.asfortranarray(segments.number == number, dtype=np.uint8))
        rle |= {"counts": rle["counts"].decode("ascii")}
        entries.append(
            {
                "segment": number,
                "category_id": categories[segments.category[number] - 1]["id"],
                "segmentation": rle,
                "area": int(mask.area(rle)),
                "bbox": mask.toBbox(rle).tolist(),
                "score": round(float(segments.score[number]), 4),
            }
        )
    return entries


def _person(joints: np.ndarray, score: float, category_id: int) -> Entry:
    places = joints[joints[:, 2] > 0, :2]
    low, extent = places.min(0), np.ptp(places, axis=0)
    return {
        "category_id": category_id,
        "keypoints": [round(float(value), 2) for value in joints.ravel()],
        "num_keypoints": len(places),
        "bbox": [round(float(value), 2) for value in (*low, *extent)],
        "area": round(float(extent.prod()), 2),
        "score": round(float(score), 4),
    }


def _segment_info(annotation: Entry) -> Entry:
    """What COCO's panoptic format says of a segment."""
    fields = {name: annotation[name] for name in ("category_id", "area", "bbox")}
    return {"id": annotation["segment"], "iscrowd": 0} | fields


def _image_ids(names: Sequence[str]) -> list[int]:
    """The numbers that the images are called by, such as COCO's 000000000139, else 1, 2, …"""
    numbers = [int(name) for name in names if name.isdecimal()]
    return numbers if len(set(numbers)) == len(names) else list(range(1, len(names) + 1))
