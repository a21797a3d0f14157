"""What was found, as PNGs of numbers and as arrays of probabilities."""

from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from seg_jax.found import Found
from seg_jax.labels import Labels


def save(folder: Path, name: str, labels: Labels, found: Found) -> None:
    """Writes predictions/NAME.png at the image's own size; nothing of skeletons alone.

    Segments are a 16-bit PNG of their numbers, 0 for none. If there is stuff,
    predictions/panoptic/NAME.png holds the same numbers as COCO's panoptic format has them:
    R + 256 G + 65536 B. Without segments, a binary label is 0 and 255, and several classes are
    their numbers.
    """
    predictions = folder / "predictions"
    if found.segments is not None:
        number = found.segments.number.astype(np.uint16)
        _save_png(predictions / f"{name}.png", number)
        if len(labels.thing_categories) < len(labels.categories):
            low_to_high = number[..., None].astype("<u4").view(np.uint8)
            _save_png(predictions / "panoptic" / f"{name}.png", low_to_high[..., :3])
    elif found.label is not None:
        label = found.label * 255 if labels.binary else found.label
        _save_png(predictions / f"{name}.png", label)


def save_probabilities(
    folder: Path, name: str, probabilities: np.ndarray, kind: Literal["npy", "png"]
) -> None:
    """Writes the probabilities of one image into probabilities/.

    Args:
      folder: where to write.
      name: of the image.
      probabilities: (height, width, K) float, as `Found.probabilities`.
      kind: "npy" for NAME.npy, (height, width, K) float16; "png" for 16-bit PNGs in which 65535
        stands for 1: NAME.png of a single map, else NAME_0.png, NAME_1.png … by map.
    """
    path = folder / "probabilities" / f"{name}.{kind}"
    if kind == "npy":
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, probabilities.astype(np.float16))
        return
    maps = np.moveaxis(probabilities, -1, 0)
    for k, one in enumerate(maps):
        # Resizing can take a heat map a little beyond 0 and 1.
        levels = np.rint(np.clip(one, 0, 1) * 65535).astype(np.uint16)
        _save_png(path if len(maps) == 1 else path.with_name(f"{path.stem}_{k}.png"), levels)


def _save_png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
