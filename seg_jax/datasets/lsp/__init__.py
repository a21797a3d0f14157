"""Leeds Sports Pose: one person's 14 joints in each photograph (Johnson and Everingham)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seg_jax.datasets.images import read_image
from seg_jax.datasets.lists import first_few, read_list
from seg_jax.datasets.skeletons import LSP_SKELETON
from seg_jax.datasets.source import Source
from seg_jax.errors import InputError
from seg_jax.labels import Example, Labels, Part

__all__ = ["FETCH", "IDS", "Lsp", "part_ids", "read_joints"]

FETCH = (
    "Fetch the Leeds Sports Pose Extended Training set (lspet_dataset.zip) or Leeds Sports Pose"
    " (lsp_dataset.zip), free for research, http://sam.johnson.io/research/lspet.html, and unpack"
    " it"
)

_PARTS = {row["id"]: row["part"] for row in read_list(Path(__file__).parent / "splits/split.csv")}

IDS = tuple(sorted(_PARTS))
"""Names of the 300 images that are used of the extended set, sorted."""

_VISIBLE, _HIDDEN = 2, 1


@dataclass(frozen=True)
class Lsp(Source):
    """Photographs of athletes, each with the joints of one person and without masks.

    joints.mat tells which of the two sets it belongs to. Of the extended set 300 images are used:
    200 for training, 20 for validation and 80 for testing; the list is in splits/. The original
    set has its authors' parts: the first 1000 for training, the last 1000 for testing.
    """

    raw: Path | None = None
    """Folder with images/*.jpg and joints.mat, or the folder above it."""

    @property
    def labels(self) -> Labels:
        """The set's own 14 joints and no classes."""
        return Labels(skeleton=LSP_SKELETON)

    def read(self, part: Part) -> Iterator[Example]:
        """Reads the examples of a part by name, each with one person.

        A joint outside the image, or one without a position, is unlabelled: 0, 0, 0.

        There are no masks, so a person's area is 0.53 times that of the box around the labelled
        joints, and at least 1. CrowdPose's keypoint evaluation, which has no masks either, takes
        the same share of a box as the area of a person.

        Raises:
          InputError: if raw isn't set, lacks joints.mat or an image, or if a file is broken.
        """
        if self.raw is None:
            raise InputError(
                f"{{flag}} isn't set. {FETCH}; then name its folder: {{flag}} PATH",
                field="data.raw",
            )
        root = _root(self.raw.expanduser())
        joints, extended = read_joints(root / "joints.mat")
        ids = part_ids(part, extended)
        # Matlab counts images from 1, as their names do.
        positions = {name: int(name[2:]) - 1 for name in ids}
        if missing := {
            name
            for name in ids
            if positions[name] >= len(joints) or not (root / f"images/{name}.jpg").is_file()
        }:
            raise InputError(
                f"{root}: {len(missing)} of {part}'s {len(ids)} images are missing from images/ or"
                f" joints.mat: {first_few(missing)}. {FETCH} again"
            )
        return (_example(root, name, joints[positions[name]]) for name in ids)


def part_ids(part: Part, extended: bool = True) -> list[str]:
    """Returns the names of a part's images, sorted."""
    if extended:
        return [name for name in IDS if _PARTS[name] == part]
    first = {"train": 1, "test": 1001}
    return [f"im{n:04d}" for n in range(first[part], first[part] + 1000)] if part in first else []


def read_joints(path: Path) -> tuple[np.ndarray, bool]:
    """Reads joints.mat of either set.

    The extended set (14, 3, images) marks joints by 1; those that its annotators didn't see have
    0 and no position. The original (3, 14, images) gives all joints a position and marks the
    hidden ones by 1. Both count pixels from 1.

    Returns:
      (images, 14, 3) float32: x, y in pixels counted from 0, and visibility as in COCO;
      and whether the file is the extended set's.

    Raises:
      InputError: if the file is missing or broken or has no such array.
    """
    # SciPy takes longer to import than all data sets together.
    import scipy.io

    try:
        joints = np.asarray(scipy.io.loadmat(path)["joints"], np.float32)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file. {FETCH} again") from error
    # SciPy raises all kinds of exceptions on broken files.
    except Exception as error:
        raise InputError(f"{path}: can't be read ({error}). {FETCH} again") from error
    if joints.ndim != 3 or joints.shape[:2] not in ((14, 3), (3, 14)):
        raise InputError(
            f"{path}: joints has the shape {joints.shape}, but should have (14, 3, images) or"
            f" (3, 14, images). {FETCH} again"
        )
    extended = joints.shape[0] == 14
    joints = joints.transpose((2, 0, 1) if extended else (2, 1, 0)) - np.float32([1, 1, 0])
    marked = joints[..., 2] > 0
    if extended:
        joints[..., 2] = np.where(marked, _VISIBLE, 0)
    else:
        joints[..., 2] = np.where(marked, _HIDDEN, _VISIBLE)
    return joints, extended


def _example(root: Path, name: str, joints: np.ndarray) -> Example:
    image = read_image(root / f"images/{name}.jpg")
    height, width = image.shape[:2]
    place, visibility = joints[:, :2], joints[:, 2]
    inside = ((place >= -0.5) & (place <= np.float32([width, height]) - 0.5)).all(axis=1)
    labelled = inside & (visibility > 0)
    box = np.ptp(place[labelled], axis=0) if labelled.any() else np.zeros(2)
    return Example(
        name,
        image,
        label=np.zeros((height, width), np.uint8),
        joints=np.where(labelled[:, None], joints, np.float32(0))[None],
        area=np.maximum(np.float32([0.53 * box.prod()]), np.float32(1)),
    )


def _root(raw: Path) -> Path:
    """The folder of joints.mat: raw, or one directly below it."""
    for root in (raw, *(raw / name for name in ("lsp", "lspet_dataset", "lsp_dataset"))):
        if (root / "joints.mat").is_file():
            return root
    raise InputError(
        f"{raw}: has no joints.mat beside images/. {FETCH}; then name its folder: {{flag}} PATH",
        field="data.raw",
    )
