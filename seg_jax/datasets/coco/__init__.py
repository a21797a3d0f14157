"""COCO's formats: its own images, or others annotated in the same way (Lin et al., 2014)."""

import hashlib
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from seg_jax.datasets.coco.annotations import Annotations, Entry, mask_of, read_annotations
from seg_jax.datasets.images import read_image
from seg_jax.datasets.instances import renumbered
from seg_jax.datasets.lists import first_few
from seg_jax.datasets.source import Source
from seg_jax.errors import InputError
from seg_jax.labels import VOID, Example, Labels, Part, Skeleton

__all__ = ["COCO_SKELETON", "CocoInstances", "CocoKeypoints", "CocoPanoptic"]

COCO_SKELETON = Skeleton(
    # The categories of COCO's person_keypoints_*.json, whose limbs count from 1.
    joints=(
        "nose", "left_eye", "right_eye", "left_ear", "right_ear",
        "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
        "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
    ),
    limbs=(
        (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8),
        (7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
    ),
    mirrored=(0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15),
    # `Params.setKpParams` in pycocotools' cocoeval.py.
    sigmas=(
        0.026, 0.025, 0.025, 0.035, 0.035,
        0.079, 0.079, 0.072, 0.072, 0.062, 0.062,
        0.107, 0.107, 0.087, 0.087, 0.089, 0.089,
    ),
)  # fmt: skip
"""COCO's 17 joints, left and right being the person's own; the limbs are a graph with cycles."""


@dataclass(frozen=True)
class _Coco(Source):
    """Where the images and the annotations of each part are."""

    root: Path = Path("data/coco")
    """Folder that the other paths are relative to, unless they are absolute."""
    train_images: str = "train2017"
    """Folder of the training images."""
    train_json: str = "annotations/instances_train2017.json"
    """Annotations of the training images."""
    val_images: str | None = None
    """Folder of the validation images; train_images if None."""
    val_json: str | None = None
    """Annotations of the validation images; if None, they are a fraction of the training images."""
    test_images: str = "val2017"
    """Folder of the test images: COCO's val2017, since its test2017 has no public labels."""
    test_json: str = "annotations/instances_val2017.json"
    """Annotations of the test images."""
    val: float = 0.0
    """Fraction of the training images for validation, if val_json is None; chosen by file name."""

    def __post_init__(self):
        # config.json makes every `Path` absolute, but relative to the current folder, not to root.
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "root" and isinstance(value, Path):
                raise InputError(
                    f"data.{field.name} is a Path, but below root paths are text; "
                    f"write {str(value)!r}"
                )

    def read(self, part: Part) -> Iterator[Example]:
        """Reads the examples of a part by file name.

        An image of the training JSON is for validation where the first 8 digits of its file
        name's sha256, as a number from 0 to 1, are below val.

        Raises:
          InputError: if a file is missing or broken, or test's categories aren't train's.
        """
        files_of, annotations, images = self._listed(part)
        path, folder = self._json(files_of), self._images(files_of)
        self._check_categories(annotations, path)
        files = {im["file_name"]: folder / im["file_name"] for im in images}
        if missing := {name for name, file in files.items() if not file.is_file()}:
            raise InputError(
                f"{folder}: {len(missing)} of the {len(files)} images that {path} lists aren't"
                f" there: {first_few(missing)}; fetch them, or name their folder:"
                " {flag}",
                field=f"data.{files_of}_images",
            )
        return (self._example(files_of, im, files[im["file_name"]], annotations) for im in images)

    def image_entries(self, part: Part) -> dict[str, Entry]:
        """`id` and `file_name` of a part's images in its JSON, by `Example.id`."""
        kept = ("id", "file_name")
        return {_id_of(im): {name: im[name] for name in kept} for im in self._listed(part)[2]}

    def _listed(self, part: Part) -> tuple[Part, Annotations, tuple[Entry, ...]]:
        """The part whose JSON lists a part's images, what that JSON holds, and those images.

        Validation images may be listed in the training JSON.
        """
        if not 0 <= self.val < 1:
            raise InputError(
                f"{{flag}}: {self.val}; give a fraction from 0 to below 1", field="data.val"
            )
        files_of = "train" if part == "val" and self.val_json is None else part
        annotations = read_annotations(self._json(files_of))
        images = annotations.images
        if files_of == "train" and self.val_json is None:
            images = tuple(im for im in images if _is_val(im, self.val) == (part == "val"))
            if part == "train" and not images:
                raise InputError(
                    f"{{flag}}: {self.val} leaves no images to train on; lower it", field="data.val"
                )
        return files_of, annotations, images

    def _check_categories(self, annotations: Annotations, path: Path) -> None:
        """Refuses categories whose ids and names aren't those of the training JSON."""
        own, train = (
            {(category["id"], category["name"]) for category in each.categories}
            for each in (annotations, self._train())
        )
        if differing := {f"{number} {name}" for number, name in own ^ train}:
            raise InputError(
                f"{path}: its categories aren't those of {self._json('train')}, as"
                f" {first_few(differing)}; make them the same"
            )

    def _example(self, part: Part, entry: Entry, file: Path, annotations: Annotations) -> Example:
        path = self._json(part)
        image = read_image(file)
        try:
            size = entry["height"], entry["width"]
            if size != image.shape[:2]:
                raise InputError(
                    f"{file}: {image.shape[1]}×{image.shape[0]} pixels, but {size[1]}×{size[0]} in"
                    f" {path}; make them equal"
                )
            found = annotations.of_image.get(entry["id"], ())
            arrays = self._arrays(part, found, size)
        except KeyError as error:
            raise InputError(
                f"{path}: what it says of {entry['file_name']} lacks {error}; add it"
            ) from error
        return Example(_id_of(entry), image, **arrays)

    @abstractmethod
    def _arrays(
        self, part: Part, found: tuple[Entry, ...], shape: tuple[int, int]
    ) -> dict[str, np.ndarray]:
        """The fields of `Example` that an image's annotations give."""

    def _json(self, part: Part) -> Path:
        paths = {"train": self.train_json, "val": self.val_json, "test": self.test_json}
        return self.root.expanduser() / paths[part]

    def _images(self, part: Part) -> Path:
        folders = {"train": self.train_images, "val": self.val_images, "test": self.test_images}
        return self.root.expanduser() / (folders[part] or self.train_images)

    def _train(self) -> Annotations:
        return read_annotations(self._json("train"))

    def _ids(self) -> tuple[tuple[str, int], ...]:
        """Name and id of each category of the training JSON, in the order of the ids."""
        return tuple((category["name"], category["id"]) for category in self._train().categories)


@dataclass(frozen=True)
class CocoInstances(_Coco):
    """Objects with polygons or run lengths.

    Where objects overlap, the smaller is on top. Crowds are `VOID` where no object is.
    """

    @property
    def labels(self) -> Labels:
        """The background, then the training JSON's categories, all things, by their ids.

        Raises:
          InputError: if the training JSON is missing or broken.
        """
        ids = self._ids()
        things = tuple(name for name, _ in ids)
        return Labels(classes=("background", *things), things=things, ids=ids)

    def _arrays(
        self, part: Part, found: tuple[Entry, ...], shape: tuple[int, int]
    ) -> dict[str, np.ndarray]:
        path = self._json(part)
        class_of = _class_of(self._train(), first=1)
        label = np.zeros(shape, np.uint8)
        objects = np.zeros(shape, np.int32)
        single = []
        for annotation in found:
            mask = mask_of(annotation, shape, path)
            if annotation.get("iscrowd"):
                label[mask] = VOID
            else:
                single.append((mask, _class_in(class_of, annotation, path)))
        single.sort(key=lambda drawn: -np.count_nonzero(drawn[0]))
        for number, (mask, its_class) in enumerate(single, start=1):
            label[mask] = its_class
            objects[mask] = number
        return {"label": label, "instance": renumbered(objects)}


@dataclass(frozen=True)
class CocoPanoptic(_Coco):
    """A class and, of things, an object for each pixel.

    A pixel of a PNG holds the id of its segment, R + 256 G + 65536 B, whose category is in the
    JSON. Pixels of 0 and crowds are `VOID`.
    """

    train_json: str = "annotations/panoptic_train2017.json"
    """Annotations of the training images."""
    test_json: str = "annotations/panoptic_val2017.json"
    """Annotations of the test images."""
    train_pngs: str | None = None
    """Folder of the training PNGs; train_json without its suffix if None."""
    val_pngs: str | None = None
    """Folder of the validation PNGs; val_json without its suffix if None."""
    test_pngs: str | None = None
    """Folder of the test PNGs; test_json without its suffix if None."""

    @property
    def labels(self) -> Labels:
        """The training JSON's categories by their ids; those with `isthing` are things.

        Raises:
          InputError: if the training JSON is missing or broken, or a category lacks `isthing`.
        """
        ids = self._ids()
        try:
            things = tuple(c["name"] for c in self._train().categories if c["isthing"])
        except KeyError as error:
            raise InputError(
                f"{self._json('train')}: a category lacks {error}; add it, 1 for objects that are"
                " counted, else 0"
            ) from error
        return Labels(classes=tuple(name for name, _ in ids), things=things, ids=ids)

    def _arrays(
        self, part: Part, found: tuple[Entry, ...], shape: tuple[int, int]
    ) -> dict[str, np.ndarray]:
        path = self._json(part)
        if len(found) != 1:
            raise InputError(
                f"{path}: an image has {len(found)} annotations; give each one, with its PNG's"
                " file_name and segments_info, or remove the image"
            )
        (annotation,) = found
        png = self._pngs(part) / annotation["file_name"]
        colours = read_image(png).astype(np.int32)
        if colours.shape[:2] != shape:
            raise InputError(
                f"{png}: {colours.shape[1]}×{colours.shape[0]} pixels, but its image has"
                f" {shape[1]}×{shape[0]}; make them equal"
            )
        ids, positions = np.unique(colours @ [1, 256, 65536], return_inverse=True)
        segments = {segment["id"]: segment for segment in annotation["segments_info"]}
        if unknown := set(ids.tolist()) - set(segments) - {0}:
            raise InputError(
                f"{png}: has segments that {path} lacks: {first_few({str(n) for n in unknown})};"
                " fetch both again"
            )
        labels, class_of = self.labels, _class_of(self._train())
        label_of = np.full(len(ids), VOID, np.uint8)
        number_of = np.zeros(len(ids), np.int32)
        for position, number in enumerate(ids.tolist()):
            if number == 0 or segments[number].get("iscrowd"):
                continue
            label_of[position] = its_class = _class_in(class_of, segments[number], path)
            if labels.classes[its_class] in labels.things:
                number_of[position] = number
        positions = positions.reshape(shape)
        return {"label": label_of[positions], "instance": renumbered(number_of[positions])}

    def _pngs(self, part: Part) -> Path:
        own = {"train": self.train_pngs, "val": self.val_pngs, "test": self.test_pngs}[part]
        return self.root.expanduser() / own if own else self._json(part).with_suffix("")


@dataclass(frozen=True)
class CocoKeypoints(_Coco):
    """People with 17 joints.

    Pixels of crowds and of people without joints are `VOID`, unless a person with joints covers
    them; all other labels are 0.
    """

    train_json: str = "annotations/person_keypoints_train2017.json"
    """Annotations of the training images."""
    test_json: str = "annotations/person_keypoints_val2017.json"
    """Annotations of the test images."""

    @property
    def labels(self) -> Labels:
        """COCO's 17 joints and no classes; no ids if there is no training JSON.

        Raises:
          InputError: if the training JSON is broken.
        """
        ids = self._ids() if self._json("train").is_file() else ()
        return Labels(skeleton=COCO_SKELETON, ids=ids)

    def _arrays(
        self, part: Part, found: tuple[Entry, ...], shape: tuple[int, int]
    ) -> dict[str, np.ndarray]:
        path = self._json(part)
        n = len(COCO_SKELETON.joints)
        label = np.zeros(shape, np.uint8)
        people, areas, masked = [], [], []
        for annotation in found:
            joints = np.array(annotation["keypoints"], np.float32)
            if joints.shape != (3 * n,):
                raise InputError(
                    f"{path}: annotation {annotation.get('id')} has {joints.size} numbers for"
                    f" keypoints, not x, y and visibility of {n}; remove other skeletons"
                )
            joints = joints.reshape(n, 3)
            if annotation.get("iscrowd") or not joints[:, 2].any():
                label[mask_of(annotation, shape, path)] = VOID
                continue
            people.append(joints)
            areas.append(annotation["area"])
            if annotation.get("segmentation"):
                masked.append(annotation)
        if label.any():
            for annotation in masked:
                label[mask_of(annotation, shape, path)] = 0
        return {
            "label": label,
            "joints": np.array(people, np.float32).reshape(-1, n, 3),
            "area": np.array(areas, np.float32),
        }


def _id_of(image: Entry) -> str:
    """The id of an image's example: its file name without suffix, with "-" for each "/"."""
    return "-".join(Path(image["file_name"]).with_suffix("").parts)


def _is_val(image: Entry, fraction: float) -> bool:
    """Whether a training image is for validation, by the hash of its file name."""
    digits = hashlib.sha256(image["file_name"].encode()).hexdigest()[:8]
    return int(digits, 16) / 16**8 < fraction


def _class_of(annotations: Annotations, first: int = 0) -> dict[int, int]:
    """The class of each category, by its id."""
    return {c["id"]: number for number, c in enumerate(annotations.categories, start=first)}


def _class_in(class_of: dict[int, int], entry: Entry, path: Path) -> int:
    """The class of an annotation or a segment."""
    category = entry["category_id"]
    if category not in class_of:
        raise InputError(
            f"{path}: {entry.get('id')} has the category {category}, which isn't listed; add it to"
            " categories"
        )
    return class_of[category]
