"""Scores of skeletons: COCO's average precision by OKS, and PCK. On the host, in float64.

The skeletons of an image are pairs of arrays, one pair an image:

*   predicted: (P, J, 3), x, y and score of each joint, 0 where it wasn't found; and (P,), the score
    of each person.
*   true: (T, J, 3), x, y and visibility of each joint, 0 where it isn't labelled; and (T,), the
    pixels that each person covers, as in `seg_jax.labels.Example`.
"""

import contextlib
import io
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

People = tuple[np.ndarray, np.ndarray]
"""Skeletons of an image (N, J, 3), and a number for each, (N,): its score or its area."""


def oks(predicted, truth, area, sigmas) -> np.ndarray:
    """Object keypoint similarity of every predicted person with every true one.

    Σⱼ [vⱼ > 0] exp(−dⱼ² / 2 (2σⱼ)² a) / Σⱼ [vⱼ > 0] with d the distance and a the area
    plus 2⁻⁵², as `COCOeval.computeOks` in pycocotools. A predicted joint that wasn't found counts
    where its coordinates are, as there.

    Args:
      predicted: (P, J, 2 or more), x and y.
      truth: (T, J, 3), x, y and visibility.
      area: (T,), in square pixels.
      sigmas: (J,), as in `Skeleton`.

    Returns:
      (P, T) float64; 0 for a true person without a labelled joint, where COCO compares with the
        box instead.
    """
    predicted, truth, area, sigmas = (
        np.asarray(v, np.float64) for v in (predicted, truth, area, sigmas)
    )
    labelled = truth[..., 2] > 0
    square = np.sum((predicted[:, None, :, :2] - truth[None, :, :, :2]) ** 2, axis=-1)
    error = square / (sigmas * 2) ** 2 / (area[:, None] + np.spacing(1)) / 2
    alike = np.sum(np.exp(-error), axis=-1, where=labelled)
    return alike / np.maximum(labelled.sum(axis=-1), 1)


def oks_ap(predictions: Sequence[People], truths: Sequence[People], sigmas) -> dict[str, float]:
    """COCO's keypoint scores, by pycocotools' `COCOeval`: of all areas, with 20 people an image.

    A true person without a labelled joint is left out, as in COCO. COCO also forgives a prediction
    near that person's box, which isn't known here.

    Args:
      predictions: of each image.
      truths: of the same images.
      sigmas: (J,), as in `Skeleton`.

    Returns:
      ap: the mean of the average precisions at OKS of 0.50, 0.55, …, 0.95.
      ap50: at 0.50.
      ap75: at 0.75.
      ar: the mean recall over the same thresholds.
      Each is 0 if nobody is predicted, and NaN if no true person is left.
    """
    return oks_ap_of_rows(predictions, truths, sigmas)(range(len(truths)))


def oks_ap_of_rows(
    predictions: Sequence[People], truths: Sequence[People], sigmas
) -> Callable[[Sequence[int]], dict[str, float]]:
    """A function that gives `oks_ap` of images drawn from these; people are matched only once.

    Args:
      predictions: of each image.
      truths: of the same images.
      sigmas: (J,), as in `Skeleton`.

    Returns:
      A function of N numbers of images, some of which may come several times.
    """
    from pycocotools.cocoeval import COCOeval  # not above, as it imports matplotlib

    true, found = [], []
    for image, ((people, score), (labels, area)) in enumerate(
        zip(predictions, truths, strict=True), start=1
    ):
        for joints, number in zip(labels, area, strict=True):
            labelled = int(np.sum(joints[:, 2] > 0))
            if labelled:
                true.append(_annotation(image, joints, num_keypoints=labelled, area=float(number)))
        for joints, number in zip(people, score, strict=True):
            found.append(_annotation(image, joints, score=float(number), area=1.0))
    with _quiet():
        evaluation = COCOeval(
            _coco(len(truths), true), _coco(len(truths), found), iouType="keypoints"
        )
        parameters = evaluation.params
        parameters.kpt_oks_sigmas = np.asarray(sigmas, np.float64)
        parameters.areaRng, parameters.areaRngLbl = parameters.areaRng[:1], ["all"]
        evaluation.evaluate()
    images = evaluation.evalImgs

    def scores(rows: Sequence[int]) -> dict[str, float]:
        evaluation.evalImgs = [images[row] for row in rows]
        with _quiet():
            evaluation.accumulate()
        precision = evaluation.eval["precision"]  # (threshold, recall, category, area, people)
        at = dict(zip(parameters.iouThrs.round(2).tolist(), precision, strict=True))
        means = precision, at[0.5], at[0.75], evaluation.eval["recall"]
        # COCOeval's -1 stands for nobody to find.
        values = (float(x.mean()) if x.min() >= 0 else math.nan for x in means)
        return dict(zip(("ap", "ap50", "ap75", "ar"), values, strict=True))

    return scores


def _quiet():
    """Silences pycocotools, which prints its progress."""
    return contextlib.redirect_stdout(io.StringIO())


def pck(
    predictions: Sequence[People],
    truths: Sequence[People],
    sigmas,
    *,
    torso: tuple[int, int],
    fraction: float = 0.2,
) -> tuple[np.ndarray, float]:
    """Percentage of correct keypoints: the share of labelled joints found near enough, 0 to 1.

    Near enough is within `fraction` of the true person's torso, from the left shoulder to the right
    hip: PCK@0.2 as the literature on Leeds Sports Pose reports it (Sapp and Taskar 2013;
    `eval_pck.m` in github.com/bearpaw/eval_pose). Yang and Ramanan (2013), who named the measure,
    take the longer side of the person's box instead.

    True and predicted people are paired by OKS: first the two with the highest, then the two with
    the highest among the others, and so on. The joints of a true person without a partner aren't
    found. A predicted person without a partner costs nothing here, but does in `oks_ap`. A true
    person counts nowhere whose torso has an unlabelled end or no length.

    Args:
      predictions: of each image.
      truths: of the same images.
      sigmas: (J,), as in `Skeleton`.
      torso: the joints between which the torso is measured.
      fraction: of the torso.

    Returns:
      joints: (J,) float64, the share of each joint; NaN where none is labelled.
      mean: the share of all joints together; NaN where none is labelled.
    """
    right, wanted = (np.zeros(len(sigmas), np.int64) for _ in range(2))
    for (people, _), (labels, area) in zip(predictions, truths, strict=True):
        people, labels = (
            np.asarray(v, np.float64).reshape(-1, len(sigmas), 3) for v in (people, labels)
        )
        a, b = labels[:, torso[0]], labels[:, torso[1]]
        length = np.linalg.norm(a[:, :2] - b[:, :2], axis=-1)
        known = (a[:, 2] > 0) & (b[:, 2] > 0) & (length > 0)
        labelled = (labels[..., 2] > 0) & known[:, None]
        wanted += labelled.sum(axis=0)
        for p, t in greedy_pairs(oks(people, labels, area, sigmas)):
            far = np.linalg.norm(people[p, :, :2] - labels[t, :, :2], axis=-1)
            near = (far <= fraction * length[t]) & (people[p, :, 2] > 0)
            right += near & labelled[t]
    share = np.where(wanted > 0, right / np.maximum(wanted, 1), np.nan)
    total = wanted.sum()
    return share, float(right.sum() / total) if total else float("nan")


def greedy_pairs(scores) -> Iterator[tuple[int, int]]:
    """Pairs of a row and a column with a positive score, the best first, each of both once at most.

    Args:
      scores: (N, M) float; of equal scores the first in the order of reading is the better.
    """
    rows, columns = np.nonzero(scores > 0)
    free_rows, free_columns = (np.ones(n, bool) for n in scores.shape)
    for k in np.argsort(-scores[rows, columns], kind="stable"):
        i, j = rows[k], columns[k]
        if free_rows[i] and free_columns[j]:
            free_rows[i] = free_columns[j] = False
            yield i, j


def _annotation(image, joints, **others):
    box = [0.0, 0.0, 0.0, 0.0]  # only read for people without labelled joints
    keypoints = np.asarray(joints, np.float64).ravel().tolist()
    return {
        "image_id": image,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": box,
        "keypoints": keypoints,
    } | others


def _coco(images, annotations):
    from pycocotools.coco import COCO

    coco = COCO()
    # From 1, as COCOeval takes the number 0 for no match.
    numbered = [annotation | {"id": k} for k, annotation in enumerate(annotations, start=1)]
    coco.dataset = {
        "images": [{"id": k} for k in range(1, images + 1)],
        "categories": [{"id": 1}],
        "annotations": numbered,
    }
    coco.createIndex()
    return coco
