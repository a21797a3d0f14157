"""Pictures of predictions on their images."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from seg_jax.datasets.source import VOID
from seg_jax.resize import resize_image

# Okabe & Ito's colours, told apart by people with any kind of colour blindness.
PALETTE = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (240, 228, 66),
    (213, 94, 0),
    (86, 180, 233),
)
PREDICTED, TRUE, UNKNOWN = (0, 114, 178), (240, 228, 66), (128, 128, 128)


def class_colour(index: int) -> tuple[int, int, int]:
    """Colour of a class in a multi-class picture: seven hues, then darker, then lighter ones."""
    hue = np.array(PALETTE[index % 7])
    shades = (hue, hue * 0.6, hue * 0.5 + 127)
    red, green, blue = shades[index // 7 % 3].astype(int).tolist()
    return red, green, blue


def shrunk(image: np.ndarray, longest: int = 768) -> np.ndarray:
    """(height, width, C) uint8, made smaller where a side is longer.

    A picture is shrunk before it is drawn on, so that lines keep their width.
    """
    shrink = max(1.0, max(image.shape[:2]) / longest)
    return resize_image(image, tuple(round(side / shrink) or 1 for side in image.shape[:2]))


def write_overlay(folder: Path, name: str, drawn: np.ndarray) -> None:
    """Writes overlays/NAME.jpg of (height, width, 3) uint8."""
    path = folder / "overlays" / f"{name}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    # Thin coloured lines don't survive subsampling.
    Image.fromarray(drawn).save(path, quality=88, subsampling=0)


def overlay(
    image: np.ndarray,
    prediction: np.ndarray,
    label: np.ndarray | None = None,
    classes: tuple[str, ...] = ("foreground",),
) -> np.ndarray:
    """Draws a prediction, and the truth where it is known, on an image.

    One class: the predicted region is tinted and has a blue line just inside its boundary; the
    true region has a yellow line just outside its own, so that both are seen where they agree.
    Several classes: every region in its class's colour, one called "background" left clear; the
    label is drawn the same way on a second copy to the right. Unknown pixels are grey.

    Args:
      image: (height, width, 1 or 3) uint8.
      prediction: (height, width) integers, the class of each pixel.
      label: (height, width) integers, the true class of each pixel or `VOID`.
      classes: the source's classes; one name is a binary task.

    Returns:
      (height, width, 3) uint8; twice as wide and a gap for several classes with a label.
    """
    height, width = image.shape[:2]
    picture = np.broadcast_to(image, (height, width, 3))
    thickness = max(1, round(max(height, width) / 200))
    if len(classes) > 1:
        left = _regions(picture, prediction, classes, thickness)
        if label is None:
            return left
        return side_by_side([left, _regions(picture, label, classes, thickness)])
    picture = _blend(picture, prediction == 1, PREDICTED, 0.2)
    picture = _blend(picture, _rim(prediction == 1, thickness), PREDICTED, 1)
    if label is not None:
        picture = _blend(picture, label == VOID, UNKNOWN, 0.6)
        picture = _blend(picture, _rim(label != 1, thickness), TRUE, 1)
    return picture


def segment_overlay(
    image: np.ndarray, found: np.ndarray, true: np.ndarray | None = None
) -> np.ndarray:
    """Draws objects on an image, each in a colour of its own; true ones on a copy to the right.

    Args:
      image: (height, width, 1 or 3) uint8.
      found: (height, width) integers, the object of each pixel, 0 for none.
      true: the same.

    Returns:
      (height, width, 3) uint8; twice as wide and a gap where true objects are given.
    """
    height, width = image.shape[:2]
    picture = np.broadcast_to(image, (height, width, 3))
    thickness = max(1, round(max(height, width) / 400))
    return side_by_side([_objects(picture, n, thickness) for n in (found, true) if n is not None])


def _objects(picture: np.ndarray, numbers: np.ndarray, thickness: int) -> np.ndarray:
    # A pixel is on a rim where another object, or none, is near.
    near = {"size": 2 * thickness + 1, "mode": "nearest"}
    lowest = ndimage.minimum_filter(numbers, **near)
    rim = (numbers > 0) & (lowest != ndimage.maximum_filter(numbers, **near))
    colours = np.array([(0, 0, 0), *map(class_colour, range(21))], float)
    colour = colours[np.where(numbers > 0, (numbers.astype(int) - 1) % 21 + 1, 0)]
    opacity = np.where(rim, 1.0, 0.4)[..., None] * (numbers > 0)[..., None]
    return np.rint((1 - opacity) * picture + opacity * colour).astype(np.uint8)


def skeleton_overlay(
    image: np.ndarray,
    people: np.ndarray,
    limbs: tuple[tuple[int, int], ...],
    true: np.ndarray | None = None,
) -> np.ndarray:
    """Draws people's skeletons on an image, each in a colour; true ones on a copy to the right.

    Args:
      image: (height, width, 1 or 3) uint8.
      people: (N, J, 3) x, y and a number that is 0 where a joint wasn't found.
      limbs: pairs of joints that a line connects.
      true: (M, J, 3), the same.

    Returns:
      (height, width, 3) uint8; twice as wide and a gap where true people are given.
    """
    height, width = image.shape[:2]
    picture = np.broadcast_to(image, (height, width, 3))
    return side_by_side([_skeletons(picture, p, limbs) for p in (people, true) if p is not None])


def _skeletons(picture: np.ndarray, people: np.ndarray, limbs) -> np.ndarray:
    drawn = Image.fromarray(np.ascontiguousarray(picture))
    pen = ImageDraw.Draw(drawn)
    thick = max(1, round(max(picture.shape[:2]) / 150))
    for number, joints in enumerate(people):
        colour = class_colour(number % 21)
        for a, b in limbs:
            if joints[a, 2] > 0 and joints[b, 2] > 0:
                ends = [*joints[a, :2].tolist(), *joints[b, :2].tolist()]
                pen.line(ends, fill=colour, width=thick)
        for x, y, there in joints.tolist():
            if there > 0:
                pen.ellipse([x - thick, y - thick, x + thick, y + thick], (255, 255, 255), colour)
    return np.asarray(drawn)


def side_by_side(pictures: list[np.ndarray]) -> np.ndarray:
    """Pictures of one size, (height, width, 3) uint8, beside each other with white gaps."""
    height, width = pictures[0].shape[:2]
    gap = np.full((height, max(2, width // 100), 3), 255, np.uint8)
    return np.concatenate([x for p in pictures for x in (gap, p)][1:], axis=1)


def _regions(picture, labels, classes, thickness):
    for index, name in enumerate(classes):
        if name != "background":
            picture = _blend(picture, labels == index, class_colour(index), 0.45)
            picture = _blend(picture, _rim(labels == index, thickness), class_colour(index), 1)
    return _blend(picture, labels == VOID, UNKNOWN, 0.6)


def _rim(mask: np.ndarray, thickness: int) -> np.ndarray:
    """The pixels of a mask within `thickness` of a pixel outside it; the frame is no boundary."""
    return mask & ndimage.binary_dilation(~mask, iterations=thickness)


def _blend(picture, mask, colour, opacity):
    mixed = (1 - opacity) * picture + opacity * np.array(colour)
    return np.where(mask[..., None], np.rint(mixed), picture).astype(np.uint8)
