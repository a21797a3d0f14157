"""Pictures of what was found, drawn on the images, and their legend."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from seg_jax.found import Found
from seg_jax.labels import VOID, Example, Labels
from seg_jax.resize import resize_image, resize_label, resize_points

Colour = tuple[int, int, int]
"""Red, green and blue, each from 0 to 255."""

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


class Legend(NamedTuple):
    """What the colours and sides of pictures mean."""

    colours: dict[str, Colour]
    """By what they stand for."""
    note: str = ""
    """A sentence about what colours don't say."""
    pairs: bool = False
    """Whether a picture with a truth is two pictures side by side."""


def draw(
    labels: Labels, found: Found, image: np.ndarray, truth: Example | None = None
) -> np.ndarray:
    """Draws what is found on an image, and the truth where it is known.

    Regions alone are drawn by `overlay`. Where there are objects or skeletons, these are drawn,
    skeletons over objects, and the true ones on a second copy of the image to the right.

    Args:
      labels: what the labels mean.
      found: in this image.
      image: (height, width, 1 or 3) uint8.
      truth: the image's example.

    Returns:
      (height, width, 3) uint8, shrunk as by `shrunk`; twice as wide and a gap for two pictures.
    """
    small = shrunk(image)
    old, new = image.shape[:2], small.shape[:2]
    if found.segments is None and found.skeletons is None:
        label = None if truth is None else resize_label(truth.label, new)
        return overlay(small, resize_label(found.label, new), label, labels.classes)

    def drawn(objects: np.ndarray | None, people: np.ndarray | None) -> np.ndarray:
        picture = small
        if objects is not None:
            picture = segment_overlay(picture, resize_label(objects, new))
        if people is not None:
            places = resize_points(people[..., :2], old, new)
            people = np.concatenate([places, people[..., 2:]], axis=-1)
            picture = skeleton_overlay(picture, people, labels.skeleton.limbs)
        return picture

    objects = None
    if found.segments is not None:
        is_thing = np.isin(found.segments.category, labels.thing_categories)
        objects = np.where(is_thing[found.objects], found.objects, 0)
    left = drawn(objects, found.skeletons)
    if truth is None:
        return left
    true_objects = None if found.segments is None else truth.instance
    true_people = None if found.skeletons is None else truth.joints
    return side_by_side([left, drawn(true_objects, true_people)])


def legend(labels: Labels, finds: tuple[str, ...]) -> Legend:
    """What the colours and sides of the pictures by `draw` mean.

    Args:
      labels: what the labels mean.
      finds: the fields of `Found` that are filled.
    """
    if "segments" in finds or "skeletons" in finds:
        return Legend(
            {},
            "Left: predicted, each object or person in a colour of its own. Right: true.",
            pairs=True,
        )
    if labels.binary:
        return Legend({"predicted": PREDICTED, "true": TRUE, "unknown": UNKNOWN})
    classes = enumerate(labels.classes)
    colours = {name: class_colour(k) for k, name in classes if name != "background"}
    return Legend(colours | {"unknown": UNKNOWN}, "Left: predicted. Right: true.", pairs=True)


def class_colour(index: int) -> Colour:
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


def write_overlay(folder: Path, name: str, picture: np.ndarray) -> None:
    """Writes overlays/NAME.jpg of (height, width, 3) uint8."""
    path = folder / "overlays" / f"{name}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    # Thin coloured lines don't survive subsampling.
    Image.fromarray(picture).save(path, quality=88, subsampling=0)


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
      classes: names, as `Labels.classes` has them; one name is a binary task.

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


def segment_overlay(image: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Draws objects on an image: each tinted, with a rim, in a colour of its own.

    Args:
      image: (height, width, 1 or 3) uint8.
      objects: (height, width) integers, the object of each pixel, 0 for none.

    Returns:
      (height, width, 3) uint8.
    """
    height, width = image.shape[:2]
    thickness = max(1, round(max(height, width) / 400))
    # A pixel is on a rim where another object, or none, is near.
    near = {"size": 2 * thickness + 1, "mode": "nearest"}
    lowest = ndimage.minimum_filter(objects, **near)
    rim = (objects > 0) & (lowest != ndimage.maximum_filter(objects, **near))
    colours = np.array([(0, 0, 0), *map(class_colour, range(21))], float)
    colour = colours[np.where(objects > 0, (objects.astype(int) - 1) % 21 + 1, 0)]
    opacity = np.where(rim, 1.0, 0.4)[..., None] * (objects > 0)[..., None]
    return np.rint((1 - opacity) * image + opacity * colour).astype(np.uint8)


def skeleton_overlay(
    image: np.ndarray, people: np.ndarray, limbs: tuple[tuple[int, int], ...]
) -> np.ndarray:
    """Draws people's skeletons on an image, each in a colour, with white joints.

    Args:
      image: (height, width, 1 or 3) uint8.
      people: (people, joints, 3) x, y and a number that is 0 where a joint wasn't found.
      limbs: pairs of joints that a line connects.

    Returns:
      (height, width, 3) uint8.
    """
    height, width = image.shape[:2]
    picture = Image.fromarray(np.ascontiguousarray(np.broadcast_to(image, (height, width, 3))))
    pen = ImageDraw.Draw(picture)
    thickness = max(1, round(max(height, width) / 150))
    for number, joints in enumerate(people):
        colour = class_colour(number % 21)
        for a, b in limbs:
            if joints[a, 2] > 0 and joints[b, 2] > 0:
                ends = [*joints[a, :2].tolist(), *joints[b, :2].tolist()]
                pen.line(ends, fill=colour, width=thickness)
        for x, y, known in joints.tolist():
            if known > 0:
                box = [x - thickness, y - thickness, x + thickness, y + thickness]
                pen.ellipse(box, (255, 255, 255), colour)
    return np.asarray(picture)


def side_by_side(pictures: list[np.ndarray]) -> np.ndarray:
    """Pictures of one size, (height, width, 3) uint8, beside each other with white gaps."""
    height, width = pictures[0].shape[:2]
    gap = np.full((height, max(2, width // 100), 3), 255, np.uint8)
    return np.concatenate([x for p in pictures for x in (gap, p)][1:], axis=1)


def _regions(picture, label, classes, thickness):
    for index, name in enumerate(classes):
        if name != "background":
            picture = _blend(picture, label == index, class_colour(index), 0.45)
            picture = _blend(picture, _rim(label == index, thickness), class_colour(index), 1)
    return _blend(picture, label == VOID, UNKNOWN, 0.6)


def _rim(mask: np.ndarray, thickness: int) -> np.ndarray:
    """The pixels of a mask within `thickness` of a pixel outside it; the frame is no boundary."""
    return mask & ndimage.binary_dilation(~mask, iterations=thickness)


def _blend(picture, mask, colour, opacity):
    mixed = (1 - opacity) * picture + opacity * np.array(colour)
    return np.where(mask[..., None], np.rint(mixed), picture).astype(np.uint8)
