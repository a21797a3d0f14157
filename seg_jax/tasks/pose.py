"""Human pose: the joints of any number of people, and which joints belong to one person.

After OpenPose (Cao et al. 2019, https://arxiv.org/abs/1812.08008), bottom-up: a heat map for each
joint, a field of unit vectors along each limb, and people assembled from both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from seg_jax import metrics
from seg_jax.errors import InputError
from seg_jax.found import Found
from seg_jax.labels import Example, Kind, Labels, Skeleton
from seg_jax.losses import Mean, mean
from seg_jax.metrics.people import People, oks, oks_ap_of_rows, pck
from seg_jax.resize import Resize, resize_label, resize_points
from seg_jax.tasks.peaks import Peaks, peaks
from seg_jax.tasks.skeletons import assemble, heat_maps, limb_scores, part_affinity
from seg_jax.tasks.task import Batch, Candidates, Decoded, ScoreName, Task

TORSO = ("left_shoulder", "right_hip")
"""Joints between which a torso is measured."""
LOGIT_OFFSET = 4.6
"""Subtracted from the network's maps of joints to get logits.

So a map of 0 is a probability of 0.01, because joints are rare. Otherwise training would spend its
first steps on learning that almost no pixel is a joint (Lin et al. 2017, section 3.3).
"""


class Measured(NamedTuple):
    """What the scores need to know of an image; of a batch, each array has an axis more."""

    candidates: Candidates
    """What was found, in n slots for each joint."""
    joints: Array
    """(max_people, J, 3) float32: the true ones, padded by 0."""
    area: Array
    """(max_people,) float32, pixels."""
    known: Array
    """(J, n) bool: whether the pixel under a candidate is valid."""
    any_valid: Array
    """() bool: whether any pixel is valid."""


class Record(NamedTuple):
    """What is kept of one image for the scores."""

    found: People
    """Found people and their scores, without those whose joints mostly lie on void."""
    true: People
    """True people with a labelled joint, and their areas."""
    any_valid: bool
    """Whether any pixel is valid."""


@dataclass(frozen=True)
class Pose(Task):
    """Skeletons of people.

    The maps are the logits of a heat map for each joint, plus `LOGIT_OFFSET`, then x and y of a
    field for each limb.
    """

    sigma: float = 4.0
    """Standard deviation of a joint's Gaussian, in pixels of the training size."""
    width: float = 3.0
    """Half the width of a limb's field, in pixels of the training size."""
    heat_weight: float = 10.0
    """Weight of the cross-entropy of the heat maps."""
    field_weight: float = 3.0
    """Weight of the squared error of the limbs' fields."""
    balance: float = 10.0
    """How much more the error of a field counts on the limb, which covers few pixels."""
    threshold: float = 0.05
    """Height that a joint must exceed in its heat map."""
    max_people: int = 16
    """Most true people of an image; of each joint, twice as many candidates are kept."""
    min_joints: int = 4
    """A person with fewer joints is dropped."""
    min_score: float = 0.4
    """A person is dropped whose joints and limbs have a lower score, divided by the number of
    joints; 0 keeps everybody. Networks that were trained on little data need a lower one."""

    finds: ClassVar[tuple[str, ...]] = ("skeletons",)
    kinds: ClassVar[Mapping[str, Kind]] = {
        "label": Kind.MAP,
        "joints": Kind.POINTS,
        "area": Kind.OTHER,
        "mirrored": Kind.MIRRORED,
    }
    score_names: ClassVar[Mapping[str, ScoreName]] = {
        "ap": ScoreName("OKS AP (COCO)"),
        "ap50": ScoreName("OKS AP50 (COCO)"),
        "ap75": ScoreName("OKS AP75 (COCO)"),
        "ar": ScoreName("OKS AR (COCO)"),
        "pck": ScoreName("PCK@0.2"),
        "found": ScoreName("People found", digits=0),
        "true": ScoreName("True people", digits=0),
    }
    coarse: ClassVar[bool] = True

    def __post_init__(self):
        for name in ("sigma", "width"):
            if getattr(self, name) <= 0:
                raise InputError(f"task.{name} is {getattr(self, name)}; it must be above 0")
        if self.max_people < 1:
            raise InputError(f"task.max_people is {self.max_people}; it must be at least 1")

    def best(self, labels: Labels) -> str:
        """COCO's average precision by OKS."""
        return "ap"

    def check(self, labels: Labels) -> None:
        """Refuses labels without joints, or whose joints can't be mirrored or have no torso.

        Raises:
          InputError: naming the field and the fix.
        """
        if labels.skeleton is None:
            raise InputError(
                "data: has no joints; choose a data set of people, such as Dancers, Lsp or "
                "CocoKeypoints, or another task"
            )
        if missing := {*TORSO} - {*labels.skeleton.joints}:
            raise InputError(f"data: its skeleton has no {min(missing)}; give a joint this name")
        try:
            _mirrored_limbs(labels.skeleton)
        except ValueError as error:
            raise InputError(
                "data: a limb of its skeleton has no mirror image among the limbs; add it"
            ) from error

    def maps(self, labels: Labels) -> tuple[str, ...]:
        """The joints, then x and y of each limb."""
        joints, limbs = labels.skeleton.joints, labels.skeleton.limbs
        return (*joints, *(f"{joints[a]} to {joints[b]}, {c}" for a, b in limbs for c in "xy"))

    def arrays(
        self, labels: Labels, example: Example, size: tuple[int, int]
    ) -> dict[str, np.ndarray]:
        """`label`; `joints` (max_people, J, 3) and `area` (max_people,) float32, padded by 0;
        `mirrored` (), False.

        Raises:
          InputError: if there are more people than `max_people`.
        """
        count, old = len(example.joints), example.image.shape[:2]
        if count > self.max_people:
            raise InputError(
                f"{example.id}: has {count} people, but {{field}} is {self.max_people}; "
                f"set {{flag}} {count} or more",
                field="task.max_people",
            )
        joints = example.joints.astype(np.float32)
        moved = resize_points(joints[..., :2], old, size)
        joints = np.concatenate([moved, joints[..., 2:]], -1) * (joints[..., 2:] > 0)
        empty = self.max_people - count
        scale = size[0] * size[1] / (old[0] * old[1])
        return {
            "label": resize_label(example.label, size),
            "joints": np.pad(joints, [(0, empty), (0, 0), (0, 0)]),
            "area": np.pad(example.area * scale, (0, empty)).astype(np.float32),
            "mirrored": np.array(False),
        }

    def objective(self, labels: Labels, maps: Array, batch: Batch) -> dict[str, Mean]:
        """The terms "heat" of the heat maps h and "field" of the fields f.

        heat:  heat_weight · meanⱼ (−hⱼ log ĥⱼ − (1 − hⱼ) log (1 − ĥⱼ))
        field: field_weight · meanₗ (1 + balance · ‖fₗ‖²) ‖f̂ₗ − fₗ‖² / 2

        Both are means over the valid cells of the maps; a cell is valid if all of its pixels are.
        OpenPose has squared errors of both without a balance, but begins with a trained network.
        A network that begins at random then predicts maps of 0 for long. A balance for the heat
        maps would fix that as well, but a place that may be a left or a right shoulder would come
        close to 1 on both maps, and the loss would hardly fall when the network learns which it is.
        """
        skeleton, joints = labels.skeleton, batch["joints"]
        swapped = joints[:, :, np.array(skeleton.mirrored)]
        joints = jnp.where(batch["mirrored"][:, None, None, None], swapped, joints)
        b, h, w, _ = maps.shape
        stride = batch["label"].shape[1] // h
        valid = batch["valid"].reshape(b, h, stride, w, stride).all((2, 4))
        heat = heat_maps(joints, (h, w), sigma=self.sigma, stride=stride)
        fields = part_affinity(joints, skeleton.limbs, (h, w), width=self.width, stride=stride)
        logits, found_fields = _parts(skeleton, maps)
        entropy = jnp.mean(optax.sigmoid_binary_cross_entropy(logits - LOGIT_OFFSET, heat), -1)
        square = ((found_fields - fields) ** 2).reshape(*fields.shape[:-1], -1, 2).sum(-1)
        on_limb = (fields**2).reshape(*fields.shape[:-1], -1, 2).sum(-1)
        error = jnp.mean((1 + self.balance * on_limb) * square / 2, -1)
        weight = valid.astype(jnp.float32)
        return {
            "heat": self.heat_weight * mean(jnp.where(valid, entropy, 0), weight),
            "field": self.field_weight * mean(jnp.where(valid, error, 0), weight),
        }

    def predictions(self, labels: Labels, maps: Array, size: tuple[int, int]) -> Array:
        """Heat maps from 0 to 1, and the fields, of every pixel.

        Coarser maps are interpolated by Lanczos's kernel: at a stride of 4 it moves the peak of a
        Gaussian of σ = 5 pixels by 0.05 pixels, the cubic kernel by 0.28.
        """
        logits, fields = _parts(labels.skeleton, maps)
        found = jnp.concatenate([jax.nn.sigmoid(logits - LOGIT_OFFSET), fields], -1)
        b, h, w, k = found.shape
        return found if (h, w) == size else jax.image.resize(found, (b, *size, k), "lanczos3")

    def mirrored(self, labels: Labels, predictions: Array, axes: tuple[int, ...]) -> Array:
        """Fields change their direction; left and right change places where one axis is flipped."""
        skeleton = labels.skeleton
        heat, fields = _parts(skeleton, jnp.flip(predictions, axes))
        signs = np.array([-1 if axis in axes else 1 for axis in (2, 1)], np.float32)
        fields = fields.reshape(*fields.shape[:-1], -1, 2) * signs
        if len(axes) == 1:
            heat = heat[..., np.array(skeleton.mirrored)]
            limbs, turns = _mirrored_limbs(skeleton)
            fields = fields[..., limbs, :] * turns[:, None]
        return jnp.concatenate([heat, fields.reshape(*fields.shape[:-2], -1)], -1)

    def resized(self, labels: Labels, predictions: Array, resize: Resize) -> Array:
        """Bicubic; where the aspect ratio changes, fields turn with their limbs."""
        heat, fields = _parts(labels.skeleton, resize(predictions, cubic=True))
        old = fields.reshape(*fields.shape[:-1], -1, 2)
        new = old * resize.scale[::-1]  # x grows across, y down
        length = jnp.linalg.norm(new, axis=-1, keepdims=True)
        new *= jnp.linalg.norm(old, axis=-1, keepdims=True) / jnp.maximum(length, 1e-9)
        return jnp.concatenate([heat, new.reshape(fields.shape)], -1)

    def probabilities(self, labels: Labels, predictions: Array) -> Array:
        """The heat maps."""
        return _parts(labels.skeleton, predictions)[0]

    def decode(self, labels: Labels, predictions: Array, *, scale: float = 1.0) -> Decoded:
        """Candidates for joints and limbs; `found` assembles people from them.

        A limb's score is that of the field along it, times the heights of both its joints, which
        OpenPose leaves out. A place that may be a left or a right joint is a peak of both maps;
        therefore two candidates are kept for each person.
        """
        heat, fields = _parts(labels.skeleton, predictions)
        limbs = labels.skeleton.limbs
        joints = peaks(heat, count=2 * self.max_people, threshold=self.threshold)
        first, second = (joints.score[:, [limb[k] for limb in limbs]] for k in (0, 1))
        along = limb_scores(fields, joints, limbs)
        scores = along * first[..., None] * second[..., None, :]
        return Decoded(candidates=Candidates(joints, scores))

    def found(self, labels: Labels, decoded: Decoded, size: tuple[int, int]) -> Found:
        """The people, also those in crowds."""
        people, scores = self._assembled(labels, decoded.candidates)
        return Found(skeletons=people, skeleton_scores=scores)

    def _assembled(self, labels: Labels, candidates: Candidates) -> People:
        return assemble(
            *candidates.joints,
            candidates.limbs,
            labels.skeleton.limbs,
            min_joints=self.min_joints,
            min_score=self.min_score,
        )

    def measure(self, labels: Labels, decoded: Decoded, batch: Batch) -> Measured:
        """The candidates beside the truth."""
        joints, valid = decoded.candidates.joints, batch["valid"]
        row, column = (jnp.round(v).astype(jnp.int32) for v in (joints.y, joints.x))
        image = jnp.arange(len(row))[:, None, None]
        return Measured(
            candidates=decoded.candidates,
            joints=batch["joints"],
            area=batch["area"],
            known=valid[image, row, column],
            any_valid=valid.any((1, 2)),
        )

    def record(self, labels: Labels, measured: Measured, found: Found | None = None) -> Record:
        """Found and true people.

        A found person of whom most joints lie on void, as in a crowd, is left out, unless a true
        person is like it: COCO doesn't count it as a false alarm either.
        """
        if found is None:
            people, scores = self._assembled(labels, measured.candidates)
        else:
            people, scores = found.skeletons, found.skeleton_scores
        there = (measured.joints[..., 2] > 0).any(-1)
        true = np.asarray(measured.joints)[there], np.asarray(measured.area)[there]
        unlike = (oks(people, *true, labels.skeleton.sigmas) < 0.5).all(-1)
        kept = ~(unlike & _mostly_unknown(people, measured.candidates.joints, measured.known))
        return Record((people[kept], scores[kept]), true, bool(measured.any_valid))

    def scores(self, labels: Labels, records: Sequence[Record]) -> dict[str, float]:
        """COCO's AP, AP50, AP75 and recall by OKS, and PCK@0.2, over all images."""
        found, true = _people(records)
        of_rows = oks_ap_of_rows(found, true, labels.skeleton.sigmas)
        return of_rows(range(len(true))) | {"pck": _pck(labels, found, true)[1]}

    def summary(
        self, labels: Labels, records: Sequence[Record], details: Sequence[dict[str, float]]
    ) -> dict[str, Any]:
        """The scores, the interval of AP, and PCK@0.2 by joint."""
        found, true = _people(records)
        of_rows = oks_ap_of_rows(found, true, labels.skeleton.sigmas)
        by_joint, mean_pck = _pck(labels, found, true)

        def ap(rows: np.ndarray) -> dict[str, float]:
            return {"ap": of_rows(rows)["ap"]}

        summary: dict[str, Any] = of_rows(range(len(true))) | {"pck": mean_pck}
        summary |= metrics.bootstrap(ap, len(true), resamples=200)
        names = zip(labels.skeleton.joints, by_joint.tolist(), strict=True)
        summary["per_class"] = {name: {"pck": value} for name, value in names}
        return summary

    def details(self, labels: Labels, found: Found, example: Example) -> dict[str, float]:
        """How many people were found, also those in crowds, and how many there are."""
        true = (example.joints[..., 2] > 0).any(-1).sum()
        return {"found": len(found.skeletons), "true": int(true)}


def _parts(skeleton: Skeleton, maps: Array) -> tuple[Array, Array]:
    """Heat maps (..., J) and fields (..., 2L)."""
    return maps[..., : len(skeleton.joints)], maps[..., len(skeleton.joints) :]


def _people(records: Sequence[Record]) -> tuple[list[People], list[People]]:
    """Found and true people of each image that has a valid pixel."""
    known = [record for record in records if record.any_valid]
    return [record.found for record in known], [record.true for record in known]


def _pck(labels: Labels, found: list[People], true: list[People]) -> tuple[np.ndarray, float]:
    """PCK@0.2 of each joint and of all."""
    torso = tuple(map(labels.skeleton.joints.index, TORSO))
    return pck(found, true, labels.skeleton.sigmas, torso=torso)


def _mostly_unknown(people: np.ndarray, candidates: Peaks, known: np.ndarray) -> np.ndarray:
    """(N,) whether most joints of each person (N, J, 3) are candidates that lie on void."""
    places = np.stack([candidates.x, candidates.y], -1)
    own = (people[:, :, None, :2] == places).all(-1)
    there = people[..., 2] > 0
    return 2 * (there & (own & known).any(-1)).sum(-1) < there.sum(-1)


def _mirrored_limbs(skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray]:
    """For each limb, the one whose place it takes in a mirror image, and −1 where that turns it.

    Raises:
      ValueError: if a limb has no mirror image among the limbs.
    """
    limbs, turns = [], []
    for a, b in skeleton.limbs:
        mirrored = skeleton.mirrored[a], skeleton.mirrored[b]
        turned = mirrored not in skeleton.limbs
        limbs.append(skeleton.limbs.index(mirrored[::-1] if turned else mirrored))
        turns.append(-1.0 if turned else 1.0)
    return np.array(limbs), np.array(turns, np.float32)
