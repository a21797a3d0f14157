"""Panoptic segmentation: objects and stuff, which pixels belong together and what they are.

After Panoptic-DeepLab (Cheng et al. 2020, https://arxiv.org/abs/1911.10194): beside the classes the
network predicts a heat map of the objects' centres and, at each pixel, the offset to the centre of
its object. Each pixel of a thing is then given to the centre nearest to where its offset points.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from seg_jax import metrics
from seg_jax.datasets.instances import renumbered
from seg_jax.errors import InputError
from seg_jax.found import Found, Segments
from seg_jax.labels import Example, Kind, Labels
from seg_jax.losses import Loss, Mean, mean
from seg_jax.metrics import Counts
from seg_jax.metrics.segments import (
    Matches,
    Shared,
    bowl_precision,
    compacted,
    mask_ap,
    matches,
    panoptic_quality,
    shared_pixels,
)
from seg_jax.resize import Resize, resize_label
from seg_jax.tasks.objects import nearest_centre, targets
from seg_jax.tasks.peaks import peaks
from seg_jax.tasks.semantic import check_classes, labels_of, probabilities_of
from seg_jax.tasks.task import Batch, Decoded, ScoreName, Task


class Measured(NamedTuple):
    """What the scores need to know of an image; of a batch, each array has an axis more."""

    pixels: Counts
    """Right and wrong pixels by class, (K,)."""
    shared: Shared
    """How many pixels the found and the true segments share."""


@dataclass(frozen=True)
class Panoptic(Task):
    """Objects and stuff; instance segmentation where all segments of a data set are things.

    The maps are logits of the classes, the heat map of centres, and the offsets down and to the
    right in units of `sigma`.
    """

    loss: Loss = field(default_factory=Loss)
    """What is minimised of the classes."""
    centre_weight: float = 200.0
    """Weight of the squared error of the heat map."""
    offset_weight: float = 0.1
    """Weight of the absolute error of the offsets, in units of sigma."""
    sigma: float = 8.0
    """Standard deviation of a centre's Gaussian, in pixels of the training size."""
    threshold: float = 0.1
    """Height that a centre must exceed in the heat map."""
    window: int = 7
    """Side of the square, in pixels of the training size, in which a centre is the highest; odd."""
    max_objects: int = 64
    """Most objects of an image, true or found."""
    min_area: int = 1
    """Pixels of the training size below which a found object is dropped."""

    finds: ClassVar[tuple[str, ...]] = ("label", "segments")
    kinds: ClassVar[Mapping[str, Kind]] = {
        "label": Kind.MAP,
        "instance": Kind.MAP,
        "max_objects": Kind.OTHER,
    }
    score_names: ClassVar[Mapping[str, ScoreName]] = {
        "pq": ScoreName("PQ"),
        "sq": ScoreName("SQ"),
        "rq": ScoreName("RQ"),
        "ap50_bowl": ScoreName("AP50 of the 2018 Bowl"),
        "ap_bowl": ScoreName("AP of the 2018 Bowl"),
        "mask_ap": ScoreName("Mask AP (COCO)"),
        "mask_ap50": ScoreName("Mask AP50 (COCO)"),
        "mask_ap75": ScoreName("Mask AP75 (COCO)"),
        "dice": ScoreName("Dice"),
        "tp": ScoreName("TP", digits=0),
        "fp": ScoreName("FP", digits=0),
        "fn": ScoreName("FN", digits=0),
    }

    def __post_init__(self):
        if self.sigma <= 0:
            raise InputError(f"task.sigma is {self.sigma}; it must be above 0")
        if self.window < 1 or self.window % 2 == 0:
            raise InputError(f"task.window is {self.window}; it must be odd, such as 7")
        if not 1 <= self.max_objects < 2**15:
            raise InputError(
                f"task.max_objects is {self.max_objects}; it must be from 1 to {2**15 - 1}"
            )

    def best(self, labels: Labels) -> str:
        """The panoptic quality."""
        return "pq"

    def check(self, labels: Labels) -> None:
        """Refuses labels without things, and another number of class weights than of classes.

        Raises:
          InputError: naming the field and the fix.
        """
        check_classes(labels, self.loss)
        if not labels.thing_categories:
            raise InputError(
                "data: has no objects to tell apart; set task=Semantic(), or choose a data set of "
                "instances, such as Folder(instances=True)"
            )

    def maps(self, labels: Labels) -> tuple[str, ...]:
        """The classes, the centre and the two directions of the offset."""
        return (*labels.classes, "centre", "offset down", "offset right")

    def arrays(
        self, labels: Labels, example: Example, size: tuple[int, int]
    ) -> dict[str, np.ndarray]:
        """`label`; `instance` (H, W) uint16, objects numbered from 1 without a gap; `max_objects`.

        Raises:
          InputError: if there are more objects than `max_objects`.
        """
        instance = renumbered(resize_label(example.instance, size))
        count = instance.max()
        if count > self.max_objects:
            raise InputError(
                f"{example.id}: has {count} objects, but {{field}} is {self.max_objects}; "
                f"set {{flag}} {count} or more",
                field="task.max_objects",
            )
        return {
            "label": resize_label(example.label, size),
            "instance": instance,
            # () int: with it, a cache that was written with another number isn't taken for this.
            "max_objects": np.array(self.max_objects),
        }

    def objective(self, labels: Labels, maps: Array, batch: Batch) -> dict[str, Mean]:
        """The terms of `loss` of the classes, "centre" and "offset".

        "centre" is centre_weight · (ĥ − h)² of the heat map h, a mean over the valid pixels;
        "offset" is offset_weight · |ô − o| of the offsets o, summed over their two directions, a
        mean over the valid pixels of objects.
        """
        logits, heat, offsets = _parts(maps)
        valid = batch["valid"]
        true_heat, true_offsets, inside = jax.vmap(
            partial(targets, max_objects=self.max_objects, sigma=self.sigma)
        )(batch["instance"].astype(jnp.int32), valid)
        square = jnp.where(valid, (heat - true_heat) ** 2, 0)
        error = jnp.abs(offsets - true_offsets / self.sigma).sum(-1)
        error = jnp.where(inside, error, 0)
        return {
            **self.loss(logits, batch["label"], valid=valid),
            "centre": self.centre_weight * mean(square, valid.astype(jnp.float32)),
            "offset": self.offset_weight * mean(error, inside.astype(jnp.float32)),
        }

    def predictions(self, labels: Labels, maps: Array, size: tuple[int, int]) -> Array:
        """Probabilities, heat map, and offsets in pixels."""
        logits, heat, offsets = _parts(maps)
        return jnp.concatenate(
            [probabilities_of(logits), heat[..., None], offsets * self.sigma], axis=-1
        )

    def mirrored(self, labels: Labels, predictions: Array, axes: tuple[int, ...]) -> Array:
        """Offsets along a flipped axis change their sign."""
        signs = np.ones(predictions.shape[-1], np.float32)
        signs[-2:] = [-1 if axis in axes else 1 for axis in (1, 2)]
        return jnp.flip(predictions, axes) * signs

    def resized(self, labels: Labels, predictions: Array, resize: Resize) -> Array:
        """Bilinear; offsets grow with the picture."""
        same = jnp.ones(predictions.shape[-1] - 2)
        return resize(predictions) * jnp.concatenate([same, resize.scale])

    def probabilities(self, labels: Labels, predictions: Array) -> Array:
        """Those of the classes."""
        return _parts(predictions)[0]

    def decode(self, labels: Labels, predictions: Array, *, scale: float = 1.0) -> Decoded:
        """The likeliest class of each pixel, objects and stuff.

        Objects have numbers from 1 to `max_objects`; the stuff of category k has max_objects + k.
        """
        return jax.vmap(partial(self._decode, labels, scale))(predictions)

    def _decode(self, labels: Labels, scale: float, predictions: Array) -> Decoded:
        probabilities, heat, offsets = _parts(predictions)
        label = labels_of(probabilities)
        by_category, numbers = _by_category(labels, probabilities)
        likeliest = label if by_category is probabilities else jnp.argmax(by_category, axis=-1)
        surest = jnp.max(by_category, axis=-1)
        category = jnp.where(surest > 0, jnp.asarray(numbers)[likeliest], 0)  # padding is of none
        of_things = np.isin(numbers, labels.thing_categories)
        columns = np.flatnonzero(of_things)
        is_thing = jnp.asarray(of_things)[likeliest] & (surest > 0)

        reach = self.window // 2
        window = 2 * max(min(1, reach), round(scale * reach)) + 1
        found = peaks(
            heat[None, ..., None], count=self.max_objects, window=window, threshold=self.threshold
        )
        centres, heights = jnp.stack([found.y, found.x], -1)[0, 0], found.score[0, 0]
        number = jnp.where(is_thing, nearest_centre(offsets, centres, heights > 0), 0)
        slots = self.max_objects + 1
        area = jnp.bincount(number.ravel(), length=slots)
        kept = (area >= self.min_area * scale**2).at[0].set(False)
        number = jnp.where(kept[number], number, 0)
        # The category of an object is the one that its pixels' probabilities sum up to most.
        votes = jax.ops.segment_sum(
            by_category[..., columns].reshape(-1, len(columns)), number.ravel(), slots
        )
        of_object = jnp.where(kept, jnp.asarray(numbers[columns])[jnp.argmax(votes, -1)], 0)
        sure = jnp.max(votes, -1) / jnp.maximum(area, 1)
        score = jnp.where(kept, sure * jnp.clip(jnp.append(0.0, heights), 0, 1), 0)

        is_stuff = (category > 0) & ~is_thing
        number = jnp.where(is_stuff, self.max_objects + category, number)
        categories = len(labels.categories)
        there = jnp.bincount(number.ravel(), length=slots + categories)[slots:]
        sums = jax.ops.segment_sum(surest.ravel(), number.ravel(), slots + categories)[slots:]
        stuff = jnp.where(there > 0, jnp.arange(1, categories + 1), 0)
        return Decoded(
            label=label,
            segments=Segments(
                number,
                jnp.concatenate([of_object, stuff]),
                jnp.concatenate([score, sums / jnp.maximum(there, 1)]),
            ),
        )

    def measure(self, labels: Labels, decoded: Decoded, batch: Batch) -> Measured:
        """Right and wrong pixels by class, and how many pixels found and true segments share."""
        valid, label = batch["valid"], batch["label"]
        pixels = metrics.count(decoded.label, label, classes=len(labels.classes), valid=valid)

        def shared(found, label, instance, valid):
            true, valid = self._true_segments(labels, label, instance, valid)
            return shared_pixels(found, true, valid)

        instance = batch["instance"].astype(jnp.int32)
        return Measured(pixels, jax.vmap(shared)(decoded.segments, label, instance, valid))

    def _true_segments(
        self, labels: Labels, label: Array, instance: Array, valid: Array
    ) -> tuple[Segments, Array]:
        """The true segments of an image, numbered as the found ones are, and which pixels count.

        A pixel of a thing that belongs to no object doesn't count.
        """
        categories, things = len(labels.categories), np.array(labels.thing_categories)
        of_label = np.zeros(256, np.int32)
        of_label[: len(labels.category_of_class)] = labels.category_of_class
        category = jnp.where(valid, jnp.asarray(of_label)[label], 0)
        is_thing = jnp.isin(category, things)
        of_stuff = jnp.where(category > 0, self.max_objects + category, 0)
        number = jnp.where(is_thing, instance, of_stuff)
        of_object = jax.ops.segment_max(
            jnp.where(is_thing, category, 0).ravel(), number.ravel(), self.max_objects + 1
        )
        of_object = jnp.maximum(of_object, 0).at[0].set(0)
        numbers = np.arange(1, categories + 1)
        stuff = np.where(np.isin(numbers, things), 0, numbers)
        every = jnp.concatenate([of_object, stuff])
        return (
            Segments(number, every, jnp.zeros(len(every))),
            valid & ~(is_thing & (instance == 0)),
        )

    def record(self, labels: Labels, measured: Measured, found: Found | None = None) -> Measured:
        """What was measured, without the segments that aren't there."""
        pixels = Counts(*map(np.array, measured.pixels))
        return Measured(pixels, compacted(measured.shared))

    def scores(self, labels: Labels, records: Sequence[Measured]) -> dict[str, float]:
        """PQ, SQ and RQ over all images, the Bowl's precision at one half, and the classes' Dice.

        PQ, SQ and RQ are means over the categories; the precision, of objects, is a mean over the
        images; Dice is over the pixels of all images, a mean over the classes.
        """
        records = _with_pixels(records)
        return self._scores(labels, records, _matches(labels, records))

    def _scores(
        self, labels: Labels, records: list[Measured], matched: Matches
    ) -> dict[str, float]:
        quality = panoptic_quality(Matches(*(x.sum(0) for x in matched)))
        scores = {name: _mean(of, _any_known(records)) for name, of in quality.items()}
        scores["ap50_bowl"] = float(metrics.nanmean(_bowl(labels, records, matched)))
        return scores | {"dice": _mean(_dice(labels, records), bool(records))}

    def summary(
        self, labels: Labels, records: Sequence[Measured], details: Sequence[dict[str, float]]
    ) -> dict[str, Any]:
        """The scores, some with their intervals, the Bowl's and COCO's AP, and PQ by category."""
        records = _with_pixels(records)
        matched, any_known = _matches(labels, records), _any_known(records)

        def quality(rows: np.ndarray) -> dict[str, float]:
            total = Matches(*(metrics.sum_of_rows(x, rows) for x in matched))
            return {"pq": _mean(panoptic_quality(total)["pq"], any_known)}

        summary: dict[str, Any] = self._scores(labels, records, matched)
        summary |= metrics.bootstrap(quality, len(records))
        bowl = _bowl(labels, records, matched)
        summary["ap50_bowl_ci95"] = metrics.rounded_interval(bowl)
        thresholds = np.arange(0.5, 0.96, 0.05)
        at_all = [_bowl(labels, records, _matches(labels, records, t)) for t in thresholds]
        summary["ap_bowl"] = float(np.mean(metrics.nanmean(at_all)))
        coco = mask_ap([record.shared for record in records], labels.thing_categories)
        summary |= {f"mask_{name}": value for name, value in coco.items()}

        total = Matches(*(x.sum(0) for x in matched))
        by_category = panoptic_quality(total)
        summary["per_class"] = {
            name: {q: float(of[k]) for q, of in by_category.items()}
            | {count: int(getattr(total, count)[k]) for count in ("tp", "fp", "fn")}
            for k, name in enumerate(labels.categories)
        }
        for name, value in zip(labels.classes, _dice(labels, records).tolist(), strict=True):
            summary["per_class"].setdefault(name, {})["dice"] = value
        return summary


def _parts(maps: Array) -> tuple[Array, Array, Array]:
    """Classes (..., K), centre (...) and offsets (..., 2) of maps (..., K + 3)."""
    return maps[..., :-3], maps[..., -3], maps[..., -2:]


def _by_category(labels: Labels, probabilities: Array) -> tuple[Array, np.ndarray]:
    """Probabilities (..., K) of the classes to those of the categories, and the latter's numbers.

    They are the same array where each class is a category of its own; that spares large label sets
    a product of all maps with all categories. The number 0 stands for no category.
    """
    of_class = np.array(labels.category_of_class)
    if labels.binary:
        probabilities = jnp.concatenate([1 - probabilities, probabilities], axis=-1)
    elif len(set(of_class.tolist())) == len(of_class):
        return probabilities, of_class
    numbers = np.arange(len(labels.categories) + 1)
    return probabilities @ (of_class[:, None] == numbers).astype(np.float32), numbers


def _with_pixels(records: Sequence[Measured]) -> list[Measured]:
    """The records of the images that have a valid pixel."""
    return [record for record in records if record.pixels.valid.any()]


def _any_known(records: Sequence[Measured]) -> bool:
    """Whether the true segment, or that there is none, is known of any pixel."""
    return any(record.shared.known for record in records)


def _dice(labels: Labels, records: Sequence[Measured]) -> np.ndarray:
    """(K,) Dice of the classes, over the pixels of all images."""
    shape = len(records), len(Counts._fields), len(labels.classes)
    counts = np.array([record.pixels for record in records]).reshape(shape)
    return metrics.dice(Counts(*counts.sum(0, dtype=np.int64)), empty=np.nan)


def _matches(labels: Labels, records: Sequence[Measured], above: float = 0.5) -> Matches:
    """Of N images by category, (N, K), at an IoU threshold."""
    categories = len(labels.categories)
    every = [matches(record.shared, categories, above=above) for record in records]
    shape = len(records), len(Matches._fields), categories
    every = np.moveaxis(np.array(every, np.float64).reshape(shape), 1, 0)
    return Matches(*np.ascontiguousarray(every))


def _bowl(labels: Labels, records: Sequence[Measured], matched: Matches) -> np.ndarray:
    """(N,) the Bowl's precision of each image's objects; NaN where nothing is known of segments."""
    things = np.array(labels.thing_categories) - 1
    of_things = np.stack(matched, 1)[..., things]
    return np.array(
        [
            bowl_precision(Matches(*each)) if record.shared.known else np.nan
            for record, each in zip(records, of_things, strict=True)
        ]
    )


def _mean(values: np.ndarray, any_known: bool) -> float:
    """Mean over categories or classes of what isn't NaN.

    Where all are NaN, there was nothing to find and nothing was found: 1 if any pixel is known.
    """
    if any_known and np.isnan(values).all():
        return 1.0
    return float(metrics.nanmean(values))
