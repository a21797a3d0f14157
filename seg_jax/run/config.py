"""An experiment: a frozen dataclass of objects, checked before anything is compiled.

What a file in `experiments/` writes, what the command line changes and what config.json in a
workdir keeps is the same thing. config.json also keeps the labels of the data set, so a workdir
rebuilds the network without the experiment file and without the data.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seg_jax.datasets.source import Source
from seg_jax.errors import InputError
from seg_jax.labels import Labels
from seg_jax.models import Net
from seg_jax.optimiser import AdamW, Optimiser
from seg_jax.parallel import Parallel
from seg_jax.pipeline.augment import Augment
from seg_jax.pipeline.batches import LOCATIONS
from seg_jax.tasks import Semantic, Task
from seg_jax.values import changes, from_json, to_json

FORMAT = 2
"""Version of config.json; a file without one is of version 1, which is read as well."""


@dataclass(frozen=True)
class Experiment:
    """Everything that decides the numbers of a run, and where it is kept."""

    name: str
    """What the run is called, and its folder below runs/."""
    model: Net
    """The network; it gets as many maps as the task needs."""
    data: Source
    """The data set and its protocol."""
    task: Task = field(default_factory=Semantic)
    """What the network's maps mean: how they are learnt, scored and drawn."""
    workdir: Path | None = None
    """Where the run is kept: checkpoints, logs, scores, pictures; runs/NAME if not given."""
    cache: Path | None = None
    """Folder for the resized images, read from there as needed; in memory if not given."""
    size: tuple[int, int] = (256, 256)
    """Height and width to which images are resized for the network, the training size; with
    `augment.crop` it is trained on parts of them."""
    standardise: bool = False
    """Normalise each image by its own mean and standard deviation, instead of all alike.

    For images whose brightness says nothing, such as those of different microscopes.
    """
    epochs: float = 30.0
    """How often every training image is seen."""
    batch_size: int = 16
    """Images an update, over all devices of all hosts."""
    accumulate: int = 1
    """Parts in which a batch is run one after another, where it doesn't fit at once."""
    optimiser: Optimiser = field(default_factory=AdamW)
    """How the weights are updated."""
    augment: Augment = field(default_factory=Augment)
    """What happens to training images."""
    ema_decay: float = 0.0
    """Decay of the exponential moving average of the weights, which is evaluated; 0 for none."""
    test_flips: bool = True
    """Average the predictions of an image and of those mirror images that training showed."""
    test_scales: tuple[float, ...] = (1.0,)
    """Average the predictions at these multiples of the training size."""
    seed: int = 0
    """Of weights, order, augmentation and dropout."""
    weights_from: Path | None = None
    """Folder of a run whose best weights training starts from, where names and shapes agree."""
    evaluate_every: float = 5.0
    """Epochs between evaluations on the validation part, each followed by a checkpoint."""
    log_every: int = 10
    """Steps between log lines."""
    parallel: Parallel = field(default_factory=Parallel)
    """Where it computes."""

    def __post_init__(self):
        check_scales(self.test_scales)

    @property
    def folder(self) -> Path:
        """The workdir."""
        return self.workdir or Path("runs") / self.name


def check_scales(scales: tuple[float, ...]) -> None:
    """Refuses multiples of the training size at which nothing can be seen.

    Raises:
      InputError: naming the field and the fix.
    """
    if not scales or not all(0 < scale < math.inf for scale in scales):
        raise InputError(
            f"test_scales is {scales}; name multiples of the training size above 0, such as 1 1.5"
        )


def check(experiment: Experiment, *, devices: int, space: int = 1) -> None:
    """Refuses an experiment that could only fail later, or silently do something else.

    Args:
      experiment: what is to be run.
      devices: how many it is to run on.
      space: how many of them share an image.

    Raises:
      InputError: naming the field and the fix.
    """
    task, model, labels = experiment.task, experiment.model, experiment.data.labels
    task.check(labels)
    maps = task.maps(labels)
    if model.outputs not in (None, len(maps)):
        named = ", ".join(maps) if len(maps) <= 8 else f"{maps[0]} … {maps[-1]}"
        raise InputError(
            f"model.outputs is {model.outputs}, but task and data need {len(maps)} "
            f"map{'s' * (len(maps) > 1)} ({named}); "
            f"set --model.outputs {len(maps)}, or leave it out"
        )
    if model.stride != 1 and not task.coarse:
        raise InputError(
            f"model.stride is {model.stride}, but {type(task).__name__} needs maps of every pixel; "
            "set --model.stride 1"
        )
    positive = ("epochs", "batch_size", "accumulate", "evaluate_every", "log_every")
    for name in positive:
        if getattr(experiment, name) <= 0:
            raise InputError(f"{name} is {getattr(experiment, name)}; it must be above 0")
    if min(experiment.size) < 1:
        raise InputError(f"size is {experiment.size}; height and width must be above 0")
    if not 0 <= experiment.ema_decay < 1:
        raise InputError(f"ema_decay is {experiment.ema_decay}; it must be at least 0 and below 1")
    if experiment.size[0] % space:
        raise InputError(
            f"size is {experiment.size}, whose {experiment.size[0]} rows don't split over "
            f"{space} devices; set --size {-(-experiment.size[0] // space) * space} "
            f"{experiment.size[1]}, or another --parallel.space"
        )
    if experiment.augment.crop is not None:
        _check_crop(experiment, experiment.augment.crop, space)
    shares = devices // space
    parts = shares * experiment.accumulate
    if experiment.batch_size % parts:
        nearest = max(1, round(experiment.batch_size / parts)) * parts
        raise InputError(
            f"batch_size is {experiment.batch_size}, which {shares} device{'s' * (shares > 1)} × "
            f"{experiment.accumulate} part{'s' * (experiment.accumulate > 1)} don't divide; "
            f"set --batch-size {nearest}"
        )


def _check_crop(experiment: Experiment, crop: tuple[int, int], space: int) -> None:
    """Refuses crops that can't be cut out, or that network or devices can't take."""
    size, stride = experiment.size, experiment.model.stride
    if crop[0] > size[0] or crop[1] > size[1]:
        fitting = " ".join(str(min(sides)) for sides in zip(crop, size, strict=True))
        raise InputError(
            f"augment.crop is {crop}, which is larger than size, {size}; set --augment.crop "
            f"{fitting}, or a larger --size"
        )
    if crop[0] % stride or crop[1] % stride:
        fitting = " ".join(str(max(1, side // stride) * stride) for side in crop)
        raise InputError(
            f"augment.crop is {crop}, which model.stride, {stride}, doesn't divide; set "
            f"--augment.crop {fitting}"
        )
    if space > 1:
        raise InputError(
            f"augment.crop is {crop}, but parallel.space is {space}, and devices can't share a "
            "crop; set --parallel.space 1, and a smaller --augment.crop if it is too large for one"
        )


def network(experiment: Experiment, labels: Labels) -> Net:
    """The network of an experiment, with as many maps as its task needs."""
    return experiment.model.clone(outputs=len(experiment.task.maps(labels)))


def kept(experiment: Experiment, labels: Labels) -> dict[str, Any]:
    """What config.json holds: the experiment, its labels, and how its scores are shown.

    Raises:
      InputError: if a class can't be imported again, because it is defined in a script.
    """
    names = experiment.task.score_names
    return to_json(experiment) | {
        "format": FORMAT,
        "labels": to_json(labels),
        "scores": {name: list(shown) for name, shown in names.items()},
    }


def restored(kept: dict[str, Any]) -> tuple[Experiment, Labels]:
    """An experiment and its labels from what `kept` gave, now or in an earlier version.

    Raises:
      InputError: if a class or a field isn't there any more.
    """
    old = "format" not in kept
    experiment = from_json(_renamed(kept) if old else {k: kept[k] for k in ("class", "fields")})
    return experiment, experiment.data.labels if old else from_json(kept["labels"])


IRRELEVANT = ("workdir", "cache", "parallel", "log_every", "scores", *LOCATIONS)
"""Fields that change no number, with what is in them."""


def changed_fields(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """The fields that matter in which two values of `kept` differ: "seed: 0, now 1"."""
    return changes(old, new, irrelevant=IRRELEVANT)


_NEW_CLASSES = {
    "seg_jax.config.Experiment": "seg_jax.run.config.Experiment",
    "seg_jax.augment.Augment": "seg_jax.pipeline.augment.Augment",
    "seg_jax.tasks.together.Together": "seg_jax.tasks.panoptic_pose.PanopticPose",
}
"""Classes that version 1 of config.json calls otherwise."""

_NEW_FIELDS = {
    "Experiment": {"average": "ema_decay"},
    "UNet": {"outputs": None},
    "SegNet": {"outputs": None},
    "Panoptic": {
        "centre": "centre_weight",
        "offset": "offset_weight",
        "objects": "max_objects",
        "least": "min_area",
    },
    "Pose": {
        "heat": "heat_weight",
        "field": "field_weight",
        "people": "max_people",
        "least_joints": "min_joints",
        "least_score": "min_score",
        "stride": None,
    },
    "PanopticPose": {"weight": "pose_weight"},
}
"""Fields that version 1 of config.json calls otherwise, by class; None for those that are gone."""


def _renamed(value: Any) -> Any:
    """A value of version 1 of config.json with the names of today."""
    if isinstance(value, list):
        return [_renamed(each) for each in value]
    if not isinstance(value, dict):
        return value
    path = _NEW_CLASSES.get(value["class"], value["class"])
    new = _NEW_FIELDS.get(path.rpartition(".")[2], {})
    fields = {new.get(name, name): _renamed(each) for name, each in value["fields"].items()}
    fields.pop(None, None)
    return {"class": path, "fields": fields}
