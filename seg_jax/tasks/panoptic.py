"""Objects and stuff: which pixels belong together, and what they are.

After Panoptic-DeepLab (Cheng et al. 2020, https://arxiv.org/abs/1911.10194): beside the classes the
network predicts a heat map of the objects' centres and, at each pixel, the way to its own object's
centre. Pixels of things are then given to the centre that they point at.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from PIL import Image
from pycocotools import mask

from seg_jax import metrics
from seg_jax.datasets.instances import renumbered
from seg_jax.datasets.source import Example, Source
from seg_jax.errors import InputError
from seg_jax.export.overlay import segment_overlay, shrunk, write_overlay
from seg_jax.losses import Loss
from seg_jax.losses.common import share
from seg_jax.metrics import Counts
from seg_jax.metrics.segments import (
    Matches,
    Segments,
    Shared,
    bowl_precision,
    mask_ap,
    matches,
    panoptic_quality,
    shared_pixels,
)
from seg_jax.resize import resize_image, resize_label
from seg_jax.tasks.objects import nearest_centre, targets
from seg_jax.tasks.peaks import peaks
from seg_jax.tasks.semantic import check_classes, labels_of, probabilities_of


class Decoded(NamedTuple):
    """What the predictions say, arrays of (B, ...)."""

    label: Array
    """(B, H, W) uint8, the likeliest class."""
    segments: Segments
    """Objects, numbered from 1; then one segment for each stuff category."""


class Measured(NamedTuple):
    """What the scores need of each image, (N, ...)."""

    pixels: Counts
    """Right and wrong pixels by class."""
    shared: Shared


@dataclass(frozen=True)
class Panoptic:
    """Objects and stuff: a `seg_jax.tasks.Task`.

    The maps are logits of the classes, the heat map of centres, and the offsets down and to the
    right in units of `sigma`. A data set whose segments are all things makes it instance
    segmentation.
    """

    loss: Loss = field(default_factory=Loss)
    """What is minimised of the classes."""
    centre: float = 200.0
    """Weight of the squared error of the heat map."""
    offset: float = 0.1
    """Weight of the absolute error of the offsets, in units of sigma."""
    sigma: float = 8.0
    """Standard deviation of a centre's Gaussian, in pixels of the training size."""
    threshold: float = 0.1
    """Least height of a centre in the heat map."""
    window: int = 7
    """A centre is the highest of so many pixels each way; odd."""
    objects: int = 64
    """Most objects of an image, true or found."""
    least: int = 1
    """Pixels of the training size below which a found object is dropped."""

    best: ClassVar[str] = "pq"

    def __post_init__(self):
        if self.sigma <= 0:
            raise InputError(f"task.sigma is {self.sigma}; it must be above 0")
        if self.window < 1 or self.window % 2 == 0:
            raise InputError(f"task.window is {self.window}; it must be odd, such as 7")
        if not 1 <= self.objects < 2**15:
            raise InputError(f"task.objects is {self.objects}; it must be from 1 to {2**15 - 1}")

    def check(self, data: Source) -> None:
        """Refuses data without objects."""
        check_classes(data, self.loss)
        if not getattr(data, "things", ()):
            raise InputError(
                f"data: {type(data).__name__} has no objects to tell apart; set task=Semantic(), "
                "or choose a data set of instances, such as Folder(instances=True)"
            )

    def maps(self, data: Source) -> tuple[str, ...]:
        """The classes, the centre and its two offsets."""
        return (*data.classes, "centre", "offset down", "offset right")

    def arrays(
        self, data: Source, example: Example, size: tuple[int, int]
    ) -> dict[str, np.ndarray]:
        """`label`; `instance` (H, W) uint16, numbered from 1 without a gap; `objects` (), the most.

        Raises:
          InputError: if there are more objects than `objects`.
        """
        instance = renumbered(resize_label(example.instance, size))
        count = instance.max()
        if count > self.objects:
            raise InputError(
                f"{example.id}: has {count} objects, but task.objects is {self.objects}; "
                f"set --task.objects {count} or more"
            )
        return {
            "label": resize_label(example.label, size),
            "instance": instance,
            "objects": np.array(self.objects),  # so that a cache of more isn't taken for this task
        }

    def objective(self, data: Source, maps: Array, batch: dict, *, axis_name=None) -> Array:
        """loss(classes) + centre · MSE(heat map) + offset · L1(offsets).

        The squared error is a mean over the valid pixels; the absolute one over those of objects,
        its two directions summed.
        """
        logits, heat, offsets = _parts(maps)
        valid = batch["valid"]
        true_heat, true_offsets, inside = jax.vmap(
            partial(targets, objects=self.objects, sigma=self.sigma)
        )(batch["instance"].astype(jnp.int32), valid)
        value = self.loss(logits, batch["label"], valid=valid, axis_name=axis_name)
        square = jnp.where(valid, (heat - true_heat) ** 2, 0)
        value += self.centre * share(square, valid.astype(jnp.float32), axis_name)
        error = jnp.abs(offsets - true_offsets / self.sigma).sum(-1)
        error = jnp.where(inside, error, 0)
        return value + self.offset * share(error, inside.astype(jnp.float32), axis_name)

    def predictions(self, data: Source, maps: Array) -> Array:
        """Probabilities, heat map, and offsets in pixels."""
        logits, heat, offsets = _parts(maps)
        return jnp.concatenate(
            [probabilities_of(logits), heat[..., None], offsets * self.sigma], axis=-1
        )

    def mirrored(self, data: Source, predictions: Array, axes: tuple[int, ...]) -> Array:
        """Offsets along a flipped axis change their sign."""
        signs = jnp.array(
            [1.0] * (predictions.shape[-1] - 2) + [1 - 2 * (a in axes) for a in (1, 2)]
        )
        return jnp.flip(predictions, axes) * signs

    def resized(self, data: Source, predictions: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Bilinear; offsets grow with the picture."""
        scale = np.ones(predictions.shape[-1], np.float32)
        scale[-2:] = np.divide(size, predictions.shape[:2])
        return resize_image(predictions, size) * scale

    def decode(self, data: Source, predictions: Array, *, scale: float = 1.0) -> Decoded:
        """Classes by pixel, and objects and stuff."""
        return jax.vmap(partial(self._decode, data, scale))(predictions)

    def _decode(self, data: Source, scale: float, predictions: Array) -> Decoded:
        probabilities, heat, offsets = _parts(predictions)
        categories, of_class, things = _categories(data)
        if probabilities.shape[-1] == 1:
            probabilities = jnp.concatenate([1 - probabilities, probabilities], axis=-1)
        member = np.eye(len(categories) + 1, dtype=np.float32)[of_class[: probabilities.shape[-1]]]
        by_category = probabilities @ member  # (H, W, 1 + categories), the first of none
        category = jnp.argmax(by_category, axis=-1)
        is_thing = jnp.isin(category, jnp.array(things))

        reach = self.window // 2
        window = 2 * max(min(1, reach), round(scale * reach)) + 1
        found = peaks(
            heat[None, ..., None], count=self.objects, window=window, threshold=self.threshold
        )
        centres, heights = jnp.stack([found.y, found.x], -1)[0, 0], found.score[0, 0]
        number = jnp.where(is_thing, nearest_centre(offsets, centres, heights > 0), 0)
        slots = self.objects + 1
        area = jnp.bincount(number.ravel(), length=slots)
        kept = (area >= self.least * scale**2).at[0].set(False)
        number = jnp.where(kept[number], number, 0)
        # An object is what most of its pixels are, weighed by how sure they are.
        votes = jax.ops.segment_sum(
            by_category[..., np.array(things)].reshape(-1, len(things)), number.ravel(), slots
        )
        kind = jnp.where(kept, jnp.array(things)[jnp.argmax(votes, -1)], 0)
        sure = jnp.max(votes, -1) / jnp.maximum(area, 1)
        score = jnp.where(kept, sure * jnp.clip(jnp.append(0.0, heights), 0, 1), 0)

        is_stuff = (category > 0) & ~is_thing
        number = jnp.where(is_stuff, self.objects + category, number)
        there = jnp.bincount(number.ravel(), length=slots + len(categories))[slots:]
        surest = jnp.max(by_category, axis=-1).ravel()
        sums = jax.ops.segment_sum(surest, number.ravel(), slots + len(categories))[slots:]
        stuff = jnp.where(there > 0, jnp.arange(1, len(categories) + 1), 0)
        return Decoded(
            labels_of(probabilities),
            Segments(
                number,
                jnp.concatenate([kind, stuff]),
                jnp.concatenate([score, sums / jnp.maximum(there, 1)]),
            ),
        )

    def enlarged(self, decoded: Decoded, old: tuple[int, int], new: tuple[int, int]) -> Decoded:
        """By the nearest pixel."""
        segments = decoded.segments
        label, number = (
            resize_label(x[: old[0], : old[1]], new) for x in (decoded.label, segments.number)
        )
        return Decoded(label, segments._replace(number=number))

    def measure(self, data: Source, decoded: Decoded, batch: dict) -> Measured:
        """Right and wrong pixels by class, and what found and true segments share."""
        valid, label = batch["valid"], batch["label"]
        pixels = metrics.count(decoded.label, label, classes=len(data.classes), valid=valid)

        def shared(found, label, instance, valid):
            true, valid = self._true_segments(data, label, instance, valid)
            return shared_pixels(found, true, valid)

        instance = batch["instance"].astype(jnp.int32)
        return Measured(pixels, jax.vmap(shared)(decoded.segments, label, instance, valid))

    def _true_segments(
        self, data: Source, label: Array, instance: Array, valid: Array
    ) -> tuple[Segments, Array]:
        """The true segments, numbered as those found; a thing that is no object's isn't valid."""
        categories, of_class, things = _categories(data)
        lookup = np.zeros(256, np.int32)
        lookup[: len(of_class)] = of_class
        category = jnp.where(valid, jnp.asarray(lookup)[label], 0)
        is_thing = jnp.isin(category, jnp.array(things))
        number = jnp.where(is_thing, instance, jnp.where(category > 0, self.objects + category, 0))
        of_object = jax.ops.segment_max(
            jnp.where(is_thing, category, 0).ravel(), number.ravel(), self.objects + 1
        )
        stuff = np.array([0 if k in things else k for k in range(1, len(categories) + 1)])
        of_object = jnp.maximum(of_object, 0).at[0].set(0)
        every = jnp.concatenate([of_object, stuff])
        return (
            Segments(number, every, jnp.zeros(len(every))),
            valid & ~(is_thing & (instance == 0)),
        )

    def scores(self, data: Source, measured: Measured) -> dict[str, float]:
        """PQ, SQ and RQ over all images, the Bowl's precision at one half, and the classes' Dice.

        PQ, SQ and RQ are means over the categories; the precision, of objects, is a mean over
        images; Dice is over all pixels, a mean over classes.
        """
        return self._scores(data, measured, _matches(data, _images(measured.shared)))

    def _scores(self, data: Source, measured: Measured, matched: list[Matches]) -> dict[str, float]:
        quality = panoptic_quality(_total(matched))
        found = {name: _mean(of) for name, of in quality.items()}
        found["ap50_bowl"] = float(np.mean(_bowl(data, matched)))
        dice = metrics.dice(metrics.pooled(measured.pixels), empty=np.nan)
        return found | {"dice": _mean(dice)}

    def summary(self, data: Source, measured: Measured, details: list[dict]) -> dict:
        """The scores, some with their intervals, the Bowl's and COCO's AP, and PQ by category."""
        categories, _, things = _categories(data)
        images = _images(measured.shared)
        matched = _matches(data, images)

        def quality(rows) -> dict[str, np.ndarray]:
            return panoptic_quality(_total([matched[row] for row in rows]))

        found: dict = self._scores(data, measured, matched)
        pq = metrics.bootstrap(lambda rows: _mean(quality(rows)["pq"]), len(images))
        found["pq_ci95"] = list(pq)
        found["ap50_bowl_ci95"] = metrics.rounded_interval(_bowl(data, matched))
        at_all = [_matches(data, images, above) for above in np.arange(0.5, 0.96, 0.05)]
        found["ap_bowl"] = float(np.mean([_bowl(data, each) for each in at_all]))
        coco = mask_ap(images, list(things))
        found |= {f"mask_{name}": value for name, value in coco.items()}
        total, of_all = _total(matched), quality(range(len(images)))
        found["per_class"] = {
            name: {q: float(of[k]) for q, of in of_all.items()}
            | {count: int(getattr(total, count)[k]) for count in ("tp", "fp", "fn")}
            for k, name in enumerate(categories)
        }
        dice = metrics.dice(metrics.pooled(measured.pixels), empty=np.nan)
        for name, value in zip(data.classes, dice.tolist(), strict=True):
            found["per_class"].setdefault(name, {})["dice"] = value
        return found

    def details(self, data: Source, decoded: Decoded, example: Example) -> dict[str, float]:
        """None."""
        return {}

    def save(
        self,
        data: Source,
        decoded: Decoded,
        folder: Path,
        name: str,
        image: np.ndarray,
        truth: Example | None = None,
    ) -> list[dict[str, Any]]:
        """The prediction is a 16-bit PNG of the segments' numbers; 0 is none, stuff comes last.

        If there is stuff, predictions/panoptic/NAME.png is the same as COCO's panoptic format has
        it: R + 256 G + 65536 B is the number.
        """
        small = shrunk(image)
        found, true = self.shown(decoded, image.shape[:2], small.shape[:2], truth)
        write_overlay(folder, name, segment_overlay(small, found, true))
        return self.keep(data, decoded, folder, name, image)

    def keep(
        self, data: Source, decoded: Decoded, folder: Path, name: str, image: np.ndarray
    ) -> list[dict[str, Any]]:
        """All of `save` but the picture."""
        categories = self.categories(data)
        height, width = image.shape[:2]
        segments = decoded.segments
        number = segments.number[:height, :width].astype(np.uint16)
        pictures = {"predictions": number}
        if not all(category["isthing"] for category in categories):
            low_to_high = number[..., None].astype("<u4").view(np.uint8)
            pictures["predictions/panoptic"] = low_to_high[..., :3]
        for where, pixels in pictures.items():
            (folder / where).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / where / f"{name}.png")
        return [
            {
                "segment": number_of,
                "category_id": categories[segments.category[number_of] - 1]["id"],
                "segmentation": rle,
                "area": int(mask.area(rle)),
                "bbox": mask.toBbox(rle).tolist(),
                "score": round(float(segments.score[number_of]), 4),
            }
            for number_of, rle in _outlines(number)
        ]

    def shown(
        self, decoded: Decoded, own: tuple[int, int], size: tuple[int, int], truth: Example | None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The found and the true objects' numbers of an image, from its own size to another."""
        number = decoded.segments.number[: own[0], : own[1]].astype(np.uint16)
        found = resize_label(np.where(number <= self.objects, number, 0), size)
        return found, None if truth is None else resize_label(truth.instance, size)

    def categories(self, data: Source) -> list[dict[str, Any]]:
        """Things and stuff, by the data's own ids or from 1."""
        names, _, things = _categories(data)
        ids = getattr(data, "category_ids", {})
        return [
            {"id": ids.get(name, k), "name": name, "isthing": int(k in things)}
            for k, name in enumerate(names, start=1)
        ]


def _parts(maps: Array) -> tuple[Array, Array, Array]:
    """Classes (..., K), centre (...) and offsets (..., 2) of maps (..., K + 3)."""
    return maps[..., :-3], maps[..., -3], maps[..., -2:]


def _categories(data: Source) -> tuple[tuple[str, ...], np.ndarray, tuple[int, ...]]:
    """The categories that segments have; each class's, 0 for none; and those that are things.

    A binary task's label 0 and a segment called "background" are none. Categories count from 1.
    """
    names = tuple(dict.fromkeys(s for s in data.segments if s != "background"))
    of_class = [0 if s == "background" else names.index(s) + 1 for s in data.segments]
    if len(data.classes) == 1:
        of_class = [0, *of_class]
    things = tuple(k for k, name in enumerate(names, start=1) if name in data.things)
    return names, np.array(of_class, np.int32), things


def _outlines(number: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each segment's number and its pixels, run-length encoded as COCO does."""
    for one in np.unique(number[number > 0]).tolist():
        rle = mask.encode(np.asfortranarray(number == one, dtype=np.uint8))
        yield one, rle | {"counts": rle["counts"].decode("ascii")}


def _images(shared: Shared) -> list[Shared]:
    return [Shared(*(np.asarray(x)[i] for x in shared)) for i in range(len(shared.pixels))]


def _matches(data: Source, images: list[Shared], above: float = 0.5) -> list[Matches]:
    """Of each image, at an IoU threshold."""
    categories = len(_categories(data)[0])
    return [matches(image, categories, above=above) for image in images]


def _total(each: list[Matches]) -> Matches:
    return Matches(*(np.sum(x, axis=0) for x in zip(*each, strict=True)))


def _bowl(data: Source, matched: list[Matches]) -> np.ndarray:
    """The Bowl's precision of each image's objects."""
    _, _, things = _categories(data)
    objects = np.array(things) - 1
    return np.array([bowl_precision(Matches(*(x[objects] for x in each))) for each in matched])


def _mean(values: np.ndarray) -> float:
    """Mean of what isn't NaN; 1 where nothing is, as there was nothing to find."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else 1.0
