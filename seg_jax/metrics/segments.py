"""Scores of objects and stuff, from the pixels that found and true segments share.

`shared_pixels` counts on the device. Its result for each image, a `Shared`, is all that the scores
need; they are computed on the host, in float64. Segments don't overlap, so above an IoU of one half
a true segment has one match at most.
"""

import contextlib
import io
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seg_jax.found import Segments


class Shared(NamedTuple):
    """How many pixels the found segments P and the true ones T of an image share; or (N, ...)."""

    pixels: np.ndarray
    """(P + 1, T + 2) int32: in found p and true t; the last column is void."""
    found: np.ndarray
    """(P + 1,) category of each found segment."""
    true: np.ndarray
    """(T + 1,) category of each true one."""
    score: np.ndarray
    """(P + 1,) of each found segment."""

    @property
    def known(self) -> bool:
        """Whether any pixel of the image is valid."""
        return bool(np.any(self.pixels[:, :-1]))


def shared_pixels(found: Segments, true: Segments, valid: jax.Array) -> Shared:
    """Counts the pixels of each pair of segments; can be jitted.

    Args:
      found: of one image.
      true: of the same image; its score isn't read.
      valid: (H, W) bool, false where the truth is unknown.
    """
    rows, columns = len(found.category), len(true.category) + 1
    column = jnp.where(valid, true.number, columns - 1)
    # Found numbers may be uint16, in which the products would overflow.
    pairs = (jnp.asarray(found.number, jnp.int32) * columns + column).ravel()
    pixels = jnp.bincount(pairs, length=rows * columns).reshape(rows, columns).astype(jnp.int32)
    return Shared(pixels, found.category, true.category, found.score)


def compacted(shared: Shared) -> Shared:
    """What one image's segments share, without the segments that have no pixel.

    All scores stay the same: a found segment without a pixel, or a true one without a valid pixel,
    counts in none. The row and the column of no segment and the column of void are kept.

    Args:
      shared: of one image.

    Returns:
      A copy with as many rows and columns as there are segments.
    """
    pixels = np.asarray(shared.pixels)
    rows, columns = pixels.any(1), pixels.any(0)
    rows[0] = columns[0] = columns[-1] = True
    return Shared(
        pixels[np.ix_(rows, columns)],
        np.asarray(shared.found)[rows],
        np.asarray(shared.true)[columns[:-1]],
        np.asarray(shared.score)[rows],
    )


def ious(shared: Shared) -> np.ndarray:
    """(P, T) IoU of the found and true segments of one image, 0 between categories.

    Void pixels count in neither, as in panopticapi (Kirillov et al. 2019, section 4.2).
    """
    pixels = np.asarray(shared.pixels, np.float64)[1:, 1:-1]
    of_found = np.asarray(shared.pixels, np.float64)[1:, :-1].sum(1, keepdims=True)
    of_true = np.asarray(shared.pixels, np.float64)[:, 1:-1].sum(0, keepdims=True)
    union = of_found + of_true - pixels
    alike = np.asarray(shared.found)[1:, None] == np.asarray(shared.true)[None, 1:]
    return np.where(alike & (union > 0), pixels / np.where(union > 0, union, 1), 0.0)


def counted(shared: Shared) -> tuple[np.ndarray, np.ndarray]:
    """Which segments of one image count: (P,) of the found and (T,) of the true ones, bool.

    A true segment needs a valid pixel; a found one that is void by more than half is left out.
    """
    pixels = np.asarray(shared.pixels)
    size = pixels[1:].sum(1)
    found = (np.asarray(shared.found)[1:] > 0) & (size > 0) & (2 * pixels[1:, -1] <= size)
    true = (np.asarray(shared.true)[1:] > 0) & (pixels[:, 1:-1].sum(0) > 0)
    return found, true


class Matches(NamedTuple):
    """Matched and unmatched segments by category, (K,) of an image or summed over images."""

    tp: np.ndarray
    """Pairs of a found and a true segment that match."""
    fp: np.ndarray
    """Found segments without a match."""
    fn: np.ndarray
    """True segments without a match."""
    iou: np.ndarray
    """Sum of the IoUs of the matches."""


def matches(shared: Shared, categories: int, *, above: float = 0.5) -> Matches:
    """Matches one image's segments whose IoU is above a threshold of one half or more.

    Args:
      shared: of one image.
      categories: K, how many there are; they are numbered from 1.
      above: the threshold.
    """
    iou = ious(shared)
    found, true = counted(shared)
    hits = (iou > above) & true  # a match counts even where much of it is void
    of_hit = np.asarray(shared.true)[1:]
    bins = np.arange(1, categories + 1)

    def by_category(category, chosen, weights=None):
        counts = np.bincount(category[chosen], weights, categories + 1)
        return counts[bins]

    hit_true, hit_found = hits.any(0), hits.any(1)
    best = np.where(hits, iou, 0).max(0, initial=0.0)
    return Matches(
        by_category(of_hit, hit_true),
        by_category(np.asarray(shared.found)[1:], found & ~hit_found),
        by_category(of_hit, true & ~hit_true),
        by_category(of_hit, hit_true, best[hit_true]),
    )


def panoptic_quality(found: Matches) -> dict[str, np.ndarray]:
    """PQ, SQ and RQ by category (K,); NaN for a category that is neither there nor found.

    PQ = Σ IoU / (TP + FP/2 + FN/2) = SQ · RQ (Kirillov et al. 2019, equation 1).
    """
    tp, fp, fn, iou = (np.asarray(x, np.float64) for x in found)
    whole = tp + fp / 2 + fn / 2
    there = whole > 0
    rq = np.where(there, tp / np.where(there, whole, 1), np.nan)
    sq = np.where(there, np.where(tp > 0, iou / np.where(tp > 0, tp, 1), 0.0), np.nan)
    return {"pq": sq * rq, "sq": sq, "rq": rq}


def bowl_precision(found: Matches) -> float:
    """TP / (TP + FP + FN) of an image's objects, the 2018 Data Science Bowl's; 1 for 0/0.

    The Bowl averages it over images and over thresholds from 0.5 to 0.95; StarDist (Schmidt et al.
    2018) calls its mean over images at one threshold AP. An image without a valid pixel, where
    `Shared.known` is false, should be left out of that mean.
    """
    tp, fp, fn = (float(np.sum(x)) for x in found[:3])
    return tp / (tp + fp + fn) if tp + fp + fn else 1.0


def mask_ap(images: Sequence[Shared], categories: Sequence[int]) -> dict[str, float]:
    """COCO's mask AP, AP50 and AP75, by pycocotools.

    IoUs leave void pixels out, and found objects that are mostly void aren't counted unless they
    match. NaN where no category has a true object.

    Args:
      images: of each image, what its segments share.
      categories: the numbers of those that are things.
    """
    from pycocotools.cocoeval import COCOeval  # not above, as it imports matplotlib

    ious_of, true_of, found_of = {}, defaultdict(list), defaultdict(list)
    for image, shared in enumerate(images):
        iou = ious(shared)
        found, true = counted(shared)
        # As in `matches`, an object that is mostly void still counts where it matches.
        found |= (iou >= 0.5).any(1)
        of_found, of_true = np.asarray(shared.found)[1:], np.asarray(shared.true)[1:]
        scores = np.asarray(shared.score)[1:]
        for category in {*of_found[found].tolist(), *of_true[true].tolist()}:
            rows = np.flatnonzero(found & (of_found == category))
            columns = np.flatnonzero(true & (of_true == category))
            rows = rows[np.argsort(-scores[rows], kind="mergesort")]
            key = image, category
            ious_of[key] = iou[np.ix_(rows, columns)]
            # Every object has one area here: COCO's limits are for its own pictures. Numbers are
            # from 1, as COCOeval takes 0 for no match.
            found_of[key] = [
                {"id": row + 1, "score": float(scores[row]), "area": 1.0} for row in rows.tolist()
            ]
            true_of[key] = [
                {"id": column + 1, "area": 1.0, "iscrowd": 0, "ignore": 0}
                for column in columns.tolist()
            ]

    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        evaluation = COCOeval(iouType="segm")
        parameters = evaluation.params
        parameters.imgIds, parameters.catIds = list(range(len(images))), list(categories)
        parameters.areaRng, parameters.areaRngLbl = [[0, 1e10]], ["all"]
        parameters.maxDets = [1000]
        # The IoUs are known already, so nothing is prepared from masks.
        evaluation._gts, evaluation._dts = true_of, found_of
        evaluation._prepare = lambda: None
        evaluation.computeIoU = lambda image, category: ious_of.get((image, category), [])
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, 0]  # (thresholds, recalls, categories)
    known = precision[:, :, (precision > -1).any((0, 1))]
    if not known.size:
        return dict.fromkeys(("ap", "ap50", "ap75"), float("nan"))
    by_threshold = known.mean((1, 2))
    return {
        "ap": float(by_threshold.mean()),
        "ap50": float(by_threshold[0]),
        "ap75": float(by_threshold[5]),
    }
