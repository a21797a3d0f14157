"""Human pose: the joints of any number of people, and which joint is whose.

After OpenPose (Cao et al. 2019, https://arxiv.org/abs/1812.08008), bottom-up: a heat map for each
joint, a field of unit vectors along each limb, and people put together from both.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from seg_jax import metrics
from seg_jax.datasets.source import Example, Skeleton, Source
from seg_jax.errors import InputError
from seg_jax.export.overlay import shrunk, skeleton_overlay, write_overlay
from seg_jax.losses.common import share
from seg_jax.metrics.people import People, oks, oks_ap, oks_ap_of_rows, pck
from seg_jax.resize import resize_image, resize_label, resize_points
from seg_jax.tasks.peaks import Peaks, peaks
from seg_jax.tasks.skeletons import assemble, heat_maps, limb_scores, part_affinity

TORSO = ("left_shoulder", "right_hip")
"""Joints between which a torso is measured."""
RARE = 4.6
"""What is taken off the network's maps to have logits: a map of 0 is 0.01, as joints are rare.

Training would begin with unlearning them everywhere without it (Lin et al. 2017, section 3.3).
"""


class Decoded(NamedTuple):
    """Candidates for the joints, and how well pairs of them are joined by a limb; (B, ...)."""

    joints: Peaks
    limbs: Array
    """(B, L, 2 people, 2 people) float32."""


class Measured(NamedTuple):
    """What the scores need of each image, (N, ...)."""

    found: Decoded
    joints: Array
    """(N, people, J, 3) the true ones, filled up with 0."""
    area: Array
    """(N, people) pixels."""
    known: Array
    """(N, J, 2 people) bool: whether a candidate lies where the truth is known."""


@dataclass(frozen=True)
class Pose:
    """Skeletons of people: a `seg_jax.tasks.Task`.

    The maps are the logits of a heat map for each joint, `RARE` added, then x and y of a field for
    each limb.
    """

    sigma: float = 4.0
    """Standard deviation of a joint's Gaussian, in pixels of the training size."""
    width: float = 3.0
    """Half the width of a limb's field, in pixels of the training size."""
    heat: float = 10.0
    """Weight of the cross-entropy of the heat maps."""
    field: float = 3.0
    """Weight of the squared error of the limbs' fields."""
    balance: float = 10.0
    """So many times more does the error of the fields weigh on a limb, which few pixels are."""
    threshold: float = 0.05
    """Least height of a joint in its heat map."""
    stride: int = 1
    """Pixels of the training size from cell to cell of the network's maps."""
    people: int = 16
    """Most true people of an image; of each joint, twice as many candidates are kept."""
    least_joints: int = 4
    """A person with fewer joints is dropped."""
    least_score: float = 0.4
    """And one whose joints and limbs have a lower score by number of joints; 0 keeps everybody.

    Nets that saw little are unsure of every joint, and need a lower one.
    """

    best: ClassVar[str] = "ap"

    def __post_init__(self):
        for name in ("sigma", "width"):
            if getattr(self, name) <= 0:
                raise InputError(f"task.{name} is {getattr(self, name)}; it must be above 0")
        for name in ("stride", "people"):
            if getattr(self, name) < 1:
                raise InputError(f"task.{name} is {getattr(self, name)}; it must be at least 1")

    def check(self, data: Source) -> None:
        """Refuses data without joints, or whose joints can't be mirrored or measured by."""
        if not hasattr(data, "skeleton"):
            raise InputError(
                f"data: {type(data).__name__} has no joints; choose a data set of people, such as "
                "Dancers, Lsp or CocoKeypoints, or another task"
            )
        if missing := {*TORSO} - {*data.skeleton.joints}:
            raise InputError(f"data: its skeleton has no {min(missing)}; name one joint so")
        try:
            _mirrored_limbs(data.skeleton)
        except ValueError as error:
            raise InputError(
                "data: a limb of its skeleton has no mirror image among the limbs; add it"
            ) from error

    def maps(self, data: Source) -> tuple[str, ...]:
        """The joints, then two for each limb."""
        joints, limbs = data.skeleton.joints, data.skeleton.limbs
        return (*joints, *(f"{joints[a]} to {joints[b]}, {c}" for a, b in limbs for c in "xy"))

    def arrays(
        self, data: Source, example: Example, size: tuple[int, int]
    ) -> dict[str, np.ndarray]:
        """`label`; `joints` (people, J, 3), `area` (people,) and `mirrored` (), False.

        Raises:
          InputError: if there are more people than `people`.
        """
        count, old = len(example.joints), example.image.shape[:2]
        if count > self.people:
            raise InputError(
                f"{example.id}: has {count} people, but task.people is {self.people}; "
                f"set --task.people {count} or more"
            )
        joints = example.joints.astype(np.float32)
        moved = resize_points(joints[..., :2], old, size)
        joints = np.concatenate([moved, joints[..., 2:]], -1) * (joints[..., 2:] > 0)
        rest = self.people - count
        scale = size[0] * size[1] / (old[0] * old[1])
        return {
            "label": resize_label(example.label, size),
            "joints": np.pad(joints, [(0, rest), (0, 0), (0, 0)]),
            "area": np.pad(example.area * scale, (0, rest)).astype(np.float32),
            "mirrored": np.array(False),
        }

    def objective(self, data: Source, maps: Array, batch: dict, *, axis_name=None) -> Array:
        """Cross-entropy of the heat maps h, squared error of the fields f, over the valid cells.

        A cell is valid if all of its pixels are.

        heat · meanⱼ (−hⱼ log ĥⱼ − (1 − hⱼ) log (1 − ĥⱼ))
        + field · meanₗ (1 + balance · ‖fₗ‖²) ‖f̂ₗ − fₗ‖² / 2.
        OpenPose has squared errors of both and no balance, but networks that were trained before;
        from scratch, one stays at maps of 0 for long. A balance for the heat maps too mends that,
        but then a place that may be a left or a right shoulder is nearly 1 on both maps, and the
        loss hardly tells when the network knows which.
        """
        skeleton, joints = data.skeleton, batch["joints"]
        swapped = joints[:, :, jnp.array(skeleton.mirrored)]
        joints = jnp.where(batch["mirrored"][:, None, None, None], swapped, joints)
        (b, h, w, _), stride = maps.shape, self.stride
        valid = batch["valid"].reshape(b, h, stride, w, stride).all((2, 4))
        heat = heat_maps(joints, (h, w), sigma=self.sigma, stride=stride)
        fields = part_affinity(joints, skeleton.limbs, (h, w), width=self.width, stride=stride)
        logits, found_fields = _parts(skeleton, maps)
        entropy = optax.sigmoid_binary_cross_entropy(logits - RARE, heat)
        error = self.heat * jnp.mean(entropy, -1)
        square = ((found_fields - fields) ** 2).reshape(*fields.shape[:-1], -1, 2).sum(-1)
        on_limb = (fields**2).reshape(*fields.shape[:-1], -1, 2).sum(-1)
        error += self.field * jnp.mean((1 + self.balance * on_limb) * square / 2, -1)
        return share(jnp.where(valid, error, 0), valid.astype(jnp.float32), axis_name)

    def predictions(self, data: Source, maps: Array) -> Array:
        """Heat maps from 0 to 1, and the fields, of every pixel.

        Between cells by Lanczos's kernel: at a stride of 4 it moves the peak of a Gaussian of 5
        pixels by 0.05 of them, the cubic one by 0.28.
        """
        logits, fields = _parts(data.skeleton, maps)
        found = jnp.concatenate([jax.nn.sigmoid(logits - RARE), fields], -1)
        if self.stride == 1:
            return found
        b, h, w, k = found.shape
        return jax.image.resize(found, (b, h * self.stride, w * self.stride, k), "lanczos3")

    def mirrored(self, data: Source, predictions: Array, axes: tuple[int, ...]) -> Array:
        """Left and right change places where one axis is flipped, and fields their direction."""
        flipped = jnp.flip(predictions, axes)
        heat, fields = _parts(data.skeleton, flipped)
        signs = jnp.array([1.0 - 2 * (2 in axes), 1.0 - 2 * (1 in axes)])
        fields = fields.reshape(*fields.shape[:-1], -1, 2) * signs
        if len(axes) == 1:
            heat = heat[..., jnp.array(data.skeleton.mirrored)]
            limbs, turns = _mirrored_limbs(data.skeleton)
            fields = fields[..., limbs, :] * turns[:, None]
        return jnp.concatenate([heat, fields.reshape(*fields.shape[:-2], -1)], -1)

    def resized(self, data: Source, predictions: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Bicubic; where the aspect ratio changes, fields turn with their limbs."""
        found = resize_image(predictions, size, cubic=True)
        heat, fields = _parts(data.skeleton, found)
        old = fields.reshape(*size, -1, 2)
        down, across = np.divide(size, predictions.shape[:2])
        new = old * np.array([across, down], np.float32)
        length = np.linalg.norm(new, axis=-1, keepdims=True)
        new *= np.linalg.norm(old, axis=-1, keepdims=True) / np.maximum(length, 1e-9)
        return np.concatenate([heat, new.reshape(fields.shape)], -1)

    def decode(self, data: Source, predictions: Array, *, scale: float = 1.0) -> Decoded:
        """Candidates for joints and limbs; `people_of` puts them together.

        A limb's score is the field's along it times the heights of both its joints, which OpenPose
        leaves out. Places that may be a left or a right joint are peaks of both maps; so there are
        two candidates for each person.
        """
        heat, fields = _parts(data.skeleton, predictions)
        joints = peaks(heat, count=2 * self.people, threshold=self.threshold)
        first, second = (joints.score[:, [limb[k] for limb in data.skeleton.limbs]] for k in (0, 1))
        along = limb_scores(fields, joints, data.skeleton.limbs)
        return Decoded(joints, along * first[..., None] * second[..., None, :])

    def enlarged(self, decoded: Decoded, old: tuple[int, int], new: tuple[int, int]) -> Decoded:
        """The same joints at their new places."""
        joints = decoded.joints
        places = resize_points(np.stack([joints.x, joints.y], -1), old, new)
        return decoded._replace(joints=joints._replace(x=places[..., 0], y=places[..., 1]))

    def measure(self, data: Source, decoded: Decoded, batch: dict) -> Measured:
        """What was found beside what is true."""
        row, column = (jnp.round(v).astype(jnp.int32) for v in (decoded.joints.y, decoded.joints.x))
        image = jnp.arange(len(row))[:, None, None]
        known = batch["valid"][image, row, column]
        return Measured(decoded, batch["joints"], batch["area"], known)

    def people_of(self, data: Source, decoded: Decoded) -> People:
        """The people of one image: (N, J, 3) x, y and score of their joints, and (N,) scores."""
        return assemble(
            *decoded.joints,
            decoded.limbs,
            data.skeleton.limbs,
            least_joints=self.least_joints,
            least_score=self.least_score,
        )

    def scores(self, data: Source, measured: Measured) -> dict[str, float]:
        """COCO's AP, AP50, AP75 and recall by OKS, and PCK@0.2, over all images."""
        found, true = self._people(data, measured)
        return self._scores(data, found, true)[0]

    def summary(self, data: Source, measured: Measured, details: list[dict]) -> dict:
        """The scores with their intervals, and PCK@0.2 by joint."""
        found, true = self._people(data, measured)
        scores, by_joint = self._scores(data, found, true)

        of_rows = oks_ap_of_rows(found, true, data.skeleton.sigmas)
        ap = metrics.bootstrap(lambda rows: of_rows(rows)["ap"], len(found), resamples=200)
        scores["ap_ci95"] = list(ap)
        names = zip(data.skeleton.joints, by_joint.tolist(), strict=True)
        scores["per_class"] = {name: {"pck": value} for name, value in names}
        return scores

    def details(self, data: Source, decoded: Decoded, example: Example) -> dict[str, float]:
        """How many people were found, those in crowds too, and how many there are."""
        found, _ = self.people_of(data, decoded)
        return {"found": len(found), "true": int((example.joints[..., 2] > 0).any(-1).sum())}

    def save(
        self,
        data: Source,
        decoded: Decoded,
        folder: Path,
        name: str,
        image: np.ndarray,
        truth: Example | None = None,
    ) -> list[dict[str, Any]]:
        """Draws the skeletons; they are kept as COCO's keypoints."""
        people, sure = self.people_of(data, decoded)
        small = shrunk(image)
        found, true = self.shown(people, image.shape[:2], small.shape[:2], truth)
        write_overlay(folder, name, skeleton_overlay(small, found, data.skeleton.limbs, true))
        return self.annotations(data, people, sure)

    def annotations(
        self, data: Source, people: np.ndarray, sure: np.ndarray
    ) -> list[dict[str, Any]]:
        """What `people_of` found in COCO's format; a box holds the joints that were found."""
        (person,) = self.categories(data)
        annotations = []
        for joints, score in zip(people, sure, strict=True):
            found = joints[joints[:, 2] > 0, :2]
            low, extent = found.min(0), np.ptp(found, axis=0)
            annotations.append(
                {
                    "category_id": person["id"],
                    "keypoints": [round(float(value), 2) for value in joints.ravel()],
                    "num_keypoints": len(found),
                    "bbox": [round(float(value), 2) for value in (*low, *extent)],
                    "area": round(float(extent.prod()), 2),
                    "score": round(float(score), 4),
                }
            )
        return annotations

    def shown(
        self,
        people: np.ndarray,
        own: tuple[int, int],
        size: tuple[int, int],
        truth: Example | None,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The found (N, J, 3) and the true joints of an image, from its own size to another."""
        found, true = (
            np.concatenate([resize_points(x[..., :2], own, size), x[..., 2:]], -1)
            for x in (people, people[:0] if truth is None else truth.joints)
        )
        return found, None if truth is None else true

    def categories(self, data: Source) -> list[dict[str, Any]]:
        """One: a person, by the data's own id or 1, with its joints and limbs from 1."""
        person = getattr(data, "category_ids", {}).get("person", 1)
        limbs = [[a + 1, b + 1] for a, b in data.skeleton.limbs]
        joints = list(data.skeleton.joints)
        return [{"id": person, "name": "person", "keypoints": joints, "skeleton": limbs}]

    def _people(self, data: Source, measured: Measured) -> tuple[list[People], list[People]]:
        """Found and true people of each image.

        Who is found in a crowd, or wherever else most joints lie on what isn't known, is left out
        unless like a true person: COCO forgives those.
        """
        found, true = [], []
        for k in range(len(measured.area)):
            one = Decoded(Peaks(*(x[k] for x in measured.found.joints)), measured.found.limbs[k])
            people, sure = self.people_of(data, one)
            joints, area = np.asarray(measured.joints[k]), np.asarray(measured.area[k])
            there = (joints[..., 2] > 0).any(-1)
            true.append((joints[there], area[there]))

            unlike = (oks(people, *true[-1], data.skeleton.sigmas) < 0.5).all(-1)
            kept = ~(unlike & _mostly_unknown(people, one.joints, measured.known[k]))
            found.append((people[kept], sure[kept]))
        return found, true

    def _scores(
        self, data: Source, found: list[People], true: list[People]
    ) -> tuple[dict[str, Any], np.ndarray]:
        """The scores, and PCK by joint."""
        names, sigmas = data.skeleton.joints, data.skeleton.sigmas
        by_joint, mean = pck(found, true, sigmas, torso=tuple(map(names.index, TORSO)))
        return oks_ap(found, true, sigmas) | {"pck": mean}, by_joint


def _parts(skeleton: Skeleton, maps: Array) -> tuple[Array, Array]:
    """Heat maps (..., J) and fields (..., 2L)."""
    return maps[..., : len(skeleton.joints)], maps[..., len(skeleton.joints) :]


def _mostly_unknown(people: np.ndarray, candidates: Peaks, known: np.ndarray) -> np.ndarray:
    """Whether most joints of each person (N, J, 3) are candidates where the truth isn't known."""
    places = np.stack([candidates.x, candidates.y], -1)
    own = (people[:, :, None, :2] == places).all(-1)
    there = people[..., 2] > 0
    return 2 * (there & (own & known).any(-1)).sum(-1) < there.sum(-1)


def _mirrored_limbs(skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray]:
    """For each limb, the one in whose place it is in a mirror image, and -1 where that is turned.

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
