"""Cell nuclei under the microscope: 200 images of the 2018 Data Science Bowl."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seg_jax.datasets.images import read_image, read_mask
from seg_jax.datasets.instances import borders, renumbered
from seg_jax.datasets.lists import first_few, read_list
from seg_jax.datasets.source import Source
from seg_jax.errors import InputError
from seg_jax.labels import Example, Labels, Part

__all__ = ["FETCH", "IDS", "Nuclei", "files", "part_ids", "read_nuclei"]

FETCH = (
    "Fetch the 2018 Data Science Bowl's stage 1 training set, BBBC038 of the Broad Bioimage"
    " Benchmark Collection (CC0), https://bbbc.broadinstitute.org/BBBC038, and unpack it"
)

_PARTS = {row["id"]: row["part"] for row in read_list(Path(__file__).parent / "splits/split.csv")}

_LETTERS = 16

IDS = tuple(sorted(_PARTS))
"""The first 16 of the 64 letters of the 200 images' names, sorted."""


@dataclass(frozen=True)
class Nuclei(Source):
    """200 greyscale images of 256×256, stored as RGB, in which each nucleus is an object.

    140 are for training, 20 for validation and 40 for testing; the list is in splits/.
    """

    raw: Path | None = None
    """Folder with ID/images/ID.png and ID/masks/*.png, or with images/ID.png and instances/ID.png
    (16 bits, the nuclei's numbers); or the folder above it."""
    borders: bool = False
    """Label background, inside and border, for networks that separate nuclei by their borders."""

    @property
    def labels(self) -> Labels:
        """Binary; with borders three classes, of which inside and border are parts of a nucleus."""
        if not self.borders:
            return Labels(classes=("nucleus",), things=("nucleus",))
        return Labels(
            classes=("background", "inside", "border"),
            segments=("background", "nucleus", "nucleus"),
            things=("nucleus",),
        )

    def read(self, part: Part) -> Iterator[Example]:
        """Reads the examples of a part by name, with instances numbered from 1.

        A border is one pixel wide and belongs to the nucleus: see `seg_jax.datasets.instances`.

        Raises:
          InputError: if raw isn't set or lacks an image of the list, or if a file is broken.
        """
        if self.raw is None:
            raise InputError(
                f"{{flag}} isn't set. {FETCH}; then name its folder: {{flag}} PATH",
                field="data.raw",
            )
        found = files(self.raw.expanduser(), IDS)
        return (self._example(name, *found[name]) for name in part_ids(part))

    def _example(self, name: str, image: Path, masks: list[Path]) -> Example:
        pixels, instance = read_nuclei(image, masks)
        label = (instance > 0).astype(np.uint8)
        if self.borders:
            label += borders(instance)
        return Example(name, pixels, label, instance)


def part_ids(part: Part) -> list[str]:
    """Returns the names of a part's images, sorted."""
    return [name for name in IDS if _PARTS[name] == part]


def files(raw: Path, ids: tuple[str, ...]) -> dict[str, tuple[Path, list[Path]]]:
    """Finds each image and its masks.

    Args:
      raw: as `Nuclei.raw`.
      ids: the first letters of the images' names, 16 as in `IDS`.

    Returns:
      for each name the image, and either one map of all its nuclei or one mask of each nucleus.

    Raises:
      InputError: if an image or its masks are missing.
    """
    root = _root(raw)
    if (root / "instances").is_dir():
        images = {path.stem[:_LETTERS]: path for path in _pngs(root / "images")}
        masks = {path.stem[:_LETTERS]: [path] for path in _pngs(root / "instances")}
    else:
        images = {path.stem[:_LETTERS]: path for path in _pngs(root, "*/images/")}
        masks = {path.name[:_LETTERS]: _pngs(path / "masks") for path in root.iterdir()}
    found = {
        name: (images[name], masks[name]) for name in ids if images.get(name) and masks.get(name)
    }
    if missing := set(ids) - set(found):
        raise InputError(
            f"{root}: {len(missing)} of {len(ids)} images are missing or lack their masks:"
            f" {first_few(missing)}. {FETCH} again"
        )
    return found


def read_nuclei(image: Path, masks: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Decodes an image and its nuclei.

    Args:
      image: the image's file.
      masks: one map of all nuclei's numbers, or several masks of one nucleus each; where two of
        them overlap, the later one wins.

    Returns:
      (height, width, 3) uint8, and (height, width) uint16 with the nuclei numbered from 1.

    Raises:
      InputError: if a file is broken, or the sizes differ.
    """
    pixels = read_image(image)
    objects = np.zeros(pixels.shape[:2], np.int32)
    for number, path in enumerate(masks, start=1):
        mask = read_mask(path)
        if mask.shape != objects.shape:
            raise InputError(
                f"{path}: {mask.shape[1]}×{mask.shape[0]} pixels, but its image {image} has"
                f" {objects.shape[1]}×{objects.shape[0]}; fetch both again"
            )
        objects[mask > 0] = mask[mask > 0] if len(masks) == 1 else number
    return pixels, renumbered(objects)


def _pngs(folder: Path, below: str = "") -> list[Path]:
    # macOS writes files beside the images whose names differ only by a leading dot.
    return sorted(folder.glob(f"{below}[!.]*.png"))


def _root(raw: Path) -> Path:
    """The folder that has one of the two layouts: raw, or one directly below it."""
    for root in (raw, raw / "nuclei", raw / "stage1_train"):
        if (root / "instances").is_dir() or any(root.glob("*/masks")):
            return root
    raise InputError(
        f"{raw}: has neither ID/images/ID.png and ID/masks/*.png nor images/ID.png and"
        f" instances/ID.png. {FETCH}; then name its folder: {{flag}} PATH",
        field="data.raw",
    )
